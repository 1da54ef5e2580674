package enforce_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/features"
	"golang.org/x/sys/unix"

	"github.com/plumbline-io/plumbline/pkg/event"
	"github.com/plumbline-io/plumbline/pkg/sensor"
)

// takePlaces takes all room to work in from the kernel's programs, or gives it back.
func takePlaces(t *testing.T, takers uint64) {
	t.Helper()
	cpus, err := ebpf.PossibleCPU()
	if err != nil {
		t.Fatal(err)
	}
	found := false
	for id := ebpf.MapID(0); ; {
		if id, err = ebpf.MapGetNextID(id); errors.Is(err, os.ErrNotExist) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		m, err := ebpf.NewMapFromID(id)
		if err != nil {
			continue // it is gone
		}
		if info, err := m.Info(); err == nil && info.Name == "places" {
			found = true
			fillPlaces(t, m, cpus, takers)
		}
		m.Close()
	}
	if !found {
		t.Fatal("there is no room to work in")
	}
}

func fillPlaces(t *testing.T, m *ebpf.Map, cpus int, takers uint64) {
	t.Helper()
	values := make([][]byte, cpus)
	for i := range values {
		values[i] = make([]byte, m.ValueSize())
		binary.NativeEndian.PutUint64(values[i], takers)
	}
	for n := range m.MaxEntries() {
		if err := m.Put(n, values); err != nil {
			t.Fatal(err)
		}
	}
}

// Where there is no room for a question, what may be denied is denied, and nothing else.
func TestWithoutRoom(t *testing.T) {
	eachStrength(t, func(t *testing.T, w *trial) {
		w.scope.Set(t, event.Off, 1)
		w.does = newDoer(t, w.scope)
		testWithoutRoom(t, w)
	})
}

func testWithoutRoom(t *testing.T, w *trial) {
	dir := t.TempDir()
	if err := fill(dir); err != nil {
		t.Fatal(err)
	}
	file := event.Dimensions(0).With(event.DimFile)
	network := event.Dimensions(0).With(event.DimNetwork)
	reading := "evt.operation = read and evt.path startswith /somewhere"
	watch, deny := ruleText("watch", reading, ""), ruleText("deny", reading, denying)
	refused := int(unix.EPERM)
	for i, tc := range []struct {
		rules          string
		mode           event.Mode
		held, softened event.Dimensions
		flags          uint32
		paused         bool
		code           int
	}{
		{"", event.Enforce, file, 0, 0, false, refused},
		{"", event.Enforce, file, 0, 0, true, 0},
		{"", event.Enforce, file, file, 0, false, 0},
		{"", event.AuditMode, file, 0, 0, false, 0},
		{watch, event.Enforce, network, 0, 0, false, 0},
		{watch, event.Enforce, network, 0, sensor.Protected, false, 0},
		{watch, event.Off, 0, 0, sensor.Protected, false, 0},
		{deny, event.Off, 0, 0, sensor.Protected, false, refused},
		{deny, event.Off, 0, 0, sensor.Protected, true, 0},
		{deny, event.Off, 0, 0, 0, false, 0},
	} {
		w.use(t, tc.rules)
		until := uint64(0)
		if tc.paused {
			until = ^until
		}
		if err := w.enforcer.Pause(until); err != nil {
			t.Fatal(err)
		}
		state := sensor.State(w.scope.Workload, tc.mode, 110, tc.held)
		state.Flags, state.Softened = tc.flags, uint32(tc.softened)
		takePlaces(t, 1)
		if err := w.scope.Shared.SetWorkload(w.scope.ID, state); err != nil {
			t.Fatal(err)
		}
		code := w.does.run(t, "read", dir)
		w.state(t, event.Off, 110, 0)
		takePlaces(t, 0)
		if code != tc.code {
			t.Errorf("%d: %s, held %b, softened %b, flags %d, paused %t: error number %d, want %d", i, tc.mode, tc.held, tc.softened, tc.flags, tc.paused, code, tc.code)
		}
	}
	if err := w.enforcer.Pause(0); err != nil {
		t.Fatal(err)
	}
	if lost := w.scope.Lost(t)["preempted"]; lost == 0 {
		t.Error("nothing was counted as preempted")
	}
}

// What has more names than are looked at is denied, told and counted.
func testTooManyNames(t *testing.T, w *trial) {
	if features.HaveProgramHelper(ebpf.Kprobe, asm.FnLoop) != nil {
		t.Skip("this kernel looks at 64 names, and lets the rest be")
	}
	const mounts = 16384 + 64
	dir := t.TempDir()
	renew(t, dir)
	w.use(t, ruleText("reads", "evt.operation = read and evt.path = /nowhere", denying))
	w.state(t, event.Off, 1, sensor.Protected)
	if code := w.does.run(t, evasionPrefix+"read beside a bind mount", dir); code != 0 { // from now on it may have other names
		t.Fatalf("error number %d", code)
	}
	if err := unix.Mount("none", dir+"/mnt", "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // all that is mounted in it goes with it
		if err := errors.Join(unix.Unmount(dir+"/mnt", unix.MNT_DETACH), unix.Unmount(dir+"/mnt", unix.MNT_DETACH)); err != nil {
			t.Error(err)
		}
	})
	at := func(n int) string { return fmt.Sprintf("%s/mnt/%d", dir, n) }
	for n := range mounts {
		if err := errors.Join(os.Mkdir(at(n), 0o755), unix.Mount(dir+"/vault", at(n), "", unix.MS_BIND, "")); err != nil {
			t.Fatal(err)
		}
	}
	before, told := w.tally(t).Denied, w.denials()
	if code := w.does.run(t, evasionPrefix+lookingAt, at(mounts-1)+"/secres"); code != int(unix.EPERM) {
		t.Errorf("error number %d", code)
	}
	if n := w.tally(t).Denied - before; n != 1 {
		t.Errorf("%d denials are counted, want 1", n)
	}
	w.toldBy(t, told)
	if last := w.last(event.Key{Op: event.OpRead, Path: at(mounts-1) + "/secres"}); last.Verdict != event.Deny {
		t.Errorf("told %s", last.Verdict)
	}
}
