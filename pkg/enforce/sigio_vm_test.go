package enforce_test

import (
	"errors"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/plumbline-io/plumbline/pkg/event"
	"github.com/plumbline-io/plumbline/pkg/sensor"
	"github.com/plumbline-io/plumbline/pkg/sensor/sensortest"
)

// signalByFile lets the kernel send a signal to a process when a pipe is written to: "PID SIGNAL". The writer is not told
// whether it was sent.
func signalByFile(arg string) error {
	to, text, _ := strings.Cut(arg, " ")
	pid, err := strconv.Atoi(to)
	if err != nil {
		return err
	}
	sig, err := strconv.Atoi(text)
	if err != nil {
		return err
	}
	var ends [2]int
	if err := unix.Pipe2(ends[:], unix.O_CLOEXEC); err != nil {
		return err
	}
	defer func() { _ = errors.Join(unix.Close(ends[0]), unix.Close(ends[1])) }()
	for _, set := range [][2]int{{unix.F_SETOWN, pid}, {unix.F_SETSIG, sig}, {unix.F_SETFL, unix.O_ASYNC}} {
		if _, err := unix.FcntlInt(uintptr(ends[0]), set[0], set[1]); err != nil {
			return err
		}
	}
	_, err = unix.Write(ends[1], []byte("x"))
	return err
}

// A signal that the kernel sends because somebody writes to a file is his, as if he had sent it: it is learnt, told and
// denied. The agent gets none.
func TestSignalsByFile(t *testing.T) {
	eachStrength(t, func(t *testing.T, w *trial) {
		w.scope.Held = event.Dimensions(0).With(event.DimPrivilege)
		w.scope.Set(t, event.Off, 1)
		w.does = newDoer(t, w.scope)
		t.Run("to others", func(t *testing.T) { testSignalsByFile(t, w) })
		t.Run("to the agent", func(t *testing.T) { testAgentByFile(t, w) })
	})
}

func testSignalsByFile(t *testing.T, w *trial) {
	const kill = evasionPrefix + signallingByFile
	key := event.Key{Op: event.OpSignal, Value: uint32(unix.SIGKILL)}
	for i, step := range []struct {
		mode    event.Mode
		keys    []event.Key
		verdict event.Verdict
		inside  bool // the other process is one of the same workload
		killed  bool
		told    int
	}{
		{event.AuditMode, nil, event.Audit, false, true, 1},
		{event.Enforce, nil, event.Deny, false, false, 1},
		{event.Enforce, []event.Key{key}, event.Allow, false, true, 0},
		{event.Enforce, nil, event.Allow, true, true, 0},
		{event.Learn, nil, event.Allow, false, true, 1},
	} {
		victim := exec.Command("/bin/sleep", "600")
		if step.inside {
			victim = w.scope.Command(t, "/bin/sleep", "600")
			w.scope.Set(t, event.Off, 1)
		}
		if err := victim.Start(); err != nil {
			t.Fatal(err)
		}
		w.generation = uint32(400 + i)
		if err := w.enforcer.Replace(w.scope.Workload, w.generation, step.keys); err != nil {
			t.Fatal(err)
		}
		w.scope.Set(t, step.mode, w.generation)
		before := w.told(key)
		if code := w.does.run(t, kill, strconv.Itoa(victim.Process.Pid)+" "+strconv.Itoa(int(unix.SIGKILL))); code != 0 {
			t.Errorf("step %d: exit code %d", i, code)
		}
		w.scope.Set(t, event.Off, w.generation)
		sensortest.Until(t, "step "+strconv.Itoa(i)+": what is told", func() bool { return w.told(key) >= before+step.told })
		if n := w.told(key) - before; n != step.told {
			t.Errorf("step %d: told %d times, want %d", i, n, step.told)
		} else if n > 0 && w.last(key).Verdict != step.verdict {
			t.Errorf("step %d: told %s, want %s", i, w.last(key).Verdict, step.verdict)
		}
		// Of two signals that a process has before it runs again, the one with the lower number ends it.
		if err := victim.Process.Signal(unix.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
			t.Fatal(err)
		}
		_ = victim.Wait()
		if by := victim.ProcessState.Sys().(syscall.WaitStatus).Signal(); (by == unix.SIGKILL) != step.killed {
			t.Errorf("step %d: ended by %s, killed by the file: %t", i, by, step.killed)
		}
	}
}

func testAgentByFile(t *testing.T, w *trial) {
	for _, other := range kits { // it is their agent, too, and what they refuse they tell of their own scopes only
		if other.enforcer == nil || other.enforcer == w.enforcer {
			continue
		}
		if err := other.enforcer.Pause(^uint64(0)); err != nil {
			t.Fatal(err)
		}
		defer func() { _ = other.enforcer.Pause(0) }()
	}
	got := make(chan os.Signal, 8)
	signal.Notify(got, unix.SIGUSR1)
	defer signal.Stop(got)
	key := event.Key{Op: event.OpSignal, Value: uint32(unix.SIGUSR1)}
	for i, flags := range []uint32{sensor.Container, 0} {
		w.state(t, event.Off, uint32(500+i), flags)
		if code := w.does.run(t, evasionPrefix+signallingByFile, strconv.Itoa(os.Getpid())+" "+strconv.Itoa(int(unix.SIGUSR1))); code != 0 {
			t.Errorf("flags %d: exit code %d", flags, code)
		}
		sensortest.Until(t, "the denial is told", func() bool { return w.told(key) > i })
		if last := w.last(key); last.Verdict != event.Deny {
			t.Errorf("flags %d: told %s", flags, last.Verdict)
		}
	}
	if err := unix.Kill(os.Getpid(), unix.SIGUSR1); err != nil { // which comes behind any other
		t.Fatal(err)
	}
	<-got
	select {
	case <-got:
		t.Error("the agent got a signal by a file")
	default:
	}
}
