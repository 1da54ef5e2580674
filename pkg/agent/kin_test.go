package agent

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/plumbline-io/plumbline/pkg/alert"
	"github.com/plumbline-io/plumbline/pkg/detect"
	"github.com/plumbline-io/plumbline/pkg/event"
	"github.com/plumbline-io/plumbline/pkg/response"
	"github.com/plumbline-io/plumbline/pkg/sensor"
)

const shopWeb = "shop/web@sha256:0a0a"

// box is the container whose id has this digit only.
func box(digit string) detect.Subject {
	id := strings.Repeat(digit, 64)
	return detect.Subject{Name: id[:shortID], Kind: "container", ContainerID: id, Cgroup: "/docker/" + id}
}

// boxes is a registry that knows what containers are called by the digit of their ids.
type boxes struct {
	*registry
	t    *testing.T
	maps *entryMaps
	now  time.Time
	late []event.Key
}

func newBoxes(t *testing.T, dir string, called map[string]string) *boxes {
	t.Helper()
	maps := newEntryMaps(1000)
	b := &boxes{newTestRegistry(t, dir, maps, maps), t, maps, time.Unix(1_800_000_000, 0), nil}
	b.Now = func() time.Time { return b.now }
	b.Kin = func(w detect.Subject) string { return called[w.ContainerID[:1]] }
	b.Late = func(_ detect.Subject, did []event.Key) { b.late = append(b.late, did...) }
	b.CrashBudget = 3
	return b
}

func (b *boxes) must(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

// begin starts a container in the cgroup of that number; what it executes is learnt.
func (b *boxes) begin(cgroup uint64, digit string, programs ...string) {
	b.t.Helper()
	b.must(b.Join(cgroup, box(digit)))
	learnPrograms(b.registry, b.IDOf(cgroup), programs...)
}

// end ends it, and lets it be forgotten.
func (b *boxes) end(cgroup uint64) {
	b.t.Helper()
	b.must(b.Leave(cgroup))
	b.now = b.now.Add(forgetAfter)
	b.must(b.Forget())
}

// check compares what the kernel knows of a container.
func (b *boxes) check(what string, cgroup uint64, mode event.Mode, programs ...string) {
	b.t.Helper()
	s := b.maps.states[cgroup]
	if s.Mode != uint32(mode) {
		b.t.Errorf("%s: mode %s, want %s", what, event.Mode(s.Mode), mode)
	}
	var got []string
	for _, k := range b.maps.entries[slot{s.ID, s.Generation}] {
		got = append(got, k.Path)
	}
	if slices.Sort(got); !slices.Equal(got, programs) {
		b.t.Errorf("%s: the kernel has %q, want %q", what, got, programs)
	}
}

// A container that runs the same as two before is ready to be promoted, and the next one is held from its beginning, also by
// the next agent. What is called otherwise has nothing of it.
func TestNextContainerIsHeld(t *testing.T) {
	dir := t.TempDir()
	called := map[string]string{
		"1": shopWeb, "2": shopWeb, "3": shopWeb, "4": shopWeb, "5": "shop/web@sha256:0b0b", "6": "bank/web@sha256:0a0a", "7": "shop/mail@sha256:0a0a",
	}
	b := newBoxes(t, dir, called)
	b.begin(1, "1", "/bin/web")
	if err := b.SetMode(box("1").Name, event.Enforce, ""); err == nil || !strings.Contains(err.Error(), "1 of 2 runs") {
		t.Errorf("after a run: %v", err)
	}
	b.end(1)
	b.begin(2, "2", "/bin/web")
	b.must(b.SetMode(box("2").Name, event.Enforce, ""))
	b.check("promoted", 2, event.Enforce, "/bin/web")
	b.end(2)
	if len(b.List()) != 0 || b.Knows(shopWeb) || b.maps.used() != 0 {
		t.Errorf("something is left: %v, %v", b.List(), b.maps.entries)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if want := filepath.Join(dir, "shop%2Fweb@sha256:0a0a.yaml"); err != nil || !slices.Equal(files, []string{want}) {
		t.Errorf("stored are %q, want %q: %v", files, want, err)
	}

	b.begin(3, "3")
	b.check("the next one", 3, event.Enforce, "/bin/web")
	for cgroup, digit := range map[uint64]string{5: "5", 6: "6", 7: "7"} {
		b.begin(cgroup, digit)
		b.check(called[digit], cgroup, event.Learn)
	}
	b.must(b.Save())
	b = newBoxes(t, dir, called)
	b.must(b.Find(3, box("3")))
	b.begin(4, "4")
	for cgroup := range uint64(2) {
		b.check("the next agent", 3+cgroup, event.Enforce, "/bin/web")
	}
	if w := b.List()[0]; w.Baseline != shopWeb || w.Containers != 2 || w.Runs != 3 || w.Name != box("3").Name {
		t.Errorf("status: %+v", w)
	}
}

// What one of two containers learns the other is allowed, and what is decided for one is for both.
func TestContainersAtOnce(t *testing.T) {
	b := newBoxes(t, t.TempDir(), map[string]string{"1": shopWeb, "2": shopWeb, "3": shopWeb})
	b.begin(1, "1", "/bin/a")
	b.begin(2, "2", "/bin/b")
	late := b.maps.states[1]
	b.must(b.maps.Replace(late.ID, late.Generation, []event.Key{program("/bin/untold")})) // the kernel has learnt it
	b.must(b.SetMode(shopWeb, event.Enforce, "test"))
	for cgroup := uint64(1); cgroup < 3; cgroup++ {
		b.check("promoted", cgroup, event.Enforce, "/bin/a", "/bin/b", "/bin/untold")
	}
	if _, added, err := b.Allow(box("2").Name, program("/bin/c"), b.now); !added || err != nil {
		t.Error(added, err)
	}
	b.begin(3, "3")
	for cgroup := uint64(1); cgroup < 4; cgroup++ {
		b.check("allowed", cgroup, event.Enforce, "/bin/a", "/bin/b", "/bin/c", "/bin/untold")
	}
	if who, n, err := b.Meant(shopWeb); who.Name != shopWeb || n != 3 || err != nil || who.Mode != event.Enforce {
		t.Errorf("%+v, %d, %v", who, n, err)
	}
	b.must(b.SetMode(box("1").Name, event.AuditMode, ""))
	for cgroup := uint64(1); cgroup < 4; cgroup++ {
		b.check("audited", cgroup, event.AuditMode, "/bin/a", "/bin/b", "/bin/c", "/bin/untold")
	}
	b.must(b.SetMode(shopWeb, event.Learn, ""))
	b.end(1)
	if !b.Knows(shopWeb) || len(b.List()) != 2 || b.List()[0].Containers != 2 {
		t.Errorf("one has ended: %+v", b.List())
	}
	versions := b.Versions()
	if v := versions[box("2").Name]; v == "" || v != versions[box("3").Name] {
		t.Errorf("versions: %q", versions)
	}
}

// refusingOne is a kernel that does not take the state of one cgroup.
type refusingOne struct {
	*entryMaps
	cgroup uint64
}

func (k refusingOne) SetWorkload(cgroup uint64, s sensor.WorkloadState) error {
	if cgroup == k.cgroup && s.Mode == uint32(event.Enforce) {
		return errors.New("no")
	}
	return k.entryMaps.SetWorkload(cgroup, s)
}

// A mode is set for all that have a baseline, or for none of them.
func TestModeOfAllOrNone(t *testing.T) {
	b := newBoxes(t, t.TempDir(), map[string]string{"1": shopWeb, "2": shopWeb})
	b.begin(1, "1", "/bin/a")
	b.begin(2, "2")
	b.Kernel = refusingOne{b.maps, 2}
	if err := b.SetMode(shopWeb, event.Enforce, "test"); err == nil {
		t.Error("it was set")
	}
	learnPrograms(b.registry, b.IDOf(2), "/bin/b")
	b.check("one that could have been", 1, event.Learn)
	b.check("one that could not", 2, event.Learn, "/bin/a")
	if _, n, err := b.Meant(shopWeb); n != 2 || err != nil || b.List()[0].Mode != "learn" || b.List()[0].Entries != 2 {
		t.Errorf("%+v, %v", b.List(), err)
	}
	b.Own = box("2").Name
	b.Kernel = b.maps
	if err := b.SetMode(box("1").Name, event.Enforce, "test"); !errors.Is(err, ErrGuarded) {
		t.Errorf("one of them is the agent's: %v", err)
	}
}

// Too many denials of one container, or its not being ready, let all step down that run the same, and the next one does not
// begin anew.
func TestStepDownOfAll(t *testing.T) {
	for name, provoke := range map[string]func(b *boxes){
		"denials": func(b *boxes) {
			for i := range 4 {
				if _, softened := b.Denied(b.IDOf(1), event.DimExec, b.now, 1); softened != (i == 3) {
					t.Errorf("after %d denials: %t", i+1, softened)
				}
			}
		},
		"readiness": func(b *boxes) {
			if _, softened := b.Denied(b.IDOf(1), event.DimExec, b.now, 1); softened {
				t.Error("softened at once")
			}
			unready := response.Look{Readiness: response.NotReady, WasReady: true, Since: b.now}
			if dims := b.Looked(b.IDOf(1), unready, b.now) | b.Looked(b.IDOf(1), unready, b.now.Add(unreadyFor)); dims != 1<<event.DimExec {
				t.Errorf("looked: %v", names(dims))
			}
		},
		"crashes": func(b *boxes) {
			// Each in a container of its own, as Kubernetes starts it again.
			for i := range 3 {
				digit, cgroup := string(rune('3'+i)), uint64(11+i)
				b.begin(cgroup, digit)
				b.now = b.now.Add(time.Second)
				b.Denied(b.IDOf(cgroup), event.DimExec, b.now, 1)
				b.now = b.now.Add(time.Second)
				if dims, n := b.Crashed(b.IDOf(cgroup), crash{b.now.Add(-1500 * time.Millisecond), b.now}); (dims != 0) != (i == 2) || dims != 0 && n != 3 {
					t.Errorf("crash %d: %v, %d", i+1, names(dims), n)
				}
				b.end(cgroup)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			called := map[string]string{"9": "shop/web@sha256:0b0b"}
			for _, digit := range []string{"1", "2", "3", "4", "5", "6"} {
				called[digit] = shopWeb
			}
			b := newBoxes(t, t.TempDir(), called)
			b.begin(9, "9", "/bin/web")
			b.begin(1, "1", "/bin/web")
			b.begin(2, "2")
			b.must(b.SetMode(shopWeb, event.Enforce, "test"))
			b.must(b.SetMode("shop/web@sha256:0b0b", event.Enforce, "test"))
			provoke(b)
			b.begin(6, "6")
			for cgroup, want := range map[uint64]uint32{1: 1 << event.DimExec, 2: 1 << event.DimExec, 6: 1 << event.DimExec, 9: 0} {
				if s := b.maps.states[cgroup]; s.Softened != want || s.Mode != uint32(event.Enforce) {
					t.Errorf("cgroup %d: %+v", cgroup, s)
				}
			}
			b.end(1)
			b.end(2)
			b.end(6)
			b.begin(2, "2")
			if s := b.maps.states[2]; s.Softened != 1<<event.DimExec {
				t.Errorf("after all had ended: %+v", s)
			}
			b.must(b.SetMode(shopWeb, event.Enforce, ""))
			if s := b.maps.states[2]; s.Softened != 0 {
				t.Errorf("after the mode was set again: %+v", s)
			}
		})
	}
}

// A baseline can be shown and its mode be set while no container has it.
func TestBaselineWithoutContainers(t *testing.T) {
	b := newBoxes(t, t.TempDir(), map[string]string{"1": shopWeb, "2": shopWeb})
	if _, err := b.Baseline(shopWeb); !errors.Is(err, errUnknownWorkload) {
		t.Errorf("before there is one: %v", err)
	}
	b.begin(1, "1", "/bin/web")
	b.must(b.SetMode(shopWeb, event.Enforce, "test"))
	b.end(1)
	if text, err := b.Baseline(shopWeb); err != nil || !strings.Contains(string(text), "workload: "+shopWeb) || !strings.Contains(string(text), "/bin/web") {
		t.Errorf("%v: %s", err, text)
	}
	if _, added, err := b.Allow(shopWeb, program("/bin/more"), b.now); !added || err != nil {
		t.Error(added, err)
	}
	b.must(b.Forget())
	b.must(b.SetMode(shopWeb, event.AuditMode, ""))
	b.must(b.Forget())
	if b.Knows(shopWeb) {
		t.Error("it is kept in memory")
	}
	b.begin(2, "2")
	b.check("the next container", 2, event.AuditMode, "/bin/more", "/bin/web")
	for _, name := range []string{"other/web@sha256:0a0a", "nginx.service", box("1").Name} {
		if err := b.SetMode(name, event.Learn, ""); !errors.Is(err, errUnknownWorkload) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What an earlier version has stored under a container's id stays that container's own; the next one has none of it.
func TestBaselineOfAnID(t *testing.T) {
	dir := t.TempDir()
	b := newBoxes(t, dir, nil)
	b.Kin = nil
	b.begin(1, "1", "/bin/web")
	b.must(b.SetMode(box("1").Name, event.Enforce, "test"))
	b = newBoxes(t, dir, map[string]string{"1": shopWeb, "2": shopWeb})
	b.must(b.Find(1, box("1")))
	b.begin(2, "2", "/bin/new")
	b.check("its own", 1, event.Enforce, "/bin/web")
	b.check("the next one", 2, event.Learn)
	if w := b.List(); w[0].Baseline != "" || w[0].Containers != 0 || w[1].Baseline != shopWeb {
		t.Errorf("status: %+v", w)
	}
}

// A user's container may have another's id as its name, and a baseline of its own all the same.
func TestContainerOfAUser(t *testing.T) {
	b := newBoxes(t, t.TempDir(), map[string]string{"1": shopWeb})
	fake := box("1")
	fake.Name = "user@1000.service/" + fake.Name
	b.must(b.Join(2, fake))
	learnPrograms(b.registry, b.IDOf(2), "/tmp/evil")
	b.begin(1, "1")
	b.check("the real one", 1, event.Learn)
	if w := b.List(); w[1].Baseline != "" || w[0].Baseline != shopWeb || w[0].Entries != 0 {
		t.Errorf("status: %+v", w)
	}
}

// What runtimes have written down is read while events are handled, once for each container.
func TestEventsDoNotWaitForNames(t *testing.T) {
	b := newBoxes(t, t.TempDir(), nil)
	asked := 0
	b.Kin = func(w detect.Subject) string {
		asked++
		if !b.mu.TryLock() {
			t.Errorf("%s: events wait", w.Name)
		} else {
			b.mu.Unlock()
		}
		return shopWeb
	}
	b.must(b.Join(1, box("1")))
	b.must(b.Join(2, box("1")))
	b.must(b.Find(3, box("2")))
	if _, err := b.Recall(box("3")); err != nil || asked != 3 {
		t.Errorf("asked %d times, %v", asked, err)
	}
	for _, w := range b.List() {
		if w.Baseline != shopWeb {
			t.Errorf("status: %+v", w)
		}
	}
}

// Containers of an image may have each its own files: what is told is a change in one of them.
func TestExecutableChangedInContainers(t *testing.T) {
	b := newBoxes(t, t.TempDir(), map[string]string{"1": shopWeb, "2": shopWeb})
	b.begin(1, "1", "/bin/web")
	b.begin(2, "2")
	b.must(b.SetMode(shopWeb, event.Enforce, "test"))
	for _, step := range []struct {
		cgroup, changed uint64
		before          int64
	}{{1, 10, 0}, {2, 20, 0}, {1, 10, 0}, {2, 20, 0}, {2, 21, 20}, {1, 10, 0}, {2, 21, 0}} {
		before := b.Executed(b.IDOf(step.cgroup), &event.Event{Kind: event.Exec, Exec: event.ExecInfo{Path: "/bin/web", Changed: step.changed}})
		if got := before; step.before == 0 && !got.IsZero() || step.before != 0 && got.UnixNano() != step.before {
			t.Errorf("%+v: %v", step, got)
		}
	}
}

// A common baseline that cannot be read is told once, and holds nobody until somebody decides.
func TestUnreadableCommonBaseline(t *testing.T) {
	dir := t.TempDir()
	b := newBoxes(t, dir, map[string]string{"1": shopWeb, "2": shopWeb})
	b.must(os.WriteFile(filepath.Join(dir, "shop%2Fweb@sha256:0a0a.yaml"), []byte("damaged"), 0o600))
	out := &lines{}
	a := &Agent{cfg: Config{Node: "n1"}, sink: &sink{file: out, log: slog.New(slog.DiscardHandler)}}
	b.Unreadable = a.tellUnreadable
	b.begin(1, "1")
	b.begin(2, "2")
	told, err := alert.Parse(out.Bytes())
	if err != nil || told.Rule != UnreadableRule || told.Detail.Baseline != shopWeb || told.Detail.Workload != box("1").Name || a.sink.raised.Load() != 1 {
		t.Errorf("told: %+v, %v", told, err)
	}
	for cgroup := uint64(1); cgroup < 3; cgroup++ {
		if s := b.maps.states[cgroup]; s.Mode != uint32(event.AuditMode) || s.Held != 0 {
			t.Errorf("%+v", s)
		}
	}
	b.must(b.SetMode(shopWeb, event.Learn, ""))
	learnPrograms(b.registry, b.IDOf(1), "/bin/a")
	b.must(b.Save())
	if stored, _, err := b.Store.Load(shopWeb); err != nil || !stored.Has(program("/bin/a")) {
		t.Errorf("learnt anew: %v", err)
	}
}
