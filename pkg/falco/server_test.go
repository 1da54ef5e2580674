package falco

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/falcosecurity/client-go/pkg/api/outputs"
	"github.com/falcosecurity/client-go/pkg/api/schema"
	"github.com/falcosecurity/client-go/pkg/api/version"
	"github.com/falcosecurity/client-go/pkg/client"
	"google.golang.org/protobuf/proto"

	"github.com/plumbline-io/plumbline/pkg/alert"
)

// serveAlerts starts a Server on a socket.
func serveAlerts(t *testing.T, cfg ServerConfig) (s *Server, socket string, stop func() error) {
	t.Helper()
	socket = filepath.Join(t.TempDir(), "falco.sock")
	listener := listenUnix(t, socket)
	s = NewServer(cfg)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, listener) }()
	t.Cleanup(cancel)
	return s, socket, func() error {
		cancel()
		return <-done
	}
}

// connect is a client as Falco's own programs make it.
func connect(t *testing.T, socket string) (*client.Client, context.Context) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), testTimeout)
	t.Cleanup(cancel)
	c, err := client.NewForConfig(ctx, &client.Config{UnixSocketPath: "unix://" + socket})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c, ctx
}

func offer(s *Server, rules ...string) {
	for _, rule := range rules {
		s.Offer(alert.Alert{Time: time.Unix(1e9, 6), Rule: rule, Severity: alert.Warning})
	}
}

// subscribe waits until the server knows of a new stream.
func subscribe(t *testing.T, s *Server, socket string) outputs.Service_SubClient {
	t.Helper()
	before := s.Stats().Subscribers
	c, ctx := connect(t, socket)
	api, err := c.Outputs()
	if err != nil {
		t.Fatal(err)
	}
	stream, err := api.Sub(ctx)
	if err != nil {
		t.Fatal(err)
	}
	awaitSubscribers(t, s, before+1)
	return stream
}

func awaitSubscribers(t *testing.T, s *Server, want int) {
	t.Helper()
	for deadline := time.Now().Add(testTimeout); s.Stats().Subscribers != want; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("got %+v, want %d subscribers", s.Stats(), want)
		}
	}
}

// awaitStats waits for the server's part: a client can have an alert before it is counted.
func awaitStats(t *testing.T, s *Server, want ServerStats) {
	t.Helper()
	for deadline := time.Now().Add(testTimeout); s.Stats() != want; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("got %+v, want %+v", s.Stats(), want)
		}
	}
}

// ask sends one request and reads n alerts.
func ask(t *testing.T, stream outputs.Service_SubClient, n int) (rules []string) {
	t.Helper()
	if err := stream.Send(&outputs.Request{}); err != nil {
		t.Fatal(err)
	}
	for range n {
		r, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		rules = append(rules, r.GetRule())
	}
	return rules
}

// get reads what waits, until the server says that it is all.
func get(t *testing.T, socket string) (rules []string) {
	t.Helper()
	c, ctx := connect(t, socket)
	api, err := c.Outputs()
	if err != nil {
		t.Fatal(err)
	}
	stream, err := api.Get(ctx, &outputs.Request{})
	if err != nil {
		t.Fatal(err)
	}
	for {
		r, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return rules
		}
		if err != nil {
			t.Fatal(err)
		}
		rules = append(rules, r.GetRule())
	}
}

// client-go's own watch gets every alert once and in order, those from before it came too.
func TestServeToOutputsWatch(t *testing.T) {
	s, socket, stop := serveAlerts(t, ServerConfig{})
	const n = 300
	for i := range 100 {
		offer(s, fmt.Sprint(i))
	}
	c, ctx := connect(t, socket)
	ctx, cancel := context.WithCancel(ctx)
	got := 0
	go func() {
		for i := 100; i < n; i++ {
			offer(s, fmt.Sprint(i))
		}
	}()
	err := c.OutputsWatch(ctx, func(r *outputs.Response) error {
		if r.GetRule() != fmt.Sprint(got) {
			t.Errorf("got %s, want %d", r.GetRule(), got)
		}
		if got++; got == n {
			cancel()
		}
		return nil
	}, time.Millisecond)
	if !strings.Contains(fmt.Sprint(err), "canceled") || got != n {
		t.Errorf("%d alerts, %v", got, err)
	}
	awaitStats(t, s, ServerStats{Sent: n})
	if err := stop(); err != nil {
		t.Error(err)
	}
}

// What Falco wrote comes out as it went in, as far as the form of its gRPC holds it: posted to the Receiver,
// served by the Server, read by the Client, all with Falco's own packages.
func TestRecordedThroughBothDirections(t *testing.T) {
	s, socket, _ := serveAlerts(t, ServerConfig{})
	_, url, stop := receiver(t, s.Offer)
	names := []string{"terminal_shell", "sensitive_file_host", "drop_and_execute", "internal_drop", "k8s_audit", "no_output"}
	for _, name := range names {
		if code, answer := post(t, url, "application/json", recorded(t, name)); code != http.StatusOK {
			t.Fatalf("%s: %d %s", name, code, answer)
		}
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	c, err := New(Config{Socket: socket, Poll: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	done := errors.New("done")
	var all []alert.Alert
	err = c.Run(context.Background(), func(a alert.Alert) error {
		if all = append(all, a); len(all) == len(names) {
			return done
		}
		return nil
	})
	if !errors.Is(err, done) {
		t.Fatal(err)
	}
	for i, name := range names {
		want, err := Parse(recorded(t, name))
		if err != nil {
			t.Fatal(err)
		}
		got := all[i]
		if got.Rule != want.Rule || got.Severity != want.Severity || !got.Time.Equal(want.Time) || got.Output != want.Output ||
			got.Hostname != want.Hostname || got.Source != want.Source || !slices.Equal(got.Tags, want.Tags) ||
			got.Detail.Fingerprint != want.Detail.Fingerprint || got.Detail.PID != want.Detail.PID || len(got.Fields) != len(want.Fields) {
			t.Errorf("%s: got  %+v\nwant %+v", name, got, want)
		}
	}
}

// Every subscriber gets every alert; a slow one loses the newest, counted, and holds up nobody.
func TestSubscribers(t *testing.T) {
	s, socket, _ := serveAlerts(t, ServerConfig{Capacity: 3, Subscribers: 2})
	fast, slow := subscribe(t, s, socket), subscribe(t, s, socket)
	for _, rule := range []string{"a", "b", "c", "d", "e"} {
		offer(s, rule)
		if got := ask(t, fast, 1); got[0] != rule {
			t.Errorf("fast: got %v, want %s", got, rule)
		}
	}
	if got := ask(t, slow, 3); !slices.Equal(got, []string{"a", "b", "c"}) {
		t.Errorf("slow: got %v", got)
	}
	awaitStats(t, s, ServerStats{Subscribers: 2, Sent: 8, Dropped: 2})
	c, ctx := connect(t, socket)
	err := c.OutputsWatch(ctx, func(*outputs.Response) error { return nil }, time.Millisecond)
	if err == nil || !strings.Contains(err.Error(), "2 clients subscribe already") {
		t.Errorf("a third one: %v", err)
	}
}

// A client that asks and does not read holds up nobody, not even the end.
func TestClientThatDoesNotRead(t *testing.T) {
	s, socket, stop := serveAlerts(t, ServerConfig{Capacity: 100})
	stream := subscribe(t, s, socket)
	if err := stream.Send(&outputs.Request{}); err != nil {
		t.Fatal(err)
	}
	const n = 1000
	for range n {
		s.Offer(alert.Alert{Time: time.Unix(1e9, 6), Rule: "r", Output: strings.Repeat("x", 16<<10)})
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
	if got := s.Stats(); got.Sent+got.Dropped+uint64(got.Waiting) != n || got.Dropped == 0 || got.Subscribers != 0 {
		t.Errorf("got %+v, want %d in all", got, n)
	}
}

// While nobody subscribes the newest wait, for one get or one subscriber.
func TestBacklog(t *testing.T) {
	s, socket, _ := serveAlerts(t, ServerConfig{Capacity: 3})
	offer(s, "a", "b", "c", "d")
	if got := get(t, socket); !slices.Equal(got, []string{"b", "c", "d"}) {
		t.Errorf("got %v", got)
	}
	if got := get(t, socket); len(got) != 0 {
		t.Errorf("got %v again", got)
	}
	offer(s, "e")
	stream := subscribe(t, s, socket)
	if got := ask(t, stream, 1); got[0] != "e" {
		t.Errorf("got %v", got)
	}
	offer(s, "f")
	if got := get(t, socket); len(got) != 0 {
		t.Errorf("got %v, which are the subscriber's", got)
	}
	awaitStats(t, s, ServerStats{Subscribers: 1, Waiting: 1, Sent: 4, Unclaimed: 1})
	// It goes without having read the last one, which waits for the next.
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	awaitSubscribers(t, s, 0)
	if got := get(t, socket); !slices.Equal(got, []string{"f"}) {
		t.Errorf("got %v", got)
	}
	awaitStats(t, s, ServerStats{Sent: 5, Unclaimed: 1})
}

// A name may be any bytes; protobuf's text may not.
func TestEncode(t *testing.T) {
	r := encode(alert.Alert{
		Time: time.Unix(1e9, 6), Rule: "r\xff", Severity: alert.Debug, Tags: []string{"\xfe"}, Hostname: "n1", Source: "tls",
		Fields: map[string]any{"fd.name": nil, "proc.name": "\xff", "evt.time": int64(1000000000000000006), "ok": true},
	})
	if _, err := proto.Marshal(r); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"fd.name": "<NA>", "proc.name": "\uFFFD", "evt.time": "1000000000000000006", "ok": "true"}
	if fmt.Sprint(r.GetOutputFields()) != fmt.Sprint(want) || r.GetPriority() != schema.Priority_DEBUG || r.GetRule() != "r\uFFFD" {
		t.Errorf("got %v", r)
	}
}

func TestVersion(t *testing.T) {
	_, socket, _ := serveAlerts(t, ServerConfig{Version: "v1.2.3-rc.1+abc", Engine: 63, Fields: "5ca1ab1e"})
	c, ctx := connect(t, socket)
	api, err := c.Version()
	if err != nil {
		t.Fatal(err)
	}
	got, err := api.Version(ctx, &version.Request{})
	want := &version.Response{Version: "v1.2.3-rc.1+abc", Major: 1, Minor: 2, Patch: 3, Prerelease: "rc.1", Build: "abc", EngineVersion: 63, EngineFieldsChecksum: "5ca1ab1e"}
	if err != nil || !proto.Equal(got, want) {
		t.Errorf("got %v, %v, want %v", got, err, want)
	}
}

func TestParseVersion(t *testing.T) {
	for text, want := range map[string]*version.Response{
		"v0.44.1":           {Major: 0, Minor: 44, Patch: 1},
		"1.2.3+meta":        {Major: 1, Minor: 2, Patch: 3, Build: "meta"},
		"dev":               {},
		"v1.2":              {},
		"v1.2.x":            {},
		"v1.2.4294967296":   {},
		"v1.2.3-4-gabcdef0": {Major: 1, Minor: 2, Patch: 3, Prerelease: "4-gabcdef0"},
	} {
		want.Version = text
		if got := parseVersion(text); !proto.Equal(got, want) {
			t.Errorf("%s: got %v, want %v", text, got, want)
		}
	}
}
