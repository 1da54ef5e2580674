package agent

import (
	"context"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/plumbline-io/plumbline/pkg/alert"
	"github.com/plumbline-io/plumbline/pkg/detect"
	"github.com/plumbline-io/plumbline/pkg/event"
)

// A container whose name comes late goes on learning what it has in common with others: with what it has done, as a run.
func TestNameComesLate(t *testing.T) {
	called := map[string]string{"1": shopWeb}
	b := newBoxes(t, t.TempDir(), called)
	b.begin(1, "1", "/bin/a")
	b.begin(2, "2", "/bin/b")
	if w := b.List()[1]; w.Baseline != "" || w.Entries != 1 {
		t.Fatalf("before: %+v", w)
	}
	b.must(b.Save())
	if files, err := os.ReadDir(b.Store.(*baselineStore).dir); err != nil || len(files) != 1 {
		t.Errorf("stored are %v, %v: want what is common alone", files, err)
	}
	called["2"] = shopWeb
	b.now = b.now.Add(seekDelays()[0])
	if next := b.seekAll(); !next.IsZero() {
		t.Errorf("another look at %v", next)
	}
	learnPrograms(b.registry, b.IDOf(2), "/bin/c")
	if w := b.List()[1]; w.Baseline != shopWeb || w.Containers != 2 || w.Runs != 2 || w.Entries != 3 || b.Knows(box("2").Name) {
		t.Errorf("after: %+v", w)
	}
	b.must(b.SetMode(shopWeb, event.Enforce, "test"))
	for cgroup := uint64(1); cgroup < 3; cgroup++ {
		b.check("promoted", cgroup, event.Enforce, "/bin/a", "/bin/b", "/bin/c")
	}
	if b.late != nil || b.LeftOut().late != 0 {
		t.Errorf("told: %v", b.late)
	}
}

// One that has to be held is held from then on. What it did until then is not allowed for that, and told.
func TestNameOfHeldComesLate(t *testing.T) {
	for _, mode := range []event.Mode{event.AuditMode, event.Enforce} {
		t.Run(mode.String(), func(t *testing.T) {
			called := map[string]string{"1": shopWeb}
			b := newBoxes(t, t.TempDir(), called)
			b.begin(1, "1", "/bin/a")
			b.must(b.SetMode(shopWeb, mode, "test"))
			b.begin(2, "2", "/bin/a", "/bin/evil")
			s := b.maps.states[2]
			b.must(b.maps.Replace(s.ID, s.Generation, []event.Key{program("/bin/a"), program("/bin/untold")})) // the kernel has learnt it
			b.begin(3, "3", "/bin/a")
			called["2"], called["3"] = shopWeb, shopWeb
			b.now = b.now.Add(time.Second)
			b.seekAll()
			b.check("late", 2, mode, "/bin/a")
			b.check("late, and did nothing", 3, mode, "/bin/a")
			learnPrograms(b.registry, b.IDOf(2), "/bin/after")
			if !slices.Equal(b.late, []event.Key{program("/bin/evil"), program("/bin/untold")}) || b.LeftOut().late != 1 || b.maps.used() != 3 {
				t.Errorf("told %v, counted %d, the kernel has %v", b.late, b.LeftOut().late, b.maps.entries)
			}
			if w := b.List(); w[0].Entries != 1 || w[1].Mode != mode.String() || w[1].Containers != 3 {
				t.Errorf("%+v", w)
			}
		})
	}
}

// Where the kernel does not take it, a container stays what it is and is looked for again.
func TestPlaceIsTriedAgain(t *testing.T) {
	called := map[string]string{"1": shopWeb}
	b := newBoxes(t, t.TempDir(), called)
	b.begin(1, "1", "/bin/a")
	b.must(b.SetMode(shopWeb, event.Enforce, "test"))
	b.begin(2, "2", "/bin/b")
	called["2"] = shopWeb
	b.Kernel = refusingOne{b.maps, 2}
	b.now = b.now.Add(seekDelays()[0])
	if next := b.seekAll(); !next.Equal(b.now.Add(seekDelays()[1])) {
		t.Errorf("the next look is at %v", next)
	}
	b.check("before", 2, event.Learn)
	if w := b.List(); w[1].Baseline != "" || w[0].Containers != 1 || b.late != nil {
		t.Errorf("%+v, %v", w, b.late)
	}
	b.Kernel = b.maps
	b.now = b.now.Add(seekDelays()[1])
	b.seekAll()
	b.check("after", 2, event.Enforce, "/bin/a")
}

// A program that was executed before the kernel knew the container, whose name came later still, is told or learnt as what it
// did since.
func TestEarlyAndLate(t *testing.T) {
	for _, mode := range []event.Mode{event.Learn, event.Enforce} {
		called := map[string]string{"1": shopWeb}
		b := newBoxes(t, t.TempDir(), called)
		b.begin(1, "1", "/bin/a")
		if mode == event.Enforce {
			b.must(b.SetMode(shopWeb, mode, "test"))
		}
		b.begin(2, "2", "/bin/a")
		for range maxLate + 2 {
			b.NoteEarly(&event.Event{Kind: event.Exec, CgroupID: 2, Workload: 99, Exec: event.ExecInfo{Path: "/bin/early"}})
		}
		if b.late != nil {
			t.Errorf("%s: told before it is known: %v", mode, b.late)
		}
		called["2"] = shopWeb
		b.now = b.now.Add(seekDelays()[0])
		b.seekAll()
		held := b.byName[box("2").Name].profile.Has(program("/bin/early"))
		if told := slices.Equal(b.late, []event.Key{program("/bin/early")}); told != (mode == event.Enforce) || held != (mode == event.Learn) {
			t.Errorf("%s: told %v, in the baseline: %t", mode, b.late, held)
		}
	}
}

// Who decides about a container before its name is known decides about that container.
func TestDecidedBeforeTheName(t *testing.T) {
	called := map[string]string{}
	b := newBoxes(t, t.TempDir(), called)
	b.begin(1, "1", "/bin/a")
	b.must(b.SetMode(box("1").Name, event.Enforce, "test"))
	called["1"] = shopWeb
	b.now = b.now.Add(time.Minute)
	b.seekAll()
	b.check("its own", 1, event.Enforce, "/bin/a")
	if stored, _, err := b.Store.Load(box("1").Name); err != nil || stored == nil {
		t.Errorf("not stored: %v", err)
	}
}

// A container is looked for soon, and again, and not for ever; nothing is done while none is looked for.
func TestLooksForNames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBoxes(t, t.TempDir(), nil)
		b.Now = time.Now
		var looks atomic.Int32
		b.Kin = func(detect.Subject) string { looks.Add(1); return "" }
		ctx, end := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- b.runSeek(ctx) }()
		time.Sleep(time.Hour)
		begin := time.Now()
		b.begin(1, "1", "/bin/a")
		seen := looks.Load() // at once
		var at []time.Duration
		for time.Since(begin) < 2*time.Minute {
			time.Sleep(10 * time.Millisecond)
			synctest.Wait()
			for ; seen < looks.Load(); seen++ {
				at = append(at, time.Since(begin))
			}
		}
		want := []time.Duration{50, 250, 1250, 3250, 7250, 15250, 31250, 63250}
		for i := range want {
			want[i] *= time.Millisecond
		}
		if !slices.Equal(at, want) {
			t.Errorf("looked after %v, want %v", at, want)
		}
		b.must(b.Save())
		if stored, _, err := b.Store.Load(box("1").Name); err != nil || stored == nil {
			t.Errorf("what it did is not stored as its own: %v", err)
		}
		end()
		b.must(<-done)
	})
}

// A program that a container executed before the agent had read of its cgroup is told, if it had to be denied.
func TestProgramBeforeTheName(t *testing.T) {
	b := newBoxes(t, t.TempDir(), map[string]string{"1": shopWeb, "2": "shop/web@sha256:0b0b"})
	b.must(b.Join(7, detect.Subject{Name: "/kubepods.slice", Kind: "cgroup"}))
	b.must(b.Join(8, detect.Subject{Name: "web.service", Kind: "unit"}))
	b.begin(1, "1", "/bin/web")
	b.begin(2, "2", "/bin/web")
	b.must(b.SetMode(shopWeb, event.Enforce, "test"))
	for what, tc := range map[string]struct {
		of, in   uint64 // cgroups: by which the kernel judged, and where it was
		path     string
		unlinked bool
		told     bool
	}{
		"of the slice":       {7, 1, "/bin/sh", false, true},
		"of nobody":          {99, 1, "/bin/sh", false, true},
		"allowed":            {7, 1, "/bin/web", false, false},
		"denied":             {1, 1, "/bin/sh", false, false},
		"not held":           {7, 2, "/bin/sh", false, false},
		"a runtime's":        {7, 1, "/memfd:runc", true, false},
		"in the slice":       {7, 7, "/bin/sh", false, false},
		"of another":         {2, 1, "/bin/sh", false, false},
		"of somebody's unit": {8, 1, "/bin/sh", false, false},
	} {
		b.late, b.leftOut.late = nil, 0
		b.NoteEarly(&event.Event{Kind: event.Exec, CgroupID: tc.in, Workload: b.IDOf(tc.of), Exec: event.ExecInfo{Path: tc.path, Unlinked: tc.unlinked}})
		if told := slices.Equal(b.late, []event.Key{program(tc.path)}); told != tc.told || (b.LeftOut().late == 1) != tc.told || !told && b.late != nil {
			t.Errorf("%s: told %v, counted %d", what, b.late, b.LeftOut().late)
		}
	}
}

func TestTellLate(t *testing.T) {
	out := &lines{}
	a := &Agent{cfg: Config{Node: "n1"}, sink: &sink{file: out, log: slog.New(slog.DiscardHandler)}}
	w := box("1")
	w.Baseline, w.Mode = shopWeb, event.Enforce
	a.tellLate(w, slices.Repeat([]event.Key{program("/bin/evil")}, 12))
	told, err := alert.Parse(out.Bytes())
	if err != nil || told.Rule != heldLateRule || told.Severity != alert.Warning || told.Detail.Baseline != shopWeb || told.Detail.Workload != w.Name ||
		told.Detail.Mode != "enforce" || strings.Count(told.Output, "/bin/evil") != maxLate || !strings.Contains(told.Output, "12 things") {
		t.Errorf("%+v, %v", told, err)
	}
}
