package process_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/plumbline-io/plumbline/pkg/event"
	"github.com/plumbline-io/plumbline/pkg/sensor/sensortest"
)

// terminal opens a terminal that controls nothing yet.
func terminal(t *testing.T) *os.File {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { master.Close() })
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	fd, _, errno := unix.Syscall(unix.SYS_IOCTL, master.Fd(), unix.TIOCGPTPEER, unix.O_RDWR|unix.O_NOCTTY)
	if errno != 0 {
		t.Fatal(errno)
	}
	slave := os.NewFile(fd, "terminal")
	t.Cleanup(func() { slave.Close() })
	return slave
}

// A session with a terminal, in a pid namespace: all that the kernel tells of it is known beforehand.
func TestMembership(t *testing.T) {
	scope, got := open(t)
	tty := terminal(t)
	var st unix.Stat_t
	if err := unix.Fstat(int(tty.Fd()), &st); err != nil {
		t.Fatal(err)
	}
	if err := scope.Run(t, "/bin/true"); err != nil {
		t.Fatal(err)
	}
	cmd := scope.Command(t, "/bin/sh", "-c", "/bin/true; exit 0")
	cmd.Stdin = tty
	cmd.SysProcAttr.Setsid, cmd.SysProcAttr.Setctty = true, true
	cmd.SysProcAttr.Cloneflags = unix.CLONE_NEWPID
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	execs, fork := got.Wait(t, event.Exec, 3), got.Wait(t, event.Fork, 1)[0]
	session, err := unix.Getsid(0)
	if err != nil {
		t.Fatal(err)
	}
	leader := uint32(cmd.Process.Pid)
	number := unix.Minor(st.Rdev)&0xff | unix.Major(st.Rdev)<<8 | unix.Minor(st.Rdev)&^0xff<<12
	for i, want := range []event.Membership{
		{VPID: execs[0].Tgid, Session: uint32(session), Group: uint32(unix.Getpgrp()), TTY: ownTerminal(t)},
		{Namespace: execs[1].Exec.Start, VPID: 1, Session: leader, Group: leader, TTY: number},
		{Namespace: execs[1].Exec.Start, VPID: 2, Session: leader, Group: leader, TTY: number},
	} {
		if execs[i].Exec.Membership != want {
			t.Errorf("exec %d: %+v, want %+v", i, execs[i].Exec.Membership, want)
		}
	}
	if fork.Fork.ChildVPID != 2 || fork.Fork.Child != execs[2].Tgid {
		t.Errorf("%+v, want the second process of its namespace, %d", fork.Fork, execs[2].Tgid)
	}
}

func ownTerminal(t *testing.T) uint32 {
	t.Helper()
	stat, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.ParseUint(strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))[4], 10, 32)
	if err != nil {
		t.Fatal(err)
	}
	return uint32(n)
}

// ownCapabilities are a set of this process's, by its name in /proc/PID/status.
func ownCapabilities(t *testing.T, set string) (bits uint64) {
	t.Helper()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(status), "\n"+set+":\t")
	if _, err := fmt.Sscanf(rest, "%x", &bits); err != nil {
		t.Fatal(err)
	}
	return bits
}

// Root's programs have what the test has, nobody's have nothing but what is handed on.
func TestCapabilities(t *testing.T) {
	scope, got := open(t)
	if err := scope.Run(t, "/bin/true"); err != nil {
		t.Fatal(err)
	}
	const netRaw = 13
	cmd := scope.Command(t, "/bin/true")
	cmd.SysProcAttr.Credential = &syscall.Credential{Uid: 65534, Gid: 65534}
	cmd.SysProcAttr.AmbientCaps = []uintptr{netRaw}
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	execs := got.Wait(t, event.Exec, 2)
	for i, want := range []event.Capabilities{
		{Permitted: ownCapabilities(t, "CapBnd"), Effective: ownCapabilities(t, "CapBnd"), Inheritable: ownCapabilities(t, "CapInh"), Known: true},
		{Permitted: 1 << netRaw, Effective: 1 << netRaw, Inheritable: ownCapabilities(t, "CapInh") | 1<<netRaw, Known: true},
	} {
		if execs[i].Exec.Capabilities != want {
			t.Errorf("exec %d: %+v, want %+v", i, execs[i].Exec.Capabilities, want)
		}
	}
}

func TestTimesOfExecutable(t *testing.T) {
	scope, got := open(t)
	file := filepath.Join(t.TempDir(), "true")
	copyFile(t, resolved(t, "/bin/true"), file)
	modified := time.Unix(1_000_000_000, 123_456_789)
	if err := os.Chtimes(file, modified, modified); err != nil {
		t.Fatal(err)
	}
	if err := scope.Run(t, file); err != nil {
		t.Fatal(err)
	}
	var st unix.Stat_t
	if err := unix.Stat(file, &st); err != nil {
		t.Fatal(err)
	}
	x := got.Wait(t, event.Exec, 1)[0].Exec
	if x.Modified != uint64(modified.UnixNano()) || x.Changed != uint64(st.Ctim.Nano()) || x.Upper {
		t.Errorf("%+v, want %d and %d", x, modified.UnixNano(), st.Ctim.Nano())
	}
}

// What was there before is in the lower layer; what was made or changed is in the upper one.
func TestUpperLayer(t *testing.T) {
	if !sensortest.InVM() {
		t.Skip("mounts file systems: needs a guest")
	}
	if f, err := os.Open("/lib/modules/overlay.ko"); err == nil {
		defer f.Close()
		if err := unix.FinitModule(int(f.Fd()), "", 0); err != nil && !errors.Is(err, unix.EEXIST) {
			t.Fatal(err)
		}
	}
	scope, got := open(t)
	dir := t.TempDir()
	for _, name := range []string{"lower", "upper", "work", "merged"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	program := resolved(t, "/bin/true")
	copyFile(t, program, dir+"/lower/old")
	copyFile(t, program, dir+"/lower/changed")
	layers := "lowerdir=" + dir + "/lower,upperdir=" + dir + "/upper,workdir=" + dir + "/work"
	if err := unix.Mount("overlay", dir+"/merged", "overlay", 0, layers); errors.Is(err, unix.ENODEV) {
		t.Skip("this kernel has no overlayfs")
	} else if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir+"/merged", 0); err != nil {
			t.Error(err)
		}
	})
	copyFile(t, program, dir+"/merged/new")
	if err := os.Chmod(dir+"/merged/changed", 0o700); err != nil {
		t.Fatal(err)
	}
	for i, want := range []struct {
		name  string
		upper bool
	}{{"old", false}, {"changed", true}, {"new", true}} {
		cmd := scope.Command(t, dir+"/merged/"+want.name)
		cmd.Args[0] = "true" // BusyBox does what it is called
		if err := cmd.Run(); err != nil {
			t.Fatal(err)
		}
		if x := got.Wait(t, event.Exec, i+1)[i].Exec; x.Upper != want.upper {
			t.Errorf("%s: in the upper layer: %t", want.name, x.Upper)
		}
	}
}

// Standard input and output both have to be sockets of the Internet, connected or not, that the program keeps.
func TestStandardSockets(t *testing.T) {
	scope, got := open(t)
	socket := func(family, kind int) *os.File {
		t.Helper()
		fd, err := unix.Socket(family, kind|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		f := os.NewFile(uintptr(fd), "socket")
		t.Cleanup(func() { f.Close() })
		return f
	}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	defer writer.Close()
	tcp := socket(unix.AF_INET, unix.SOCK_STREAM)
	for i, tc := range []struct {
		in, out *os.File
		want    bool
	}{
		{tcp, tcp, true},
		{socket(unix.AF_INET6, unix.SOCK_STREAM), socket(unix.AF_INET, unix.SOCK_DGRAM), true},
		{tcp, null, false},
		{null, tcp, false},
		{null, null, false},
		{reader, writer, false},
		{socket(unix.AF_UNIX, unix.SOCK_STREAM), socket(unix.AF_UNIX, unix.SOCK_STREAM), false},
		{tcp, socket(unix.AF_UNIX, unix.SOCK_STREAM), false},
	} {
		cmd := scope.Command(t, "/bin/true")
		cmd.Stdin, cmd.Stdout = tc.in, tc.out
		if err := cmd.Run(); err != nil {
			t.Fatal(err)
		}
		if x := got.Wait(t, event.Exec, i+1)[i].Exec; x.StdioInet != tc.want {
			t.Errorf("%d: %t, want %t", i, x.StdioInet, tc.want)
		}
	}
}

// A working directory is told to be beyond the root of who executes, where a changed root left it behind.
func TestWorkingDirectoryBeyondTheRoot(t *testing.T) {
	scope, got := open(t)
	static, err := exec.LookPath("busybox") // without a loader, which would not be there
	if err != nil {
		t.Skip(err)
	}
	data, err := os.ReadFile(static)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(dir+"/program", data, 0o755); err != nil {
		t.Fatal(err)
	}
	for i, tc := range []struct {
		root, program, dir string
		beyond             bool
	}{
		{dir, "/program", "", true}, {dir, "/program", "/", false}, {"", dir + "/program", "", false},
	} {
		cmd := scope.Command(t, tc.program)
		cmd.Args = []string{"busybox", "true"}
		cmd.SysProcAttr.Chroot, cmd.Dir = tc.root, tc.dir
		if err := cmd.Run(); err != nil {
			t.Fatal(err)
		}
		if x := got.Wait(t, event.Exec, i+1)[i].Exec; x.CwdDetached != tc.beyond || x.Detached || x.Path != tc.program {
			t.Errorf("%d: %+v", i, x)
		}
	}
}
