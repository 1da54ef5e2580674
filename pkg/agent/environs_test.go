package agent

import (
	"os"
	"os/exec"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/plumbline-io/plumbline/pkg/event"
	"github.com/plumbline-io/plumbline/pkg/rule"
	"github.com/plumbline-io/plumbline/pkg/workload"
)

// Rules hear the names of all variables, and the values of those that they ask for alone.
func TestEnvironmentOfAProcess(t *testing.T) {
	cmd := exec.Command("sleep", "60")
	cmd.Env = []string{"LD_PRELOAD=/tmp/x.so", "TOKEN=secret"}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	proc := workload.NewProc("")
	is, err := proc.Read(uint32(cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	v := newEnvirons(proc)
	set, problems := rule.Load(rule.File{Name: "r.yaml", Data: []byte(ruleOn("preload", "evt.type = execve and proc.env[LD_PRELOAD] startswith /tmp/ and proc.env contains TOKEN"))})
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	v.want(set.Variables())
	ev := &event.Event{Kind: event.Exec, Tgid: is.PID, Ktime: 1, Process: event.Process{PID: is.PID, Start: is.Start}}
	e := &rule.Env{Event: ev, Variables: v}
	if got := set.Match(e, rule.All, nil); len(got) != 1 {
		t.Errorf("matches %d rules", len(got))
	}
	if values := v.Variable(e, "TOKEN"); len(values) != 0 {
		t.Errorf("a value that nobody asks for: %q", values)
	}
	if n := testing.AllocsPerRun(10, func() { v.Variable(e, "LD_PRELOAD") }); n != 0 {
		t.Errorf("asked again for the same event: %v allocations", n)
	}
	ev.Ktime, ev.Process.Start = 2, is.Start+1
	if names, ok := v.VariableNames(e); ok || names != "" || len(set.Match(e, rule.All, nil)) != 0 {
		t.Errorf("another process: %q", names)
	}
}

// Memory that does not answer holds up one event for a moment, and the next ones not at all.
func TestEnvironmentIsLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		answer := make(chan struct{})
		var reads atomic.Int32
		v := newEnvirons(workload.Proc{})
		v.read = func(uint32, uint64, func(string) bool) (workload.Environment, error) {
			reads.Add(1)
			<-answer
			return workload.Environment{Names: "A", Cut: true}, nil
		}
		v.want(nil)
		ask := func(ktime uint64) bool {
			_, ok := v.VariableNames(&rule.Env{Event: &event.Event{Tgid: 7, Ktime: ktime}})
			return ok
		}
		for ktime := range uint64(3) {
			if ask(1 + ktime) {
				t.Error("known without an answer")
			}
		}
		if reads.Load() != 1 || v.late.Load() != 3 {
			t.Errorf("%d reads, %d late", reads.Load(), v.late.Load())
		}
		close(answer)
		synctest.Wait()
		if !ask(9) || reads.Load() != 2 {
			t.Errorf("%d reads", reads.Load())
		}
		lost := map[string]uint64{}
		if v.addTo(lost); lost["environment_late"] != 3 || lost["environment_cut"] != 1 {
			t.Errorf("%v", lost)
		}
	})
}

// Processes whose memory answers late, again and again, hold up all others for a tenth of the time at most.
func TestEnvironmentsAreLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, takes := range []time.Duration{environPatience - time.Millisecond, environPatience + time.Nanosecond} {
			v := newEnvirons(workload.Proc{})
			reads := uint64(0)
			v.read = func(uint32, uint64, func(string) bool) (workload.Environment, error) {
				reads++
				time.Sleep(takes)
				return workload.Environment{Names: "A"}, nil
			}
			ktime, known, waited := uint64(0), uint64(0), time.Duration(0)
			ask := func() {
				ktime++
				before := time.Now()
				if _, ok := v.VariableNames(&rule.Env{Event: &event.Event{Tgid: 7, Ktime: ktime}}); ok {
					known++
				}
				waited += time.Since(before)
				synctest.Wait()
				time.Sleep(time.Millisecond)
				synctest.Wait()
			}
			for begin := time.Now(); time.Since(begin) < 10*time.Second; {
				ask()
			}
			if most := 10 * environBudget; waited > most || waited < most-10*environPatience {
				t.Errorf("waited for %s of 10s", waited)
			}
			if v.late.Load() != ktime-known || reads > 60 || (known > 0) != (takes < environPatience) {
				t.Errorf("%s: of %d events %d late, %d known after %d reads", takes, ktime, v.late.Load(), known, reads)
			}
			v.read = func(uint32, uint64, func(string) bool) (workload.Environment, error) {
				return workload.Environment{Names: "A"}, nil
			}
			time.Sleep(environSpan)
			known = 0
			if ask(); known != 1 {
				t.Error("not known after a while")
			}
		}
	})
}

// What each execution costs more if a rule asks for the environment.
func BenchmarkEnviron(b *testing.B) {
	proc := workload.NewProc("")
	is, err := proc.Read(uint32(os.Getpid()))
	if err != nil {
		b.Fatal(err)
	}
	v := newEnvirons(proc)
	v.want([]string{"LD_PRELOAD", "LD_AUDIT"})
	e := &rule.Env{Event: &event.Event{Tgid: is.PID, Process: event.Process{PID: is.PID, Start: is.Start}}}
	b.ReportAllocs()
	for b.Loop() {
		e.Event.Ktime++
		v.waited = 0
		v.Variable(e, "LD_PRELOAD")
	}
	b.ReportMetric(float64(v.late.Load()), "late")
}
