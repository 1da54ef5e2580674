// Package process is the node's process table: who runs, as what, started by whom. It is fed by
// events and fills in the acting process of each. It must never read a clock or /proc, and once
// warm it must never allocate for an event.
//
//	t := process.New(process.Config{})
//	t.Observe(&ev)
//	t.Fill(&ev)
//	fmt.Println(ev.Process.Path, ev.Process.Lineage)
package process

import (
	"github.com/plumbline-io/plumbline/pkg/event"
)

const (
	defaultSize   = 32768
	defaultExited = 4096
	maxLineage    = 32 // deeper ancestors are not told
)

// Config sizes a Table.
type Config struct {
	// Size is how many processes are kept, exited ones included, with up to 2 KiB of texts each. When it is
	// full, the exited are forgotten first, then those that never executed anything, so that a storm of
	// forks does not drive out the services. Zero means 32768.
	Size int
	// Exited is how many of them may be exited ones, kept for events that come late and for the
	// lineage of their children. Zero means 4096.
	Exited int
}

// Stats counts what a Table holds and had to forget.
type Stats struct {
	Live, Exited  int
	EvictedExited uint64 // exited processes forgotten, in the order of their exits
	EvictedLive   uint64 // running processes forgotten because the table is too small
	Reused        uint64 // pids that came back before their exit was seen
}

// Table is keyed by pid and start time: the newest process of a pid is found by it, older ones stay
// as ancestors. Not safe for concurrent use.
type Table struct {
	size, keep   int
	byPID        map[uint32]*entry
	live, exited list
	forked       list // live ones that run their parent's image: forgotten before those that have their own
	free         []*entry
	made         int
	lineage      []string
	ancestors    []event.Ancestor
	stats        Stats
}

// New makes an empty table.
func New(cfg Config) *Table {
	if cfg.Size <= 0 {
		cfg.Size = defaultSize
	}
	if cfg.Exited <= 0 {
		cfg.Exited = defaultExited
	}
	return &Table{
		size:      cfg.Size,
		keep:      min(cfg.Exited, cfg.Size),
		byPID:     make(map[uint32]*entry),
		lineage:   make([]string, 0, maxLineage),
		ancestors: make([]event.Ancestor, 0, maxLineage),
	}
}

// Observe updates the table from a Fork, Exec or Exit. Other kinds change nothing. It ends the
// validity of every string that Fill gave before.
func (t *Table) Observe(ev *event.Event) {
	switch ev.Kind {
	case event.Fork:
		t.fork(ev)
	case event.Exec:
		t.exec(ev)
	case event.Exit:
		if e := t.byPID[ev.Tgid]; e != nil && e.startedAt(ev.Exit.Start) {
			e.adopt(ev.Exit.Start)
			t.exit(e)
		}
	}
}

func (t *Table) fork(ev *event.Event) {
	f := &ev.Fork
	old := t.byPID[f.Child]
	switch {
	case old == nil:
	case old.isProcess(f.ChildStart):
		// Seeded, or its exec came first: only the parent is news.
		old.adopt(f.ChildStart)
		old.ppid = ev.Tgid
		old.link(t.byPID[ev.Tgid])
		return
	case f.ChildStart < old.start && f.ChildStart != 0:
		return // of a process that had this pid before
	default:
		t.supersede(old)
	}
	parent := t.byPID[ev.Tgid]
	c := t.add(f.Child, f.ChildStart, parent)
	c.ppid = ev.Tgid
	if parent == nil || parent == c { // c took its entry: the table is far too small
		c.partial = true
		return
	}
	c.link(parent)
	c.copyImage(parent)
	if c.member.VPID != 0 {
		c.member.VPID = f.ChildVPID
	}
	if f.ChildVPID == 1 { // the first process of a new namespace
		c.member.Namespace = f.ChildStart
	}
}

func (t *Table) exec(ev *event.Event) {
	x := &ev.Exec
	e := t.byPID[ev.Tgid]
	switch {
	case e == nil:
	case e.isProcess(x.Start):
	case x.Start < e.start && x.Start != 0:
		return // of a process that had this pid before
	default:
		t.supersede(e)
		e = nil
	}
	if e == nil {
		e = t.add(ev.Tgid, x.Start, t.byPID[x.PPID])
	}
	e.adopt(x.Start)
	if !e.exited {
		t.live.move(e)
	}
	e.partial = false
	e.uid, e.member = x.UID, x.Membership
	e.setImage(x.Path, x.Args, x.Cwd, x.Comm)
	e.ppid = x.PPID
	// A process whose parent died has a new one, but it still comes from where it came.
	if e.ancestor() == nil {
		e.link(t.byPID[x.PPID])
	}
}

// Seed enters a process that was found running; its history is not known. Processes may come in any
// order; one that events already told of is left alone. Lineage is ignored: PPID links. A Start of 0 is
// not known.
func (t *Table) Seed(p event.Process) {
	if p.PID == 0 {
		return
	}
	e := t.byPID[p.PID]
	if e != nil && (e.exited || !e.startedAt(p.Start) || e.path() != "") {
		return
	}
	if e == nil {
		e = t.add(p.PID, p.Start, nil)
	}
	e.adopt(p.Start)
	t.live.move(e)
	e.partial = true
	e.ppid, e.uid, e.member = p.PPID, p.UID, p.Membership
	e.setImage(p.Path, p.Args, p.Cwd, p.Comm)
}

// add takes an entry for a process that has none, without disturbing keep.
func (t *Table) add(pid uint32, start uint64, keep *entry) *entry {
	e := t.take(keep)
	e.pid, e.start = pid, start
	e.exited, e.partial = false, false
	e.uid, e.ppid, e.parent, e.member = 0, 0, nil, event.Membership{}
	e.setImage("", "", "", "")
	t.byPID[pid] = e
	t.forked.push(e)
	return e
}

func (t *Table) take(keep *entry) *entry {
	if n := len(t.free); n > 0 {
		e := t.free[n-1]
		t.free = t.free[:n-1]
		return e
	}
	if t.made < t.size {
		t.made++
		return &entry{}
	}
	e := t.exited.oldestBut(keep)
	for _, l := range [...]*list{&t.forked, &t.live} {
		if e == nil {
			e = l.oldestBut(keep)
		}
	}
	if e == nil {
		e = keep // the table has room for one process
	}
	if e.exited {
		t.stats.EvictedExited++
	} else {
		t.stats.EvictedLive++
	}
	t.drop(e)
	t.free = t.free[:len(t.free)-1]
	return e
}

// drop forgets an entry: links to it are dead from here on.
func (t *Table) drop(e *entry) {
	e.in.remove(e)
	if t.byPID[e.pid] == e {
		delete(t.byPID, e.pid)
	}
	e.generation++
	e.parent = nil
	t.free = append(t.free, e)
}

func (t *Table) exit(e *entry) {
	if e.exited {
		return
	}
	e.exited = true
	t.exited.move(e)
	if t.exited.n > t.keep {
		t.stats.EvictedExited++
		t.drop(t.exited.first)
	}
}

// supersede retires a process whose pid belongs to another one now.
func (t *Table) supersede(e *entry) {
	if !e.exited {
		t.stats.Reused++
	}
	delete(t.byPID, e.pid)
	t.exit(e)
}

// touch keeps an active process from being the first to be forgotten.
func (t *Table) touch(e *entry) {
	if !e.exited {
		e.in.move(e)
	}
}

// Stats tells how full the table is.
func (t *Table) Stats() Stats {
	s := t.stats
	s.Live, s.Exited = t.live.n+t.forked.n, t.exited.n
	return s
}
