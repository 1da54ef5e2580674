package enforce_test

import (
	"bufio"
	"errors"
	"fmt"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/plumbline-io/plumbline/pkg/event"
	"github.com/plumbline-io/plumbline/pkg/sensor"
)

// standingDeeds hang on where who does them stands: above another process, beyond a root, outside of a namespace.
func standingDeeds() map[string]func(arg string) error {
	return map[string]func(arg string) error{
		"trace":     trace,
		"be traced": beTraced,
		"remember":  func(of string) error { return withProcess(of, openMemory) },
		"enter":     enterNamespace,
		"run beyond": func(dir string) error {
			return errors.Join(unix.Chdir("/"), unix.Chroot(dir), become("/tool"))
		},
		"run below": func(dir string) error {
			return errors.Join(unix.Chroot(dir), unix.Chdir("/mountpoint"), become("/tool"))
		},
	}
}

// withProcess finds a process: by its number, or a new child or grandchild.
func withProcess(which string, do func(pid int) error) error {
	if pid, err := strconv.Atoi(which); err == nil {
		return do(pid)
	}
	sleep := exec.Command("/bin/sleep", "60")
	if which == "grandchild" {
		sleep = exec.Command("/bin/sh", "-c", "/bin/sleep 60 & echo $!; read x; kill -9 $!")
	}
	in, err := sleep.StdinPipe()
	if err != nil {
		return err
	}
	out, err := sleep.StdoutPipe()
	if err != nil {
		return err
	}
	if err := sleep.Start(); err != nil {
		return err
	}
	pid := sleep.Process.Pid
	if which == "grandchild" {
		line, err := bufio.NewReader(out).ReadString('\n')
		if err != nil {
			return err
		}
		if pid, err = strconv.Atoi(strings.TrimSpace(line)); err != nil {
			return err
		}
	}
	result := do(pid)
	_ = in.Close()
	if which != "grandchild" {
		_ = sleep.Process.Kill()
	}
	_ = sleep.Wait()
	return result
}

func trace(which string) error {
	runtime.LockOSThread()
	return withProcess(which, func(pid int) error {
		if err := unix.PtraceAttach(pid); err != nil {
			return err
		}
		var status unix.WaitStatus
		if _, err := unix.Wait4(pid, &status, unix.WALL, nil); err != nil {
			return fmt.Errorf("wait for %d: %w", pid, err)
		}
		return unix.PtraceDetach(pid)
	})
}

// beTraced starts a child that asks to be.
func beTraced(string) error {
	runtime.LockOSThread()
	cmd := exec.Command("/bin/sleep", "60")
	cmd.SysProcAttr = &syscall.SysProcAttr{Ptrace: true}
	if err := cmd.Start(); err != nil {
		return err
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	return nil
}

func openMemory(pid int) error {
	return closing(unix.Open(fmt.Sprintf("/proc/%d/mem", pid), unix.O_WRONLY|unix.O_CLOEXEC, 0))
}

// enterNamespace gets a namespace of the first process, or its own, by a file or a process's descriptor, from one of its
// own or from the first process's.
func enterNamespace(how string) error {
	runtime.LockOSThread()
	from, how, _ := strings.Cut(how, " ")
	if from == "apart" {
		if err := unix.Unshare(unix.CLONE_NEWUTS); err != nil {
			return err
		}
	}
	by := func(pid int) error {
		fd, err := unix.PidfdOpen(pid, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		return unix.Setns(fd, unix.CLONE_NEWUTS)
	}
	switch how {
	case "own":
		return closing(unix.Open("/proc/thread-self/ns/uts", unix.O_RDONLY|unix.O_CLOEXEC, 0))
	case "other kind": // which it is in itself
		return closing(unix.Open("/proc/1/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0))
	case "file":
		return closing(unix.Open("/proc/1/ns/uts", unix.O_RDONLY|unix.O_CLOEXEC, 0))
	case "process":
		return by(1)
	}
	return withProcess("child", by)
}

// What the kernel finds out about where somebody stands decides, and nothing beside it.
func TestStanding(t *testing.T) {
	tests := map[string]func(t *testing.T, w *trial){"tracing": testTracing, "namespaces": testNamespaces, "working directory": testWorkingDirectory}
	eachStrength(t, func(t *testing.T, w *trial) {
		for name, test := range tests {
			w.scope.Held = 0
			w.state(t, event.Off, 1, sensor.Protected)
			w.does = newDoer(t, w.scope)
			t.Run(name, func(t *testing.T) { test(t, w) })
		}
	})
}

func testTracing(t *testing.T, w *trial) {
	dir := t.TempDir()
	cast(t, dir, "other")
	sleep := w.scope.Command(t, "/bin/sleep", "600")
	if err := sleep.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = errors.Join(sleep.Process.Kill(), sleep.Wait()) }()
	stranger := strconv.Itoa(sleep.Process.Pid)
	w.attempts(t, dir, ruleText("attach", "evt.operation = ptrace and evt.value startswith attach and evt.by_ancestor = false", denying), []attempt{
		{"other", "trace", stranger, true}, {"other", "trace", "child", false}, {"other", "trace", "grandchild", false}, {"other", "be traced", "-", false},
	})
	w.attempts(t, dir, ruleText("memory", `evt.operation = write and evt.path = "/proc/[pid]/mem" and evt.by_ancestor = false`, denying), []attempt{
		{"other", "remember", stranger, true}, {"other", "remember", "child", false},
	})
	w.attempts(t, dir, ruleText("own", "evt.operation = ptrace and evt.value startswith attach and evt.by_ancestor = true", denying), []attempt{
		{"other", "trace", stranger, false}, {"other", "trace", "child", true}, {"other", "be traced", "-", true},
	})
	denied := w.events.Of(event.Access)
	if last := denied[len(denied)-1].Access; !last.ByAncestor || last.HostNamespace {
		t.Errorf("%+v", last)
	}
}

func testNamespaces(t *testing.T, w *trial) {
	dir := t.TempDir()
	cast(t, dir, "other")
	w.attempts(t, dir, ruleText("file", `evt.operation = read and evt.path = "[nsfs]" and evt.is_host_namespace = true`, denying), []attempt{
		{"other", "enter", "with own", false},
		{"other", "enter", "with file", false},
		{"other", "enter", "apart own", false},
		{"other", "enter", "apart other kind", false},
		{"other", "enter", "apart file", true},
	})
	denied := w.events.Of(event.Access)
	if last := denied[len(denied)-1].Access; last.ByAncestor || !last.HostNamespace {
		t.Errorf("%+v", last)
	}
	w.attempts(t, dir, ruleText("process", "evt.operation = ptrace and evt.is_host_namespace = true", denying), []attempt{
		{"other", "enter", "with process", false}, {"other", "enter", "apart child", false}, {"other", "enter", "apart process", true},
	})
}

func testWorkingDirectory(t *testing.T, w *trial) {
	dir := t.TempDir()
	if err := fill(dir); err != nil {
		t.Fatal(err)
	}
	putFile(t, dir+"/tool", exiting())
	cast(t, dir, "other")
	w.attempts(t, dir, ruleText("beyond", "evt.type = execve and proc.is_cwd_detached = true", denying), []attempt{
		{"other", "run beyond", dir, true}, {"other", "run below", dir, false}, {"other", "become", dir + "/tool", false},
	})
	checks := w.events.Of(event.ExecCheck)
	if last := checks[len(checks)-1].Exec; !last.CwdDetached || last.Detached {
		t.Errorf("%+v", last)
	}
}
