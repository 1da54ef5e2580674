package agent

import (
	"fmt"
	"time"

	"github.com/plumbline-io/plumbline/pkg/event"
	"github.com/plumbline-io/plumbline/pkg/sensor"
)

const (
	// forkDelay spares the children that end or execute another program at once.
	forkDelay = 200 * time.Millisecond
	// execDelay spares programs that end at once, where probes are in all processes of an image and only the
	// first of them has to be looked at.
	execDelay = 10 * time.Millisecond
)

// handle is the event loop's body. It has one caller and allocates nothing for an event that raises
// nothing.
func (a *Agent) handle(ev *event.Event) {
	a.events[ev.Kind].Add(1)
	if ev.Kind == event.Cgroup {
		a.handleCgroup(ev)
	}
	a.table.Observe(ev)
	silent := a.isSilent(ev)
	if !silent {
		a.table.Fill(ev)
	}
	var known bool
	if a.subject, known = a.registry.Subject(ev.Workload); !known {
		a.subject = a.host.Fallback()
	}
	switch ev.Kind {
	case event.ExecCheck, event.Access:
		a.registry.Learn(ev.Workload, ev, a.host.Wall(ev.Ktime))
	case event.Exec:
		delay := execDelay
		if a.kernel.shared.PerProcess {
			delay = 0
		}
		a.follower.Follow(ev.Tgid, delay)
		a.marker.Saw(ev.Tgid)
		if a.kernel.enforcer == nil {
			a.registry.Learn(ev.Workload, ev, a.host.Wall(ev.Ktime))
		} else {
			a.registry.Started(ev.Workload, ev.Exec.Path)
		}
		a.registry.NoteEarly(ev)
		if before := a.registry.Executed(ev.Workload, ev); !before.IsZero() {
			a.sink.Raise(a.detector.ExecutableChanged(ev, &a.subject, before))
		}
	case event.Fork:
		if a.kernel.shared.PerProcess {
			a.follower.Follow(ev.Fork.Child, forkDelay)
		}
	case event.Exit:
		a.follower.Forget(ev.Tgid)
		a.watchCrashes(ev)
	}
	if silent {
		return
	}
	a.alerts = a.detector.Observe(ev, &a.subject, a.alerts[:0])
	for i := range a.alerts {
		a.respond(ev, &a.alerts[i])
		a.sink.Raise(a.alerts[i])
	}
	if ev.Verdict == event.Deny && ev.RuleID == 0 {
		a.spend(ev) // a rule is meant to deny, however often
	}
	if a.stream.Active() {
		a.stream.Publish(ev, &a.subject, a.host.Wall(ev.Ktime))
	}
}

// isSilent says whether an event keeps the process table up to date, and nobody asks about it: most forks and exits.
func (a *Agent) isSilent(ev *event.Event) bool {
	return (ev.Kind == event.Fork || ev.Kind == event.Exit) && !a.stream.Active() && !a.detector.Asks(ev)
}

// spend counts a denial, and the equal ones that the kernel has not told, against its workload's budget, and
// tells if that steps down.
func (a *Agent) spend(ev *event.Event) {
	d := event.DimExec
	if ev.Kind == event.Access {
		d = ev.Access.Op.Dimension()
	}
	denials, softened := a.registry.Denied(ev.Workload, d, a.host.Wall(ev.Ktime), 1+ev.Repeats())
	if softened {
		a.sink.Raise(a.detector.SteppedDown(ev, &a.subject, d, denials))
	}
}

// handleCgroup names a cgroup that appeared; until now the kernel has counted it to its parent's
// workload.
func (a *Agent) handleCgroup(ev *event.Event) {
	if ev.Cgroup.Removed {
		if err := a.registry.Leave(ev.Cgroup.ID); err != nil {
			a.cfg.Log.Error("forget cgroup", "cgroup", ev.Cgroup.Path, "error", err)
		}
		return
	}
	a.renewScope(ev.Cgroup.Path)
	a.take(cgroup{ID: ev.Cgroup.ID, Path: ev.Cgroup.Path}, a.registry.Join)
}

// renewScope attaches the hooks of the network anew if this cgroup is one that they were attached to before it was removed: the
// scope is a unit's own, and the unit was restarted.
func (a *Agent) renewScope(path string) {
	dir, ok := a.host.NetworkScope(path)
	if !ok || a.kernel.enforcer == nil {
		return
	}
	var pins *sensor.Pins
	if a.unpinned == "" {
		pins = a.pins
	}
	if err := a.kernel.enforcer.Renew(dir, pins); err != nil {
		a.tellAudited(a.host.Subject(path), fmt.Errorf("its network is not held: %w", err))
	}
}
