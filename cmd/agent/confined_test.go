package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/plumbline-io/plumbline/pkg/syscalls"
)

// confined does what a container runtime does at its end: it loads a seccomp profile and executes a program.
// Its arguments are the profile's file, and the program's path and arguments.
func confined() {
	if err := confine(os.Args[1], os.Args[2:]); err != nil {
		fmt.Fprintln(os.Stderr, "confined:", err)
		os.Exit(99)
	}
}

func confine(file string, command []string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var profile struct {
		DefaultAction   string
		DefaultErrnoRet uint32
		Architectures   []string
		Syscalls        []struct {
			Names  []string
			Action string
		}
	}
	if err := json.Unmarshal(text, &profile); err != nil {
		return err
	}
	if profile.DefaultAction != "SCMP_ACT_ERRNO" || len(profile.Architectures) != 1 {
		return fmt.Errorf("%s is no profile as we write it", file)
	}
	var numbers []uint32
	for _, rule := range profile.Syscalls {
		if rule.Action != "SCMP_ACT_ALLOW" {
			return errors.New("unknown action " + rule.Action)
		}
		for _, name := range rule.Names {
			call, err := syscalls.Parse(name)
			if err != nil {
				return err
			}
			if n, ok := call.Number(runtime.GOARCH); ok {
				numbers = append(numbers, uint32(n))
			}
		}
	}
	runtime.LockOSThread()
	if err := load(filter(numbers, profile.DefaultErrnoRet)); err != nil {
		return err
	}
	return syscall.Exec(command[0], command, os.Environ())
}

// filter allows calls by their numbers, and lets others fail.
func filter(numbers []uint32, errno uint32) []unix.SockFilter {
	const (
		numberAt, architectureAt = 0, 4 // in struct seccomp_data
		loadWord                 = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
		jumpIfEqual              = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
		answer                   = unix.BPF_RET | unix.BPF_K
	)
	native := map[string]uint32{"amd64": unix.AUDIT_ARCH_X86_64, "arm64": unix.AUDIT_ARCH_AARCH64}[runtime.GOARCH]
	code := []unix.SockFilter{
		{Code: loadWord, K: architectureAt},
		{Code: jumpIfEqual, Jt: 1, K: native},
		{Code: answer, K: unix.SECCOMP_RET_KILL_PROCESS},
		{Code: loadWord, K: numberAt},
	}
	for _, n := range numbers {
		code = append(code, unix.SockFilter{Code: jumpIfEqual, Jf: 1, K: n}, unix.SockFilter{Code: answer, K: unix.SECCOMP_RET_ALLOW})
	}
	return append(code, unix.SockFilter{Code: answer, K: unix.SECCOMP_RET_ERRNO | errno})
}

func load(code []unix.SockFilter) error {
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("forgo new privileges: %w", err)
	}
	program := unix.SockFprog{Len: uint16(len(code)), Filter: &code[0]}
	if _, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, uintptr(unsafe.Pointer(&program))); errno != 0 {
		return fmt.Errorf("load filter: %w", errno)
	}
	return nil
}
