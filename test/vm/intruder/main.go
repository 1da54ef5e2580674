// Intruder is a process that got into a workload: it enters a cgroup and becomes a user, if it is told to,
// and tries one deed. It says how that ended, in the words of the system call's error.
//
//	intruder -cgroup /sys/fs/cgroup/system.slice/nginx.service -user www-data exec /bin/sh
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

func main() {
	cgroup := flag.String("cgroup", "", "directory of the cgroup to enter; without it it stays where and who it is")
	name := flag.String("user", "root", "whom to become: a name, or a number that is its group's, too")
	flag.Parse()
	err := run(*cgroup, *name, flag.Args())
	if err == nil {
		fmt.Println("done")
		return
	}
	fmt.Println(err)
	os.Exit(1)
}

// deed is what is tried. Before it enters, it may open what it uses.
type deed struct {
	before func(args []string) (int, error)
	do     func(fd int, args []string) error
}

func deeds() map[string]deed {
	none := func([]string) (int, error) { return -1, nil }
	return map[string]deed{
		"exec":    {none, func(_ int, args []string) error { return unix.Exec(args[0], args, nil) }},
		"read":    {none, func(_ int, args []string) error { return open(args[0], unix.O_RDONLY) }},
		"create":  {none, func(_ int, args []string) error { return open(args[0], unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY) }},
		"connect": {none, func(_ int, args []string) error { return connect(args) }},
		"dup":     {none, func(_ int, args []string) error { return dup(args) }},
		"say":     {none, func(_ int, args []string) error { return say(args) }},
		"scan":    {none, func(_ int, args []string) error { return scan(args) }},
		"ask":     {none, func(_ int, args []string) error { return ask(args) }},
		"tunnel":  {none, func(_ int, args []string) error { return tunnel(args) }},
		"address": {none, func(_ int, args []string) error { return addAddress(args[0]) }},
		"map": {
			openFile,
			func(fd int, _ []string) error {
				_, err := unix.Mmap(fd, 0, os.Getpagesize(), unix.PROT_READ|unix.PROT_EXEC, unix.MAP_PRIVATE)
				return err
			},
		},
		"ptrace":  {none, func(_ int, args []string) error { return onProcess(args, unix.PtraceAttach) }},
		"poke":    {none, func(_ int, args []string) error { return onProcess(args, poke) }},
		"outside": {openSelf, func(fd int, args []string) error { return errors.Join(unix.Chroot(args[0]), execute(fd)) }},
		"beyond": {none, func(_ int, args []string) error {
			return errors.Join(unix.Chdir("/"), unix.Chroot(args[0]), runAs(args[1]))
		}},
		"below": {none, func(_ int, args []string) error {
			return errors.Join(unix.Chroot(args[0]), unix.Chdir("/"), runAs(args[1]))
		}},
		"apart": {none, func(_ int, args []string) error {
			return errors.Join(unix.Unshare(unix.CLONE_NEWUTS), open(args[0], unix.O_RDONLY))
		}},
		"enter":       {none, func(_ int, args []string) error { return onProcess(args, enterNamespace) }},
		"debug":       {none, func(_ int, args []string) error { return debug(args[0]) }},
		"memfd":       {none, func(_ int, args []string) error { return executeCopy(args[0]) }},
		"mount":       {none, func(_ int, args []string) error { return unix.Mount("none", args[0], "tmpfs", 0, "") }},
		"overlay":     {none, func(_ int, args []string) error { return overlay(args[0]) }},
		"module":      {openFile, func(fd int, _ []string) error { return unix.FinitModule(fd, "", 0) }},
		"unshare":     {none, func(_ int, args []string) error { return unshare(args[0]) }},
		"setns":       {openNamespace, func(fd int, args []string) error { return unix.Setns(fd, kinds()[args[0]]) }},
		"userns":      {none, func(_ int, args []string) error { return inUserNamespace(args[0]) }},
		"socket":      {none, func(_ int, args []string) error { return socket(args[0]) }},
		"bpf":         {none, func(int, []string) error { return loadProgram() }},
		"bpfmap":      {none, func(int, []string) error { return makeMap() }},
		"bpfmaps":     {none, func(_ int, args []string) error { return openMaps(args) }},
		"io_uring":    {none, func(int, []string) error { return makeRing() }},
		"userfaultfd": {none, func(int, []string) error { return call(unix.SYS_USERFAULTFD, 0, 0, 0) }},
		"key":         {none, func(_ int, args []string) error { return addKey(args[0]) }},
		"standstill":  {none, func(_ int, args []string) error { return standStill(args[0]) }},
		"unlink":      {none, func(_ int, args []string) error { return unix.Unlink(args[0]) }},
		"rename":      {none, func(_ int, args []string) error { return unix.Rename(args[0], args[0]+".old") }},
		"chmod":       {none, func(_ int, args []string) error { return unix.Chmod(args[0], 0o777) }},
		"unix":        {none, func(_ int, args []string) error { return connectUnix(args[0]) }},
		"bind":        {none, func(_ int, args []string) error { return bindUnix(args[0]) }},
		"listen":      {none, func(_ int, args []string) error { return listen(args[0]) }},
		"send":        {none, func(_ int, args []string) error { return send(args) }},
		"setuid":      {none, func(_ int, args []string) error { return setuid(args[0]) }},
		"memory":      {none, func(_ int, args []string) error { return open(filepath.Join("/proc", args[0], "mem"), unix.O_WRONLY) }},
	}
}

func run(cgroup, name string, args []string) error {
	runtime.LockOSThread() // ptrace is a matter of threads
	if len(args) < 2 {
		return errors.New("want a deed and what to do it to, - for nothing")
	}
	d, ok := deeds()[args[0]]
	if !ok {
		return fmt.Errorf("unknown deed %s", args[0])
	}
	fd, err := d.before(args[1:])
	if err != nil {
		return fmt.Errorf("prepare: %w", err)
	}
	if cgroup != "" {
		if err := enter(cgroup, name); err != nil {
			return err
		}
	}
	return d.do(fd, args[1:])
}

// enter becomes the user outside, so that only the deed is done inside: the kernel asks who has opened
// cgroup.procs, not who writes.
func enter(cgroup, name string) error {
	uid, gid, err := identity(name)
	if err != nil {
		return err
	}
	procs, err := os.OpenFile(filepath.Join(cgroup, "cgroup.procs"), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	if err := errors.Join(unix.Setgroups(nil), unix.Setresgid(gid, gid, gid), unix.Setresuid(uid, uid, uid)); err != nil {
		return fmt.Errorf("become %s: %w", name, err)
	}
	if _, err := procs.WriteString("0"); err != nil {
		return fmt.Errorf("enter: %w", err)
	}
	return nil
}

func identity(name string) (uid, gid int, err error) {
	if id, err := strconv.Atoi(name); err == nil {
		return id, id, nil
	}
	u, err := user.Lookup(name)
	if err != nil {
		return 0, 0, err
	}
	uid, _ = strconv.Atoi(u.Uid)
	gid, _ = strconv.Atoi(u.Gid)
	return uid, gid, nil
}

func openFile(args []string) (int, error) { return unix.Open(args[0], unix.O_RDONLY|unix.O_CLOEXEC, 0) }

func openSelf([]string) (int, error) { return openFile([]string{"/proc/self/exe"}) }

// execute runs what a descriptor stands for.
func execute(fd int) error {
	argv, err := syscall.SlicePtrFromStrings([]string{"deed"})
	if err != nil {
		return err
	}
	empty, environment := []byte{0}, []*byte{nil}
	_, _, errno := unix.Syscall6(unix.SYS_EXECVEAT, uintptr(fd), uintptr(unsafe.Pointer(&empty[0])),
		uintptr(unsafe.Pointer(&argv[0])), uintptr(unsafe.Pointer(&environment[0])), unix.AT_EMPTY_PATH, 0)
	return errno
}

// executeCopy runs a copy of a program that is nowhere but in memory.
func executeCopy(program string) error {
	data, err := os.ReadFile(program)
	if err != nil {
		return err
	}
	fd, err := unix.MemfdCreate("deed", unix.MFD_CLOEXEC)
	if err != nil {
		return err
	}
	if _, err := unix.Write(fd, data); err != nil {
		return err
	}
	return execute(fd)
}

func runAs(program string) error { return unix.Exec(program, []string{program}, nil) }

// enterNamespace goes from a namespace of its own into that of a process, by its descriptor.
func enterNamespace(pid int) error {
	if err := unix.Unshare(unix.CLONE_NEWUTS); err != nil {
		return fmt.Errorf("unshare: %w", err)
	}
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return fmt.Errorf("open process: %w", err)
	}
	return unix.Setns(fd, unix.CLONE_NEWUTS)
}

// debug starts a program that asks to be traced, and attaches to another one that it starts, and to its memory.
func debug(program string) error {
	asks := exec.Command(program)
	asks.SysProcAttr = &syscall.SysProcAttr{Ptrace: true}
	if err := asks.Start(); err != nil {
		return fmt.Errorf("start traced: %w", err)
	}
	_ = asks.Process.Kill()
	_ = asks.Wait()
	other := exec.Command(program)
	if err := other.Start(); err != nil {
		return err
	}
	err := errors.Join(unix.PtraceAttach(other.Process.Pid), open(fmt.Sprintf("/proc/%d/mem", other.Process.Pid), unix.O_WRONLY))
	_ = other.Process.Kill()
	_ = other.Wait()
	return err
}

// kinds of namespaces, by what they are called below /proc/PID/ns.
func kinds() map[string]int {
	return map[string]int{"net": unix.CLONE_NEWNET, "uts": unix.CLONE_NEWUTS, "ipc": unix.CLONE_NEWIPC, "pid": unix.CLONE_NEWPID, "mnt": unix.CLONE_NEWNS}
}

func openNamespace(args []string) (int, error) {
	return openFile([]string{filepath.Join("/proc/self/ns", args[0])})
}

func unshare(kind string) error { return unix.Unshare(kinds()[kind]) }

func inUserNamespace(program string) error {
	cmd := exec.Command(program)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWUSER}
	return cmd.Run()
}

// loadProgram loads the smallest program of the kind that filters a socket: r0 = 0; exit.
func loadProgram() error {
	instructions, license := &[2]uint64{0xb7, 0x95}, &[4]byte{'G', 'P', 'L'}
	var held runtime.Pinner
	defer held.Unpin()
	held.Pin(instructions)
	held.Pin(license)
	attr := struct {
		kind, count           uint32
		instructions, license uint64
		rest                  [96]byte
	}{
		kind: unix.BPF_PROG_TYPE_SOCKET_FILTER, count: uint32(len(instructions)),
		instructions: uint64(uintptr(unsafe.Pointer(instructions))), license: uint64(uintptr(unsafe.Pointer(license))),
	}
	return call(unix.SYS_BPF, unix.BPF_PROG_LOAD, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr))
}

// makeMap makes an array of one number.
func makeMap() error {
	attr := struct {
		kind, key, value, entries uint32
		rest                      [104]byte
	}{kind: unix.BPF_MAP_TYPE_ARRAY, key: 4, value: 4, entries: 1}
	return call(unix.SYS_BPF, unix.BPF_MAP_CREATE, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr))
}

// openMaps opens maps by their numbers, and fails with the first that is refused.
func openMaps(numbers []string) error {
	for _, number := range numbers {
		id, err := strconv.ParseUint(number, 10, 32)
		if err != nil {
			return err
		}
		attr := [16]uint32{uint32(id)}
		if err := call(unix.SYS_BPF, unix.BPF_MAP_GET_FD_BY_ID, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr)); err != nil {
			return err
		}
	}
	return nil
}

func makeRing() error {
	var params [120]byte
	return call(unix.SYS_IO_URING_SETUP, 1, uintptr(unsafe.Pointer(&params)), 0)
}

// addKey puts a key into the keyring of this process.
func addKey(name string) error {
	_, err := unix.AddKey("user", name, []byte("x"), unix.KEY_SPEC_PROCESS_KEYRING)
	return err
}

func call(number, a, b, c uintptr) error {
	if _, _, errno := unix.Syscall(number, a, b, c); errno != 0 {
		return errno
	}
	return nil
}

func open(path string, flags int) error {
	_, err := unix.Open(path, flags|unix.O_CLOEXEC, 0o644)
	return err
}

// setuid becomes a user by number, this thread alone.
func setuid(user string) error {
	id, err := strconv.Atoi(user)
	if err != nil {
		return err
	}
	return call(unix.SYS_SETRESUID, uintptr(id), uintptr(id), uintptr(id))
}

func onProcess(args []string, do func(pid int) error) error {
	pid, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	return do(pid)
}

// poke writes to an address where there is nothing: who is let do it gets another error.
func poke(pid int) error {
	data := []byte{0}
	local := []unix.Iovec{{Base: &data[0], Len: 1}}
	_, err := unix.ProcessVMWritev(pid, local, []unix.RemoteIovec{{Base: 1, Len: 1}}, 0)
	return err
}
