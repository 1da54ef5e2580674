package rule

import (
	"math/bits"

	"github.com/plumbline-io/plumbline/pkg/event"
)

// classes is a set of classes of events: the kinds, for kind Access the operations, of which OpCreate and OpDup have
// three each and OpNamespace two, and alerts. Rules are kept by class, so that an event meets only rules that can match it.
type classes uint64

const (
	directoryClass = int(event.KindCount) + int(event.OpCount) + iota // OpCreate of a directory
	linkClass                                                         // OpCreate of a symbolic link
	dup2Class                                                         // OpDup by dup2
	dup3Class                                                         // OpDup by dup3
	enteredClass                                                      // OpNamespace of one that was there before
	alertClass
	classCount = alertClass + 1

	manifold   = 3 // classes that OpCreate has, and OpDup
	allClasses = classes(1<<classCount - 1)
)

// alerts is the class of what rules raise.
func alerts() classes { return 1 << alertClass }

// class of what is asked about: the event, or an alert that it raised.
func (e *Env) class() int {
	if e.Alert != nil {
		return alertClass
	}
	return classOf(e.Event)
}

// classOf is the class of an event; 0, which no rule has, is for what nobody knows.
func classOf(ev *event.Event) int {
	switch {
	case ev.Kind == event.Access && ev.Access.Op == event.OpCreate && ev.Access.Mode&event.TypeMask == event.TypeDirectory:
		return directoryClass
	case ev.Kind == event.Access && ev.Access.Op == event.OpCreate && ev.Access.Mode&event.TypeMask == event.TypeLink:
		return linkClass
	case ev.Kind == event.Access && ev.Access.Op == event.OpDup && ev.Access.Call == "dup2":
		return dup2Class
	case ev.Kind == event.Access && ev.Access.Op == event.OpDup && ev.Access.Call == "dup3":
		return dup3Class
	case ev.Kind == event.Access && ev.Access.Op == event.OpNamespace && ev.Access.Value&event.NamespaceEntered != 0:
		return enteredClass
	case ev.Kind == event.Access && ev.Access.Op < event.OpCount:
		return int(event.KindCount) + int(ev.Access.Op)
	case ev.Kind < event.Access:
		return int(ev.Kind)
	}
	return 0
}

// kindsOf is the set of kinds, with all operations of Access.
func kindsOf(list ...event.Kind) classes {
	var set classes
	for _, k := range list {
		if k == event.Access {
			set |= opsWhere(func(o event.Operation) bool { return o > event.OpExec }) // that has kinds of its own
			continue
		}
		set |= 1 << k
	}
	return set
}

// opsOf is the set of operations of Access.
func opsOf(list ...event.Operation) classes {
	var set classes
	for _, o := range list {
		set |= 1 << (int(event.KindCount) + int(o))
		switch o {
		case event.OpCreate:
			set |= directories() | links()
		case event.OpDup:
			set |= 1<<dup2Class | 1<<dup3Class
		case event.OpNamespace:
			set |= 1 << enteredClass
		}
	}
	return set
}

func directories() classes { return 1 << directoryClass }
func links() classes       { return 1 << linkClass }

// operationOf a class; false: it is none of Access.
func operationOf(class int) (event.Operation, bool) {
	switch {
	case class == directoryClass || class == linkClass:
		return event.OpCreate, true
	case class == dup2Class || class == dup3Class:
		return event.OpDup, true
	case class == enteredClass:
		return event.OpNamespace, true
	case class < int(event.KindCount) || class == alertClass:
		return event.OpUnspecified, false
	}
	return event.Operation(class - int(event.KindCount)), true
}

// opsWhere is the set of operations that are so.
func opsWhere(is func(event.Operation) bool) classes {
	var set classes
	for o := range event.OpCount {
		if is(o) {
			set |= opsOf(o)
		}
	}
	return set
}

func (s classes) has(class int) bool { return s&(1<<class) != 0 }

// ofKind says whether the set has a class of a kind.
func (s classes) ofKind(k event.Kind) bool { return s&kindsOf(k) != 0 }

// each calls f with every class of the set.
func (s classes) each(f func(class int)) {
	for ; s != 0; s &= s - 1 {
		f(bits.TrailingZeros64(uint64(s)))
	}
}

// classType is Falco's name of what happened, or ours where Falco has none.
func classType(class int) string {
	switch {
	case class == alertClass:
		return "alert"
	case class < int(event.KindCount):
		return kindType(event.Kind(class))
	case class == directoryClass:
		return "mkdirat"
	case class == linkClass:
		return "symlinkat"
	case class == dup2Class:
		return "dup2"
	case class == dup3Class:
		return "dup3"
	case class == enteredClass:
		return "setns"
	}
	return operationType(event.Operation(class - int(event.KindCount)))
}

func kindType(k event.Kind) string {
	switch k {
	case event.Exec, event.ExecCheck:
		return "execve"
	case event.Fork:
		return "clone"
	case event.Exit:
		return "procexit"
	case event.Handshake:
		return "tls_handshake"
	case event.Pause:
		return "stw_pause"
	default:
		return k.String()
	}
}

// operationTypes name an operation by the newest of its system calls: which one it was is not known.
var operationTypes = [...]string{
	event.OpExec: "execve", event.OpLibrary: "mmap", event.OpRead: "openat", event.OpWrite: "openat", event.OpCreate: "openat",
	event.OpDelete: "unlinkat", event.OpRename: "renameat", event.OpLink: "linkat", event.OpAttributes: "fchmodat",
	event.OpMount: "mount", event.OpUnixConnect: "connect", event.OpUnixBind: "bind", event.OpConnect: "connect",
	event.OpBind: "bind", event.OpListen: "listen", event.OpSend: "sendto", event.OpSocket: "socket",
	event.OpCapability: "capable", event.OpPtrace: "ptrace", event.OpUserns: "unshare", event.OpModule: "finit_module",
	event.OpBPF: "bpf", event.OpPerf: "perf_event_open", event.OpIOUring: "io_uring_setup", event.OpUserfault: "userfaultfd",
	event.OpSetuid: "setuid", event.OpSetgid: "setgid", event.OpSignal: "kill", event.OpKeyctl: "keyctl", event.OpSyscall: "syscall",
	event.OpAccept: "accept4", event.OpDup: "dup", event.OpDNSQuery: "dns_query", event.OpTCPBegin: "tcp_begin", event.OpNamespace: "unshare",
	// Beside an execution, and not one more.
	event.OpExecAsRoot: "exec_as_root", event.OpExecAsUser: "exec_as_user", event.OpExecAsGroup: "exec_as_group",
	event.OpExecWithCapabilities: "exec_with_capabilities",
}

func operationType(o event.Operation) string {
	if int(o) < len(operationTypes) && operationTypes[o] != "" {
		return operationTypes[o]
	}
	return event.Access.String()
}
