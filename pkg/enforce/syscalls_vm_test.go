package enforce_test

import (
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/plumbline-io/plumbline/pkg/enforce"
	"github.com/plumbline-io/plumbline/pkg/event"
	"github.com/plumbline-io/plumbline/pkg/sensor/sensortest"
	"github.com/plumbline-io/plumbline/pkg/syscalls"
)

// callName is the deed of making one system call, whose number follows.
const callName = "system call"

// call makes a system call without arguments, by another thread than the process's first, as most calls of Go
// and JVM programs are made. What comes of it does not matter.
func call(number int) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if unix.Gettid() != unix.Getpid() {
		_, _, _ = unix.RawSyscall(uintptr(number), 0, 0, 0)
		return
	}
	done := make(chan struct{})
	go func() { // on another thread, as this one is held
		defer close(done)
		call(number)
	}()
	<-done
}

// syscallKey is the key of a native call.
func syscallKey(number uint16) event.Key {
	return event.Key{Op: event.OpSyscall, Value: uint32(syscalls.ByNumber(runtime.GOARCH, false, number))}
}

// A system call is told once for each generation, only in learn mode, only where the dimension is held, and only
// while the hook is attached.
func TestSyscalls(t *testing.T) {
	const (
		unassigned = 400 // in the gap that all architectures have
		beyond     = 600
	)
	scope := sensortest.NewScope(t)
	syscallsOnly := event.Dimensions(0).With(event.DimSyscalls)
	scope.Set(t, event.Off, 1) // what starts the process is not asked about
	e, err := enforce.Open(scope.Shared, enforce.Config{Dimensions: syscallsOnly})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	if !e.Covered().Has(event.DimSyscalls) {
		t.Fatalf("not covered: %+v", e.Status())
	}
	events := sensortest.Collect(t, scope.Shared, e)
	does := newDoer(t, scope)
	makes := func(number int) { does.run(t, callName, strconv.Itoa(number)) }
	watch := func(on bool) {
		t.Helper()
		if err := e.WatchSyscalls(on); err != nil {
			t.Fatal(err)
		}
	}
	set := func(mode event.Mode, held event.Dimensions, generation uint32) {
		scope.Held = held
		scope.Set(t, mode, generation)
	}
	set(event.Learn, syscallsOnly, 1)
	makes(unix.SYS_GETPGID) // nobody watches
	watch(true)
	for range 3 {
		makes(unix.SYS_GETPRIORITY)
	}
	makes(unassigned)
	makes(beyond)
	for _, mode := range []event.Mode{event.AuditMode, event.Enforce, event.Off} {
		set(mode, syscallsOnly, 2)
		makes(unix.SYS_GETPGID)
	}
	set(event.Learn, 0, 3)
	makes(unix.SYS_GETPGID)
	set(event.Learn, syscallsOnly, 4)
	makes(unix.SYS_GETPRIORITY)
	watch(false)
	makes(unix.SYS_GETPGID)
	watch(true)
	makes(unix.SYS_SCHED_GET_PRIORITY_MAX)

	told := func(k event.Key) (n int) {
		for _, ev := range events.Of(event.Access) {
			if ev.Access.Key != k {
				continue
			}
			n++
			if ev.Verdict != event.Allow || ev.Hook != event.HookTracepoint || ev.Workload != scope.Workload {
				t.Errorf("%s: %s at %s by %d", k, ev.Verdict, ev.Hook, ev.Workload)
			}
		}
		return n
	}
	sensortest.Until(t, "the last call", func() bool { return told(syscallKey(unix.SYS_SCHED_GET_PRIORITY_MAX)) > 0 })
	for number, want := range map[uint16]int{
		unix.SYS_GETPGID: 0, unix.SYS_GETPRIORITY: 2, unassigned: 1, beyond: 0, unix.SYS_SCHED_GET_PRIORITY_MAX: 1,
	} {
		if n := told(syscallKey(number)); n != want {
			t.Errorf("%s: told %d times, want %d", syscallKey(number), n, want)
		}
	}
	entries, err := e.Entries(scope.Workload, 4)
	if err != nil {
		t.Fatal(err)
	}
	kept := map[event.Key]bool{}
	for _, entry := range entries {
		kept[entry.Key] = true
	}
	if !kept[syscallKey(unix.SYS_GETPRIORITY)] || kept[syscallKey(unix.SYS_GETPGID)] || kept[syscallKey(unassigned)] {
		t.Errorf("generation 4 holds %v", entries)
	}
}

// Calls of 32-bit programs have numbers of their own, and are told apart.
func TestSyscallsOf32BitPrograms(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		t.Skip("the 32-bit program is one of x86")
	}
	scope := sensortest.NewScope(t)
	scope.Held = event.Dimensions(0).With(event.DimSyscalls)
	e, err := enforce.Open(scope.Shared, enforce.Config{Dimensions: scope.Held})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	if err := e.WatchSyscalls(true); err != nil {
		t.Fatal(err)
	}
	scope.Set(t, event.Learn, 1)
	program := filepath.Join(t.TempDir(), "opens")
	putFile(t, program, opening32("/dev/null"))
	if err := scope.Run(t, program); err != nil {
		t.Skip("this kernel runs no 32-bit programs: ", err)
	}
	entries, err := e.Entries(scope.Workload, 1)
	if err != nil {
		t.Fatal(err)
	}
	compat := []string{}
	for _, entry := range entries {
		if c := syscalls.Call(entry.Key.Value); c.Compat() {
			compat = append(compat, c.String())
		}
	}
	slices.Sort(compat)
	if want := []string{"exit (32-bit)", "open (32-bit)"}; !slices.Equal(compat, want) {
		t.Errorf("%q, want %q", compat, want)
	}
}
