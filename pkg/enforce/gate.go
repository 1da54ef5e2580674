package enforce

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/plumbline-io/plumbline/pkg/sensor"
)

const (
	gateHook    = "fanotify/open_exec_perm"
	gateProgram = "fanotify_open_exec"
)

// gate is a group of fanotify: before the kernel opens a file of a marked file system to execute it, it asks this
// group, and the task waits. The answer is that of a program in the kernel, which we run.
//
// While a task waits, whoever needs it waits too. So nothing here opens a file to execute it, writes a log or takes a
// lock that is held over something slow; and what is not certain is allowed, since the hook of Signal stands behind.
// The process must not fork meanwhile: Go lets nothing else run on a processor between fork and execve, and that
// execve would wait for us. Nor may it dump core: the kernel executes a helper for that, and we are stopped meanwhile.
type gate struct {
	group   *os.File
	program *ebpf.Program
	// ask runs the program, and returns what it does; tells: what it answers is what will be done.
	ask    func(file, process int, tells bool) (uint32, error)
	within time.Duration // an answer is due

	held  atomic.Int32 // answerers that are late
	ended atomic.Pointer[error]

	asked, refused, late, unseen, unread, overflown atomic.Uint64
}

// GateCounters says what became of the questions of the strength Fanotify.
type GateCounters struct {
	Asked, Refused uint64
	Late           uint64 // allowed: there was no answer in time
	Unseen         uint64 // allowed: the waiting task was not to be found
	Unread         uint64 // denied by the kernel, which could not open the file for us
	Overflown      uint64 // allowed by the kernel: its queue was full
}

// survivesWarning refuses to load the gate's program where the machine would stop at that: it is of a type (raw tracepoint)
// that kernels before 6.1 let use maps that grow, but with a warning. has says whether the kernel has a function; that
// one came with the allocator by which they may since.
func survivesWarning(has func(function string) bool) error {
	setting, err := os.ReadFile("/proc/sys/kernel/panic_on_warn")
	if err == nil && strings.TrimSpace(string(setting)) != "0" && !has("bpf_mem_alloc_init") {
		return fmt.Errorf("%w: kernels before 6.1 answer its program with a warning, at which this machine stops (kernel.panic_on_warn)", sensor.ErrNotSupported)
	}
	return nil
}

// openGate makes the group. It is asked about nothing before a file system is marked.
func openGate(program *ebpf.Program) (*gate, error) {
	const flags = unix.FAN_CLASS_CONTENT | unix.FAN_CLOEXEC | unix.FAN_NONBLOCK |
		unix.FAN_UNLIMITED_QUEUE | unix.FAN_UNLIMITED_MARKS | unix.FAN_REPORT_TID
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return nil, fmt.Errorf("renounce core dumps: %w", err)
	}
	fd, err := unix.FanotifyInit(flags, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_LARGEFILE)
	if err != nil {
		return nil, fmt.Errorf("make fanotify group (it needs CAP_SYS_ADMIN and CONFIG_FANOTIFY): %w", err)
	}
	g := &gate{group: os.NewFile(uintptr(fd), "fanotify"), within: answerWithin}
	if err := g.try(); err != nil {
		return nil, errors.Join(err, g.Close())
	}
	if g.program, err = program.Clone(); err != nil {
		return nil, errors.Join(fmt.Errorf("keep program %s: %w", gateProgram, err), g.Close())
	}
	g.ask = g.run
	if err := g.rehearse(); err != nil {
		return nil, errors.Join(err, g.Close())
	}
	return g, nil
}

// try marks a file that nobody else can execute, to see whether the kernel asks at all.
func (g *gate) try() error {
	fd, err := unix.MemfdCreate("plumbline", unix.MFD_CLOEXEC)
	if err != nil {
		return fmt.Errorf("make file to mark: %w", err)
	}
	defer unix.Close(fd)
	if err := g.mark(unix.FAN_MARK_ADD, fd); err != nil {
		return fmt.Errorf("ask for FAN_OPEN_EXEC_PERM (it needs Linux 5.0 and CONFIG_FANOTIFY_ACCESS_PERMISSIONS): %w", err)
	}
	return g.mark(unix.FAN_MARK_REMOVE, fd)
}

// rehearse runs the program as it will be run, about nothing.
func (g *gate) rehearse() error {
	self, err := unix.Open("/proc/self", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open own directory below /proc: %w", err)
	}
	defer unix.Close(self)
	_, err = g.ask(self, self, false)
	return err
}

// run takes the descriptors of the file and of the waiting task's directory below /proc.
func (g *gate) run(file, process int, tells bool) (uint32, error) {
	arguments := []uint64{uint64(file), uint64(process), 0}
	if tells {
		arguments[2] = 1
	}
	answer, err := g.program.Run(&ebpf.RunOptions{Context: arguments})
	if err != nil {
		return 0, fmt.Errorf("run %s (it needs Linux 5.10): %w", gateProgram, err)
	}
	return answer, nil
}

func (g *gate) mark(flags uint, fd int) error {
	conn, err := g.group.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = conn.Control(func(group uintptr) {
		// By this name, a descriptor that was opened with O_PATH will do.
		failed = unix.FanotifyMark(int(group), flags, unix.FAN_OPEN_EXEC_PERM, unix.AT_FDCWD, "/proc/self/fd/"+strconv.Itoa(fd))
	})
	return errors.Join(err, failed)
}

// Mark makes executions of the files of a file system, that of this open file, wait for Answer. With another strength
// nothing happens. It is safe to mark one again.
func (e *Enforcer) Mark(f *os.File) error {
	if e.gate == nil || e.gate.Ended() != nil {
		return nil
	}
	if err := e.gate.mark(unix.FAN_MARK_ADD|unix.FAN_MARK_FILESYSTEM, int(f.Fd())); err != nil {
		return fmt.Errorf("mark file system of %s: %w", f.Name(), err)
	}
	return nil
}

// Gate says what became of the questions so far.
func (e *Enforcer) Gate() GateCounters {
	g := e.gate
	if g == nil {
		return GateCounters{}
	}
	return GateCounters{
		Asked: g.asked.Load(), Refused: g.refused.Load(), Late: g.late.Load(),
		Unseen: g.unseen.Load(), Unread: g.unread.Load(), Overflown: g.overflown.Load(),
	}
}

// Ended says why the kernel asks no more; nil: it does, or nobody wants it to.
func (g *gate) Ended() error {
	if g == nil {
		return nil
	}
	if why := g.ended.Load(); why != nil {
		return *why
	}
	return nil
}

// giveUp closes the group: the kernel allows all that waits, and asks no more.
func (g *gate) giveUp(why error) {
	why = fmt.Errorf("no longer asked, so that what is unknown is killed: %w", why)
	if g.ended.CompareAndSwap(nil, &why) {
		_ = g.group.Close()
	}
}

// Close ends the group as giveUp does.
func (g *gate) Close() error {
	if g == nil {
		return nil
	}
	err := g.group.Close()
	if errors.Is(err, os.ErrClosed) {
		err = nil
	}
	if g.program != nil {
		err = errors.Join(err, g.program.Close())
	}
	return err
}
