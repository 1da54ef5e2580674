package enforce_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/plumbline-io/plumbline/pkg/enforce"
	"github.com/plumbline-io/plumbline/pkg/event"
	"github.com/plumbline-io/plumbline/pkg/sensor"
	"github.com/plumbline-io/plumbline/pkg/sensor/process"
	"github.com/plumbline-io/plumbline/pkg/sensor/sensortest"
)

// The deeds of this test: to execute a file, and to execute two files many times from several threads.
const (
	executeName = "execute"
	stormName   = "storm"
	threadName  = "thread" // the same by a process whose thread, not its first, calls execve
	killed      = 1000 + int(unix.SIGKILL)
)

// execute returns the exit code or error number of an execution, and 1000 and the signal if one ended it.
func execute(path string) int {
	cmd := exec.Command(path)
	cmd.Env = append(os.Environ(), deedVariable+"=nothing")
	if path, ok := strings.CutPrefix(path, threadName+" "); ok {
		cmd = exec.Command("/proc/self/exe")
		cmd.Env = append(os.Environ(), deedVariable+"="+threadName, "PLUMBLINE_DIR="+path)
	}
	err := cmd.Run()
	var exit *exec.ExitError
	var errno syscall.Errno
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit) && exit.Sys().(syscall.WaitStatus).Signaled():
		return 1000 + int(exit.Sys().(syscall.WaitStatus).Signal())
	case errors.As(err, &exit):
		return exit.ExitCode()
	case errors.As(err, &errno):
		return int(errno)
	}
	return 999
}

// becomeByThread executes a file in this process, from a thread that is not its first.
func becomeByThread(path string) int {
	runtime.LockOSThread() // of the first thread, so that it is not taken for what follows
	code := make(chan int)
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			code <- 255
		}
		err := syscall.Exec(path, []string{path}, nil)
		code <- int(err.(syscall.Errno))
	}()
	return <-code
}

const stormThreads = 8

// storm executes a known and an unknown file n times each. It returns how many of the unknown ones were killed and not
// refused; -1 if anything else happened.
func storm(args string) int {
	fields := strings.Fields(args)
	n, err := strconv.Atoi(fields[2])
	if err != nil {
		return -1
	}
	var ends, wrong atomic.Int64
	var group errgroup.Group
	group.SetLimit(stormThreads)
	for i := range 2 * n {
		group.Go(func() error {
			switch code := execute(fields[i%2]); {
			case i%2 == 1 && code == killed:
				ends.Add(1)
			case i%2 == 0 && code != 0, i%2 == 1 && code != int(unix.EPERM):
				fmt.Fprintf(os.Stderr, "storm: %s: %d\n", fields[i%2], code)
				wrong.Add(1)
			}
			return nil
		})
	}
	if _ = group.Wait(); wrong.Load() > 0 {
		return -1
	}
	return int(ends.Load())
}

// gateTrial is an enforcer with fanotify. The test process answers, so that it must not fork: others do the executions.
type gateTrial struct {
	*trial
	outside *doer
	dir     string // on the marked file system
	counted enforce.Tally
}

// Permission events of fanotify, with the hook of signal behind them. It runs in guests only: marks are of file systems,
// and everybody waits who executes something there.
func TestFanotify(t *testing.T) {
	if !sensortest.InVM() {
		t.Skip("marks whole file systems")
	}
	sensortest.OnlyOn(t, "5.10", "newest")
	w := newGateTrial(t)
	w.loadKnown(t, "/bin/true", selfPath(t), "/bin/sh")
	t.Run("wait and end", w.testEnd)
	stop := w.answer(t)
	t.Run("executions", w.testExecutions)
	t.Run("scripts", w.testScripts)
	t.Run("file systems", w.testFileSystems)
	t.Run("modes", w.testModes)
	t.Run("rules", w.testRules)
	t.Run("storm", w.testStorm)
	before := w.enforcer.Gate()
	if err := stop(); err != nil {
		t.Error(err)
	}
	t.Logf("%+v", before)
	if before.Unseen+before.Unread+before.Overflown != 0 {
		t.Errorf("counted %+v", before)
	}
	if code := w.does.run(t, executeName, w.drop(t, "after")); code != killed {
		t.Errorf("nobody answers: %d, want SIGKILL", code)
	}
}

func newGateTrial(t *testing.T) *gateTrial {
	scope := sensortest.NewScope(t)
	e, err := enforce.Open(scope.Shared, enforce.Config{Strength: enforce.Fanotify})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	p, err := process.Open(scope.Shared)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	if e.Strength() != enforce.Fanotify || e.HeldBy(event.DimExec) != "fanotify" || e.HeldBy(event.DimFile) != "" {
		t.Errorf("strength %s, executions %q, files %q", e.Strength(), e.HeldBy(event.DimExec), e.HeldBy(event.DimFile))
	}
	if dumps, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0); dumps != 0 || err != nil {
		t.Errorf("a core dump would hang: %d, %v", dumps, err)
	}
	for _, h := range e.Status() {
		if h.Hook == "fanotify/open_exec_perm" && (!h.Supported || h.Reason != "") {
			t.Errorf("%+v", h)
		}
	}
	scope.Set(t, event.Off, 1)
	w := &gateTrial{trial: &trial{scope: scope, enforcer: e, events: sensortest.Collect(t, scope.Shared, p, e)}, dir: t.TempDir()}
	w.does = newDoer(t, scope)
	elsewhere := *scope
	elsewhere.Dir = filepath.Dir(scope.Dir)
	w.outside = newDoer(t, &elsewhere)
	return w
}

// loadKnown makes a baseline of some programs, and holds the workload to it.
func (w *gateTrial) loadKnown(t *testing.T, programs ...string) {
	t.Helper()
	var keys []event.Key
	for _, p := range programs {
		keys = append(keys, execOf(resolved(t, p)))
	}
	if err := w.enforcer.Replace(w.scope.Workload, 2, keys); err != nil {
		t.Fatal(err)
	}
	w.scope.Set(t, event.Enforce, 2)
}

func (w *gateTrial) mark(t *testing.T, dir string) {
	t.Helper()
	f, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := w.enforcer.Mark(f); err != nil {
		t.Fatal(err)
	}
}

// answer begins to answer; stop returns what the answerers do.
func (w *gateTrial) answer(t *testing.T) (stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	var group errgroup.Group
	for range enforce.Answerers {
		group.Go(func() error { return w.enforcer.Answer(ctx) })
	}
	return func() error {
		cancel()
		return group.Wait()
	}
}

// drop puts an unknown program into the marked file system.
func (w *gateTrial) drop(t *testing.T, name string) string {
	t.Helper()
	return copied(t, "/bin/true", filepath.Join(w.dir, name))
}

func copied(t *testing.T, from, to string) string {
	t.Helper()
	program, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, program, 0o755); err != nil {
		t.Fatal(err)
	}
	return to
}

// want does an execution in the workload, and checks what becomes of it and what is told: nothing, or a denial.
func (w *gateTrial) want(t *testing.T, path string, code int, hook event.Hook) {
	t.Helper()
	before := len(w.events.Of(event.ExecCheck))
	if got := w.does.run(t, executeName, path); got != code {
		t.Errorf("%s: %d, want %d", path, got, code)
		return
	}
	if hook == event.HookUnspecified {
		return
	}
	got := w.events.Wait(t, event.ExecCheck, before+1)[before]
	if got.Verdict != event.Deny || got.Hook != hook {
		t.Errorf("%s: told %s by %s, want a denial by %s", path, got.Verdict, got.Hook, hook)
	}
	if hook == event.HookFanotify && (got.Tgid == 0 || got.Tgid == uint32(os.Getpid()) || got.Exec.PPID == 0 || got.Exec.VPID != got.Tgid || (got.Tid != got.Tgid) != strings.HasPrefix(path, threadName) || got.Exec.Comm == "") {
		t.Errorf("%s: told of %d (%d), child of %d, %q", path, got.Tgid, got.Exec.VPID, got.Exec.PPID, got.Exec.Comm)
	}
}

// counts checks what was counted since it was called last.
func (w *gateTrial) counts(t *testing.T, want enforce.Tally) {
	t.Helper()
	now, err := w.enforcer.Tally(w.scope.Workload)
	if err != nil {
		t.Fatal(err)
	}
	got := enforce.Tally{
		Hits: now.Hits - w.counted.Hits, Learnt: now.Learnt - w.counted.Learnt,
		Audited: now.Audited - w.counted.Audited, Denied: now.Denied - w.counted.Denied,
	}
	if w.counted = now; got != want {
		t.Errorf("counted %+v, want %+v", got, want)
	}
}

// Who executes something waits for an answer; with the end of the agent, it goes on.
func (w *gateTrial) testEnd(t *testing.T) {
	mark := func() {
		w.mark(t, "/")
		w.mark(t, w.dir)
	}
	mark()
	done := make(chan int)
	go func() { done <- w.does.run(t, executeName, "/bin/true") }()
	sensortest.Until(t, "the kernel to ask", w.enforcer.Waits)
	select {
	case code := <-done:
		t.Errorf("it did not wait: %d", code)
	default:
	}
	if err := w.enforcer.Reopen(); err != nil {
		t.Fatal(err)
	}
	if code := <-done; code != 0 {
		t.Errorf("it did not go on: %d", code)
	}
	w.counts(t, enforce.Tally{Hits: 1})
	mark()
}

func (w *gateTrial) testExecutions(t *testing.T) {
	w.want(t, "/bin/true", 0, event.HookUnspecified)
	dropped := w.drop(t, "dropped")
	w.want(t, dropped, int(unix.EPERM), event.HookFanotify)
	link := filepath.Join(w.dir, "link")
	static := copied(t, selfPath(t), filepath.Join(w.dir, "static"))
	if err := os.Symlink(static, link); err != nil {
		t.Fatal(err)
	}
	w.want(t, link, int(unix.EPERM), event.HookFanotify)
	if told := w.events.Of(event.ExecCheck)[1].Exec; told.Path != static || told.Filename != link {
		t.Errorf("told %q %q", told.Path, told.Filename)
	}
	w.want(t, threadName+" /bin/true", 0, event.HookUnspecified)
	w.want(t, threadName+" "+w.drop(t, "by a thread"), int(unix.EPERM), event.HookFanotify)
	unlinked := w.drop(t, "unlinked")
	f, err := os.Open(unlinked)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := os.Remove(unlinked); err != nil {
		t.Fatal(err)
	}
	w.want(t, fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), f.Fd()), int(unix.EPERM), event.HookFanotify)
	for _, path := range []string{"/bin/true", dropped, static} {
		if code := w.outside.run(t, executeName, path); code != 0 {
			t.Errorf("outside of the workload: %s: %d", path, code)
		}
	}
	w.counts(t, enforce.Tally{Hits: 4, Denied: 4})
}

func (w *gateTrial) testScripts(t *testing.T) {
	script := func(name, interpreter string) string {
		path := filepath.Join(w.dir, name)
		if err := os.WriteFile(path, []byte("#!"+interpreter+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		return path
	}
	interpreter := w.drop(t, "interpreter")
	w.want(t, script("known", "/bin/true"), 0, event.HookUnspecified)
	w.want(t, script("unknown", interpreter), int(unix.EPERM), event.HookFanotify)
	w.want(t, script("nested", script("inner", w.drop(t, "innermost"))), int(unix.EPERM), event.HookFanotify)
	w.counts(t, enforce.Tally{Hits: 1, Denied: 2})
}

// What no mark is on is killed behind.
func (w *gateTrial) testFileSystems(t *testing.T) {
	for name, marked := range map[string]bool{"marked": true, "unmarked": false} {
		dir := t.TempDir()
		if err := unix.Mount("plumbline", dir, "tmpfs", 0, ""); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
		path, code, hook := copied(t, "/bin/true", filepath.Join(dir, name)), killed, event.HookSignal
		if marked {
			w.mark(t, dir)
			code, hook = int(unix.EPERM), event.HookFanotify
		}
		w.want(t, path, code, hook)
	}
	denied := uint64(3)
	loadOverlay(t)
	if lacks := lacksOverlay(); lacks != "" {
		t.Log(lacks)
	} else {
		w.testOverlay(t)
		denied++
	}
	fd, err := unix.MemfdCreate("dropped", unix.MFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	memory := os.NewFile(uintptr(fd), "memory")
	defer memory.Close()
	program, err := os.ReadFile("/bin/true")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := memory.Write(program); err != nil {
		t.Fatal(err)
	}
	w.want(t, fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), memory.Fd()), killed, event.HookSignal)
	w.counts(t, enforce.Tally{Denied: denied})
}

// A container's root: the file is of the overlay, not of its layer.
func (w *gateTrial) testOverlay(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"lower", "upper", "work", "merged"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	copied(t, "/bin/true", filepath.Join(dir, "lower", "dropped"))
	merged := filepath.Join(dir, "merged")
	if err := unix.Mount("overlay", merged, "overlay", 0, fmt.Sprintf("lowerdir=%[1]s/lower,upperdir=%[1]s/upper,workdir=%[1]s/work", dir)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(merged, unix.MNT_DETACH) })
	w.mark(t, merged)
	w.want(t, filepath.Join(merged, "dropped"), int(unix.EPERM), event.HookFanotify)
}

// Nothing is refused but under enforce; what is told then is told once, by the hook behind.
func (w *gateTrial) testModes(t *testing.T) {
	defer w.scope.Set(t, event.Enforce, 2)
	w.scope.Set(t, event.AuditMode, 2)
	before := len(w.events.Of(event.ExecCheck))
	w.want(t, w.drop(t, "audited"), 0, event.HookUnspecified)
	if got := w.events.Wait(t, event.ExecCheck, before+1)[before]; got.Verdict != event.Audit || got.Hook != event.HookSignal {
		t.Errorf("told %s by %s", got.Verdict, got.Hook)
	}
	w.scope.Set(t, event.Learn, 3)
	w.want(t, w.drop(t, "learnt"), 0, event.HookUnspecified)
	if got := w.events.Wait(t, event.ExecCheck, before+2)[before+1]; got.Verdict != event.Allow || got.Hook != event.HookSignal {
		t.Errorf("told %s by %s", got.Verdict, got.Hook)
	}
	w.scope.Set(t, event.Off, 2)
	w.want(t, w.drop(t, "off"), 0, event.HookUnspecified)
	w.scope.Set(t, event.Enforce, 2)
	if err := w.enforcer.Pause(1 << 62); err != nil {
		t.Fatal(err)
	}
	w.want(t, w.drop(t, "paused"), 0, event.HookUnspecified)
	if err := w.enforcer.Pause(0); err != nil {
		t.Fatal(err)
	}
	w.events.Wait(t, event.ExecCheck, before+3)
	w.counts(t, enforce.Tally{Learnt: 1, Audited: 2})
}

// What a rule denies is left to the hook behind, which knows what the program will be called.
func (w *gateTrial) testRules(t *testing.T) {
	defer w.state(t, event.Enforce, 2, 0)
	w.state(t, event.Enforce, 2, sensor.Protected)
	ruled, unruled := w.drop(t, "ruled"), w.drop(t, "unruled")
	w.use(t, ruleText("ruled", "evt.type = execve and proc.name = ruled", denying))
	w.want(t, ruled, killed, event.HookSignal)
	w.want(t, unruled, int(unix.EPERM), event.HookFanotify)
	const byParent = "evt.type = execve and basename(proc.pexepath) = "
	w.use(t, ruleText("by another", byParent+"nobody", denying))
	w.want(t, w.drop(t, "by another"), int(unix.EPERM), event.HookFanotify)
	w.want(t, "/bin/true", 0, event.HookUnspecified)
	w.use(t, ruleText("by us", byParent+filepath.Base(selfPath(t)), denying))
	w.want(t, w.drop(t, "by us"), killed, event.HookSignal)
	w.counts(t, enforce.Tally{Hits: 1, Denied: 4})
}

// Many executions at the same time: none hangs, and what was refused was counted.
func (w *gateTrial) testStorm(t *testing.T) {
	n, before := 1000, w.enforcer.Gate()
	if os.Getenv("PLUMBLINE_KERNEL") != "" {
		n = 23 // in the matrix; by hand it is the whole storm
	}
	ends := w.does.run(t, stormName, fmt.Sprintf("/bin/true %s %d", w.drop(t, "stormy"), n))
	now := w.enforcer.Gate()
	t.Logf("%d executions: %+v, before %+v", 2*n, now, before)
	if refused := int(now.Refused - before.Refused); ends < 0 || refused+ends != n || ends > int(now.Late-before.Late) {
		t.Errorf("of %d unknown executions %d were refused and %d killed, %d were answered too late", n, refused, ends, now.Late-before.Late)
	}
	w.counts(t, enforce.Tally{Hits: uint64(n), Denied: uint64(n)})
}

// Where a warning of the kernel stops the machine, the gate is refused if it would lead to one, and else works.
func TestFanotifyStopsNoMachine(t *testing.T) {
	if !sensortest.InVM() {
		t.Skip("needs a kernel that may stop")
	}
	const setting = "/proc/sys/kernel/panic_on_warn"
	set := func(value string) {
		if err := os.WriteFile(setting, []byte(value), 0); err != nil {
			t.Fatal(err)
		}
	}
	set("1")
	t.Cleanup(func() { set("0") })
	e, err := enforce.Open(sensortest.NewScope(t).Shared, enforce.Config{Strength: enforce.Fanotify})
	if err == nil {
		t.Cleanup(func() { e.Close() })
	}
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		t.Fatal(err)
	}
	if old := strings.HasPrefix(unix.ByteSliceToString(name.Release[:]), "5.10."); old != errors.Is(err, sensor.ErrNotSupported) || !old && err != nil {
		t.Errorf("%s: %v", name.Release, err)
	}
}
