package process

import (
	"fmt"
	"slices"
	"testing"

	"github.com/plumbline-io/plumbline/pkg/event"
)

func fork(parent, child uint32, start uint64) *event.Event {
	return &event.Event{Kind: event.Fork, Tgid: parent, Fork: event.ForkInfo{Child: child, ChildStart: start}}
}

func exec(pid, ppid uint32, start uint64, path string) *event.Event {
	return &event.Event{Kind: event.Exec, Tgid: pid, Exec: event.ExecInfo{PPID: ppid, Start: start, Path: path, Args: path + " -x", Cwd: "/", Comm: "c", UID: 5}}
}

func exit(pid uint32, start uint64) *event.Event {
	return &event.Event{Kind: event.Exit, Tgid: pid, Exit: event.ExitInfo{Start: start}}
}

func feed(t *Table, evs ...*event.Event) {
	for _, ev := range evs {
		t.Observe(ev)
	}
}

func TestLineage(t *testing.T) {
	table := New(Config{})
	table.Seed(event.Process{PID: 1, Path: "/init", Start: 1})
	feed(table, fork(1, 10, 100), exec(10, 1, 100, "/nginx"), fork(10, 11, 200), fork(11, 12, 300), exec(12, 11, 300, "/sh"))
	p, ok := table.Get(12)
	if !ok || p.Path != "/sh" || p.Parent != "/nginx" || !slices.Equal(p.Lineage, []string{"/nginx", "/nginx", "/init"}) || p.Partial {
		t.Errorf("%+v", p)
	}
	// A child that has not executed anything runs its parent's image.
	if p, _ := table.Get(11); p.Path != "/nginx" || p.PPID != 10 {
		t.Errorf("%+v", p)
	}
	// The parent's end does not take away where a process comes from.
	feed(table, exit(11, 200))
	if p, _ := table.Get(12); p.Parent != "/nginx" || len(p.Lineage) != 3 {
		t.Errorf("after the parent's end: %+v", p)
	}
}

// What ancestors were called and called with goes with them, and aliases nothing in a copy.
func TestAncestors(t *testing.T) {
	table := New(Config{})
	table.Seed(event.Process{PID: 1, Path: "/init", Start: 1, Comm: "init", Args: "/init splash"})
	feed(table, fork(1, 10, 100), exec(10, 1, 100, "/java"), fork(10, 11, 200), exec(11, 10, 200, "/sh"))
	p, _ := table.Get(11)
	want := []event.Ancestor{{Start: 100, Comm: "c", Args: "/java -x"}, {Start: 1, Comm: "init", Args: "/init splash"}}
	if !slices.Equal(p.Ancestors, want) || len(p.Ancestors) != len(p.Lineage) {
		t.Errorf("%+v", p)
	}
	feed(table, exec(10, 1, 100, "/another"))
	if !slices.Equal(p.Ancestors, want) {
		t.Errorf("changed afterwards: %+v", p.Ancestors)
	}
	if p, _ := table.Get(11); p.Ancestors[0].Args != "/another -x" {
		t.Errorf("%+v", p.Ancestors)
	}
}

// A fork keeps session, group and terminal and gets a number of its own; an exec tells all anew.
func TestMembership(t *testing.T) {
	table := New(Config{})
	of := func(ev *event.Event, m event.Membership) *event.Event {
		ev.Exec.Membership, ev.Fork.ChildVPID = m, m.VPID
		return ev
	}
	login := event.Membership{VPID: 10, Session: 10, Group: 10, TTY: 5}
	feed(table, exec(9, 1, 50, "/sshd"), of(exec(10, 9, 100, "/bash"), login))
	feed(table, of(fork(10, 11, 200), event.Membership{VPID: 3}))
	p, _ := table.Get(11)
	if want := (event.Membership{VPID: 3, Session: 10, Group: 10, TTY: 5}); p.Membership != want || p.Leader != "c" {
		t.Errorf("%+v", p)
	}
	job := event.Membership{VPID: 3, Session: 10, Group: 11, TTY: 5}
	feed(table, of(exec(11, 10, 200, "/cat"), job), exit(10, 100))
	if p, _ := table.Get(11); p.Membership != job || p.Leader != "c" {
		t.Errorf("after the end of its leader: %+v", p)
	}
	feed(table, of(fork(11, 15, 250), event.Membership{VPID: 1}))
	if p, _ := table.Get(15); p.VPID != 1 || p.Namespace != 250 {
		t.Errorf("the first of a namespace: %+v", p)
	}
	// Nothing is known of the child of one of whom nothing is known, nor who leads if it began later.
	feed(table, of(fork(9, 12, 300), event.Membership{VPID: 4}), of(exec(13, 1, 10, "/x"), event.Membership{VPID: 13, Session: 9}))
	if p, _ := table.Get(12); p.Membership != (event.Membership{}) || p.Leader != "" {
		t.Errorf("%+v", p)
	}
	if p, _ := table.Get(13); p.Leader != "" {
		t.Errorf("%+v", p)
	}
	table.Seed(event.Process{PID: 14, PPID: 1, Start: 20, Comm: "init", Membership: event.Membership{VPID: 14, Session: 14}})
	if p, _ := table.Get(14); p.VPID != 14 || p.Leader != "init" {
		t.Errorf("%+v", p)
	}
}

func TestPIDReuse(t *testing.T) {
	table := New(Config{})
	feed(table, exec(10, 1, 100, "/old"), fork(10, 11, 150), exec(11, 10, 150, "/child"))
	// The old process's exit was lost; its pid comes back.
	feed(table, fork(1, 10, 900), exec(10, 1, 900, "/new"))
	if p, _ := table.Get(10); p.Path != "/new" {
		t.Errorf("%+v", p)
	}
	if p, _ := table.Get(11); p.Parent != "/old" {
		t.Errorf("the child's parent became %q", p.Parent)
	}
	if s := table.Stats(); s.Reused != 1 {
		t.Errorf("%+v", s)
	}
	// Late events of the old process change nothing.
	feed(table, exec(10, 1, 100, "/old2"), exit(10, 100))
	if p, ok := table.Get(10); !ok || p.Path != "/new" || table.Stats().Live != 2 {
		t.Errorf("%+v %+v", p, table.Stats())
	}
}

func TestSeedInAnyOrder(t *testing.T) {
	table := New(Config{})
	feed(table, exec(12, 11, 300, "/known"))
	for _, p := range []event.Process{
		{PID: 12, PPID: 11, Start: 300, Path: "/stale"},
		{PID: 11, PPID: 10, Start: 200, Path: "/b"},
		{PID: 10, PPID: 0, Start: 100, Path: "/a"},
		{PID: 0, Path: "/kernel"},
	} {
		table.Seed(p)
	}
	p, _ := table.Get(12)
	if p.Path != "/known" || !slices.Equal(p.Lineage, []string{"/b", "/a"}) {
		t.Errorf("%+v", p)
	}
	if p, _ := table.Get(11); !p.Partial {
		t.Errorf("a seeded process is partial: %+v", p)
	}
}

func TestFillOfUnknown(t *testing.T) {
	table := New(Config{})
	ev := exec(9, 8, 5, "/x")
	ev.Kind = event.ExecCheck
	if table.Fill(ev) || ev.Process.PID != 9 || ev.Process.PPID != 8 || !ev.Process.Partial {
		t.Errorf("%+v", ev.Process)
	}
}

func TestBounds(t *testing.T) {
	const size, keep = 100, 10
	table := New(Config{Size: size, Exited: keep})
	for i := uint32(1); i <= 1000; i++ {
		feed(table, fork(1, i+1, uint64(i)))
		if i%2 == 0 {
			feed(table, exit(i+1, uint64(i)))
		}
	}
	s := table.Stats()
	if s.Live+s.Exited > size || s.Exited > keep {
		t.Errorf("%+v", s)
	}
	// 500 live ones and at most keep exited ones were to be kept: what is missing was counted.
	if got := uint64(s.Live+s.Exited) + s.EvictedLive + s.EvictedExited; got != 1000 {
		t.Errorf("%d processes accounted for, want 1000: %+v", got, s)
	}
}

// Once the table is full, events cost no allocation, whatever comes.
func TestSteadyStateDoesNotAllocate(t *testing.T) {
	table := New(Config{Size: 64, Exited: 16})
	f, x, e := fork(1, 2, 0), exec(2, 1, 0, "/usr/bin/date"), exit(2, 0)
	var n uint64
	step := func() {
		n++
		pid := uint32(n%100) + 2
		f.Fork.Child, f.Fork.ChildStart = pid, n
		x.Tgid, x.Exec.Start = pid, n
		e.Tgid, e.Exit.Start = pid, n
		for _, ev := range [...]*event.Event{f, x, e} {
			if ev.Kind != event.Exit || n%3 == 0 {
				table.Observe(ev)
			}
			if !table.Fill(ev) && ev.Kind != event.Fork {
				t.Fatalf("%s of %d is not known", ev.Kind, pid)
			}
		}
	}
	for range 1000 {
		step()
	}
	if got := testing.AllocsPerRun(1000, step); got != 0 {
		t.Errorf("%v allocations", got)
	}
}

func TestFillOfLongLineage(t *testing.T) {
	table := New(Config{})
	for i := uint32(1); i <= 2*maxLineage; i++ {
		feed(table, fork(i, i+1, uint64(i)))
	}
	ev := exec(2*maxLineage, 0, 2*maxLineage-1, "/x")
	if n := testing.AllocsPerRun(100, func() { table.Fill(ev) }); n != 0 || len(ev.Process.Lineage) != maxLineage {
		t.Errorf("%v allocations, %d ancestors", n, len(ev.Process.Lineage))
	}
}

// A storm of forks does not make the table forget the services.
func TestForkStorm(t *testing.T) {
	const size = 1000
	table := New(Config{Size: size, Exited: 100})
	for pid := uint32(1); pid <= 100; pid++ {
		table.Seed(event.Process{PID: pid, PPID: 1, Start: uint64(pid), Path: fmt.Sprintf("/svc%d", pid)})
	}
	feed(table, fork(1, 200, 200), exec(200, 1, 200, "/bomb"))
	parent := uint32(200)
	for i := range uint32(100_000) {
		child := 1000 + i%30_000
		feed(table, fork(parent, child, uint64(1000+i)))
		if parent = child; i%7 == 0 {
			parent = 200
		}
	}
	for pid := uint32(1); pid <= 100; pid++ {
		if p, ok := table.Get(pid); !ok || p.Path != fmt.Sprintf("/svc%d", pid) {
			t.Fatalf("%d is %+v", pid, p)
		}
	}
	if p, ok := table.Get(parent); !ok || p.Path != "/bomb" {
		t.Errorf("the newest is %+v", p)
	}
	s := table.Stats()
	if s.Live+s.Exited != size || s.EvictedExited+s.EvictedLive != 100_101-size {
		t.Errorf("%+v", s)
	}
}

// Late and lost events of processes that share a pid.
func TestIdentity(t *testing.T) {
	for name, tc := range map[string]struct {
		events []*event.Event
		pid    uint32
		path   string // "": not known
	}{
		"late fork of an older process":  {[]*event.Event{exec(5, 1, 900, "/new"), fork(1, 5, 100)}, 5, "/new"},
		"exec before its fork":           {[]*event.Event{exec(5, 4, 100, "/x"), fork(4, 5, 100)}, 5, "/x"},
		"late exit of an older process":  {[]*event.Event{exec(5, 1, 900, "/new"), exit(5, 100)}, 5, "/new"},
		"exec without a start":           {[]*event.Event{exec(5, 1, 100, "/a"), exec(5, 1, 0, "/b")}, 5, "/b"},
		"fork without a start, pid free": {[]*event.Event{exec(4, 1, 50, "/p"), exec(5, 1, 100, "/a"), exit(5, 100), fork(4, 5, 0)}, 5, "/p"},
		"exec after exit, no start":      {[]*event.Event{exec(5, 1, 100, "/a"), exit(5, 100), exec(5, 1, 0, "/b")}, 5, "/b"},
		"never seen":                     {nil, 5, ""},
	} {
		t.Run(name, func(t *testing.T) {
			table := New(Config{})
			feed(table, tc.events...)
			if p, _ := table.Get(tc.pid); p.Path != tc.path {
				t.Errorf("got %+v, want %s", p, tc.path)
			}
		})
	}
}

// An event of a process that the table does not have must not be told of another with the same pid.
func TestFillOfAnother(t *testing.T) {
	table := New(Config{})
	feed(table, exec(7, 1, 50, "/parent"), exec(5, 7, 100, "/a"))
	check := exec(5, 7, 900, "/evil")
	check.Kind = event.ExecCheck
	if table.Fill(check) || check.Process.Path != "" || check.Process.Start != 900 || check.Process.Parent != "/parent" {
		t.Errorf("%+v", check.Process)
	}
	late := exit(5, 20)
	if table.Fill(late) || late.Process.Path != "" {
		t.Errorf("%+v", late.Process)
	}
	// The parent's pid has gone to a younger process.
	feed(table, exec(7, 1, 2000, "/young"))
	if table.Fill(check); check.Process.Parent != "" {
		t.Errorf("%+v", check.Process)
	}
}

func TestEvictionCounters(t *testing.T) {
	table := New(Config{Size: 4, Exited: 2})
	feed(table, exec(2, 1, 1, "/a"), exec(3, 1, 1, "/b"), exec(4, 1, 1, "/c"), exit(2, 1), exit(3, 1), exit(4, 1))
	if s := table.Stats(); s != (Stats{Live: 0, Exited: 2, EvictedExited: 1}) {
		t.Errorf("%+v", s)
	}
	if _, ok := table.Get(2); ok {
		t.Error("the first to exit is still there")
	}
	feed(table, exec(5, 1, 2, "/d"), exec(6, 1, 2, "/e"), exec(7, 1, 2, "/f"), exec(8, 1, 2, "/g"), exec(9, 1, 2, "/h"))
	if s := table.Stats(); s != (Stats{Live: 4, Exited: 0, EvictedExited: 3, EvictedLive: 1}) {
		t.Errorf("%+v", s)
	}
}

// A table of one process is of little use, but it works.
func TestSmallestTable(t *testing.T) {
	table := New(Config{Size: 1, Exited: 1})
	feed(table, exec(2, 1, 1, "/a"), exit(2, 1), fork(2, 3, 2), fork(3, 4, 3), exec(4, 3, 3, "/b"))
	if p, ok := table.Get(4); !ok || p.Path != "/b" {
		t.Errorf("%+v", p)
	}
}

// What Get returns survives the reuse of the table's entries.
func TestGetIsACopy(t *testing.T) {
	table := New(Config{})
	feed(table, exec(2, 1, 1, "/aaa"), fork(2, 3, 2), exec(3, 2, 2, "/bbb"))
	p, _ := table.Get(3)
	feed(table, exec(2, 1, 1, "/ccc"), exec(3, 2, 2, "/ddd"))
	if p.Path != "/bbb" || p.Parent != "/aaa" || p.Lineage[0] != "/aaa" {
		t.Errorf("%+v", p)
	}
}

func FuzzObserve(f *testing.F) {
	f.Add([]byte{1, 2, 3, 4, 5, 6, 7, 8})
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) == 0 {
			return
		}
		size := 1 + int(data[0]%8)
		table := New(Config{Size: size, Exited: size/2 + 1})
		for i := 0; i+3 < len(data); i += 4 {
			pid, other, start := uint32(data[i+1]%16), uint32(data[i+2]%16), uint64(data[i+3])
			ev := fork(pid, other, start)
			switch data[i] % 4 {
			case 1:
				ev = exec(pid, other, start, fmt.Sprint("/", other))
			case 2:
				ev = exit(pid, start)
			case 3:
				table.Seed(event.Process{PID: pid, PPID: other, Start: start, Path: "/s"})
			}
			table.Observe(ev)
			table.Fill(ev)
			if s := table.Stats(); s.Live+s.Exited > size || s.Live < 0 || s.Exited < 0 {
				t.Fatalf("%+v", s)
			}
		}
	})
}

func BenchmarkObserveAndFill(b *testing.B) {
	table := New(Config{})
	feed(table, exec(1, 0, 1, "/sbin/init"))
	evs := [...]*event.Event{fork(1, 10, 5), exec(10, 1, 5, "/usr/bin/date"), exit(10, 5)}
	b.ReportAllocs()
	for b.Loop() {
		for _, ev := range evs {
			table.Observe(ev)
			table.Fill(ev)
		}
	}
}

func BenchmarkFill(b *testing.B) {
	table := New(Config{})
	for i := uint32(1); i < 6; i++ {
		feed(table, fork(i, i+1, uint64(i)))
	}
	ev := exec(6, 5, 5, "/x")
	b.ReportAllocs()
	for b.Loop() {
		table.Fill(ev)
	}
}
