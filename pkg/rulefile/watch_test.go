package rulefile

import (
	"context"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

const testSettle = 20 * time.Millisecond

// watching runs a Watcher and tells of changes.
func watching(t *testing.T, paths ...string) <-chan struct{} {
	t.Helper()
	w, err := NewWatcher(paths, testSettle)
	if err != nil {
		t.Fatal(err)
	}
	changes := make(chan struct{}, 100)
	ctx, stop := context.WithCancel(context.Background())
	var run sync.WaitGroup
	run.Go(func() {
		if err := w.Run(ctx, func() { changes <- struct{}{} }); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		stop()
		run.Wait()
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	})
	return changes
}

func wantChange(t *testing.T, changes <-chan struct{}, what string) {
	t.Helper()
	select {
	case <-changes:
	case <-time.After(20 * time.Second):
		t.Fatal("not noticed:", what)
	}
}

func TestWatch(t *testing.T) {
	dir := t.TempDir()
	rules, file := filepath.Join(dir, "rules"), filepath.Join(dir, "etc", "one.yaml")
	write(t, filepath.Join(rules, "a.yaml"), "1")
	write(t, file, "1")
	write(t, filepath.Join(dir, "far", "b.yaml"), "1")
	write(t, filepath.Join(rules, "map", "..1", "x.yaml"), "1")
	link(t, "..1", filepath.Join(rules, "map", "..data"))
	link(t, "..data/x.yaml", filepath.Join(rules, "map", "x.yaml"))
	link(t, filepath.Join(dir, "far", "b.yaml"), filepath.Join(rules, "b.yaml"))
	changes := watching(t, rules, file)

	rename := func(from, to string) {
		t.Helper()
		if err := os.Rename(from, to); err != nil {
			t.Fatal(err)
		}
	}
	for _, step := range []struct {
		what string
		do   func()
	}{
		{"a file written in place", func() { write(t, filepath.Join(rules, "a.yaml"), "2") }},
		{"a file replaced", func() {
			write(t, filepath.Join(dir, "etc", "one.tmp"), "2")
			rename(filepath.Join(dir, "etc", "one.tmp"), file)
		}},
		{"a file where a link leads", func() { write(t, filepath.Join(dir, "far", "b.yaml"), "2") }},
		{"a ConfigMap's new version", func() {
			write(t, filepath.Join(rules, "map", "..2", "x.yaml"), "2")
			link(t, "..2", filepath.Join(rules, "map", "..tmp"))
			rename(filepath.Join(rules, "map", "..tmp"), filepath.Join(rules, "map", "..data"))
		}},
		{"a new directory", func() { write(t, filepath.Join(rules, "new", "n.txt"), "1") }},
		{"a file in the new directory", func() { write(t, filepath.Join(rules, "new", "c.yaml"), "1") }},
		{"the directory gone", func() { rename(rules, filepath.Join(dir, "away")) }},
		{"the directory made anew", func() { write(t, filepath.Join(rules, "a.yaml"), "3") }},
		{"a file in it", func() { write(t, filepath.Join(rules, "d.yaml"), "3") }},
	} {
		for len(changes) > 0 {
			<-changes
		}
		step.do()
		wantChange(t, changes, step.what)
	}
}

// A file that is written without a pause is told of all the same, and not at each write.
func TestWatchWithoutPause(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "a.yaml")
	write(t, file, "")
	changes := watching(t, dir)
	writes, longest := 0, time.Duration(0)
	for begin, last := time.Now(), time.Now(); len(changes) == 0; writes++ {
		if time.Since(begin) > 20*time.Second {
			t.Fatal("not noticed")
		}
		write(t, file, "x")
		longest, last = max(longest, time.Since(last)), time.Now()
		time.Sleep(time.Millisecond)
	}
	if writes < 10 && longest < testSettle { // else there was a pause: the machine's
		t.Errorf("told after %d writes, at most %s apart", writes, longest)
	}
}

// What else is written beside the rules is nobody's concern.
func TestWatchOfNeighbours(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "a.yaml"), "")
	write(t, filepath.Join(dir, "agent.log"), "")
	changes := watching(t, filepath.Join(dir, "a.yaml"))
	replace := func() {
		t.Helper()
		// One system call, and so one change, however slow the machine is.
		if err := os.Truncate(filepath.Join(dir, "a.yaml"), 1); err != nil {
			t.Fatal(err)
		}
	}
	write(t, filepath.Join(dir, "agent.log"), "x")
	replace()
	wantChange(t, changes, "the rules")
	for range 50 {
		write(t, filepath.Join(dir, "agent.log"), "x")
	}
	replace()
	wantChange(t, changes, "the rules, again")
	if len(changes) != 0 {
		t.Error("more changes than two")
	}
}
