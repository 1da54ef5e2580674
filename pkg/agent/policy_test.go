package agent

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/plumbline-io/plumbline/pkg/baseline"
	"github.com/plumbline-io/plumbline/pkg/detect"
	"github.com/plumbline-io/plumbline/pkg/event"
	"github.com/plumbline-io/plumbline/pkg/sensor"
)

// slot is a generation of a workload's entries.
type slot struct{ workload, generation uint32 }

// entryMaps is an enforcer that keeps entries as the kernel's maps do, as many as they have room for.
type entryMaps struct {
	means
	room    int
	entries map[slot][]event.Key
	reads   int // of all that it holds
}

func newEntryMaps(room int) *entryMaps {
	return &entryMaps{means{map[uint64]sensor.WorkloadState{}}, room, map[slot][]event.Key{}, 0}
}

func (m *entryMaps) Replace(workload, generation uint32, keys []event.Key) error {
	for _, k := range keys {
		if m.used() == m.room {
			return errors.New("update map: argument list too long")
		}
		if at := (slot{workload, generation}); !slices.Contains(m.entries[at], k) {
			m.entries[at] = append(m.entries[at], k)
		}
	}
	return nil
}

func (m *entryMaps) used() (n int) {
	for _, keys := range m.entries {
		n += len(keys)
	}
	return n
}

func (m *entryMaps) Untold(generations map[uint32]uint32, known func(event.Key) bool) (untold []event.Key, err error) {
	m.reads++
	for workload, generation := range generations {
		for _, k := range m.entries[slot{workload, generation}] {
			if !known(k) {
				untold = append(untold, k)
			}
		}
	}
	return untold, nil
}

func (m *entryMaps) Keep(generations map[uint32]uint32) error {
	m.reads++
	for at := range m.entries {
		if keep, ok := generations[at.workload]; ok && at.generation != keep {
			delete(m.entries, at)
		}
	}
	return nil
}

func (m *entryMaps) Remove(workload, keep uint32) error {
	return m.Keep(map[uint32]uint32{workload: keep})
}

// allows says whether a cgroup's workload has a key in the generation that is in force.
func (m *entryMaps) allows(cgroup uint64, k event.Key) bool {
	s := m.states[cgroup]
	return slices.Contains(m.entries[slot{s.ID, s.Generation}], k)
}

// newTestRegistry keeps its baselines in dir.
func newTestRegistry(t *testing.T, dir string, k kernel, e enforcer) *registry {
	t.Helper()
	store, err := openBaselineStore(dir)
	if err != nil {
		t.Fatal(err)
	}
	return newRegistry(registryConfig{
		Kernel: k, Enforcer: e, Store: store, Mode: event.Learn, Dimensions: event.AllDimensions, Budget: 3,
		Now: time.Now, Log: slog.New(slog.DiscardHandler),
	})
}

// learnPrograms lets a workload execute these.
func learnPrograms(r *registry, id uint32, paths ...string) {
	for _, path := range paths {
		r.Learn(id, &event.Event{Kind: event.ExecCheck, Exec: event.ExecInfo{Path: path}}, time.Unix(1_800_000_000, 0))
	}
}

func program(path string) event.Key { return event.Key{Op: event.OpExec, Path: path} }

// Whatever is full, enforcement can be switched off, and audit and enforce take turns. What needs room and
// has none changes nothing, and leaves nothing behind.
func TestModeChangesWhenTheKernelIsFull(t *testing.T) {
	maps := newEntryMaps(3)
	r := newTestRegistry(t, t.TempDir(), maps, maps)
	for cgroup, name := range map[uint64]string{42: "shop.service", 43: "full.service"} {
		if err := r.Join(cgroup, detect.Subject{Name: name, Kind: "unit"}); err != nil {
			t.Fatal(err)
		}
	}
	learnPrograms(r, r.IDOf(42), "/bin/a", "/bin/b")
	if err := r.SetMode("shop.service", event.Enforce, "test"); err != nil {
		t.Fatal(err)
	}
	if err := maps.Replace(r.IDOf(43), 1, []event.Key{program("/bin/c")}); err != nil { // the kernel has learnt it
		t.Fatal(err)
	}
	for _, mode := range []event.Mode{event.AuditMode, event.Enforce, event.Learn} {
		if err := r.SetMode("shop.service", mode, ""); err != nil {
			t.Fatalf("%s: %v", mode, err)
		}
		if s := maps.states[42]; s.Mode != uint32(mode) || !maps.allows(42, program("/bin/a")) || !maps.allows(42, program("/bin/b")) {
			t.Errorf("%s: %+v, %v", mode, s, maps.entries)
		}
	}
	if err := r.SetMode("shop.service", event.Enforce, "test"); err == nil || maps.states[42].Mode != uint32(event.Learn) || maps.used() != 3 {
		t.Errorf("no room for a new generation: %v, %+v, %v", err, maps.states[42], maps.entries)
	}
	if err := r.SetMode("shop.service", event.Off, ""); err != nil || maps.states[42].Mode != uint32(event.Off) || maps.used() != 1 {
		t.Errorf("off: %v, %+v, %v", err, maps.states[42], maps.entries)
	}
	if err := r.SetMode("shop.service", event.Enforce, "test"); err != nil || !maps.allows(42, program("/bin/b")) {
		t.Errorf("enforce after off: %v, %v", err, maps.entries)
	}
}

// read is one file that was read.
func read(path string) *event.Event {
	return &event.Event{Kind: event.Access, Access: event.AccessInfo{Key: event.Key{Op: event.OpRead, Path: path}}}
}

// learntShop is a registry that keeps its baselines in dir, with a unit in cgroup 42 that has executed something.
func learntShop(t *testing.T, dir string) (*registry, *entryMaps, detect.Subject) {
	t.Helper()
	shop, maps := detect.Subject{Name: "shop.service", Kind: "unit"}, newEntryMaps(10*baseline.MaxEntries)
	r := newTestRegistry(t, dir, maps, maps)
	if err := r.Join(42, shop); err != nil {
		t.Fatal(err)
	}
	learnPrograms(r, 1, "/bin/shop")
	return r, maps, shop
}

// What may not be enforced is not enforced by the next agent either, until learning begins anew or the mode
// is set again.
func TestSoftenedOverRestart(t *testing.T) {
	dir := t.TempDir()
	r, maps, shop := learntShop(t, dir)
	for i := range baseline.MaxEntries {
		r.Learn(1, read(fmt.Sprintf("/data/x%da", i)), time.Unix(1_800_000_000, 0))
	}
	if err := r.SetMode(shop.Name, event.Enforce, "test"); err != nil {
		t.Fatal(err)
	}
	for range 4 {
		r.Denied(1, event.DimNetwork, time.Unix(1_800_000_000, 0), 1)
	}
	file, both := event.Dimensions(0).With(event.DimFile), event.Dimensions(0).With(event.DimFile).With(event.DimNetwork)
	if s := maps.states[42]; s.Softened != uint32(both) {
		t.Fatalf("before: %+v", s)
	}
	if err := r.Save(); err != nil {
		t.Fatal(err)
	}

	maps = newEntryMaps(10 * baseline.MaxEntries)
	r = newTestRegistry(t, dir, maps, maps)
	if err := r.Join(42, shop); err != nil {
		t.Fatal(err)
	}
	if s := maps.states[42]; s.Mode != uint32(event.Enforce) || s.Softened != uint32(both) {
		t.Errorf("after a restart: %+v", s)
	}
	if w := r.List()[0]; !slices.Equal(w.Softened, []string{"file", "network"}) {
		t.Errorf("status after a restart: %+v", w)
	}
	for _, step := range []struct {
		mode event.Mode
		want event.Dimensions
	}{{event.Enforce, file}, {event.Off, file}, {event.Learn, 0}} {
		if err := r.SetMode(shop.Name, step.mode, "test"); err != nil {
			t.Fatal(err)
		}
		if s := maps.states[42]; s.Softened != uint32(step.want) {
			t.Errorf("%s: %+v", step.mode, s)
		}
	}
}

// forking makes a cgroup below the workload's in the moment before that is switched; the registry hears of it later.
type forking struct{ *entryMaps }

func (f forking) SetWorkload(cgroup uint64, s sensor.WorkloadState) error {
	if old, ok := f.states[cgroup]; ok {
		f.states[cgroup+1] = old
	}
	return f.entryMaps.SetWorkload(cgroup, s)
}

// A cgroup that is made while the mode is being set is not left behind with a generation of which nothing is there any
// more: it would be denied all.
func TestCgroupMadeWhileTheModeIsSet(t *testing.T) {
	maps := forking{newEntryMaps(10)}
	r := newTestRegistry(t, t.TempDir(), maps, maps)
	if err := r.Join(42, detect.Subject{Name: "shop.service", Kind: "unit"}); err != nil {
		t.Fatal(err)
	}
	learnPrograms(r, 1, "/bin/shop")
	for _, mode := range []event.Mode{event.Enforce, event.AuditMode, event.Learn, event.Enforce} {
		if err := r.SetMode("shop.service", mode, "test"); err != nil {
			t.Fatal(err)
		}
		if got := maps.states[43]; got != maps.states[42] || got.Mode != uint32(mode) {
			t.Errorf("%s: the child is %+v, the workload %+v", mode, got, maps.states[42])
		}
		if !maps.allows(43, event.Key{Op: event.OpExec, Path: "/bin/shop"}) {
			t.Errorf("%s: the child may not do what the baseline holds", mode)
		}
	}
}

// lateLearner learns one thing more in the moment before a workload is switched away from learning.
type lateLearner struct {
	*entryMaps
	late []event.Key
}

func (l *lateLearner) SetWorkload(cgroup uint64, s sensor.WorkloadState) error {
	if old := l.states[cgroup]; old.Mode == uint32(event.Learn) && s.Mode != old.Mode {
		at := slot{old.ID, old.Generation}
		l.entries[at] = append(l.entries[at], l.late...)
	}
	return l.entryMaps.SetWorkload(cgroup, s)
}

// What the kernel learns while the mode is being set is neither denied later nor forgotten.
func TestLearntWhileTheModeIsSet(t *testing.T) {
	late := event.Key{Op: event.OpRead, Path: "/etc/late"}
	nameless := event.Key{Op: event.OpRead, Path: "relative"}
	for _, mode := range []event.Mode{event.Enforce, event.AuditMode, event.Off} {
		t.Run(mode.String(), func(t *testing.T) {
			maps := &lateLearner{newEntryMaps(10), []event.Key{late, nameless}}
			r := newTestRegistry(t, t.TempDir(), maps, maps)
			if err := r.Join(42, detect.Subject{Name: "shop.service", Kind: "unit"}); err != nil {
				t.Fatal(err)
			}
			learnPrograms(r, 1, "/bin/shop")
			if err := r.SetMode("shop.service", mode, "test"); err != nil {
				t.Fatal(err)
			}
			stored, storedMode, err := r.Store.Load("shop.service")
			if err != nil || storedMode != mode || !stored.Has(late) || stored.Len() != 2 {
				t.Errorf("stored: %v, %v, %v", err, storedMode, stored.Keys())
			}
			want := 2
			if mode == event.Off {
				want = 0
			}
			if maps.allows(42, late) != (want > 0) || maps.used() != want {
				t.Errorf("kernel: %v", maps.entries)
			}
		})
	}
}
