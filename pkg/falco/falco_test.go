package falco

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/falcosecurity/client-go/pkg/api/outputs"
	"github.com/falcosecurity/client-go/pkg/api/schema"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/plumbline-io/plumbline/pkg/alert"
)

const testTimeout = 20 * time.Second

// falco speaks Falco's published protocol as Falco does: it answers a request with what is queued,
// and then waits for the next request.
type falco struct {
	outputs.UnimplementedServiceServer
	mu    sync.Mutex
	queue []*outputs.Response
}

func (f *falco) Sub(stream outputs.Service_SubServer) error {
	for {
		if _, err := stream.Recv(); err != nil {
			return err
		}
		f.mu.Lock()
		queue := f.queue
		f.queue = nil
		f.mu.Unlock()
		for _, r := range queue {
			if err := stream.Send(r); err != nil {
				return err
			}
		}
	}
}

func (f *falco) put(rules ...string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, rule := range rules {
		f.queue = append(f.queue, response(rule))
	}
}

func response(rule string) *outputs.Response {
	return &outputs.Response{
		Time: timestamppb.New(time.Unix(1e9, 6)), Priority: schema.Priority_WARNING, Rule: rule, Source: "syscall",
	}
}

func serve(t *testing.T, listener net.Listener, f *falco, opts ...grpc.ServerOption) *grpc.Server {
	t.Helper()
	server := grpc.NewServer(opts...)
	outputs.RegisterServiceServer(server, f)
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)
	return server
}

func listenUnix(t *testing.T, socket string) net.Listener {
	t.Helper()
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	return listener
}

// run starts a client; its alerts arrive by rule in the channel. stop ends it and returns Run's error.
func run(t *testing.T, cfg Config) (c *Client, rules chan string, stop func() error) {
	t.Helper()
	cfg.Poll = 5 * time.Millisecond
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	rules, done := make(chan string, 16), make(chan error, 1)
	go func() {
		done <- c.Run(ctx, func(a alert.Alert) error {
			rules <- a.Rule
			return nil
		})
	}()
	t.Cleanup(cancel)
	return c, rules, func() error {
		cancel()
		return <-done
	}
}

func expect(t *testing.T, rules chan string, want ...string) {
	t.Helper()
	var got []string
	deadline := time.After(testTimeout)
	for len(got) < len(want) {
		select {
		case rule := <-rules:
			got = append(got, rule)
		case <-deadline:
			t.Fatalf("got %v, want %v", got, want)
		}
	}
	if !slices.Equal(got, want) {
		t.Fatalf("got %v, want %v", got, want)
	}
}

// What Falco has is read, in order, and what it gets later too: it sends nothing unasked.
func TestRun(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "falco.sock")
	f := &falco{}
	f.put("a", "b")
	serve(t, listenUnix(t, socket), f)
	c, rules, stop := run(t, Config{Socket: socket})
	expect(t, rules, "a", "b")
	f.put("", "c") // one without a rule is refused and stops nothing
	expect(t, rules, "c")
	f.put("d")
	expect(t, rules, "d")
	if err := stop(); err != nil {
		t.Error(err)
	}
	if got := c.Stats(); got != (Stats{Alerts: 4, Refused: 1, Connects: 1}) {
		t.Errorf("got %+v", got)
	}
}

// A Falco that comes later, and one that goes and comes back, are found.
func TestRestart(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "falco.sock")
	c, rules, stop := run(t, Config{Socket: socket})
	for c.Stats().LastError == "" {
		time.Sleep(time.Millisecond)
	}
	f := &falco{}
	f.put("a")
	server := serve(t, listenUnix(t, socket), f)
	expect(t, rules, "a")
	if got := c.Stats().LastError; got != "" {
		t.Errorf("still says %q", got)
	}
	server.Stop()
	for c.Stats().LastError == "" {
		time.Sleep(time.Millisecond)
	}
	again := &falco{}
	again.put("b")
	serve(t, listenUnix(t, socket), again)
	expect(t, rules, "b")
	if err := stop(); err != nil {
		t.Error(err)
	}
	if got := c.Stats(); got.Connects != 2 || got.Alerts != 2 {
		t.Errorf("got %+v", got)
	}
}

func TestHandleFails(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "falco.sock")
	f := &falco{}
	f.put("a", "b")
	serve(t, listenUnix(t, socket), f)
	c, err := New(Config{Socket: socket})
	if err != nil {
		t.Fatal(err)
	}
	full := errors.New("spool is full")
	if err := c.Run(context.Background(), func(alert.Alert) error { return full }); !errors.Is(err, full) {
		t.Errorf("got %v", err)
	}
	if got := c.Stats().Alerts; got != 0 {
		t.Errorf("%d alerts count as handed on", got)
	}
}

func TestMutualTLS(t *testing.T) {
	ours, theirs := newAuthority(t), newAuthority(t)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &falco{}
	f.put("a")
	serve(t, listener, f, grpc.Creds(credentials.NewTLS(ours.server(t))))
	port := uint16(listener.Addr().(*net.TCPAddr).Port)
	config := func(client, ca *authority) Config {
		cert, key := client.client(t)
		return Config{Host: "localhost", Port: port, CertFile: cert, KeyFile: key, CAFile: ca.file}
	}
	for name, tc := range map[string]struct {
		cfg  Config
		want string
	}{
		"server of another authority": {config(ours, theirs), "certificate signed by unknown authority"},
		"client of another authority": {config(theirs, ours), "code = Unavailable"},
		"no such file":                {Config{Host: "localhost", Port: port, CertFile: "none", KeyFile: "none", CAFile: "none"}, "key pair"},
	} {
		t.Run(name, func(t *testing.T) {
			c, rules, stop := run(t, tc.cfg)
			for c.Stats().LastError == "" {
				time.Sleep(time.Millisecond)
			}
			if err := stop(); err != nil || len(rules) > 0 {
				t.Errorf("%v, %d alerts", err, len(rules))
			}
			if got := c.Stats().LastError; !strings.Contains(got, tc.want) {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
	_, rules, stop := run(t, config(ours, ours))
	expect(t, rules, "a")
	if err := stop(); err != nil {
		t.Error(err)
	}
}

func TestNew(t *testing.T) {
	pem := Config{Host: "h", Port: 1, CertFile: "c", KeyFile: "k", CAFile: "a"}
	for name, tc := range map[string]struct {
		cfg  Config
		want string
	}{
		"socket":        {Config{Socket: "/run/falco.sock"}, ""},
		"network":       {pem, ""},
		"nothing":       {Config{}, "want a socket or a host"},
		"both":          {Config{Socket: "/s", Host: "h"}, "want a socket or a host"},
		"relative":      {Config{Socket: "falco.sock"}, "not an absolute path"},
		"no port":       {Config{Host: "h"}, "no port"},
		"no key":        {Config{Host: "h", Port: 1, CertFile: "c", CAFile: "a"}, "needs a certificate"},
		"negative poll": {Config{Socket: "/s", Poll: -1}, "negative"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := New(tc.cfg)
			switch {
			case tc.want == "" && err != nil:
				t.Error(err)
			case tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)):
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
}
