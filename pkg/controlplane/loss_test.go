package controlplane_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/plumbline-io/plumbline/pkg/alert"
	"github.com/plumbline-io/plumbline/pkg/alertstore"
	"github.com/plumbline-io/plumbline/pkg/bus"
	"github.com/plumbline-io/plumbline/pkg/spool"
)

// cutter is a TCP relay that can cut all connections: what was under way in either direction, alerts,
// acknowledgements and confirmations, is lost.
type cutter struct {
	listener net.Listener
	to       string
	mu       sync.Mutex
	conns    []net.Conn
}

func newCutter(t *testing.T, to string) *cutter {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &cutter{listener: l, to: to}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { c.relay(conn) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		c.cut()
		wg.Wait()
	})
	return c
}

func (c *cutter) relay(in net.Conn) {
	out, err := net.Dial("tcp", c.to)
	if err != nil {
		_ = in.Close()
		return
	}
	c.mu.Lock()
	c.conns = append(c.conns, in, out)
	c.mu.Unlock()
	var wg sync.WaitGroup
	for _, pair := range [][2]net.Conn{{in, out}, {out, in}} {
		wg.Go(func() {
			_, _ = io.Copy(pair[0], pair[1])
			_ = in.Close()
			_ = out.Close()
		})
	}
	wg.Wait()
}

func (c *cutter) cut() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := len(c.conns)
	for _, conn := range c.conns {
		_ = conn.Close()
	}
	c.conns = nil
	return n / 2
}

// TestLostAcks cuts the connection again and again while alerts flow.
func TestLostAcks(t *testing.T) {
	dir := t.TempDir()
	cp := start(t, dir, "127.0.0.1:0")
	relay := newCutter(t, cp.URL()[len("nats://"):])
	s := send(t, t.TempDir(), "nats://"+relay.listener.Addr().String(), password(dir), func(c *bus.PublisherConfig) {
		c.MaxBackoff = 20 * time.Millisecond
	})
	const n = 2003
	loaded := make(chan []alert.ID, 1)
	go func() { loaded <- load(t, s.spool, 0, n, time.Millisecond) }()
	var ids []alert.ID
	cuts, tick := 0, time.NewTicker(70*time.Millisecond)
	defer tick.Stop()
	for ids == nil {
		select {
		case ids = <-loaded:
		case <-tick.C:
			cuts += relay.cut()
		}
	}
	waitFor(t, "the spool to empty", 3*time.Minute, func() bool { return s.spool.Stats().Records == 0 })
	st := s.pub.Stats()
	t.Logf("%d cuts, publisher %+v", cuts, st)
	if cuts < 5 || st.Retried == 0 {
		t.Errorf("%d cuts, %d retries: nothing was tested", cuts, st.Retried)
	}
	s.stop()
	cp.stop()
	checkOnce(t, dir, ids)
}

// TestSpoolOverflows: without a control plane the spool fills; what arrives later and what is
// counted as lost make up the whole, and nothing severe is lost for something mild.
func TestSpoolOverflows(t *testing.T) {
	dir := t.TempDir()
	cp := start(t, dir, "127.0.0.1:0")
	listen := cp.URL()[len("nats://"):]
	cp.stop()
	const segmentBytes = 16 << 10
	sp, err := spool.Open(t.TempDir(), spool.Config{Node: "node.1", MaxBytes: 256 << 10, SegmentBytes: segmentBytes, SyncEvery: -1})
	if err != nil {
		t.Fatal(err)
	}
	line, err := json.Marshal(sample(0))
	if err != nil {
		t.Fatal(err)
	}
	size := len(line) // of the smallest: its id and its number only grow
	p, err := bus.NewPublisher(bus.PublisherConfig{URL: "nats://" + listen, PasswordFile: password(dir), Node: "node.1", Source: sp, MaxBackoff: 100 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = sp.Run(ctx) })
	wg.Go(func() { _ = p.Run(ctx) })
	const n = 1600 // 200 of each severity
	for i := range n {
		if _, err := sp.Append(sample(i)); err != nil {
			t.Fatal(err)
		}
	}
	waitFor(t, "the spool's writer", 10*time.Second, func() bool { return sp.Stats().Pending == 0 })
	cp = start(t, dir, listen)
	waitFor(t, "the spool to empty", 3*time.Minute, func() bool { return sp.Stats().Records == 0 })
	cancel()
	wg.Wait()
	st := sp.Stats()
	if err := sp.Close(); err != nil {
		t.Fatal(err)
	}
	cp.stop()
	bySeverity, total := map[alert.Severity]int{}, uint64(0)
	for _, f := range stored(t, dir) {
		bySeverity[f.Alert.Severity]++
		total++
	}
	if st.Evicted == 0 || total+st.Lost() != n || st.Acked != total {
		t.Errorf("%d stored, %+v", total, st)
	}
	// A segment is evicted at once; only what the last one left free is for alerts as mild as debug ones.
	if bySeverity[alert.Emergency] != 200 || bySeverity[alert.Debug]*size > segmentBytes {
		t.Errorf("stored by severity: %v, %d bytes each", bySeverity, size)
	}
}

func stored(t testing.TB, dir string) []alertstore.Found {
	t.Helper()
	st, err := alertstore.Open(context.Background(), filepath.Join(dir, "alerts.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	found, err := st.Query(context.Background(), alertstore.Filter{Limit: alertstore.MaxLimit})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// TestSenderIsKilled kills the sending process in the middle, three times. What it had in its spool
// arrives once, and each epoch is without a gap.
func TestSenderIsKilled(t *testing.T) {
	if url := os.Getenv("SENDER_TEST_URL"); url != "" {
		sendForEver()
		return
	}
	dir, spoolDir := t.TempDir(), t.TempDir()
	cp := start(t, dir, "127.0.0.1:0")
	for round := range 3 {
		before := len(stored(t, dir))
		cmd := exec.Command(os.Args[0], "-test.run=^TestSenderIsKilled$")
		cmd.Env = append(os.Environ(), "SENDER_TEST_URL="+cp.URL(), "SENDER_TEST_SPOOL="+spoolDir, "SENDER_TEST_PASSWORD="+password(dir))
		cmd.Stderr = os.Stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		waitFor(t, "alerts of round "+strconv.Itoa(round), 3*time.Minute, func() bool { return len(stored(t, dir)) > before+200 })
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
	s := send(t, spoolDir, cp.URL(), password(dir), nil)
	waitFor(t, "the spool to empty", 3*time.Minute, func() bool { return s.spool.Stats().Records == 0 })
	s.stop()
	cp.stop()
	ids := map[alert.ID]bool{}
	outputs := map[string]bool{}
	for _, f := range stored(t, dir) {
		ids[f.Alert.Detail.ID] = true
		outputs[f.Alert.Output] = true
	}
	var list []alert.ID
	for id := range ids {
		list = append(list, id)
	}
	if len(outputs) != len(ids) {
		t.Errorf("%d different alerts have %d different ids", len(outputs), len(ids))
	}
	checkOnce(t, dir, list)
}

// sendForEver appends without a pause, at most what a query can list, and sends until it is killed.
func sendForEver() {
	sp, err := spool.Open(os.Getenv("SENDER_TEST_SPOOL"), spool.Config{Node: "node.1"})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return
	}
	p, err := bus.NewPublisher(bus.PublisherConfig{
		URL: os.Getenv("SENDER_TEST_URL"), PasswordFile: os.Getenv("SENDER_TEST_PASSWORD"), Node: "node.1", Source: sp,
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return
	}
	ctx := context.Background()
	go func() { _ = sp.Run(ctx) }()
	go func() { _ = p.Run(ctx) }()
	tick := time.NewTicker(200 * time.Microsecond)
	for i := range alertstore.MaxLimit / 4 { // three processes are killed
		a := sample(3) // one severity: one lane, so that a kill leaves a gap only at the end
		a.Output = fmt.Sprintf("%d of process %d", i, os.Getpid())
		if _, err := sp.Append(a); err != nil && !errors.Is(err, spool.ErrFull) {
			fmt.Fprintln(os.Stderr, err)
			return
		}
		<-tick.C
	}
	select {} // the rest is still on its way
}

// timed notes when each alert was confirmed.
type timed struct {
	*spool.Spool
	mu   sync.Mutex
	took []time.Duration
	at   map[alert.ID]time.Time
}

func (s *timed) Ack(id alert.ID) {
	s.Spool.Ack(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.took = append(s.took, time.Since(s.at[id]))
}

// BenchmarkHookToStored takes the time from an alert's timestamp, which is the hook's, to the
// confirmation that follows the commit, so that the store's own stored time is an upper part of it.
func BenchmarkHookToStored(b *testing.B) {
	for _, perSecond := range []int{20, 200, 2000} {
		b.Run(fmt.Sprintf("%d_a_second", perSecond), func(b *testing.B) {
			dir := b.TempDir()
			cp := start(b, dir, "127.0.0.1:0")
			src := &timed{at: map[alert.ID]time.Time{}}
			s := send(b, b.TempDir(), cp.URL(), password(dir), func(c *bus.PublisherConfig) {
				src.Spool = c.Source.(*spool.Spool)
				c.Source = src
			})
			waitFor(b, "the connection", 10*time.Second, func() bool { return s.pub.Stats().Connected })
			tick := time.NewTicker(time.Second / time.Duration(perSecond))
			defer tick.Stop()
			b.ReportAllocs()
			for b.Loop() {
				<-tick.C
				a := sample(1)
				src.mu.Lock()
				id, err := s.spool.Append(a)
				src.at[id] = a.Time
				src.mu.Unlock()
				if err != nil {
					b.Fatal(err)
				}
			}
			waitFor(b, "the spool to empty", 3*time.Minute, func() bool { return s.spool.Stats().Records == 0 })
			s.stop()
			var toStore []time.Duration
			for _, f := range stored(b, dir) {
				toStore = append(toStore, f.Alert.Detail.StoredTime.Sub(f.Alert.Time))
			}
			report(b, "stored", toStore)
			report(b, "confirmed", src.took)
		})
	}
}

func report(b *testing.B, what string, took []time.Duration) {
	sort.Slice(took, func(i, j int) bool { return took[i] < took[j] })
	for _, p := range []int{50, 99} {
		b.ReportMetric(took[len(took)*p/100].Seconds()*1000, fmt.Sprintf("p%d-%s-ms", p, what))
	}
}
