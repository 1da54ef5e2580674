package agent

import (
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/plumbline-io/plumbline/pkg/event"
)

const (
	// crashWindow is how long a crash counts.
	crashWindow = 10 * time.Minute
	// tellAgain is how long an equal denial is not told again (TELL_AGAIN_NS of bpf/policy.h).
	tellAgain = time.Second
)

// crashes are those of a main process that denials came before, of all workloads that have a baseline. A service that is started again
// and again, and ends each time after it was denied something, is out of order because of us, however few
// the denials are.
type crashes struct {
	ends  []crashEnd // within the window, oldest first
	begin time.Time  // start of the first of them
}

// crashEnd is when a main process crashed, and in what it was denied something. The next one may be in another container.
type crashEnd struct {
	at     time.Time
	denied event.Dimensions
}

// crash is the end of a main process that was not asked to end.
type crash struct{ started, ended time.Time }

// note counts a crash of a process that was started after the last one and was denied something, and lists
// the dimensions of the denials once there are limit of them.
func (c *crashes) note(p crash, d *denials, limit int) event.Dimensions {
	if n := len(c.ends); n > 0 && p.started.Before(c.ends[n-1].at) {
		return 0 // it ended with that one
	}
	denied := d.since(p.started.Add(-tellAgain))
	if denied == 0 {
		return 0
	}
	c.ends = slices.DeleteFunc(c.ends, func(end crashEnd) bool { return p.ended.Sub(end.at) >= crashWindow })
	if len(c.ends) == 0 {
		c.begin = p.started
	}
	c.ends = append(c.ends, crashEnd{p.ended, denied})
	if limit == 0 || len(c.ends) < limit {
		return 0
	}
	dims := d.since(c.begin.Add(-tellAgain))
	for _, end := range c.ends {
		dims |= end.denied
	}
	return dims
}

// isCrash tells an end that nobody asked for from a stop, of what may be a main process. 128 and the signal is
// what programs exit with that end because of one.
func isCrash(x *event.ExitInfo) bool {
	stops := []int32{int32(unix.SIGTERM), int32(unix.SIGINT), int32(unix.SIGHUP)}
	if !x.Main || x.Code == 0 || slices.Contains(stops, x.Signal) {
		return false
	}
	return !slices.Contains(stops, x.Code-128)
}

// Crashed counts a crash of a workload's main process. Once there are as many as the budget has, of all that have its
// baseline, the dimensions of the denials before them are audited from now on, and listed.
func (r *registry) Crashed(id uint32, p crash) (dims event.Dimensions, n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	m := r.member(id)
	if m == nil || m.subject.Mode != event.Enforce {
		return 0, 0
	}
	dims = m.crashes.note(p, &m.denials, r.CrashBudget) &^ m.profile.SteppedDown()
	if dims == 0 {
		return 0, 0
	}
	if err := r.soften(m.kin, dims); err != nil {
		r.Log.Error("step down to audit", "workload", m.subject.Name, "dimensions", names(dims), "error", err)
		return 0, 0
	}
	r.Log.Warn("stepped down to audit", "workload", m.subject.Name, "dimensions", names(dims), "crashes", len(m.crashes.ends))
	return dims, len(m.crashes.ends)
}

// watchCrashes takes note of an exit, and tells if it was one too many.
func (a *Agent) watchCrashes(ev *event.Event) {
	if a.subject.Mode != event.Enforce || !isCrash(&ev.Exit) || a.hasElder(ev) {
		return
	}
	a.table.Fill(ev)
	dims, n := a.registry.Crashed(ev.Workload, crash{a.host.Wall(ev.Exit.Started), a.host.Wall(ev.Ktime)})
	for d := range event.DimCount {
		if dims.Has(d) {
			a.sink.Raise(a.detector.CrashLoop(ev, &a.subject, d, n))
		}
	}
}

// hasElder says whether a process of the workload lives that is older than the one that ended, which then was not
// its main process: somebody entered a container (docker exec), and must not be able to spend its budget so.
func (a *Agent) hasElder(ev *event.Event) bool {
	cgroups, err := a.host.Cgroups()
	if err != nil {
		a.cfg.Log.Error("look for older processes of a crashed one", "workload", a.subject.Name, "error", err)
		return true
	}
	for _, cg := range cgroups {
		if a.registry.IDOf(cg.ID) != ev.Workload {
			continue
		}
		if slices.ContainsFunc(a.host.Processes(cg), func(p event.Process) bool { return p.Start < ev.Exit.Start }) {
			return true
		}
	}
	return false
}
