package baseline

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/plumbline-io/plumbline/pkg/event"
	"github.com/plumbline-io/plumbline/pkg/syscalls"
)

// ErrNoSyscalls means that a profile does not say which system calls a workload makes.
var ErrNoSyscalls = errors.New("the baseline holds no system calls")

// seccompProfile is linux.seccomp of the runtime specification of the Open Container Initiative, which Docker,
// containerd, CRI-O and Podman read.
type seccompProfile struct {
	DefaultAction   string        `json:"defaultAction"`
	DefaultErrnoRet int           `json:"defaultErrnoRet"`
	Architectures   []string      `json:"architectures"`
	Syscalls        []seccompRule `json:"syscalls"`
}

type seccompRule struct {
	Names  []string `json:"names"`
	Action string   `json:"action"`
}

const (
	seccompAllow = "SCMP_ACT_ALLOW"
	seccompErrno = "SCMP_ACT_ERRNO"
	errnoEPERM   = 1
)

// seccompArchitectures are those of a machine, native first, by Go's name of it.
func seccompArchitectures() map[string][2]string {
	return map[string][2]string{
		"amd64": {"SCMP_ARCH_X86_64", "SCMP_ARCH_X86"},
		"arm64": {"SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"},
	}
}

// runtimeCalls are what runc and crun do in the container's first process between the filter and the program,
// and what the Go runtime that runc is part of may do at any moment of it.
func runtimeCalls() []string {
	return []string{
		"capget", "capset", "chdir", "close", "close_range", "epoll_ctl", "epoll_pwait", "execve", "exit_group", "faccessat2",
		"fchown", "fcntl", "fstat", "fstatfs", "futex", "getcwd", "getdents64", "getpid", "getppid", "gettid", "madvise", "mmap",
		"mprotect", "munmap", "nanosleep", "newfstatat", "openat", "openat2", "prctl", "read", "readlinkat", "rt_sigprocmask",
		"rt_sigreturn", "sched_yield", "setgid", "setgroups", "setuid", "sigaltstack", "tgkill", "write",
	}
}

// Seccomp is a profile as container runtimes load it: what was seen and what the runtime itself needs is allowed,
// anything else fails with EPERM. arch is Go's name of the machine's architecture. With calls of 32-bit programs
// in the baseline, every name is allowed to both kinds. unnamed are calls that cannot be in it: newer than the
// table of names.
func (p *Profile) Seccomp(arch string) (text []byte, unnamed []event.Key, err error) {
	architectures, known := seccompArchitectures()[arch]
	if !known {
		return nil, nil, fmt.Errorf("make seccomp profile: unknown architecture %.60q: want amd64 or arm64", arch)
	}
	if p.Count(event.DimSyscalls) == 0 {
		return nil, nil, fmt.Errorf("make seccomp profile of %q: %w", p.workload, ErrNoSyscalls)
	}
	profile := seccompProfile{DefaultAction: seccompErrno, DefaultErrnoRet: errnoEPERM, Architectures: architectures[:1]}
	var seen []string
	for _, k := range p.Keys() {
		if k.Op != event.OpSyscall {
			continue
		}
		call := syscalls.Call(k.Value)
		if call.Compat() {
			profile.Architectures = architectures[:]
		}
		if name, named := call.Name(); named {
			seen = append(seen, name)
		} else {
			unnamed = append(unnamed, k)
		}
	}
	seen = slices.Compact(seen) // sorted, native and 32-bit calls side by side
	extra := slices.DeleteFunc(runtimeCalls(), func(name string) bool { return slices.Contains(seen, name) })
	profile.Syscalls = []seccompRule{{seen, seccompAllow}, {extra, seccompAllow}}
	if len(extra) == 0 {
		profile.Syscalls = profile.Syscalls[:1]
	}
	text, err = json.MarshalIndent(profile, "", "  ")
	if err != nil {
		return nil, nil, fmt.Errorf("make seccomp profile of %q: %w", p.workload, err)
	}
	return append(text, '\n'), unnamed, nil
}
