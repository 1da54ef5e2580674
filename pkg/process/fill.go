package process

import (
	"slices"
	"strings"

	"github.com/plumbline-io/plumbline/pkg/event"
)

// Fill puts the acting process into ev.Process: for a Fork the parent, for an Exec the new image, for
// an ExecCheck the process before it. The strings and the lineage alias the table and are valid
// until the next call of Observe, Seed or Fill. False means the table does not know the process;
// then ev.Process holds what the event itself tells.
func (t *Table) Fill(ev *event.Event) (known bool) {
	e := t.byPID[ev.Tgid]
	if e == nil || !e.startedAt(startOf(ev)) {
		t.fillUnknown(ev)
		return false
	}
	t.touch(e)
	t.fill(e, &ev.Process)
	return true
}

// startOf is the start time that an event tells of the acting process, 0 if it does not.
func startOf(ev *event.Event) uint64 {
	switch ev.Kind {
	case event.Exec, event.ExecCheck:
		return ev.Exec.Start
	case event.Exit:
		return ev.Exit.Start
	}
	return 0
}

func (t *Table) fill(e *entry, p *event.Process) {
	p.PID, p.PPID, p.UID, p.Start = e.pid, e.ppid, e.uid, e.start
	p.Path, p.Args, p.Cwd, p.Comm = e.path(), e.args(), e.cwd(), e.comm()
	p.Partial, p.Membership = e.partial, e.member
	p.Leader = t.leaderOf(e)
	t.fillLineage(t.parentOf(e), p)
}

// leaderOf is what the leader of the process's session is called. Its number is not given to another process
// while the session has one, so that who has it now is the leader, or was it to its end.
func (t *Table) leaderOf(e *entry) string {
	l := t.byPID[e.member.Session]
	if e.member.VPID == 0 || l == nil || l.start > e.start && e.start != 0 {
		return ""
	}
	return l.comm()
}

// parentOf finds the parent by link, or by pid for those whose parent was seeded after them.
func (t *Table) parentOf(e *entry) *entry {
	if a := e.ancestor(); a != nil {
		return a
	}
	// A parent that started later is another process with the same pid.
	p := t.byPID[e.ppid]
	if p == nil || p == e || e.ppid == 0 || p.start > e.start && e.start != 0 {
		return nil
	}
	e.link(p)
	return p
}

func (t *Table) fillLineage(a *entry, p *event.Process) {
	p.Parent = ""
	if a != nil {
		p.Parent = a.path()
	}
	t.lineage, t.ancestors = t.lineage[:0], t.ancestors[:0]
	for ; a != nil && len(t.lineage) < maxLineage; a = t.parentOf(a) {
		t.lineage = append(t.lineage, a.path())
		t.ancestors = append(t.ancestors, event.Ancestor{Start: a.start, Comm: a.comm(), Args: a.args()})
	}
	p.Lineage, p.Ancestors = t.lineage, t.ancestors
}

func (t *Table) fillUnknown(ev *event.Event) {
	p := &ev.Process
	*p = event.Process{PID: ev.Tgid, Partial: true}
	p.Start = startOf(ev)
	var parent *entry
	if ev.Kind == event.Exec || ev.Kind == event.ExecCheck {
		p.PPID, p.UID, p.Comm, p.Membership = ev.Exec.PPID, ev.Exec.UID, ev.Exec.Comm, ev.Exec.Membership
		if parent = t.byPID[ev.Exec.PPID]; parent != nil && parent.start > p.Start && p.Start != 0 {
			parent = nil // another process with the parent's pid
		}
	}
	t.fillLineage(parent, p)
}

// Get is a copy of what the table knows of the newest process with that pid.
func (t *Table) Get(pid uint32) (event.Process, bool) {
	e := t.byPID[pid]
	if e == nil {
		return event.Process{}, false
	}
	var p event.Process
	t.fill(e, &p)
	for _, s := range []*string{&p.Path, &p.Args, &p.Cwd, &p.Comm, &p.Parent, &p.Leader} {
		*s = strings.Clone(*s)
	}
	p.Lineage = slices.Clone(p.Lineage)
	for i := range p.Lineage {
		p.Lineage[i] = strings.Clone(p.Lineage[i])
	}
	p.Ancestors = slices.Clone(p.Ancestors)
	for i := range p.Ancestors {
		a := &p.Ancestors[i]
		a.Comm, a.Args = strings.Clone(a.Comm), strings.Clone(a.Args)
	}
	return p, true
}
