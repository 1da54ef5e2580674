package enforce_test

import (
	"os"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/plumbline-io/plumbline/pkg/event"
	"github.com/plumbline-io/plumbline/pkg/sensor"
	"github.com/plumbline-io/plumbline/pkg/sensor/sensortest"
)

// What somebody outside makes in a container, and what executes a copy of itself out of memory there, is a runtime's.
// Neither baselines nor rules hold it, it is counted nowhere, and inodes do not remember for the container what it did.
// What has executed a file with a name is the container's, and so is everything where there is no container.
func testRuntime(t *testing.T, w *trial) {
	dir := t.TempDir()
	if err := fill(dir); err != nil {
		t.Fatal(err)
	}
	ruled := event.Key{Op: event.OpRead, Path: dir + "/file"}
	w.use(t, ruleText("read", conditionFor(ruled), denying))
	if err := w.enforcer.Replace(w.scope.Workload, 2, []event.Key{ruled}); err != nil {
		t.Fatal(err)
	}
	w.scope.Held = event.Dimensions(0).With(event.DimFile)
	copied := copyInMemory(t)
	for _, flags := range []uint32{sensor.Container, 0} {
		w.state(t, event.Off, 2, flags) // so that programs start, and who makes them does not matter to the counts
		runtime, container := newDoerOf(t, w.scope, "/proc/self/fd/3", copied), newDoer(t, w.scope)
		w.state(t, event.Enforce, 2, flags|sensor.Protected)
		before := w.tally(t)
		spared, denied := 0, uint64(2)
		if flags == 0 {
			spared, denied = int(unix.EPERM), 4
		}
		for _, deed := range []string{"read", "write"} { // which the rule denies, and which the baseline does not know
			if code := runtime.run(t, deed, dir); code != spared {
				t.Errorf("flags %d: %s of a runtime: error number %d, want %d", flags, deed, code, spared)
			}
			if code := container.run(t, deed, dir); code != int(unix.EPERM) {
				t.Errorf("flags %d: %s of the container: error number %d, want %d", flags, deed, code, unix.EPERM)
			}
		}
		if now := w.tally(t); now.Denied-before.Denied != denied || now.Audited != before.Audited {
			t.Errorf("flags %d: from %+v to %+v, want %d denied", flags, before, now, denied)
		}
	}
	sensortest.Until(t, "what the rule denied is told", func() bool { return w.told(ruled) > 0 })
}

// runInOwnCgroup executes a program out of memory in a new cgroup below one.
func runInOwnCgroup(cgroup string) error {
	own := cgroup + "/own"
	if err := os.Mkdir(own, 0o755); err != nil {
		return err
	}
	memory, err := unix.MemfdCreate("tool", 0)
	if err != nil {
		return err
	}
	defer unix.Close(memory)
	if _, err := unix.Write(memory, exiting()); err != nil {
		return err
	}
	return withFile(own, unix.O_DIRECTORY|unix.O_PATH, func(fd int) error {
		return spawnWith(&syscall.ProcAttr{Files: []uintptr{0, 2, 2}, Sys: &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: fd}}, fdPath(memory))
	})
}

// Who may make cgroups below its own does not become a runtime by it, where it is held to something. What it makes counts to
// it until the agent has read of it, which nobody does here.
func testOwnCgroup(t *testing.T, w *trial) {
	memory := ruleText("memory", "evt.type = execve and proc.is_exe_from_memfd = true", denying)
	exec, file := event.Dimensions(0).With(event.DimExec), event.Dimensions(0).With(event.DimFile)
	denied := int(unix.EPERM)
	for i, tc := range []struct {
		rules string
		mode  event.Mode
		held  event.Dimensions
		flags uint32
		code  int
	}{
		{"", event.Enforce, exec, 0, denied},
		{"", event.Enforce, exec, sensor.Container, denied},
		{"", event.AuditMode, exec, 0, 0},
		{"", event.Learn, exec, 0, 0},
		{memory, event.Off, 0, 0, 0},
		{memory, event.Off, 0, sensor.Protected, denied},
		{memory, event.Learn, file, sensor.Protected, denied},
	} {
		w.use(t, tc.rules)
		w.scope.Held = tc.held
		w.state(t, tc.mode, uint32(120+i), tc.flags)
		if code := w.does.run(t, evasionPrefix+runningInOwnCgroup, w.scope.Dir); code != tc.code {
			t.Errorf("%d: %s, held %b, flags %d: error number %d, want %d", i, tc.mode, tc.held, tc.flags, code, tc.code)
		}
		w.state(t, event.Off, uint32(120+i), 0)
		sensortest.Until(t, "remove the cgroup", func() bool { return os.Remove(w.scope.Dir+"/own") == nil })
	}
}

// copyInMemory is a file of this program that has no name.
func copyInMemory(t *testing.T) *os.File {
	t.Helper()
	program, err := os.ReadFile(selfPath(t))
	if err != nil {
		t.Fatal(err)
	}
	fd, err := unix.MemfdCreate("copy", unix.MFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	file := os.NewFile(uintptr(fd), "copy")
	t.Cleanup(func() { file.Close() })
	if _, err := file.Write(program); err != nil {
		t.Fatal(err)
	}
	return file
}
