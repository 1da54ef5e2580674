package enforce_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/plumbline-io/plumbline/pkg/event"
	"github.com/plumbline-io/plumbline/pkg/sensor/sensortest"
)

// Deeds whose argument names another one: who does it.
const (
	startDeed  = "start"  // program, deed, its argument: a child does it
	calledDeed = "called" // name, deed, its argument: this thread does it, and is called so
	memoryDeed = "memory" // name, deed, its argument: a program in anonymous memory does it

	childKilled = 255 // error number of startDeed: a signal ended the child
)

// actingDeeds lead from one actor to another, or execute something in an unusual way. They return an error number.
func actingDeeds() map[string]func(arg string) int {
	number := func(do func(arg string) error) func(string) int {
		return func(arg string) int {
			var errno syscall.Errno
			if err := do(arg); err != nil && !errors.As(err, &errno) {
				return 255
			}
			return int(errno)
		}
	}
	return map[string]func(string) int{
		startDeed:         start,
		calledDeed:        doCalled,
		memoryDeed:        number(doInMemory),
		"become":          number(become),
		"become here":     number(func(path string) error { return errors.Join(os.Chdir(filepath.Dir(path)), become(filepath.Base(path))) }),
		"become unlinked": number(becomeUnlinked),
		"become detached": number(becomeDetached),
	}
}

func threeOf(arg string) (first, deed, rest string) {
	first, arg, _ = strings.Cut(arg, "\t")
	deed, rest, _ = strings.Cut(arg, "\t")
	return first, deed, rest
}

func deedEnv(deed, arg string) []string {
	cmd := exec.Cmd{Env: append(os.Environ(), deedVariable+"="+deed, "PLUMBLINE_DIR="+arg)}
	return cmd.Environ() // where a later value replaces an earlier one
}

func start(arg string) int {
	program, deed, rest := threeOf(arg)
	cmd := exec.Command(program)
	cmd.Env, cmd.Stderr = deedEnv(deed, rest), os.Stderr
	_ = cmd.Run()
	return cmd.ProcessState.ExitCode() & childKilled
}

func doCalled(arg string) int {
	name, deed, rest := threeOf(arg)
	runtime.LockOSThread()
	text, err := unix.BytePtrFromString(name)
	if err != nil {
		return 255
	}
	if err := unix.Prctl(unix.PR_SET_NAME, uintptr(unsafe.Pointer(text)), 0, 0, 0); err != nil {
		return 255
	}
	return perform(deed, rest)
}

func doInMemory(arg string) error {
	name, deed, rest := threeOf(arg)
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		return err
	}
	fd, err := unix.MemfdCreate(name, 0)
	if err != nil {
		return err
	}
	if _, err := unix.Write(fd, self); err != nil {
		return err
	}
	return syscall.Exec(fdPath(fd), []string{name}, deedEnv(deed, rest))
}

// becomeUnlinked executes a file that has no name any more.
func becomeUnlinked(path string) error {
	return withFile(path, unix.O_RDONLY, func(fd int) error { return errors.Join(unix.Unlink(path), become(fdPath(fd))) })
}

// becomeDetached executes dir/tool where that is beyond the root.
func becomeDetached(dir string) error {
	return withFile(dir+"/tool", unix.O_PATH, func(fd int) error {
		return errors.Join(unix.Chroot(dir+"/empty"), becomeAt(fd, "", unix.AT_EMPTY_PATH))
	})
}

// as does a deed as a program of its own, and returns its error number, -1 if it was killed.
func (w *trial) as(t *testing.T, program, deed, arg string) int {
	t.Helper()
	cmd := w.scope.Command(t, program)
	cmd.Env, cmd.Stderr = deedEnv(deed, arg), os.Stderr
	_ = cmd.Run()
	if cmd.ProcessState == nil {
		return int(unix.EPERM) // it was not executed
	}
	return cmd.ProcessState.ExitCode()
}

// cast are copies of this program by the names of their files.
func cast(t *testing.T, dir string, names ...string) {
	t.Helper()
	for _, name := range names {
		copyTo(t, selfPath(t), dir+"/"+name)
		if err := os.Chmod(dir+"/"+name, 0o755); err != nil {
			t.Fatal(err)
		}
	}
}

func arguments(parts ...string) string { return strings.Join(parts, "\t") }

// toldBy waits for another denial, and says by which rule it was.
func (w *trial) toldBy(t *testing.T, before int) uint32 {
	t.Helper()
	var by uint32
	sensortest.Until(t, "the denial is told", func() bool {
		all := w.events.Where(byRule)
		if len(all) > 0 {
			by = all[len(all)-1].RuleID
		}
		return len(all) > before
	})
	return by
}

// denials counts those that were told.
func (w *trial) denials() int { return w.events.Count(byRule) }

func byRule(ev *event.Event) bool { return ev.RuleID != 0 }
