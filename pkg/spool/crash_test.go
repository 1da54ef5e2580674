package spool

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/plumbline-io/plumbline/pkg/alert"
)

// TestTorn cuts a segment at every length: what was written whole before the cut is there, and the
// next epoch is another one.
func TestTorn(t *testing.T) {
	origin := t.TempDir()
	s, stop := open(t, origin, Config{})
	for i := range 3 {
		mustAppend(t, s, sample(alert.Error, fmt.Sprint(i)))
	}
	stop()
	names, err := filepath.Glob(filepath.Join(origin, "*.seg"))
	if err != nil || len(names) != 1 {
		t.Fatal(names, err)
	}
	whole, err := os.ReadFile(names[0])
	if err != nil {
		t.Fatal(err)
	}
	var ends []int
	if _, _, _, err := scan(whole, func(_ uint64, off, size int) { ends = append(ends, off+size) }); err != nil {
		t.Fatal(err)
	}
	for cut := 0; cut < len(whole); cut += 7 {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(names[0])), whole[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		want := 0
		for _, end := range ends {
			if cut >= end {
				want++
			}
		}
		c, err := Open(dir, Config{Node: "n1"})
		if err != nil {
			t.Fatalf("cut at %d: %v", cut, err)
		}
		st := c.Stats()
		if st.Records != want || st.Epoch == s.Stats().Epoch {
			t.Errorf("cut at %d: %d records, want %d; epoch %s", cut, st.Records, want, st.Epoch)
		}
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestKilled kills a process that appends, and looks for every alert that it had announced.
func TestKilled(t *testing.T) {
	if dir := os.Getenv("SPOOL_TEST_DIR"); dir != "" {
		announce(dir)
		return
	}
	dir := t.TempDir()
	seen := map[alert.ID]bool{}
	epochs := map[string]bool{}
	for round := range 3 {
		cmd := exec.Command(os.Args[0], "-test.run=^TestKilled$")
		cmd.Env = append(os.Environ(), "SPOOL_TEST_DIR="+dir)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for n := 0; n < 97 && lines.Scan(); n++ {
			var id alert.ID
			if err := json.Unmarshal(lines.Bytes(), &id); err != nil {
				t.Fatal(err)
			}
			if seen[id] {
				t.Fatalf("round %d: %v was given twice", round, id)
			}
			seen[id], epochs[id.Epoch] = true, true
		}
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
	s, stop := open(t, dir, Config{})
	defer stop()
	for range s.Stats().Records {
		id, _ := mustNext(t, s)
		delete(seen, id)
	}
	if len(seen) != 0 || len(epochs) != 3 {
		t.Errorf("%d announced alerts lost, %d epochs", len(seen), len(epochs))
	}
}

// announce appends for ever, and prints the ID of each new alert once it can be read.
func announce(dir string) {
	s, err := Open(dir, Config{Node: "n1"})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx := context.Background()
	go func() { _ = s.Run(ctx) }()
	epoch := s.Stats().Epoch
	for {
		if _, err := s.Append(sample(alert.Error, "x")); err != nil {
			return
		}
		id, _, err := s.Next(ctx)
		if err != nil {
			return
		}
		if b, err := json.Marshal(id); err == nil && id.Epoch == epoch {
			fmt.Println(string(b))
		}
	}
}

// TestEveryAlertAccountedFor does random things to a spool; in the end each alert was acked once,
// or is counted.
func TestEveryAlertAccountedFor(t *testing.T) {
	for seed := range uint64(6) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(seed, 1))
			cfg := Config{MaxBytes: 4 << 20, SegmentBytes: 8 << 10, SyncEvery: time.Millisecond}
			dir := t.TempDir()
			s, stop := open(t, dir, cfg)
			var flying []alert.ID
			acked := map[alert.ID]bool{} // ever
			now := map[alert.ID]bool{}   // since the last open; what is acked out of order may come again after it
			appended := 0
			for range 2000 {
				switch k := rnd.IntN(20); {
				case k < 8:
					mustAppend(t, s, sample(alert.Severity(rnd.IntN(8)), strings.Repeat("z", rnd.IntN(300))))
					appended++
				case k < 14:
					ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
					if id, _, err := s.Next(ctx); err == nil {
						flying = append(flying, id)
					}
					cancel()
				case k < 19 && len(flying) > 0:
					i := rnd.IntN(len(flying))
					if k == 18 {
						s.Retry(flying[i])
					} else {
						if now[flying[i]] {
							t.Fatalf("%v handed out after its ack", flying[i])
						}
						acked[flying[i]], now[flying[i]] = true, true
						s.Ack(flying[i])
					}
					flying = append(flying[:i], flying[i+1:]...)
				case k == 19 && rnd.IntN(20) == 0:
					if ev := s.Stats().Evicted; ev != 0 {
						t.Fatalf("%d evicted from a spool that is large enough", ev)
					}
					stop()
					flying, now = nil, map[alert.ID]bool{}
					s, stop = open(t, dir, cfg)
				}
			}
			for _, id := range flying {
				s.Retry(id)
			}
			waitFor(t, "the writer", func() bool { return settled(s) })
			for range s.Stats().Records {
				id, _ := mustNext(t, s)
				s.Ack(id)
				acked[id] = true
			}
			if len(acked) != appended {
				t.Errorf("%d acked of %d", len(acked), appended)
			}
			stop()
		})
	}
}

func FuzzScan(f *testing.F) {
	seg := appendHeader(nil, 7, 3)
	seg = appendFrame(seg, 1, []byte(`{"rule":"a"}`))
	seg = appendFrame(seg, 2, nil)
	f.Add(seg)
	f.Add(seg[:len(seg)-1])
	f.Add([]byte(magic))
	f.Fuzz(func(t *testing.T, b []byte) {
		end := headerBytes
		again := []byte(nil)
		epoch, severity, torn, err := scan(b, func(seq uint64, off, size int) {
			if off != end || off+size > len(b) {
				t.Fatalf("frame at %d+%d after %d of %d", off, size, end, len(b))
			}
			end = off + size
			again = appendFrame(again, seq, b[off+frameBytes:end])
		})
		if err != nil {
			return
		}
		if torn == (end == len(b)) {
			t.Fatalf("torn %v at %d of %d", torn, end, len(b))
		}
		if whole := append(appendHeader(nil, epoch, severity), again...); !torn && string(whole[headerBytes:]) != string(b[headerBytes:]) {
			t.Fatal("not the same when written again")
		}
	})
}
