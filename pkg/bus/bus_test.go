package bus_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/plumbline-io/plumbline/pkg/alert"
	"github.com/plumbline-io/plumbline/pkg/bus"
	"github.com/plumbline-io/plumbline/pkg/bus/natsserver"
)

// source is a bus.Source in memory.
type source struct {
	mu    sync.Mutex
	next  uint64
	queue []alert.ID
	acked map[alert.ID]int
	more  chan struct{}
}

func newSource() *source { return &source{acked: map[alert.ID]int{}, more: make(chan struct{}, 1)} }

func (s *source) add(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for range n {
		s.next++
		s.queue = append(s.queue, alert.ID{Node: "n1", Epoch: "e1", Seq: s.next})
	}
	s.signal()
}

func (s *source) signal() {
	select {
	case s.more <- struct{}{}:
	default:
	}
}

func (s *source) pop() (alert.ID, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.queue) == 0 {
		return alert.ID{}, false
	}
	id := s.queue[0]
	s.queue = s.queue[1:]
	return id, true
}

func (s *source) Next(ctx context.Context) (alert.ID, []byte, error) {
	for {
		if id, ok := s.pop(); ok {
			b, err := json.Marshal(alert.Alert{Time: time.Now(), Rule: "r", Source: "syscall", Detail: alert.Detail{ID: id}})
			return id, b, err
		}
		select {
		case <-ctx.Done():
			return alert.ID{}, nil, ctx.Err()
		case <-s.more:
		}
	}
}

func (s *source) Ack(id alert.ID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.acked[id]++
}

func (s *source) Retry(id alert.ID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.queue = append(s.queue, id)
	s.signal()
}

func (s *source) done(n int) func() bool {
	return func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return len(s.acked) == n
	}
}

// memory is a store in memory.
type memory struct {
	mu    sync.Mutex
	count map[string]int
	fail  int           // so many calls fail first
	block chan struct{} // not nil: Store waits for it
	beats []bus.Heartbeat
}

func (m *memory) Store(ctx context.Context, batch []bus.Delivery) error {
	if m.block != nil {
		select {
		case <-m.block:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fail > 0 {
		m.fail--
		return errors.New("disk on fire")
	}
	for _, d := range batch {
		m.count[d.ID]++
	}
	return nil
}

func (m *memory) Stored(_ context.Context, ids []alert.ID) (have []alert.ID, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, id := range ids {
		if m.count[id.String()] > 0 {
			have = append(have, id)
		}
	}
	return have, nil
}

func (m *memory) Heartbeat(_ context.Context, hb bus.Heartbeat) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.beats = append(m.beats, hb)
	return nil
}

func (m *memory) check(t *testing.T, n int) {
	t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.count) != n {
		t.Errorf("%d stored, want %d", len(m.count), n)
	}
	for i := range n {
		if id := (alert.ID{Node: "n1", Epoch: "e1", Seq: uint64(i + 1)}); m.count[id.String()] == 0 {
			t.Errorf("%s is missing", id)
		}
	}
}

func startServer(t testing.TB, dir, listen string) *natsserver.Server {
	t.Helper()
	s, err := natsserver.New(natsserver.Config{DataDir: dir, Listen: listen, Tenant: "default"})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	return s
}

// running runs f until the returned function, or the end of the test.
func running(t testing.TB, f func(context.Context) error) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f(ctx) }()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
		})
	}
	t.Cleanup(stop)
	return stop
}

func startHub(t testing.TB, s *natsserver.Server, m *memory) (stop func()) {
	t.Helper()
	m.count = map[string]int{}
	h, err := bus.NewHub(context.Background(), bus.HubConfig{Server: s, Store: m.Store, Stored: m.Stored, Heartbeat: m.Heartbeat})
	if err != nil {
		t.Fatal(err)
	}
	return running(t, h.Run)
}

func startPublisher(t testing.TB, url, dir string, src bus.Source, change func(*bus.PublisherConfig)) (*bus.Publisher, func()) {
	t.Helper()
	cfg := bus.PublisherConfig{
		URL: url, PasswordFile: bus.PasswordFile(dir, bus.AgentUser), Node: "n1", Source: src,
		StoreTimeout: 200 * time.Millisecond, MaxBackoff: 200 * time.Millisecond, DrainTimeout: time.Millisecond,
	}
	if change != nil {
		change(&cfg)
	}
	p, err := bus.NewPublisher(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return p, running(t, p.Run)
}

// waitFor polls what has no event of its own.
func waitFor(t testing.TB, what string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !cond(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited 30 s for %s", what)
		}
	}
}

// TestServerStops stops and starts the server under a hub and a publisher that stay.
func TestServerStops(t *testing.T) {
	dir := t.TempDir()
	s := startServer(t, dir, "127.0.0.1:0")
	m, src := &memory{}, newSource()
	startHub(t, s, m)
	p, _ := startPublisher(t, s.URL(), dir, src, nil)
	for round := range 3 {
		src.add(211)
		if round > 0 {
			s.Stop()
			waitFor(t, "the publisher to notice", func() bool { return !p.Stats().Connected && p.Stats().LastError != "" })
			src.add(211)
			if err := s.Start(); err != nil {
				t.Fatal(err)
			}
		}
	}
	waitFor(t, "all to be stored", src.done(5*211))
	m.check(t, 5*211)
	if st := p.Stats(); st.Stored != 5*211 || st.InFlight != 0 {
		t.Errorf("%+v", st)
	}
}

// TestStreamIsLost: JetStream acknowledged and then lost everything, as it may in a power cut.
func TestStreamIsLost(t *testing.T) {
	dir := t.TempDir()
	s := startServer(t, dir, "127.0.0.1:0")
	url := s.URL()
	src := newSource()
	stopHub := startHub(t, s, &memory{block: make(chan struct{})})
	p, _ := startPublisher(t, url, dir, src, nil)
	src.add(97)
	waitFor(t, "JetStream to have them", func() bool { return bus.Kept(p) == 97 })
	stopHub()
	s.Stop()
	if err := os.RemoveAll(filepath.Join(dir, "nats")); err != nil {
		t.Fatal(err)
	}
	m := &memory{}
	startHub(t, startServer(t, dir, url[len("nats://"):]), m)
	waitFor(t, "all to be stored", src.done(97))
	m.check(t, 97)
}

// slowSource notes that an alert is stored while somebody waits for Run to return.
type slowSource struct {
	*source
	asked    chan struct{}
	returned chan struct{} // closed when Run has
	early    atomic.Bool
}

func (s *slowSource) Ack(id alert.ID) {
	close(s.asked)
	select {
	case <-s.returned:
		s.early.Store(true)
	case <-time.After(200 * time.Millisecond): // it would have returned in one
	}
	s.source.Ack(id)
}

// TestSourceIsLeftAlone: who has waited for Run may close the source.
func TestSourceIsLeftAlone(t *testing.T) {
	dir := t.TempDir()
	s := startServer(t, dir, "127.0.0.1:0")
	startHub(t, s, &memory{})
	src := &slowSource{source: newSource(), asked: make(chan struct{}), returned: make(chan struct{})}
	_, stop := startPublisher(t, s.URL(), dir, src, nil)
	src.add(1)
	<-src.asked
	stop()
	close(src.returned)
	waitFor(t, "the source to know", src.done(1))
	if src.early.Load() {
		t.Error("Run has returned, and the source is still told of what was stored")
	}
}

func TestStoreFails(t *testing.T) {
	dir := t.TempDir()
	s := startServer(t, dir, "127.0.0.1:0")
	m, src := &memory{fail: 3}, newSource()
	startHub(t, s, m)
	startPublisher(t, s.URL(), dir, src, nil)
	src.add(10)
	waitFor(t, "all to be stored", src.done(10))
	m.check(t, 10)
}

// TestNoStream: the server is up, but nobody made the stream yet.
func TestNoStream(t *testing.T) {
	dir := t.TempDir()
	s := startServer(t, dir, "127.0.0.1:0")
	src := newSource()
	p, _ := startPublisher(t, s.URL(), dir, src, nil)
	src.add(5)
	waitFor(t, "the refusal", func() bool { return strings.Contains(p.Stats().LastError, "no stream takes it") })
	m := &memory{}
	startHub(t, s, m)
	waitFor(t, "all to be stored", src.done(5))
	m.check(t, 5)
}

// TestNobodyListensYet: the agent may be there first.
func TestNobodyListensYet(t *testing.T) {
	dir := t.TempDir()
	s := startServer(t, dir, "127.0.0.1:0")
	s.Stop()
	m, src := &memory{}, newSource()
	p, _ := startPublisher(t, s.URL(), dir, src, nil)
	src.add(3)
	waitFor(t, "the error", func() bool { return strings.Contains(p.Stats().LastError, bus.ErrUnreachable.Error()) })
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	startHub(t, s, m)
	waitFor(t, "all to be stored", src.done(3))
	m.check(t, 3)
	waitFor(t, "the error to be forgotten", func() bool {
		return p.Stats() == bus.PublisherStats{Connected: true, Published: p.Stats().Published, Stored: 3, Retried: p.Stats().Retried, Duplicates: p.Stats().Duplicates}
	})
}

// TestPasswordIsCorrected: refused is no reason to give up.
func TestPasswordIsCorrected(t *testing.T) {
	dir, file := t.TempDir(), filepath.Join(t.TempDir(), "pw")
	s := startServer(t, dir, "127.0.0.1:0")
	m, src := &memory{}, newSource()
	startHub(t, s, m)
	if err := os.WriteFile(file, []byte("wrong\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p, _ := startPublisher(t, s.URL(), dir, src, func(c *bus.PublisherConfig) { c.PasswordFile = file })
	src.add(3)
	waitFor(t, "the refusal", func() bool { return strings.Contains(p.Stats().LastError, bus.ErrRefused.Error()) })
	right, err := os.ReadFile(bus.PasswordFile(dir, bus.AgentUser))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, right, 0o600); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "all to be stored", src.done(3))
	waitFor(t, "the error to be forgotten", func() bool { return p.Stats().LastError == "" })
}

func TestHeartbeats(t *testing.T) {
	dir := t.TempDir()
	s := startServer(t, dir, "127.0.0.1:0")
	m := &memory{}
	startHub(t, s, m)
	startPublisher(t, s.URL(), dir, newSource(), func(c *bus.PublisherConfig) {
		c.HeartbeatEvery = 20 * time.Millisecond
		c.Heartbeat = func() bus.Heartbeat { return bus.Heartbeat{Version: "v1", Node: "liar"} }
	})
	waitFor(t, "heartbeats", func() bool { m.mu.Lock(); defer m.mu.Unlock(); return len(m.beats) >= 3 })
	m.mu.Lock()
	defer m.mu.Unlock()
	for i, hb := range m.beats {
		if hb.Node != "n1" || hb.Version != "v1" || hb.Every != 0.02 || i > 0 && hb.Sequence <= m.beats[i-1].Sequence {
			t.Errorf("%+v", hb)
		}
	}
}

// TestBeat: a heartbeat comes when it is asked for, and not only at its time.
func TestBeat(t *testing.T) {
	dir := t.TempDir()
	s := startServer(t, dir, "127.0.0.1:0")
	startHub(t, s, &memory{})
	p, _ := startPublisher(t, s.URL(), dir, newSource(), func(c *bus.PublisherConfig) {
		c.HeartbeatEvery = time.Hour
		c.Heartbeat = func() bus.Heartbeat { return bus.Heartbeat{} }
	})
	waitFor(t, "the first heartbeat", func() bool { return p.Stats().Heartbeats == 1 })
	p.Beat()
	waitFor(t, "the second heartbeat", func() bool { return p.Stats().Heartbeats == 2 })
}

// TestPasswordComesLater: until then the reason is the file, not the refusal that follows from it. The
// end of the publisher is no loss of the connection.
func TestPasswordComesLater(t *testing.T) {
	dir, file := t.TempDir(), filepath.Join(t.TempDir(), "pw")
	s := startServer(t, dir, "127.0.0.1:0")
	startHub(t, s, &memory{})
	p, stop := startPublisher(t, s.URL(), dir, newSource(), func(c *bus.PublisherConfig) { c.PasswordFile = file })
	waitFor(t, "the reason", func() bool { return strings.Contains(p.Stats().LastError, "open "+file) })
	right, err := os.ReadFile(bus.PasswordFile(dir, bus.AgentUser))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, right, 0o600); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the connection", func() bool { return p.Stats().Connected })
	stop()
	if st := p.Stats(); st.LastError != "" {
		t.Errorf("after the end: %q", st.LastError)
	}
}

func BenchmarkPublishToStored(b *testing.B) {
	dir := b.TempDir()
	s := startServer(b, dir, "127.0.0.1:0")
	src := newSource()
	startHub(b, s, &memory{})
	p, _ := startPublisher(b, s.URL(), dir, src, nil)
	b.ReportAllocs()
	b.ResetTimer()
	src.add(b.N)
	waitFor(b, fmt.Sprint(b.N), src.done(b.N))
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "alerts/s")
	if st := p.Stats(); st.Retried > 0 {
		b.Logf("%+v", st)
	}
}
