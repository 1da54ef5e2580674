package gcpause_test

import (
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/plumbline-io/plumbline/pkg/event"
	"github.com/plumbline-io/plumbline/pkg/gobin/gobintest"
	"github.com/plumbline-io/plumbline/pkg/sensor"
	"github.com/plumbline-io/plumbline/pkg/sensor/gcpause"
	"github.com/plumbline-io/plumbline/pkg/sensor/sensortest"
)

// readMemStats is the runtime's stwReason of runtime.ReadMemStats.
const readMemStats = 7

// What is reported is, to the nanosecond, what the runtime counts itself.
func TestPauses(t *testing.T) {
	for _, toolchain := range gobintest.Toolchains() {
		s := gobintest.Production()
		s.Toolchain = toolchain
		t.Run(s.Name(), func(t *testing.T) {
			scope := sensortest.NewScope(t)
			p, got := start(t, scope, s)
			const n = 13
			a := p.Do(t, gobintest.Request{Do: "gc", Times: n})
			if a.Pauses.NumGC != n || a.Pauses.HaveMetrics && a.Pauses.GCPauses != 2*n {
				t.Fatalf("specimen: %+v", a.Pauses)
			}
			// Two for each cycle, and the two readings of the memory statistics.
			sum := summarise(t, got.Wait(t, event.Pause, 2*n+2), p.PID, scope)
			t.Logf("%s: runtime %+v, events of %d ns", a.Go, a.Pauses, sum.gc)
			if toolchain == "go1.20.14" {
				if sum.byReason[0] != 2*n+2 {
					t.Errorf("reasons: %v", sum.byReason)
				}
				return // no reasons, so no sum of collections
			}
			if sum.byReason != [256]int{1: n, 2: n, readMemStats: 2} {
				t.Errorf("reasons: %v", sum.byReason)
			}
			if a.Pauses.HaveMetrics && sum.gc != a.Pauses.PauseTotalNs {
				t.Errorf("pauses of %d ns, the runtime says %d", sum.gc, a.Pauses.PauseTotalNs)
			}
			// Go 1.21 leaves out how long the world takes to start again, and the begin is our reading.
			if low, high := a.Pauses.PauseTotalNs/2, 2*a.Pauses.PauseTotalNs+n*uint64(time.Millisecond); sum.gc < low || sum.gc > high {
				t.Errorf("pauses of %d ns, want %d to %d", sum.gc, low, high)
			}
			lost, err := scope.Shared.LossCounters()
			if err != nil {
				t.Fatal(err)
			}
			for reason, n := range lost {
				if n != 0 {
					t.Errorf("lost %s: %d", reason, n)
				}
			}
		})
	}
}

type summary struct {
	gc       uint64 // nanoseconds
	byReason [256]int
}

func summarise(t *testing.T, events []event.Event, pid uint32, scope *sensortest.Scope) summary {
	t.Helper()
	var s summary
	for _, ev := range events {
		if ev.Tgid != pid || ev.CgroupID != scope.ID || ev.Workload != scope.Workload {
			t.Errorf("header: %+v", ev)
		}
		p := ev.Pause
		if p.Total == 0 || p.Stopping > p.Total || p.GC != (p.Reason == 1 || p.Reason == 2) {
			t.Errorf("%+v", p)
		}
		s.byReason[p.Reason]++
		if p.GC {
			s.gc += p.Total
		}
	}
	return s
}

func start(t *testing.T, scope *sensortest.Scope, s gobintest.Specimen) (*gobintest.Process, *sensortest.Events) {
	t.Helper()
	g, err := gcpause.Open(scope.Shared)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := g.Close(); err != nil {
			t.Error(err)
		}
	})
	got := sensortest.Collect(t, scope.Shared, g)
	p := gobintest.Start(t, scope.Command(t, gobintest.Build(t, s)))
	if mine, err := g.Follow(image(t, p.PID)); !mine || err != nil {
		t.Fatalf("follow: %t, %v", mine, err)
	}
	return p, got
}

func image(t testing.TB, pid uint32) sensor.Image {
	t.Helper()
	file := fmt.Sprintf("/proc/%d/exe", pid)
	info, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	key, _ := sensor.KeyOf(info)
	return sensor.Image{PID: pid, File: file, Name: "specimen", Key: key}
}
