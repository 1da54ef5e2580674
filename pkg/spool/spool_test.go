package spool

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/plumbline-io/plumbline/pkg/alert"
)

func sample(sev alert.Severity, text string) alert.Alert {
	return alert.Alert{
		Time: time.Unix(1700000000, 0).UTC(), Rule: "r", Severity: sev, Source: "syscall",
		Output: text, Detail: alert.Detail{Verdict: "deny", Hook: "lsm"},
	}
}

// open returns a running spool and what stops it in good order.
func open(t testing.TB, dir string, cfg Config) (*Spool, func()) {
	t.Helper()
	if cfg.Node == "" {
		cfg.Node = "n1"
	}
	s, err := Open(dir, cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Run(ctx) }()
	return s, func() {
		cancel()
		<-done
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

func mustAppend(t testing.TB, s *Spool, a alert.Alert) alert.ID {
	t.Helper()
	id, err := s.Append(a)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func mustNext(t testing.TB, s *Spool) (alert.ID, alert.Alert) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	id, b, err := s.Next(ctx)
	if err != nil {
		t.Fatalf("next: %v (%+v)", err, s.Stats())
	}
	a, err := alert.Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	if a.Detail.ID != id {
		t.Fatalf("alert says %v, spool says %v", a.Detail.ID, id)
	}
	return id, a
}

// waitFor polls what has no event of its own.
func waitFor(t testing.TB, what string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !cond(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited 10 s for %s", what)
		}
	}
}

func settled(s *Spool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.pending) == 0 && s.waiting == 0
}

func empty(s *Spool) bool {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, _, err := s.Next(ctx)
	return err != nil
}

func TestSevereFirst(t *testing.T) {
	s, stop := open(t, t.TempDir(), Config{})
	defer stop()
	for i, sev := range []alert.Severity{alert.Notice, alert.Critical, alert.Notice, alert.Critical} {
		mustAppend(t, s, sample(sev, fmt.Sprint(i)))
	}
	waitFor(t, "the writer", func() bool { return settled(s) })
	var got []string
	for range 4 {
		_, a := mustNext(t, s)
		got = append(got, a.Output)
	}
	if want := "1 3 0 2"; strings.Join(got, " ") != want {
		t.Errorf("order %v, want %s", got, want)
	}
}

func TestCleanReopenGoesOn(t *testing.T) {
	dir := t.TempDir()
	s, stop := open(t, dir, Config{})
	first := mustAppend(t, s, sample(alert.Error, "a"))
	second := mustAppend(t, s, sample(alert.Error, "b"))
	id, _ := mustNext(t, s)
	s.Ack(id)
	stop()
	s, stop = open(t, dir, Config{})
	third := mustAppend(t, s, sample(alert.Error, "c"))
	if third.Epoch != first.Epoch || third.Seq != 3 {
		t.Errorf("third is %v after %v", third, first)
	}
	for _, want := range []alert.ID{second, third} {
		got, _ := mustNext(t, s)
		if got != want {
			t.Errorf("got %v, want %v", got, want)
		}
		s.Ack(got)
	}
	stop()
	s, stop = open(t, dir, Config{})
	defer stop()
	if st := s.Stats(); st.Records != 0 || st.Bytes != 0 {
		t.Errorf("not empty: %+v", st)
	}
	if fourth := mustAppend(t, s, sample(alert.Error, "d")); fourth.Epoch != first.Epoch || fourth.Seq != 4 {
		t.Errorf("fourth is %v", fourth)
	}
}

func TestRetry(t *testing.T) {
	s, stop := open(t, t.TempDir(), Config{})
	defer stop()
	mustAppend(t, s, sample(alert.Error, "a"))
	id, _ := mustNext(t, s)
	if !empty(s) {
		t.Fatal("handed out twice")
	}
	s.Retry(id)
	again, _ := mustNext(t, s)
	if again != id {
		t.Fatalf("got %v, want %v", again, id)
	}
	s.Ack(id)
	s.Ack(id)
	s.Retry(id)
	if st := s.Stats(); st.Acked != 1 || st.Records != 0 {
		t.Errorf("%+v", st)
	}
}

func TestOneOpener(t *testing.T) {
	dir := t.TempDir()
	_, stop := open(t, dir, Config{})
	defer stop()
	if _, err := Open(dir, Config{Node: "n1"}); !errors.Is(err, ErrLocked) {
		t.Errorf("second opener: %v", err)
	}
}

func TestPendingIsBounded(t *testing.T) {
	s, err := Open(t.TempDir(), Config{Node: "n1", MaxPending: 2000}) // no writer runs
	if err != nil {
		t.Fatal(err)
	}
	var accepted, refused int
	for range 50 {
		if _, err := s.Append(sample(alert.Error, "x")); errors.Is(err, ErrFull) {
			refused++
		} else if err == nil {
			accepted++
		}
	}
	st := s.Stats()
	if accepted == 0 || refused == 0 || st.Refused != uint64(refused) || st.Records != accepted {
		t.Errorf("accepted %d refused %d, %+v", accepted, refused, st)
	}
	if err := s.Close(); err != nil { // writes what is pending
		t.Fatal(err)
	}
}

// TestOverflow fills a small spool: mild alerts give way to severe ones, never the reverse, and every
// alert is either there or counted.
func TestOverflow(t *testing.T) {
	s, stop := open(t, t.TempDir(), Config{MaxBytes: 64 << 10, SegmentBytes: 8 << 10, SyncEvery: -1})
	defer stop()
	text := strings.Repeat("x", 200)
	const severe, mild = 53, 401
	for range mild {
		mustAppend(t, s, sample(alert.Notice, text))
	}
	for range severe {
		mustAppend(t, s, sample(alert.Critical, text))
	}
	for range mild {
		mustAppend(t, s, sample(alert.Debug, text))
	}
	waitFor(t, "the writer", func() bool { return settled(s) })
	st := s.Stats()
	if st.Bytes > 64<<10 {
		t.Errorf("%d bytes kept", st.Bytes)
	}
	got := map[alert.Severity]int{}
	for range st.Records {
		id, a := mustNext(t, s)
		got[a.Severity]++
		s.Ack(id)
	}
	if got[alert.Critical] != severe {
		t.Errorf("%d of %d severe alerts kept: %v", got[alert.Critical], severe, got)
	}
	// The mildest came last: for them is what the last evicted segment left free, and no more.
	if got[alert.Debug]*len(text) > 8<<10 {
		t.Errorf("%d of the mildest in place of others: %v", got[alert.Debug], got)
	}
	if kept := uint64(st.Records); kept+st.Evicted != 2*mild+severe || st.Evicted == 0 {
		t.Errorf("kept %d, evicted %d of %d", kept, st.Evicted, 2*mild+severe)
	}
	if !empty(s) {
		t.Error("more than counted")
	}
}

func TestFullOfSevereRefusesMild(t *testing.T) {
	s, stop := open(t, t.TempDir(), Config{MaxBytes: 16 << 10, SegmentBytes: 4 << 10, SyncEvery: -1})
	defer stop()
	for range 200 {
		mustAppend(t, s, sample(alert.Critical, "x"))
	}
	waitFor(t, "the writer", func() bool { return settled(s) })
	before := s.Stats()
	for range 37 {
		mustAppend(t, s, sample(alert.Debug, strings.Repeat("y", 500)))
	}
	waitFor(t, "the writer", func() bool { return settled(s) })
	after := s.Stats()
	if after.Records+int(after.Evicted) != 237 || after.Records < before.Records {
		t.Errorf("before %+v after %+v", before, after)
	}
}

// TestEvictedInFlight: an alert in flight when its segment goes is lost only if it comes back.
func TestEvictedInFlight(t *testing.T) {
	s, stop := open(t, t.TempDir(), Config{MaxBytes: 16 << 10, SegmentBytes: 4 << 10, SyncEvery: -1})
	defer stop()
	for range 5 {
		mustAppend(t, s, sample(alert.Notice, "x"))
	}
	stored, _ := mustNext(t, s)
	lost, _ := mustNext(t, s)
	for range 100 {
		mustAppend(t, s, sample(alert.Critical, "x"))
	}
	waitFor(t, "the writer", func() bool { return settled(s) })
	s.Ack(stored)
	s.Retry(lost)
	st := s.Stats()
	if st.Acked != 1 || st.Records+int(st.Evicted)+1 != 105 {
		t.Errorf("%+v", st)
	}
}

// TestDiskRefuses: without a directory to write to, alerts stay in memory and still go out.
func TestDiskRefuses(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "spool")
	s, stop := open(t, dir, Config{})
	if err := os.Rename(dir, dir+".away"); err != nil {
		t.Fatal(err)
	}
	want := mustAppend(t, s, sample(alert.Error, "a"))
	got, _ := mustNext(t, s)
	if got != want {
		t.Errorf("got %v, want %v", got, want)
	}
	kept := mustAppend(t, s, sample(alert.Error, "b"))
	waitFor(t, "the writer", func() bool { return settled(s) })
	if st := s.Stats(); st.WriteErrors != 2 {
		t.Errorf("%+v", st)
	}
	if err := os.Rename(dir+".away", dir); err != nil {
		t.Fatal(err)
	}
	s.Ack(got)
	stop() // the disk is back: what is in memory is written
	s, stop = open(t, dir, Config{})
	defer stop()
	if again, _ := mustNext(t, s); again != kept {
		t.Errorf("got %v, want %v", again, kept)
	}
}

func TestMemoryIsBounded(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "spool")
	s, err := Open(dir, Config{Node: "n1", MaxPending: 8 << 10})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(dir, dir+".away"); err != nil {
		t.Fatal(err)
	}
	for range 100 {
		mustAppend(t, s, sample(alert.Error, "x"))
		s.flush()
	}
	st := s.Stats()
	if st.Records+int(st.Evicted) != 100 || st.Bytes > 8<<10 || st.Evicted == 0 {
		t.Errorf("%+v", st)
	}
}

func BenchmarkAppend(b *testing.B) {
	s, stop := open(b, b.TempDir(), Config{MaxPending: 1 << 30, MaxBytes: 1 << 30})
	defer stop()
	a := sample(alert.Error, strings.Repeat("x", 300))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Append(a); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkAppendNext is the way of one alert through the disk's cache and out again.
func BenchmarkAppendNext(b *testing.B) {
	s, stop := open(b, b.TempDir(), Config{})
	defer stop()
	a := sample(alert.Error, strings.Repeat("x", 300))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Append(a); err != nil {
			b.Fatal(err)
		}
		id, _, err := s.Next(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		s.Ack(id)
	}
}
