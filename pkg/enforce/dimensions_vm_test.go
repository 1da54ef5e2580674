package enforce_test

import (
	"os"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/plumbline-io/plumbline/pkg/enforce"
	"github.com/plumbline-io/plumbline/pkg/event"
	"github.com/plumbline-io/plumbline/pkg/sensor/sensortest"
)

// Every deed is told and allowed in audit, told and stopped in enforce, learnt in learn, and then
// allowed in enforce: with the hooks of every rung that decides before the deed.
func TestDeeds(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		sensortest.ByHand(t) // not seen to pass elsewhere yet
	}
	for _, strength := range []enforce.Strength{enforce.LSM, enforce.FmodRet} {
		t.Run(strength.String(), func(t *testing.T) {
			if strength == enforce.LSM {
				sensortest.OnlyOn(t, "5.10", "newest") // scenario dimensions runs on all
			}
			k, scope := use(t, strength, event.AllDimensions)
			if e := k.enforcer; e.Covered() != event.AllDimensions {
				t.Errorf("covered %b: %+v", e.Covered(), e.Status())
			}
			scope.Held = 0
			scope.Set(t, event.Off, 1)
			w := k.trial(t, scope)
			w.does = newDoer(t, scope)
			for name, d := range deeds() {
				t.Run(name, func(t *testing.T) { w.test(t, name, d) })
			}
		})
	}
}

// What a workload leaves behind becomes a child of init. Where it runs init's program too, as a shell of BusyBox
// does under BusyBox's init, it is not taken for a unit that init is about to start.
func TestOrphansAreHeld(t *testing.T) {
	if !sensortest.InVM() {
		t.Skip("needs the init of our guests")
	}
	sensortest.OnlyOn(t, "6.12")
	for _, strength := range []enforce.Strength{enforce.LSM, enforce.FmodRet} {
		t.Run(strength.String(), func(t *testing.T) {
			_, scope := use(t, strength, event.AllDimensions)
			file := t.TempDir() + "/secret"
			if err := os.WriteFile(file, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			scope.Held = event.Dimensions(0).With(event.DimFile)
			for mode, want := range map[event.Mode]int{event.AuditMode: 0, event.Enforce: int(unix.EPERM)} {
				scope.Set(t, mode, 1)
				cmd := scope.Command(t, "/init", "orphan", file)
				cmd.Stderr = os.Stderr
				_ = cmd.Run()
				if code := cmd.ProcessState.ExitCode(); code != want {
					t.Errorf("%s: error number %d, want %d", mode, code, want)
				}
			}
		})
	}
}

// trial lets deeds be done and looks at what the kernel side makes of them.
type trial struct {
	scope      *sensortest.Scope
	enforcer   *enforce.Enforcer
	events     *sensortest.Events
	does       *doer
	generation uint32
}

func (w *trial) test(t *testing.T, name string, d deed) {
	d.skipUnseen(t, w.enforcer)
	dir := t.TempDir()
	if err := fill(dir); err != nil {
		t.Fatal(err)
	}
	d.prepare(t, dir)
	run, denied := w.does.run, int(unix.EPERM)
	if d.alone {
		run = w.does.runAlone
	}
	if d.code != 0 {
		denied = d.code
	}
	allowed, want := w.prepare(t, d, dir), d.key(dir)
	if code := run(t, "nothing", dir); code != 0 {
		t.Fatalf("nothing: exit code %d", code)
	}
	before := w.told(want)
	undo := func() {
		if d.after != nil {
			if err := d.after(dir); err != nil {
				t.Error(err)
			}
		}
	}
	for _, step := range []struct {
		mode    event.Mode
		verdict event.Verdict
		code    int
	}{{event.AuditMode, event.Audit, 0}, {event.Enforce, event.Deny, denied}, {event.Learn, event.Allow, 0}} {
		w.scope.Set(t, step.mode, w.copyOf(t, allowed))
		if code := run(t, name, dir); code != step.code {
			t.Errorf("%s: exit code %d, want %d", step.mode, code, step.code)
		}
		before++
		sensortest.Until(t, step.mode.String()+": "+want.String(), func() bool { return w.told(want) >= before })
		if got := w.last(want); got.Verdict != step.verdict || got.Hook != w.enforcer.Strength().Hook() {
			t.Errorf("%s: told %s at %s, want %s", step.mode, got.Verdict, got.Hook, step.verdict)
		}
		if step.code == 0 {
			undo()
		}
	}
	w.scope.Set(t, event.Enforce, w.generation)
	if code := run(t, name, dir); code != 0 {
		t.Errorf("what was learnt is denied: %d", code)
	}
	undo()
	if n := w.told(want); n != before {
		t.Errorf("told %d times, want %d", n, before)
	}
}

func (d *deed) prepare(t *testing.T, dir string) {
	t.Helper()
	if d.prior == nil {
		return
	}
	if err := d.prior(dir); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir+"/mountpoint", unix.MNT_DETACH) })
}

// prepare holds the deed's dimension alone and returns the generation that allows what else it takes.
func (w *trial) prepare(t *testing.T, d deed, dir string) uint32 {
	t.Helper()
	w.scope.Held = event.Dimensions(0).With(d.key(dir).Op.Dimension())
	w.generation++
	keys := d.needs
	if d.also != nil {
		keys = append(keys, d.also(dir))
	}
	if err := w.enforcer.Replace(w.scope.Workload, w.generation, keys); err != nil {
		t.Fatal(err)
	}
	w.scope.Set(t, event.Learn, w.generation)
	return w.generation
}

// copyOf makes a new generation with what another one allows: nothing of it was told yet.
func (w *trial) copyOf(t *testing.T, generation uint32) uint32 {
	t.Helper()
	entries, err := w.enforcer.Entries(w.scope.Workload, generation)
	if err != nil {
		t.Fatal(err)
	}
	w.generation++
	var keys []event.Key
	for _, e := range entries {
		keys = append(keys, e.Key)
	}
	if err := w.enforcer.Replace(w.scope.Workload, w.generation, keys); err != nil {
		t.Fatal(err)
	}
	return w.generation
}

func (w *trial) about(k event.Key) []event.Event {
	return w.events.Where(isAbout(k))
}

func isAbout(k event.Key) func(*event.Event) bool {
	return func(ev *event.Event) bool { return ev.Kind == event.Access && ev.Access.Key == k }
}

func (w *trial) told(k event.Key) int { return w.events.Count(isAbout(k)) }

func (w *trial) last(k event.Key) event.Event {
	all := w.about(k)
	return all[len(all)-1]
}
