package event

import (
	"fmt"
	"math/bits"
	"strconv"
	"strings"

	"github.com/plumbline-io/plumbline/pkg/syscalls"
)

// The names are part of the form of baselines and alerts.
var (
	operationNames = [...]string{
		"unspecified", "exec", "library", "read", "write", "create", "delete", "rename", "link", "attributes", "mount",
		"unix_connect", "unix_bind", "connect", "bind", "listen", "send", "socket", "capability", "ptrace", "userns",
		"module", "bpf", "perf", "io_uring", "userfaultfd", "setuid", "setgid", "signal", "keyctl", "namespace", "syscall",
		"accept", "dup", "dns_query", "tcp_begin", "exec_as_root", "exec_as_user", "exec_as_group", "exec_with_capabilities",
	}
	additionNames  = [...]string{"namespaces", "file_rights", "keys"}
	dimensionNames = [...]string{"exec", "library", "file", "unix", "network", "privilege", "syscalls"}
	// By the bits of CLONE_NEW*, include/uapi/linux/sched.h.
	namespaceNames = [...]string{
		0: "any", 7: "time", 17: "mount", 25: "cgroup", 26: "uts", 27: "ipc", 28: "user", 29: "pid", 30: "net",
	}
	// include/uapi/linux/capability.h
	capabilityNames = [...]string{
		"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_SETGID",
		"CAP_SETUID", "CAP_SETPCAP", "CAP_LINUX_IMMUTABLE", "CAP_NET_BIND_SERVICE", "CAP_NET_BROADCAST", "CAP_NET_ADMIN",
		"CAP_NET_RAW", "CAP_IPC_LOCK", "CAP_IPC_OWNER", "CAP_SYS_MODULE", "CAP_SYS_RAWIO", "CAP_SYS_CHROOT", "CAP_SYS_PTRACE",
		"CAP_SYS_PACCT", "CAP_SYS_ADMIN", "CAP_SYS_BOOT", "CAP_SYS_NICE", "CAP_SYS_RESOURCE", "CAP_SYS_TIME",
		"CAP_SYS_TTY_CONFIG", "CAP_MKNOD", "CAP_LEASE", "CAP_AUDIT_WRITE", "CAP_AUDIT_CONTROL", "CAP_SETFCAP",
		"CAP_MAC_OVERRIDE", "CAP_MAC_ADMIN", "CAP_SYSLOG", "CAP_WAKE_ALARM", "CAP_BLOCK_SUSPEND", "CAP_AUDIT_READ",
		"CAP_PERFMON", "CAP_BPF", "CAP_CHECKPOINT_RESTORE",
	}
)

func (o Operation) String() string { return name(operationNames[:], int(o)) }
func (d Dimension) String() string { return name(dimensionNames[:], int(d)) }

func (p Protocol) String() string {
	switch p {
	case ProtocolTCP:
		return "tcp"
	case ProtocolUDP:
		return "udp"
	}
	return strconv.Itoa(int(p))
}

// ParseOperation reads an operation's name.
func ParseOperation(s string) (Operation, error) {
	for i, n := range operationNames {
		if i > 0 && n == s {
			return Operation(i), nil
		}
	}
	return OpUnspecified, fmt.Errorf("unknown operation %.60q", s)
}

// ParseDimension reads a dimension's name.
func ParseDimension(s string) (Dimension, error) {
	for i, n := range dimensionNames {
		if n == s {
			return Dimension(i), nil
		}
	}
	return DimCount, fmt.Errorf("unknown dimension %.60q: want %s", s, strings.Join(dimensionNames[:], ", "))
}

// ParseProtocol reads tcp, udp or a number.
func ParseProtocol(s string) (Protocol, error) {
	switch s {
	case "tcp":
		return ProtocolTCP, nil
	case "udp":
		return ProtocolUDP, nil
	}
	n, err := strconv.ParseUint(s, 10, 8)
	if err != nil {
		return 0, fmt.Errorf("unknown protocol %.60q: want tcp, udp or a number below 256", s)
	}
	return Protocol(n), nil
}

// ValueName writes the number of a Key in words, where there are words.
func ValueName(o Operation, value uint32) string { return string(AppendValue(nil, o, value)) }

// AppendValue is ValueName without an allocation.
func AppendValue(dst []byte, o Operation, value uint32) []byte {
	switch {
	case o == OpCapability && int(value) < len(capabilityNames):
		return append(dst, capabilityNames[value]...)
	case o == OpPtrace:
		what := "attach"
		if value&PtraceRead != 0 {
			what = "read"
		}
		dst = append(dst, what...)
		if value&PtraceOther != 0 {
			dst = append(dst, " other workload"...)
		}
		return dst
	case o == OpNamespace && namespaceName(value) != "":
		verb := "new "
		if value&NamespaceEntered != 0 {
			verb = "enter "
		}
		return append(append(dst, verb...), namespaceName(value)...)
	case o == OpSyscall:
		return syscalls.Call(value).Append(dst)
	}
	return strconv.AppendUint(dst, uint64(value), 10)
}

// namespaceName is the name of the kind in OpNamespace's value, "" if it has none.
func namespaceName(value uint32) string {
	if kind := value &^ NamespaceEntered; int(kind) < len(namespaceNames) {
		return namespaceNames[kind]
	}
	return ""
}

// Namespaces lists the values of OpNamespace that have names.
func Namespaces() (values []uint32) {
	for kind, name := range namespaceNames {
		if name != "" {
			values = append(values, uint32(kind), uint32(kind)|NamespaceEntered)
		}
	}
	return values
}

// AppendCapabilities writes the names of a set of capabilities, in the order of their numbers and with spaces
// between them. One that has no name yet is its number.
func AppendCapabilities(dst []byte, set uint64) []byte {
	for from := len(dst); set != 0; set &= set - 1 {
		if len(dst) > from {
			dst = append(dst, ' ')
		}
		dst = AppendValue(dst, OpCapability, uint32(bits.TrailingZeros64(set)))
	}
	return dst
}

// ParseValue reads what ValueName writes, and plain numbers.
func ParseValue(o Operation, s string) (uint32, error) {
	if o == OpSyscall {
		c, err := syscalls.Parse(s)
		return uint32(c), err
	}
	if n, err := strconv.ParseUint(s, 10, 32); err == nil {
		return uint32(n), nil
	}
	if o == OpCapability {
		for i, n := range capabilityNames {
			if n == s {
				return uint32(i), nil
			}
		}
	}
	if o == OpNamespace {
		for _, v := range Namespaces() {
			if ValueName(o, v) == s {
				return v, nil
			}
		}
	}
	if o == OpPtrace {
		for _, v := range []uint32{PtraceRead, PtraceAttach, PtraceRead | PtraceOther, PtraceAttach | PtraceOther} {
			if ValueName(o, v) == s {
				return v, nil
			}
		}
	}
	return 0, fmt.Errorf("unknown value %.60q of %s", s, o)
}
