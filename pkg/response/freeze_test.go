package response

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// aWhile is how long we look whether a stopped process does anything.
const aWhile = 200 * time.Millisecond

// checkFreeze stops a program and lets it go on, and leaves its twin alone.
func checkFreeze(t *testing.T, f Frozen, stopped, twin *program) {
	t.Helper()
	stopped.write(t, "one\n")
	if got := stopped.read(patience); got != "one\n" {
		t.Fatalf("got %q before", got)
	}
	if err := f.Freeze(context.Background()); err != nil {
		t.Fatal(err)
	}
	for _, p := range []*program{stopped, twin} {
		p.write(t, "two\n")
	}
	if got := twin.read(patience); got != "two\n" {
		t.Errorf("the twin says %q", got)
	}
	if got := stopped.read(aWhile); got != "" {
		t.Errorf("it says %q while it is stopped", got)
	}
	if err := f.Thaw(); err != nil {
		t.Fatal(err)
	}
	if got := stopped.read(patience); got != "two\n" {
		t.Errorf("got %q afterwards", got)
	}
}

func TestFreeze(t *testing.T) {
	dir, other := makeCgroup(t, version2(t), containerName), makeCgroup(t, version2(t), "twin")
	below := filepath.Join(dir, "below")
	if err := os.Mkdir(below, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { eventually(t, "remove "+below, func() bool { return os.Remove(below) == nil }) })
	stopped, twin := run(t, echo, below), run(t, echo, other)
	target := target(t, dir)
	if err := target.Check(); err != nil {
		t.Fatal(err)
	}
	all, err := Freezers(target)
	if err != nil || len(all) != 1 || all[0].Dir != dir || all[0].Freezer {
		t.Fatalf("%+v, %v", all, err)
	}
	checkFreeze(t, all[0], stopped, twin)

	// Who has stopped it before us will want to let it go himself.
	if err := all[0].Freeze(context.Background()); err != nil {
		t.Fatal(err)
	}
	if _, err := Freezers(target); err == nil || !strings.Contains(err.Error(), "stopped already") {
		t.Error(err)
	}
	// Another cgroup of that name is another one, and what is gone needs nothing.
	stranger := all[0]
	stranger.Inode++
	if err := stranger.Thaw(); err != nil || stranger.Exists() || !all[0].Exists() {
		t.Error(err)
	}
	if stopped, err := all[0].isStopped(); !stopped || err != nil {
		t.Errorf("the other's quarantine has ended: %v", err)
	}
	if err := all[0].Thaw(); err != nil {
		t.Fatal(err)
	}
	if err := stranger.Freeze(context.Background()); err == nil {
		t.Error("a cgroup was stopped that is not there")
	}
}

// In version 1 the cgroup that stops must hold the same processes.
func TestFreezeVersion1(t *testing.T) {
	for name, find := range map[string]func(*testing.T) string{
		"freezer":   func(t *testing.T) string { return version1(t, "freezer") },
		"version 2": version2,
	} {
		t.Run(name, func(t *testing.T) {
			mount := find(t)
			pids, dir := makeCgroup(t, version1(t, "pids"), "shop"), makeCgroup(t, mount, "shop")
			twin := makeCgroup(t, mount, "twin")
			first, other := run(t, echo, pids, dir), run(t, echo, twin)
			target := target(t, pids)
			all, err := Freezers(target)
			if err != nil || len(all) != 1 || all[0].Dir != dir || all[0].Freezer != (name == "freezer") {
				t.Fatalf("%+v, %v", all, err)
			}
			checkFreeze(t, all[0], first, other)

			// One that is in the workload only, and then one that is in the other cgroup only.
			elsewhere := run(t, echo, pids)
			if all, err := Freezers(target); err == nil || !strings.Contains(err.Error(), "nowhere can it be stopped") {
				t.Errorf("%+v, %v", all, err)
			}
			_ = elsewhere.cmd.Process.Kill()
			elsewhere.wait(t)
			if _, err := Freezers(target); err != nil {
				t.Error(err)
			}
			run(t, echo, dir)
			if all, err := Freezers(target); err == nil || !strings.Contains(err.Error(), "nowhere can it be stopped") {
				t.Errorf("%+v, %v", all, err)
			}
		})
	}
}

// Nobody has made a cgroup that could stop it.
func TestFreezeNowhere(t *testing.T) {
	pids := makeCgroup(t, version1(t, "pids"), "lonely")
	run(t, echo, pids)
	if all, err := Freezers(target(t, pids)); err == nil || !strings.Contains(err.Error(), "nowhere can it be stopped") {
		t.Errorf("%+v, %v", all, err)
	}
}

// A workload that this process is of is never touched.
func TestNotOurselves(t *testing.T) {
	mount := version2(t)
	dir := makeCgroup(t, mount, "own")
	member, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	own := "/"
	for line := range strings.Lines(string(member)) {
		if path, ok := strings.CutPrefix(line, "0::"); ok {
			own = strings.TrimSpace(path)
		}
	}
	enter := func(dir string) error { return os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte("0"), 0) }
	if err := enter(dir); err != nil {
		t.Skip(err)
	}
	err = target(t, dir).Check()
	if back := enter(filepath.Join(mount, own)); back != nil {
		t.Fatal(back)
	}
	if err == nil || !strings.Contains(err.Error(), "the agent is in it") {
		t.Error(err)
	}
	if err := target(t, dir).Check(); err != nil {
		t.Error(err)
	}
	if err := target(t, mount).Check(); err == nil {
		t.Error("the root cgroup may be touched")
	}
}
