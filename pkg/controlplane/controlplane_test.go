package controlplane_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/plumbline-io/plumbline/pkg/alert"
	"github.com/plumbline-io/plumbline/pkg/alertstore"
	"github.com/plumbline-io/plumbline/pkg/bus"
	"github.com/plumbline-io/plumbline/pkg/controlplane"
	"github.com/plumbline-io/plumbline/pkg/spool"
)

// plane is a running control plane.
type plane struct {
	*controlplane.ControlPlane
	stop func()
}

func start(t testing.TB, dir, listen string) plane {
	t.Helper()
	cp, err := controlplane.New(controlplane.Config{DataDir: dir, Listen: listen, Logger: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- cp.Run(ctx) }()
	select {
	case <-cp.Ready():
	case err := <-done:
		t.Fatal(err)
	}
	var once sync.Once
	stop := func() {
		once.Do(func() {
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
		})
	}
	t.Cleanup(stop)
	return plane{cp, stop}
}

// sender is an agent's end: a spool and a publisher.
type sender struct {
	spool *spool.Spool
	pub   *bus.Publisher
	stop  func()
}

func send(t testing.TB, spoolDir, url, password string, change func(*bus.PublisherConfig)) sender {
	t.Helper()
	sp, err := spool.Open(spoolDir, spool.Config{Node: "node.1", SyncEvery: 20 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	cfg := bus.PublisherConfig{
		URL: url, PasswordFile: password, Node: "node.1", Source: sp,
		StoreTimeout: 400 * time.Millisecond, MaxBackoff: 300 * time.Millisecond, DrainTimeout: 20 * time.Second,
	}
	if change != nil {
		change(&cfg)
	}
	pub, err := bus.NewPublisher(cfg)
	if err != nil {
		t.Fatal(err)
	}
	spoolCtx, stopSpool := context.WithCancel(context.Background())
	pubCtx, stopPub := context.WithCancel(context.Background())
	var writer, publisher sync.WaitGroup
	writer.Go(func() { _ = sp.Run(spoolCtx) })
	publisher.Go(func() {
		if err := pub.Run(pubCtx); err != nil {
			t.Error(err)
		}
	})
	var once sync.Once
	stop := func() {
		once.Do(func() {
			stopPub()
			publisher.Wait()
			stopSpool()
			writer.Wait()
			if err := sp.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	t.Cleanup(stop)
	return sender{sp, pub, stop}
}

func sample(n int) alert.Alert {
	return alert.Alert{
		Time: time.Now(), Rule: "Exec outside baseline", Severity: alert.Severity(n % 8), Source: "syscall",
		Hostname: "node.1", Output: fmt.Sprintf("alert %d", n), Tags: []string{"T1059"},
		Fields: map[string]any{"proc.name": "sh", "proc.cmdline": "sh -c 'id; uname -a'", "evt.time": time.Now().UnixNano()},
		Detail: alert.Detail{
			SPIFFEID: "spiffe://example.org/prod/web.1", Workload: "web.service", WorkloadKind: "unit",
			Verdict: "deny", Hook: "lsm", Mode: "enforce", Key: "/bin/sh", PID: 4242, Lineage: []string{"/usr/bin/web", "/sbin/init"},
			Fingerprint: alert.Fingerprint("Exec outside baseline", "web.service", "/bin/sh", "deny"),
		},
	}
}

// waitFor polls what has no event of its own.
func waitFor(t testing.TB, what string, limit time.Duration, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(limit); !cond(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited %v for %s", limit, what)
		}
	}
}

func password(dir string) string { return bus.PasswordFile(dir, bus.AgentUser) }

// checkOnce reads the store's file and compares with the alerts that were appended: each is there
// once, and no epoch has a gap.
func checkOnce(t *testing.T, dir string, want []alert.ID) {
	t.Helper()
	ctx := context.Background()
	st, err := alertstore.Open(ctx, filepath.Join(dir, "alerts.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	count := map[alert.ID]int{}
	for after := int64(0); ; {
		found, err := st.Query(ctx, alertstore.Filter{After: &after, Limit: alertstore.MaxLimit})
		if err != nil {
			t.Fatal(err)
		}
		if len(found) == 0 {
			break
		}
		for _, f := range found {
			count[f.Alert.Detail.ID]++
			after = f.Cursor
		}
	}
	missing, twice := 0, 0
	for _, id := range want {
		switch count[id] {
		case 0:
			missing++
		case 1:
		default:
			twice++
		}
	}
	if missing > 0 || twice > 0 || len(count) != len(want) {
		t.Errorf("%d appended: %d missing, %d twice, %d different stored", len(want), missing, twice, len(count))
	}
	epochs, err := st.Epochs(ctx, "")
	if err != nil {
		t.Fatal(err)
	}
	total := uint64(0)
	for _, e := range epochs {
		total += e.Stored
		if e.Stored != e.Last {
			t.Errorf("gap: %+v", e)
		}
	}
	if total != uint64(len(want)) {
		t.Errorf("%d stored by epoch, want %d", total, len(want))
	}
}

// load appends n alerts at a steady pace and returns their IDs.
func load(t testing.TB, s *spool.Spool, from, n int, pace time.Duration) []alert.ID {
	t.Helper()
	tick := time.NewTicker(pace)
	defer tick.Stop()
	ids := make([]alert.ID, 0, n)
	for i := range n {
		id, err := s.Append(sample(from + i))
		if err != nil {
			t.Error(err)
			return ids
		}
		ids = append(ids, id)
		<-tick.C
	}
	return ids
}

// TestOutageUnderLoad stops the control plane with its NATS server twice while alerts come, and
// counts.
func TestOutageUnderLoad(t *testing.T) {
	dir := t.TempDir()
	cp := start(t, dir, "127.0.0.1:0")
	listen := cp.URL()[len("nats://"):]
	s := send(t, t.TempDir(), cp.URL(), password(dir), nil)
	var ids []alert.ID
	const part = 1009
	for round := range 3 {
		done := make(chan []alert.ID, 1)
		go func() { done <- load(t, s.spool, round*part, part, time.Millisecond) }()
		if round < 2 {
			waitFor(t, "alerts to flow", 10*time.Second, func() bool { return s.spool.Stats().Acked > uint64(round*part+100) })
			cp.stop()
			ids = append(ids, <-done...) // the rest of the round finds no server
			if s.pub.Stats().Connected {
				t.Error("connected to a server that is stopped")
			}
			cp = start(t, dir, listen)
		} else {
			ids = append(ids, <-done...)
		}
	}
	waitFor(t, "the spool to empty", 3*time.Minute, func() bool { return s.spool.Stats().Records == 0 })
	st := s.pub.Stats()
	t.Logf("publisher: %+v", st)
	s.stop()
	cp.stop()
	checkOnce(t, dir, ids)
}

// TestPublisherRestarts ends publisher and spool in the middle of the load and opens them again.
func TestPublisherRestarts(t *testing.T) {
	dir, spoolDir := t.TempDir(), t.TempDir()
	cp := start(t, dir, "127.0.0.1:0")
	var ids []alert.ID
	for round := range 4 {
		s := send(t, spoolDir, cp.URL(), password(dir), func(c *bus.PublisherConfig) {
			c.DrainTimeout = time.Millisecond // leave with alerts on their way
		})
		ids = append(ids, load(t, s.spool, round*307, 307, 100*time.Microsecond)...)
		s.stop()
	}
	s := send(t, spoolDir, cp.URL(), password(dir), nil)
	waitFor(t, "the spool to empty", 3*time.Minute, func() bool { return s.spool.Stats().Records == 0 })
	s.stop()
	cp.stop()
	checkOnce(t, dir, ids)
}

func TestDrainBeforeEnd(t *testing.T) {
	dir := t.TempDir()
	cp := start(t, dir, "127.0.0.1:0")
	s := send(t, t.TempDir(), cp.URL(), password(dir), nil)
	ids := load(t, s.spool, 0, 101, 10*time.Microsecond)
	waitFor(t, "the spool's writer", 10*time.Second, func() bool { return s.spool.Stats().Pending == 0 })
	s.stop()
	cp.stop()
	if st := s.spool.Stats(); st.Acked != 101 {
		t.Errorf("not drained: %+v", st)
	}
	checkOnce(t, dir, ids)
}

func request[T any](t *testing.T, c *bus.Client, verb string, req any) (items []T) {
	t.Helper()
	err := c.Request(context.Background(), verb, req, func(raw json.RawMessage) error {
		var item T
		if err := json.Unmarshal(raw, &item); err != nil {
			return err
		}
		items = append(items, item)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return items
}

func TestOperatorSees(t *testing.T) {
	dir := t.TempDir()
	cp := start(t, dir, "127.0.0.1:0")
	s := send(t, t.TempDir(), cp.URL(), password(dir), func(c *bus.PublisherConfig) {
		c.Heartbeat = func() bus.Heartbeat {
			return bus.Heartbeat{
				Version: "v1", RSS: 1 << 20, Modes: map[string]int{"enforce": 2}, Lost: map[string]uint64{"ring_full.exec": 3},
				Support: []bus.Support{{Sensor: "exec", Hook: "lsm", Supported: false, Reason: "no bpf in the LSM list"}},
			}
		}
	})
	c, err := bus.Dial(bus.ClientConfig{URL: cp.URL(), PasswordFile: bus.PasswordFile(dir, bus.OperatorUser)})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	news, err := c.Watch()
	if err != nil {
		t.Fatal(err)
	}
	const n = 1500 // several messages long
	load(t, s.spool, 0, n, 10*time.Microsecond)
	<-news
	waitFor(t, "the spool to empty", 3*time.Minute, func() bool { return s.spool.Stats().Records == 0 })

	if got := request[controlplane.AlertItem](t, c, "alerts", controlplane.AlertsRequest{Limit: 10_000}); len(got) != n {
		t.Errorf("%d alerts, want %d", len(got), n)
	} else if d := got[0].Alert.Detail; d.StoredTime == nil || d.StoredTime.Before(got[0].Alert.Time) {
		t.Errorf("stored %v, happened %v", d.StoredTime, got[0].Alert.Time)
	}
	severity := alert.Critical
	if got := request[controlplane.AlertItem](t, c, "alerts", controlplane.AlertsRequest{Limit: 10_000, Severity: &severity}); len(got) != 3*((n+7)/8) {
		t.Errorf("%d critical alerts", len(got))
	}
	var agents []controlplane.AgentItem
	waitFor(t, "the heartbeat", 10*time.Second, func() bool {
		agents = request[controlplane.AgentItem](t, c, "agents", nil)
		return len(agents) == 1
	})
	if a := agents[0]; a.State != "healthy" || a.Heartbeat.Node != "node.1" || a.Heartbeat.Lost["ring_full.exec"] != 3 || len(a.Heartbeat.Support) != 1 || a.Stored != n || a.Missing != 0 {
		t.Errorf("%+v", a)
	}
	err = c.Request(context.Background(), "nothing", nil, func(json.RawMessage) error { return nil })
	if !errors.Is(err, bus.ErrUnreachable) {
		t.Errorf("unknown verb: %v", err)
	}
}

func TestTwoInOneDirectory(t *testing.T) {
	dir := t.TempDir()
	start(t, dir, "127.0.0.1:0")
	cp, err := controlplane.New(controlplane.Config{DataDir: dir, Listen: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	if err := cp.Run(context.Background()); !errors.Is(err, controlplane.ErrInUse) {
		t.Errorf("second control plane: %v", err)
	}
}

// TestClaimedNode: alerts that claim to be another node's are put aside, and neither block the
// stream nor make that node's own alerts count as stored.
func TestClaimedNode(t *testing.T) {
	dir := t.TempDir()
	cp := start(t, dir, "127.0.0.1:0")
	s := send(t, t.TempDir(), cp.URL(), password(dir), func(c *bus.PublisherConfig) { c.Node = "liar" })
	ids := load(t, s.spool, 0, 3, time.Microsecond) // the spool's node is node.1
	waitFor(t, "the spool to empty", 10*time.Second, func() bool { return s.spool.Stats().Records == 0 })
	s.stop()
	cp.stop()
	st, err := alertstore.Open(context.Background(), filepath.Join(dir, "alerts.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	found, err := st.Query(context.Background(), alertstore.Filter{})
	if err != nil || len(found) != 0 {
		t.Errorf("stored %v, %v", found, err)
	}
	if have, err := st.Has(context.Background(), ids); err != nil || len(have) != 0 {
		t.Errorf("count as stored: %v, %v", have, err)
	}
}
