package main

import (
	"fmt"
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// orphanMode makes of init's program one that forks twice and executes nothing, so that the last process is
// init's child and has init's program, as what a workload leaves behind has where that is what it runs.
const orphanMode = "orphan"

// orphan lets such a process open a file and returns the error number, 0 if it could.
func orphan(path string) int {
	runtime.LockOSThread()
	var pipe [2]int
	name, err := unix.BytePtrFromString(path)
	if err == nil {
		err = unix.Pipe2(pipe[:], 0)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "vminit: prepare orphan:", err)
		return 255
	}
	var code [1]byte
	child := forkTwice(name, pipe[1], &code[0])
	if _, err := unix.Wait4(child, nil, 0, nil); err != nil {
		fmt.Fprintln(os.Stderr, "vminit: wait for child:", err)
		return 255
	}
	if _, err := unix.Read(pipe[0], code[:]); err != nil {
		fmt.Fprintln(os.Stderr, "vminit: hear of orphan:", err)
		return 255
	}
	return int(code[0])
}

// forkTwice returns in the caller only. The others have one thread and no Go runtime: they must not do more
// than plain system calls.
//
//go:nosplit
//go:norace
func forkTwice(name *byte, pipe int, code *byte) (child int) {
	pid, _, _ := unix.RawSyscall6(unix.SYS_CLONE, uintptr(unix.SIGCHLD), 0, 0, 0, 0, 0)
	if pid != 0 {
		return int(pid)
	}
	pid, _, _ = unix.RawSyscall6(unix.SYS_CLONE, uintptr(unix.SIGCHLD), 0, 0, 0, 0, 0)
	if pid == 0 {
		for parent := uintptr(0); parent != 1; {
			parent, _, _ = unix.RawSyscall(unix.SYS_GETPPID, 0, 0, 0)
		}
		here := unix.AT_FDCWD
		_, _, errno := unix.RawSyscall6(unix.SYS_OPENAT, uintptr(here), uintptr(unsafe.Pointer(name)), unix.O_RDONLY, 0, 0, 0)
		*code = byte(errno)
		unix.RawSyscall(unix.SYS_WRITE, uintptr(pipe), uintptr(unsafe.Pointer(code)), 1)
	}
	for {
		unix.RawSyscall(unix.SYS_EXIT_GROUP, 0, 0, 0)
	}
}
