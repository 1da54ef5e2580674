package enforce_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/plumbline-io/plumbline/pkg/enforce"
	"github.com/plumbline-io/plumbline/pkg/event"
	"github.com/plumbline-io/plumbline/pkg/sensor/sensortest"
)

// rungs runs a test once for each strength that this kernel has.
func rungs(t *testing.T, test func(t *testing.T, r rig)) {
	for _, strength := range []enforce.Strength{enforce.LSM, enforce.FmodRet, enforce.Signal} {
		t.Run(strength.String(), func(t *testing.T) {
			k, scope := use(t, strength, event.Dimensions(0).With(event.DimExec))
			if got := k.enforcer.Strength(); got != strength {
				t.Fatalf("strength %s, want %s", got, strength)
			}
			test(t, rig{scope, k.enforcer, scope.Collect(t, k.process)})
		})
	}
}

type rig struct {
	scope    *sensortest.Scope
	enforcer *enforce.Enforcer
	events   *sensortest.Events
}

// wantStopped checks that a command did not run, in the way of this strength.
func (r rig) wantStopped(t *testing.T, err error) {
	t.Helper()
	var exit *exec.ExitError
	if r.enforcer.Strength() != enforce.Signal {
		if !errors.Is(err, unix.EPERM) {
			t.Errorf("execve: %v, want EPERM", err)
		}
		return
	}
	if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != unix.SIGKILL {
		t.Errorf("program: %v, want SIGKILL", err)
	}
}

func (r rig) wantTally(t *testing.T, want enforce.Tally) {
	t.Helper()
	got, err := r.enforcer.Tally(r.scope.Workload)
	if err != nil {
		t.Fatal(err)
	}
	if got != want {
		t.Errorf("tally %+v, want %+v", got, want)
	}
}

func TestLearnAuditEnforce(t *testing.T) {
	rungs(t, func(t *testing.T, r rig) {
		truePath, dropped := resolved(t, "/bin/true"), dropped(t)

		for range 3 {
			if err := r.scope.Run(t, "/bin/true"); err != nil {
				t.Fatal(err)
			}
		}
		learnt := r.events.Wait(t, event.ExecCheck, 1)[0]
		if learnt.Exec.Path != truePath || learnt.Verdict != event.Allow || learnt.Hook != r.enforcer.Strength().Hook() {
			t.Errorf("learnt %q %s %s", learnt.Exec.Path, learnt.Verdict, learnt.Hook)
		}
		entries, err := r.enforcer.Entries(r.scope.Workload, 1)
		if err != nil {
			t.Fatal(err)
		}
		if want := []enforce.Entry{{Key: execOf(truePath), Hits: 3}}; !slices.Equal(entries, want) {
			t.Errorf("baseline %+v, want %+v", entries, want)
		}
		r.wantTally(t, enforce.Tally{Hits: 2, Learnt: 1})

		if err := r.enforcer.Replace(r.scope.Workload, 2, []event.Key{execOf(truePath)}); err != nil {
			t.Fatal(err)
		}
		r.scope.Set(t, event.AuditMode, 2)
		if err := r.scope.Run(t, dropped); err != nil {
			t.Errorf("audit must not stop anything: %v", err)
		}
		if got := r.events.Wait(t, event.ExecCheck, 2)[1]; got.Verdict != event.Audit || got.Exec.Path != dropped {
			t.Errorf("audited %q %s", got.Exec.Path, got.Verdict)
		}

		r.scope.Set(t, event.Enforce, 2)
		r.wantStopped(t, r.scope.Run(t, dropped))
		if got := r.events.Wait(t, event.ExecCheck, 3)[2]; got.Verdict != event.Deny || got.Exec.Path != dropped {
			t.Errorf("denied %q %s", got.Exec.Path, got.Verdict)
		}
		if err := r.scope.Run(t, "/bin/true"); err != nil {
			t.Errorf("a program of the baseline: %v", err)
		}
		r.wantTally(t, enforce.Tally{Hits: 3, Learnt: 1, Audited: 1, Denied: 1})

		if err := r.enforcer.Remove(r.scope.Workload, 2); err != nil {
			t.Fatal(err)
		}
		if old, err := r.enforcer.Entries(r.scope.Workload, 1); err != nil || len(old) != 0 {
			t.Errorf("generation 1 still has %+v, %v", old, err)
		}
		if err := r.enforcer.Remove(r.scope.Workload, 0); err != nil {
			t.Fatal(err)
		}
		if left, err := r.enforcer.Entries(r.scope.Workload, 2); err != nil || len(left) != 0 {
			t.Errorf("generation 2 still has %+v, %v", left, err)
		}
		r.wantTally(t, enforce.Tally{})
	})
}

// The program must not have run a single instruction that has an effect.
func TestDeniedHasNoEffect(t *testing.T) {
	rungs(t, func(t *testing.T, r rig) {
		r.scope.Set(t, event.Enforce, 1)
		mark := filepath.Join(t.TempDir(), "mark")
		r.wantStopped(t, r.scope.Run(t, "/bin/sh", "-c", ": > "+mark))
		if _, err := os.Stat(mark); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the denied shell made %s", mark)
		}
	})
}

// A file that is removed while it runs, an anonymous file and one with a long path have no name that
// a baseline could hold: they are denied under enforce and never learnt.
func TestNamelessFiles(t *testing.T) {
	rungs(t, func(t *testing.T, r rig) {
		program, err := os.ReadFile("/bin/true")
		if err != nil {
			t.Fatal(err)
		}
		memfd, err := unix.MemfdCreate("true", 0)
		if err != nil {
			t.Fatal(err)
		}
		anonymous := os.NewFile(uintptr(memfd), "memfd")
		t.Cleanup(func() { anonymous.Close() })
		if _, err := anonymous.Write(program); err != nil {
			t.Fatal(err)
		}
		cmd := r.scope.Command(t, "/proc/self/fd/3")
		cmd.ExtraFiles = []*os.File{anonymous}
		if err := cmd.Run(); err != nil {
			t.Fatal(err)
		}
		if x := r.events.Wait(t, event.ExecCheck, 1)[0].Exec; !x.Unlinked && !x.Detached {
			t.Errorf("memfd: %+v", x)
		}
		if learnt, err := r.enforcer.Entries(r.scope.Workload, 1); err != nil || len(learnt) != 0 {
			t.Errorf("learnt %+v, %v", learnt, err)
		}
		r.scope.Set(t, event.Enforce, 1)
		cmd = r.scope.Command(t, "/proc/self/fd/3")
		cmd.ExtraFiles = []*os.File{anonymous}
		r.wantStopped(t, cmd.Run())
	})
}

// Other cgroups and mode off are left alone, whatever the baseline says.
func TestOutOfScopeIsNotHeld(t *testing.T) {
	rungs(t, func(t *testing.T, r rig) {
		r.scope.Set(t, event.Enforce, 1)
		if err := exec.Command("/bin/true").Run(); err != nil {
			t.Errorf("outside the scope: %v", err)
		}
		r.scope.Set(t, event.Off, 1)
		if err := r.scope.Run(t, "/bin/true"); err != nil {
			t.Errorf("mode off: %v", err)
		}
		r.wantTally(t, enforce.Tally{})
	})
}

func TestAutoTakesTheStrongest(t *testing.T) {
	scope := sensortest.NewScope(t)
	e, err := enforce.Open(scope.Shared, enforce.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	for _, s := range e.Status() {
		t.Logf("%s: supported %t %s", s.Hook, s.Supported, s.Reason)
	}
	for _, s := range e.Status() {
		if s.Supported {
			if s.Reason != "" {
				t.Errorf("the first supported hook, %s, is not used: %s", s.Hook, s.Reason)
			}
			break
		}
		if s.Reason == "" {
			t.Errorf("%s is not supported and does not say why", s.Hook)
		}
	}
}

func TestReplaceRefusesLongPaths(t *testing.T) {
	var e enforce.Enforcer
	err := e.Replace(1, 1, []event.Key{execOf("/" + strings.Repeat("x", enforce.PathBytes))})
	if err == nil || !strings.Contains(err.Error(), "longer than 255") {
		t.Errorf("got %v", err)
	}
}

// What does not fit is counted by why and told by dimension; the rest is there.
func TestReplaceThatDoesNotFit(t *testing.T) {
	scope := sensortest.NewScope(t)
	e, err := enforce.Open(scope.Shared, enforce.Config{PathEntries: 4})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	keys := []event.Key{
		execOf("/bin/1"), execOf("/bin/2"), execOf("/bin/3"), execOf("/bin/4"), execOf("/bin/5"), execOf("/bin/6"),
		{Op: event.OpUnixConnect, Path: "/run/" + strings.Repeat("x", enforce.PathBytes)},
		{Op: event.OpCapability, Value: 7},
		{Op: event.OpRead, Path: "/etc/**"},
	}
	err = e.Replace(scope.Workload, 1, keys)
	var unfit *enforce.UnfitError
	if !errors.As(err, &unfit) {
		t.Fatalf("got %v", err)
	}
	if want := event.Dimensions(0).With(event.DimExec).With(event.DimUnix); unfit.Dimensions != want || unfit.Full != 2 || unfit.TooLong != 1 || unfit.Refused != 0 {
		t.Errorf("got %+v", unfit)
	}
	entries, err := e.Entries(scope.Workload, 1)
	if err != nil || len(entries) != 6 {
		t.Errorf("%d entries, %v", len(entries), err)
	}
}

func execOf(path string) event.Key { return event.Key{Op: event.OpExec, Path: path} }

func dropped(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "dropped")
	program, err := os.ReadFile("/bin/true")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, program, 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

func resolved(t *testing.T, path string) string {
	t.Helper()
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		t.Fatal(err)
	}
	return real
}
