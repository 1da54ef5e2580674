package agent

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/falcosecurity/client-go/pkg/api/outputs"
	"github.com/falcosecurity/client-go/pkg/client"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/plumbline-io/plumbline/pkg/alert"
	"github.com/plumbline-io/plumbline/pkg/detect"
	"github.com/plumbline-io/plumbline/pkg/event"
)

const testTimeout = 20 * time.Second

// await waits for a condition.
func await(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(testTimeout); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited for %s", what)
		}
	}
}

// newBridge is an agent without a kernel side whose inputs and outputs run as Run runs them; it knows these
// workloads before an alert can come in. end ends the inputs, then the outputs, as Run does.
func newBridge(t *testing.T, cfg Config, known ...detect.Subject) (a *Agent, end func()) {
	t.Helper()
	a, _ = newLoop(t)
	join(t, a.registry, known...)
	cfg.Log, cfg.Node = slog.New(slog.DiscardHandler), "n1"
	if err := cfg.Complete(); err != nil {
		t.Fatal(err)
	}
	a.cfg = cfg
	a.host = &host{fallback: detect.Subject{Name: "host", Kind: "host", SPIFFEID: "spiffe://plumbline.local/host", IdentitySource: "template"}}
	for _, open := range []func() error{a.openSinks, a.openFalco} {
		if err := open(); err != nil {
			t.Fatal(err)
		}
	}
	outputs := a.startOutputs()
	ctx, cancel := context.WithCancel(context.Background())
	group, ctx := errgroup.WithContext(ctx)
	for _, task := range a.falco.Tasks(a.raiseFalco) {
		group.Go(func() error { return task(ctx) })
	}
	return a, func() {
		t.Helper()
		cancel()
		if err := group.Wait(); err != nil {
			t.Error(err)
		}
		if err := outputs(); err != nil {
			t.Error(err)
		}
		if err := a.sink.Close(); err != nil {
			t.Error(err)
		}
		if err := a.falco.Close(); err != nil {
			t.Error(err)
		}
	}
}

const (
	container = "3ad7b26ded6d11112222333344445555666677778888999900001111222233aa"
	nested    = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
)

func join(t *testing.T, r *registry, subjects ...detect.Subject) {
	t.Helper()
	for i, s := range subjects {
		if err := r.Join(uint64(100+i), s); err != nil {
			t.Fatal(err)
		}
	}
}

// A container is known by its whole id or the part that Falco tells; who nests cgroups cannot take
// another's place.
func TestContainerLookup(t *testing.T) {
	a, _ := newLoop(t)
	join(
		t, a.registry,
		detect.Subject{Name: container[:12], Kind: "container", ContainerID: container},
		detect.Subject{Name: "evil.service/" + container[:12], Kind: "container", ContainerID: container},
		detect.Subject{Name: "containerd.service/" + nested[:12], Kind: "container", ContainerID: nested},
		detect.Subject{Name: "a.service/dddddddddddd", Kind: "container", ContainerID: strings.Repeat("d", 64)},
		detect.Subject{Name: "b.service/dddddddddddd", Kind: "container", ContainerID: strings.Repeat("d", 64)},
	)
	for name, tc := range map[string]struct{ id, want string }{
		"short":      {container[:12], container[:12]},
		"whole":      {container, container[:12]},
		"below":      {nested[:12], "containerd.service/" + nested[:12]},
		"other":      {"0123456789ab", ""},
		"other rest": {container[:12] + "ff", ""},
		"too short":  {container[:11], ""},
		"empty":      {"", ""},
		"ambiguous":  {"dddddddddddd", ""},
		"a unit":     {"shop.service", ""},
	} {
		t.Run(name, func(t *testing.T) {
			got, ok := a.registry.Container(tc.id)
			if got.Name != tc.want || ok != (tc.want != "") {
				t.Errorf("got %q, %t, want %q", got.Name, ok, tc.want)
			}
		})
	}
}

// An alert of Falco's belongs to the workload that we know, else to the node; a container that we do not
// know stays what it is.
func TestFalcoAlertGetsItsWorkload(t *testing.T) {
	var out bytes.Buffer
	a, end := newBridge(t, Config{}, detect.Subject{
		Name: "containerd.service/" + nested[:12], Kind: "container", ContainerID: nested, Cgroup: "/x",
		SPIFFEID: "spiffe://plumbline.local/x", IdentitySource: "template",
	})
	a.sink.file = nopCloser{&out}
	for name, tc := range map[string]struct {
		id, hostname string // as Falco tells them
		want         alert.Detail
		wantHost     string
	}{
		"known": {nested[:12], "worker-1", alert.Detail{
			Workload: "containerd.service/" + nested[:12], WorkloadKind: "container", Cgroup: "/x",
			SPIFFEID: "spiffe://plumbline.local/x", IdentitySource: "template",
		}, "worker-1"},
		"unknown": {"0123456789ab", "", alert.Detail{Workload: "0123456789ab", WorkloadKind: "container"}, "n1"},
		"host":    {"host", "", alert.Detail{Workload: "host", WorkloadKind: "host", SPIFFEID: "spiffe://plumbline.local/host", IdentitySource: "template"}, "n1"},
		"none":    {"", "", alert.Detail{Workload: "host", WorkloadKind: "host", SPIFFEID: "spiffe://plumbline.local/host", IdentitySource: "template"}, "n1"},
	} {
		t.Run(name, func(t *testing.T) {
			out.Reset()
			d := alert.Detail{Workload: tc.id}
			if tc.id != "" && tc.id != "host" {
				d.WorkloadKind = "container"
			}
			a.raiseFalco(alert.Alert{Time: time.Unix(1, 0), Rule: "r", Hostname: tc.hostname, Fields: map[string]any{"container.id": tc.id}, Detail: d})
			got, err := alert.Parse(out.Bytes())
			if err != nil {
				t.Fatal(err)
			}
			if d := got.Detail; d.Workload != tc.want.Workload || d.WorkloadKind != tc.want.WorkloadKind || d.Cgroup != tc.want.Cgroup ||
				d.SPIFFEID != tc.want.SPIFFEID || d.IdentitySource != tc.want.IdentitySource || got.Hostname != tc.wantHost {
				t.Errorf("got %+v of %q", d, got.Hostname)
			}
		})
	}
	end()
}

type nopCloser struct{ io.Writer }

func (nopCloser) Close() error { return nil }

// oldFalco is a Falco with gRPC outputs: it answers a request with what it has.
type oldFalco struct {
	outputs.UnimplementedServiceServer
	once sync.Once
	n    int
}

func (f *oldFalco) Sub(stream outputs.Service_SubServer) error {
	for {
		if _, err := stream.Recv(); err != nil {
			return err
		}
		var err error
		f.once.Do(func() {
			for i := 0; i < f.n && err == nil; i++ {
				err = stream.Send(&outputs.Response{
					Time: timestamppb.Now(), Rule: fmt.Sprint("grpc ", i), Priority: 4,
					OutputFields: map[string]string{"container.id": container[:12]},
				})
			}
		})
		if err != nil {
			return err
		}
	}
}

func serveOldFalco(t *testing.T, n int) (socket string) {
	t.Helper()
	socket = filepath.Join(t.TempDir(), "falco.sock")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	outputs.RegisterServiceServer(server, &oldFalco{n: n})
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)
	return socket
}

// Everything in, by every way and from the event loop at the same time; everything out, at every place,
// once.
func TestBridge(t *testing.T) {
	const byGRPC, byHTTP, own = 40, 50, 60
	const all = byGRPC + byHTTP + own
	var mu sync.Mutex
	posted := map[string]int{} // by rule
	sidekick := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		a, err := alert.Parse(body)
		if err != nil {
			t.Errorf("%v: %s", err, body)
		}
		mu.Lock()
		defer mu.Unlock()
		posted[a.Rule]++
	}))
	t.Cleanup(sidekick.Close)
	log, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = log.Close() })
	logged := make(chan int, 1)
	go func() { logged <- countFrames(log) }()
	dir := t.TempDir()
	file, socket := filepath.Join(dir, "alerts.jsonl"), filepath.Join(dir, "out.sock")
	a, end := newBridge(t, Config{
		Alerts: file, AlertsHTTP: sidekick.URL, AlertsSyslog: "tcp://" + log.Addr().String(), FalcoSocket: socket,
		Falco:    FalcoInput{HTTPListen: "127.0.0.1:0", Socket: serveOldFalco(t, byGRPC)},
		StateDir: dir, ControlPlane: ControlPlane{URL: "nats://127.0.0.1:1", PasswordFile: "none"}, // only spooled
	}, detect.Subject{Name: container[:12], Kind: "container", ContainerID: container, SPIFFEID: "spiffe://plumbline.local/c"})
	t.Cleanup(func() { _ = a.spool.Close() })

	subscribed := make(chan int, 1)
	ctx, cancel := context.WithTimeout(context.Background(), testTimeout)
	t.Cleanup(cancel)
	go func() { subscribed <- watch(ctx, t, socket, all) }()
	var raising sync.WaitGroup
	raising.Go(func() { // the event loop
		for i := range own {
			a.sink.Raise(alert.Alert{Time: time.Unix(1, 0), Rule: fmt.Sprint("own ", i), Fields: map[string]any{"evt.time": 1}})
		}
	})
	url := "http://" + a.falco.listener.Addr().String()
	for i := range byHTTP {
		raising.Go(func() {
			body := fmt.Sprintf(`{"rule":"http %d","time":"2025-11-24T09:14:51Z","priority":"Notice","output_fields":{"container.id":%q}}`, i, container[:12])
			res, err := http.Post(url, "application/json", strings.NewReader(body))
			if err != nil {
				t.Error(err)
				return
			}
			defer res.Body.Close()
			if res.StatusCode != http.StatusOK {
				t.Error(res.Status)
			}
		})
	}
	raising.Wait()
	await(t, "Falco's alerts", func() bool { return a.sink.raised.Load() == all })
	if n := <-subscribed; n != all {
		t.Errorf("the subscriber got %d, want %d", n, all)
	}
	end()
	if n := <-logged; n != all {
		t.Errorf("syslog got %d, want %d", n, all)
	}
	if len(posted) != all {
		t.Errorf("%d rules were posted, want %d", len(posted), all)
	}
	for rule, n := range posted {
		if n != 1 {
			t.Errorf("%s was posted %d times", rule, n)
		}
	}
	tagged := 0
	for i, written := range alertsIn(t, file) {
		if id := written.Detail.ID; id.Node != "n1" || id.Seq != uint64(i+1) {
			t.Errorf("alert %d has the ID %s", i+1, id)
		}
		if written.Detail.SPIFFEID == "spiffe://plumbline.local/c" && written.Detail.Hook == "falco" {
			tagged++
		}
	}
	if got := a.spool.Stats(); got.Appended != all || got.Lost() != 0 {
		t.Errorf("spooled: %+v, want %d", got, all)
	}
	if tagged != byGRPC+byHTTP {
		t.Errorf("%d alerts have their workload, want %d", tagged, byGRPC+byHTTP)
	}
	for _, s := range a.sink.outputs {
		if got := s.State(); got.Sent != all || got.Dropped+got.Failed != 0 || got.Queued != 0 || got.LastError != "" {
			t.Errorf("got %+v", got)
		}
	}
	for i, want := range []uint64{byHTTP, byGRPC} {
		if got := a.falco.States()[i]; got.Alerts != want || got.Refused != 0 {
			t.Errorf("got %+v, want %d", got, want)
		}
	}
}

// watch reads alerts as Falco's own programs do, until it has so many.
func watch(ctx context.Context, t *testing.T, socket string, most int) (n int) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	c, err := client.NewForConfig(ctx, &client.Config{UnixSocketPath: "unix://" + socket})
	if err != nil {
		t.Error(err)
		return 0
	}
	defer c.Close()
	_ = c.OutputsWatch(ctx, func(*outputs.Response) error {
		if n++; n == most {
			cancel()
		}
		return nil
	}, time.Millisecond)
	return n
}

// countFrames reads one connection of syslog with octet counting to its end.
func countFrames(listener net.Listener) (n int) {
	conn, err := listener.Accept()
	if err != nil {
		return -1
	}
	defer conn.Close()
	_ = conn.SetReadDeadline(time.Now().Add(testTimeout))
	r := bufio.NewReader(conn)
	for {
		var size int
		if _, err := fmt.Fscanf(r, "%d ", &size); err != nil {
			return n
		}
		if _, err := io.CopyN(io.Discard, r, int64(size)); err != nil {
			return n
		}
		n++
	}
}

func alertsIn(t *testing.T, file string) (all []alert.Alert) {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	dec := json.NewDecoder(f)
	for dec.More() {
		var a alert.Alert
		if err := dec.Decode(&a); err != nil {
			t.Fatal(err)
		}
		all = append(all, a)
	}
	return all
}

// An output that hangs does not hold up the event loop: it drops and counts, and every alert is
// accounted for.
func TestOutputsDoNotHoldUpTheEventLoop(t *testing.T) {
	hang := make(chan struct{})
	sidekick := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-hang }))
	t.Cleanup(sidekick.Close)
	a, end := newBridge(t, Config{AlertsHTTP: sidekick.URL})
	a.detector = detect.New(detect.Config{Ruleset: builtInRules(t), Wall: func(uint64) time.Time { return time.Unix(1, 0) }})
	_, decoder := newLoop(t)
	var ev event.Event
	if err := decoder.Decode(execRecord("/dev/shm/x", "x\x00"), &ev); err != nil {
		t.Fatal(err)
	}
	const n, capacity = 3000, 1024
	for range n {
		a.handle(&ev)
	}
	got := a.sink.outputs[0].State()
	if a.sink.raised.Load() != n || got.Sent+got.Failed != 0 || got.Queued < capacity || got.Queued > capacity+1 || int(got.Dropped) != n-got.Queued {
		t.Errorf("raised %d, got %+v", a.sink.raised.Load(), got)
	}
	close(hang)
	end()
	if got := a.sink.outputs[0].State(); got.Sent+got.Failed+got.Dropped != n || got.Queued != 0 {
		t.Errorf("at the end: %+v", got)
	}
}

// A Falco on a network is read as one on a socket is; its certificates are opened when it is connected to.
func TestFalcoOnNetwork(t *testing.T) {
	a := &Agent{cfg: Config{Falco: FalcoInput{Host: "::1", Port: 5060, CertFile: "/c.pem", KeyFile: "/k.pem", CAFile: "/ca.pem"}}}
	if err := a.openFalco(); err != nil {
		t.Fatal(err)
	}
	if got := a.falco.States(); len(got) != 1 || got[0].Name != "falco.host" || got[0].Address != "[::1]:5060" || len(a.falco.Tasks(nil)) != 1 {
		t.Errorf("%+v", got)
	}
}

// The file of alerts holds one line for each, in the format that is asked for.
func TestAlertFileFormat(t *testing.T) {
	for format, want := range map[string]string{"json": `{"time":"`, "text": "00:00:01.000000000: Warning two lines\n"} {
		file := filepath.Join(t.TempDir(), "alerts")
		a, end := newBridge(t, Config{Alerts: file, AlertsFormat: format})
		at := time.Unix(1, 0)
		a.sink.Raise(alert.Alert{Time: at, Rule: "r", Severity: alert.Warning, Output: alert.Text(at, alert.Warning, "two\nlines")})
		end()
		got, err := os.ReadFile(file)
		if err != nil || !strings.HasPrefix(string(got), want) || strings.Count(string(got), "\n") != 1 {
			t.Errorf("%s: %q, %v", format, got, err)
		}
	}
}
