package response

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/plumbline-io/plumbline/pkg/rule"
	"github.com/plumbline-io/plumbline/pkg/workload"
)

func executor() *Executor {
	return &Executor{Config{
		Proc: workload.NewProc(""), Grace: aWhile, Patience: patience, DBus: "/nonexistent/bus",
		API: func() (*API, error) { return InCluster(func(string) string { return "" }) },
		Pod: func(workload.Workload) (workload.Info, bool) { return workload.Info{}, false },
	}}
}

// Scripts that end when they are asked to, and that do not.
const (
	willing   = `trap 'echo bye; exit 0' TERM; echo ready; while :; do read x; done`
	unwilling = `trap '' TERM; echo ready; while :; do read x || exit 0; done`
)

func TestDrainProcesses(t *testing.T) {
	dir := makeCgroup(t, version2(t), "drained")
	first := run(t, willing, dir)
	second := run(t, willing, dir)
	done, err := executor().Do(context.Background(), rule.Drain, target(t, dir))
	if err != nil || !strings.Contains(done, "has ended after SIGTERM") {
		t.Fatalf("%q, %v", done, err)
	}
	first.wait(t)
	if got := first.read(patience); got != "bye\n" || second.hasEnded() {
		t.Errorf("it says %q; the second has ended: %t", got, second.hasEnded())
	}
}

func TestDrainOfUnwilling(t *testing.T) {
	dir := makeCgroup(t, version2(t), "drained")
	p := run(t, unwilling, dir)
	e := executor()
	e.Patience = aWhile
	if _, err := e.Do(context.Background(), rule.Drain, target(t, dir)); err == nil || !strings.Contains(err.Error(), "has not ended within 200ms") || p.hasEnded() {
		t.Error(err)
	}
}

func TestRestartOfWilling(t *testing.T) {
	dir := makeCgroup(t, version2(t), containerName)
	p := run(t, willing, dir)
	done, err := executor().Do(context.Background(), rule.Restart, target(t, dir))
	if err != nil || done != "it has ended after SIGTERM" {
		t.Errorf("%q, %v", done, err)
	}
	p.wait(t)
}

// Of a container, all has to end.
func TestRestartKillsContainer(t *testing.T) {
	mounts := []string{version2(t)}
	if _, err := os.Stat("/sys/fs/cgroup/pids/cgroup.procs"); err == nil {
		mounts = append(mounts, "/sys/fs/cgroup/pids")
	}
	for _, mount := range mounts {
		dir, elsewhere := makeCgroup(t, mount, containerName), makeCgroup(t, mount, "twin")
		first, second, twin := run(t, willing, dir), run(t, unwilling, dir), run(t, unwilling, elsewhere)
		done, err := executor().Do(context.Background(), rule.Restart, target(t, dir))
		if err != nil || done != "it was killed 200ms after SIGTERM" {
			t.Errorf("%s: %q, %v", mount, done, err)
		}
		first.wait(t)
		second.wait(t)
		if twin.hasEnded() {
			t.Errorf("%s: the twin was killed", mount)
		}
	}
}

// In a cgroup that is nobody's own, what was started meanwhile lives.
func TestRestartSparesNewcomer(t *testing.T) {
	dir := makeCgroup(t, version2(t), "restarted")
	first, left := run(t, willing, dir), run(t, unwilling, dir)
	e := executor()
	e.Grace = time.Second
	ended := make(chan error, 1)
	target := target(t, dir)
	go func() {
		_, err := e.Do(context.Background(), rule.Restart, target)
		ended <- err
	}()
	first.wait(t)
	newcomer := run(t, unwilling, dir)
	if err := <-ended; err != nil {
		t.Error(err)
	}
	left.wait(t)
	if newcomer.hasEnded() {
		t.Error("who came after it was killed, too")
	}
}

// A process is known by more than its number.
func TestHold(t *testing.T) {
	dir, other := makeCgroup(t, version2(t), "held"), makeCgroup(t, version2(t), "other")
	in, out := run(t, echo, dir), run(t, echo, other)
	e, target := executor(), target(t, dir)
	members, err := e.members(target)
	if err != nil || len(members) != 1 || members[in.pid()] == 0 {
		t.Fatalf("%v, %v", members, err)
	}
	start := members[in.pid()]
	p, err := e.hold(target, in.pid(), start)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if _, err := e.hold(target, in.pid(), start-1); !errors.Is(err, workload.ErrGone) {
		t.Errorf("of another time: %v", err)
	}
	if _, err := e.hold(target, out.pid(), start); !errors.Is(err, workload.ErrGone) {
		t.Errorf("of another cgroup: %v", err)
	}
	_ = in.cmd.Process.Kill()
	in.wait(t)
	if _, err := e.hold(target, in.pid(), start); !errors.Is(err, workload.ErrGone) {
		t.Errorf("ended: %v", err)
	}
	if _, err := e.Do(context.Background(), rule.Drain, target); err == nil || !strings.Contains(err.Error(), "nothing runs in it") {
		t.Error(err)
	}
}

// What there is no response for is refused with the reason, before anything is done.
func TestNotPossible(t *testing.T) {
	dir := makeCgroup(t, version2(t), "impossible")
	p := run(t, willing, dir)
	plain := target(t, dir)
	unit := func(name, unit string) Target {
		u := plain
		u.Kind, u.Name, u.Unit = workload.Unit, name, unit
		return u
	}
	container := plain
	container.Kind, container.ContainerID = workload.Container, strings.Repeat("1", 64)
	pod := container
	pod.PodUID = "u-1"
	for name, tc := range map[string]struct {
		action rule.Action
		target Target
		want   string
	}{
		"evict a unit":      {rule.Evict, unit("shop.service", "shop.service"), "evict: not possible: it is of no pod"},
		"evict a cgroup":    {rule.Evict, plain, "evict: not possible: it is of no pod"},
		"evict a container": {rule.Evict, container, "evict: not possible: it is of no pod"},
		"nameless pod":      {rule.Evict, pod, "the runtime has not written down the name of pod u-1"},
		"drain of it":       {rule.Drain, pod, "the runtime has not written down the name of pod u-1"},
		"restart a scope":   {rule.Restart, unit("a.scope", "a.scope"), "not possible: a.scope is no .service"},
		"drain a socket":    {rule.Drain, unit("a.socket", "a.socket"), "not possible: a.socket is no .service or .scope"},
		"a user's unit":     {rule.Drain, unit("user@1.service/a.service", "a.service"), "not possible: the unit user@1.service/a.service belongs to another manager"},
		"no bus":            {rule.Drain, unit("shop.service", "shop.service"), "connect to D-Bus at /nonexistent/bus: dial unix /nonexistent/bus: connect: no such file"},
		"quarantine":        {rule.Quarantine, plain, "quarantine: not possible"},
	} {
		t.Run(name, func(t *testing.T) {
			if done, err := executor().Do(context.Background(), tc.action, tc.target); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%q, %v, want %q", done, err, tc.want)
			}
		})
	}
	e := executor()
	e.Pod = func(workload.Workload) (workload.Info, bool) {
		return workload.Info{Pod: "shop-0", Namespace: "prod"}, true
	}
	if _, err := e.Do(context.Background(), rule.Drain, pod); !errors.Is(err, ErrNotPossible) {
		t.Error(err) // outside of a cluster
	}
	if p.hasEnded() {
		t.Error("it has ended")
	}
	if _, err := os.Stat(filepath.Join(dir, "cgroup.procs")); err != nil {
		t.Error(err)
	}
}
