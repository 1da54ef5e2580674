package agent

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/plumbline-io/plumbline/pkg/baseline"
	"github.com/plumbline-io/plumbline/pkg/detect"
	"github.com/plumbline-io/plumbline/pkg/enforce"
	"github.com/plumbline-io/plumbline/pkg/event"
)

// keptKeys is an enforcer that remembers what it was given, by generation.
type keptKeys map[uint32][]event.Key

func (k keptKeys) Replace(_, generation uint32, keys []event.Key) error {
	k[generation] = append(k[generation], keys...)
	return nil
}

func (keptKeys) Untold(map[uint32]uint32, func(event.Key) bool) ([]event.Key, error) { return nil, nil }
func (keptKeys) Keep(map[uint32]uint32) error                                        { return nil }
func (keptKeys) Wait() error                                                         { return nil }
func (keptKeys) Remove(uint32, uint32) error                                         { return nil }
func (keptKeys) WatchSyscalls(bool) error                                            { return nil }
func (keptKeys) Covered() event.Dimensions                                           { return event.AllDimensions }

func (keptKeys) Tally(uint32) (enforce.Tally, error) { return enforce.Tally{}, nil }

// What has another name in each run is widened between the runs, so that a run can be without anything
// new and the baseline becomes ready.
func TestRunsOfTemporaryNamesBecomeReady(t *testing.T) {
	log, kept := slog.New(slog.NewTextHandler(io.Discard, nil)), keptKeys{}
	store, err := openBaselineStore(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	r := newRegistry(registryConfig{
		Kernel: noKernel{}, Enforcer: kept, Store: store, Mode: event.Learn, Dimensions: event.AllDimensions,
		Now: time.Now, Log: log,
	})
	for run := range 2 {
		cgroup := uint64(100 + run)
		if err := r.Join(cgroup, detect.Subject{Name: "db.service", Kind: "unit"}); err != nil {
			t.Fatal(err)
		}
		r.Learn(1, &event.Event{Kind: event.ExecCheck, Exec: event.ExecInfo{Path: "/usr/bin/db"}}, time.Unix(0, 0))
		for i := range 3 {
			k := event.Key{Op: event.OpWrite, Path: fmt.Sprintf("/var/lib/db/base/16384/%d", 20000+10*run+i)}
			r.Learn(1, &event.Event{Kind: event.Access, Access: event.AccessInfo{Key: k}}, time.Unix(int64(run), 0))
		}
		err := r.SetMode("db.service", event.Enforce, "")
		if ready := run == 1; ready != (err == nil) {
			t.Fatalf("run %d: %v", run, err)
		}
		if err := r.Leave(cgroup); err != nil {
			t.Fatal(err)
		}
	}
	pattern := event.Key{Op: event.OpWrite, Path: "/var/lib/db/base/16384/**"}
	for _, generation := range []uint32{1, 2} {
		if !slices.Contains(kept[generation], pattern) {
			t.Errorf("generation %d has no %s: %v", generation, pattern, kept[generation])
		}
	}
}

// watched is an enforcer that can see system calls, and knows whether it does.
type watched struct {
	keptKeys
	on *bool
}

func (watched) Covered() event.Dimensions { return event.AllDimensions.With(event.DimSyscalls) }

func (w watched) WatchSyscalls(on bool) error {
	*w.on = on
	return nil
}

// System calls are seen from when the first workload learns them until none does any more, and no workload is
// said to be held to them.
func TestSyscallsAreWatchedWhileLearnt(t *testing.T) {
	store, err := openBaselineStore(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	var on bool
	r := newRegistry(registryConfig{
		Kernel: noKernel{}, Enforcer: watched{keptKeys{}, &on}, Store: store, Mode: event.Learn,
		Dimensions: event.Dimensions(0).With(event.DimExec).With(event.DimSyscalls), Now: time.Now, Log: slog.New(slog.DiscardHandler),
	})
	for i, name := range []string{"a.service", "b.service"} {
		if err := r.Join(uint64(i), detect.Subject{Name: name, Kind: "unit"}); err != nil || !on {
			t.Fatalf("%s: %v, watched: %t", name, err, on)
		}
		if err := r.Seen(uint64(i), "/usr/bin/x", time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	r.Leave(0) // it may start again, and then makes calls at once
	for _, step := range []struct {
		name string
		mode event.Mode
		on   bool
	}{{"a.service", event.Enforce, true}, {"b.service", event.AuditMode, false}, {"a.service", event.Learn, true}, {"a.service", event.Off, false}} {
		if err := r.SetMode(step.name, step.mode, "test"); err != nil || on != step.on {
			t.Errorf("%s %s: %v, watched: %t", step.name, step.mode, err, on)
		}
	}
	if w := r.List()[0]; !slices.Equal(w.Held, []string{"exec"}) || !slices.Equal(w.Recorded, []string{"syscalls"}) {
		t.Errorf("%+v", w)
	}
}

// A file that changed is told once, of workloads that are held, also by the agent that comes after; what is
// learnt is learnt as it is.
func TestExecutableChanged(t *testing.T) {
	store, err := openBaselineStore(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	open := func() *registry {
		r := newRegistry(registryConfig{
			Kernel: noKernel{}, Enforcer: keptKeys{}, Store: store, Mode: event.Learn, Dimensions: event.AllDimensions,
			Now: time.Now, Log: slog.New(slog.DiscardHandler),
		})
		if err := r.Join(1, detect.Subject{Name: "shop.service", Kind: "unit"}); err != nil {
			t.Fatal(err)
		}
		return r
	}
	r := open()
	executed := func(path string, changed uint64) int64 {
		before := r.Executed(1, &event.Event{Kind: event.Exec, Exec: event.ExecInfo{Path: path, Changed: changed}})
		if before.IsZero() {
			return 0
		}
		return before.UnixNano()
	}
	for _, path := range []string{"/usr/bin/shop", "/usr/bin/till"} {
		r.Learn(1, &event.Event{Kind: event.ExecCheck, Exec: event.ExecInfo{Path: path}}, time.Unix(0, 0))
	}
	step := func(what, path string, changed uint64, want int64) {
		t.Helper()
		if got := executed(path, changed); got != want {
			t.Errorf("%s: before %d, want %d", what, got, want)
		}
	}
	step("learnt", "/usr/bin/shop", 1001, 0)
	step("an upgrade while learning", "/usr/bin/shop", 2002, 0)
	if err := r.SetMode("shop.service", event.Enforce, "test"); err != nil {
		t.Fatal(err)
	}
	step("the same", "/usr/bin/shop", 2002, 0)
	step("changed", "/usr/bin/shop", 3003, 2002)
	step("told", "/usr/bin/shop", 3003, 0)
	step("seen for the first time", "/usr/bin/till", 5, 0)
	step("not in the baseline", "/usr/bin/other", 5, 0)
	step("not in the baseline, again", "/usr/bin/other", 6, 0)
	step("no time", "/usr/bin/shop", 0, 0)
	if before := r.Executed(1, &event.Event{Kind: event.Exec, Exec: event.ExecInfo{Path: "/usr/bin/shop", Changed: 9, Unlinked: true}}); !before.IsZero() {
		t.Error("another file was there")
	}
	if err := r.Save(); err != nil {
		t.Fatal(err)
	}
	r = open()
	step("after the agent was started again", "/usr/bin/shop", 3003, 0)
	step("changed while no agent ran", "/usr/bin/till", 6, 5)
	if err := r.SetMode("shop.service", event.Off, ""); err != nil {
		t.Fatal(err)
	}
	step("let go", "/usr/bin/shop", 4004, 0)
}

// The kernel forgets a cgroup by itself when it is removed. If the agent reads of its making only after that,
// and writes it again, it is forgotten with the news of its removal.
func TestCgroupThatIsGoneAlready(t *testing.T) {
	maps := newEntryMaps(10)
	r := newTestRegistry(t, t.TempDir(), maps, maps)
	if err := r.Join(77, detect.Subject{Name: "short.service", Kind: "unit"}); err != nil {
		t.Fatal(err)
	}
	if err := r.Leave(77); err != nil {
		t.Fatal(err)
	}
	if len(maps.states) != 0 {
		t.Errorf("left in the kernel: %v", maps.states)
	}
}

// slowDisk is a store that begins to write and ends when it is let.
type slowDisk struct {
	*baselineStore
	begun, end chan struct{}
}

func (d slowDisk) Save(workload string, p *baseline.Profile) (string, error) {
	d.begun <- struct{}{}
	<-d.end
	return d.baselineStore.Save(workload, p)
}

// Events are handled while a baseline is written, and what they teach meanwhile is written next.
func TestEventsDoNotWaitForTheDisk(t *testing.T) {
	r := newTestRegistry(t, t.TempDir(), noKernel{}, keptKeys{})
	store, ok := r.Store.(*baselineStore)
	if !ok {
		t.Fatal("no store")
	}
	disk := slowDisk{store, make(chan struct{}), make(chan struct{})}
	r.Store = disk
	if err := r.Join(42, detect.Subject{Name: "shop.service", Kind: "unit"}); err != nil {
		t.Fatal(err)
	}
	learnPrograms(r, 1, "/bin/a")
	for name, write := range map[string]func() error{
		"save":  r.Save,
		"mode":  func() error { return r.SetMode("shop.service", event.Learn, "") },
		"allow": func() error { _, _, err := r.Allow("shop.service", program("/bin/c"), time.Now()); return err },
	} {
		t.Run(name, func(t *testing.T) {
			learnPrograms(r, 1, "/bin/before-"+name)
			written, handled := make(chan error, 1), make(chan struct{})
			go func() { written <- write() }()
			<-disk.begun
			go func() {
				defer close(handled)
				_, _ = r.Subject(1)
				learnPrograms(r, 1, "/bin/while-"+name)
			}()
			select {
			case <-handled:
			case <-time.After(20 * time.Second):
				t.Error("an event waits for the disk")
			}
			disk.end <- struct{}{}
			if err := <-written; err != nil {
				t.Fatal(err)
			}
			go func() { <-disk.begun; disk.end <- struct{}{} }()
			if err := r.Save(); err != nil {
				t.Fatal(err)
			}
			if stored, _, err := store.Load("shop.service"); err != nil || !stored.Has(program("/bin/while-"+name)) {
				t.Errorf("stored: %v", err)
			}
		})
	}
}

// What could not be written is written next time.
func TestSaveTriesAgain(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "baselines")
	r := newTestRegistry(t, dir, noKernel{}, keptKeys{})
	if err := r.Join(42, detect.Subject{Name: "shop.service", Kind: "unit"}); err != nil {
		t.Fatal(err)
	}
	learnPrograms(r, 1, "/bin/a")
	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
	if err := r.Save(); err == nil {
		t.Fatal("saved to nowhere")
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := r.Save(); err != nil {
		t.Fatal(err)
	}
	if stored, _, err := r.Store.Load("shop.service"); err != nil || stored == nil || !stored.Has(program("/bin/a")) {
		t.Errorf("stored: %v, %v", stored, err)
	}
}

// Runs are the workload's: the agent's own restart is none, and none is forgotten by it.
func TestRunsOverAgentRestarts(t *testing.T) {
	dir, shop := t.TempDir(), detect.Subject{Name: "shop.service", Kind: "unit"}
	var r *registry
	start := func(join func(uint64, detect.Subject) error) {
		t.Helper()
		if err := join(42, shop); err != nil {
			t.Fatal(err)
		}
	}
	restart := func() {
		t.Helper()
		if err := r.Save(); err != nil {
			t.Fatal(err)
		}
		r = newTestRegistry(t, dir, noKernel{}, keptKeys{})
	}
	r = newTestRegistry(t, dir, noKernel{}, keptKeys{})
	start(r.Find)
	learnPrograms(r, 1, "/bin/shop")
	for range 2 {
		restart()
		start(r.Find)
		if err := r.SetMode(shop.Name, event.Enforce, ""); err == nil || !strings.Contains(err.Error(), "1 of 2 runs") {
			t.Fatalf("the same run after a restart of the agent: %v", err)
		}
	}
	if err := r.Leave(42); err != nil {
		t.Fatal(err)
	}
	start(r.Join)
	restart()
	start(r.Find)
	if err := r.SetMode(shop.Name, event.Enforce, ""); err != nil {
		t.Errorf("after a second run: %v", err)
	}
}

// What was only found running is no more than a guess at how a workload begins.
func TestPartialNeedsAReason(t *testing.T) {
	shop := detect.Subject{Name: "shop.service", Kind: "unit"}
	begin := func() *registry {
		t.Helper()
		r := newTestRegistry(t, t.TempDir(), noKernel{}, keptKeys{})
		if err := errors.Join(r.Find(42, shop), r.Seen(42, "/bin/shop", time.Now()), r.Leave(42), r.Join(43, shop)); err != nil {
			t.Fatal(err)
		}
		if err := r.SetMode(shop.Name, event.Enforce, ""); err == nil || !strings.Contains(err.Error(), "start of 1 entries was not seen") {
			t.Fatalf("partial: %v", err)
		}
		return r
	}
	r := begin()
	r.Started(1, "/bin/other")
	if err := r.SetMode(shop.Name, event.Enforce, "ticket OPS-12"); err != nil {
		t.Errorf("with a reason: %v", err)
	}
	r = begin()
	r.Started(1, "/bin/shop")
	if err := r.SetMode(shop.Name, event.Enforce, ""); err != nil {
		t.Errorf("seen from its start: %v", err)
	}
}
