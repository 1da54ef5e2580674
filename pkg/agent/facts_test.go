package agent

import (
	"os"
	"strings"
	"testing"

	"github.com/plumbline-io/plumbline/pkg/detect"
	"github.com/plumbline-io/plumbline/pkg/event"
	"github.com/plumbline-io/plumbline/pkg/rule"
	"github.com/plumbline-io/plumbline/pkg/workload"
)

// Facts are of the process of the event, and of no other one that has its number.
func TestFactsOfAProcess(t *testing.T) {
	proc := workload.NewProc("")
	me, err := proc.Read(uint32(os.Getpid()))
	if err != nil {
		t.Fatal(err)
	}
	f := newFacts(&host{proc: proc}, &detect.Subject{})
	ev := &event.Event{Kind: event.Exec, Tgid: me.PID, Ktime: 1, Process: event.Process{PID: me.PID, Start: me.Start}}
	e := &rule.Env{Event: ev}
	s, ok := f.Session(e)
	if !ok || int(s.GID) != os.Getgid() {
		t.Errorf("%+v, %t", s, ok)
	}
	if n := testing.AllocsPerRun(10, func() { f.Session(e) }); n != 0 {
		t.Errorf("asked again for the same event: %v allocations", n)
	}
	ev.Ktime, ev.Process.Start = 2, me.Start+1
	if s, ok := f.Session(e); ok {
		t.Errorf("another process: %+v", s)
	}
	if a, b := f.mountsOf("a", []workload.Mount{{Source: "/", Dest: "/host"}}), f.mountsOf("b", nil); len(a) != 1 || a[0].Dest != "/host" || len(b) != 0 {
		t.Errorf("%+v, %+v", a, b)
	}
	e.Workload.ContainerID = "none"
	if c, ok := f.Container(e); ok {
		t.Errorf("a container that nobody runs: %+v", c)
	}
}

// A container is of the pod in whose cgroup it is: labels of Docker are what its user wants.
func TestPodOfAContainer(t *testing.T) {
	h, err := openHost(Config{Node: "n1", TrustDomain: "example.org"})
	if err != nil {
		t.Fatal(err)
	}
	id := strings.Repeat("0a", 32)
	for path, want := range map[string]string{
		"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod01234567_89ab_cdef_0123_456789abcdef.slice/docker-" + id + ".scope": "01234567-89ab-cdef-0123-456789abcdef",
		"/system.slice/docker-" + id + ".scope": "",
	} {
		if w := h.Subject(path); w.PodUID != want || w.ContainerID != id {
			t.Errorf("%s: %+v", path, w)
		}
	}
}
