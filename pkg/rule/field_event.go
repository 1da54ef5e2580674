package rule

import (
	"strconv"

	"github.com/plumbline-io/plumbline/pkg/event"
)

func execs() classes { return kindsOf(event.Exec, event.ExecCheck) }

func isExec(ev *event.Event) bool { return ev.Kind == event.Exec || ev.Kind == event.ExecCheck }

// opens are the operations that open or make a file.
func opens() classes { return opsOf(event.OpRead, event.OpWrite, event.OpCreate) }

// results are the classes of system calls whose outcome is known.
func results() classes { return execs() | kindsOf(event.Access) }

func eventFields() []field {
	verdict := text("evt.verdict", allClasses, func(e *Env) string { return e.Event.Verdict.String() })
	verdict.words = []string{event.Allow.String(), event.Audit.String(), event.Deny.String()}
	hook := text("evt.hook", allClasses, func(e *Env) string { return e.Event.Hook.String() })
	for h := event.HookTracepoint; h <= event.HookCgroup; h++ {
		hook.words = append(hook.words, h.String())
	}
	operation := text("evt.operation", kindsOf(event.Access), func(e *Env) string { return e.Event.Access.Op.String() })
	for o := event.OpExec; o < event.OpCount; o++ {
		operation.words = append(operation.words, o.String())
	}
	rawres := number("evt.rawres", results(), rawResult)
	rawres.vague = true
	fields := []field{
		verdict, hook, operation, written(text("evt.value", opsWhere(event.Operation.OnNumber), operationValue))[0],
		text("evt.path", opsWhere(event.Operation.OnPath)&kindsOf(event.Access), func(e *Env) string { return e.Event.Access.Path }),
		text("evt.key", kindsOf(event.Access), func(e *Env) string { return e.Event.Access.Key.String() }),
		// Older rules of Falco ask for the end of a call, which is where we are.
		text("evt.dir", allClasses, func(*Env) string { return "<" }),
		number("evt.time", allClasses, func(e *Env) (int64, bool) { return e.Wall, true }),
		number("evt.rawtime", allClasses, func(e *Env) (int64, bool) { return e.Wall, true }),
		flag("evt.failed", results(), func(e *Env) bool { return e.Event.Verdict == event.Deny }),
	}
	return append(fields, grouped('B',
		text("evt.type", allClasses, func(e *Env) string { return classType(e.class()) }),
		text("evt.res", results(), func(e *Env) string {
			if e.Event.Verdict == event.Deny {
				return "EPERM"
			}
			return "SUCCESS"
		}),
		rawres,
		flag("evt.is_open_read", opens(), func(e *Env) bool { return e.Event.Access.Op == event.OpRead }),
		flag("evt.is_open_write", opens(), func(e *Env) bool { return e.Event.Access.Op != event.OpRead }),
	)...)
}

// operationValue is what the operation is about where that is a number, in words where it has some.
func operationValue(e *Env) string {
	from := len(e.text)
	e.text = event.AppendValue(e.text, e.Event.Access.Op, e.Event.Access.Value)
	return e.since(from)
}

// rawResult is what the system call returns, as far as it is known at the hook: whether it is refused.
func rawResult(e *Env) (int64, bool) {
	switch {
	case e.Event.Verdict == event.Deny:
		return -1, true // EPERM
	case e.Event.Kind == event.Exec:
		return 0, true
	}
	return notNegative, true
}

// argumentFields are arguments of system calls.
func argumentFields() []field {
	path := func(name string, set classes) field {
		return text(name, set, func(e *Env) string { return e.Event.Access.Path })
	}
	value := func(name string, op event.Operation, write func(dst []byte, value uint32) []byte) field {
		f := text(name, opsOf(op), func(e *Env) string {
			from := len(e.text)
			e.text = write(e.text, e.Event.Access.Value)
			return e.since(from)
		})
		f.writes = true
		return f
	}
	filename := text("evt.arg.filename", execs()|opsOf(event.OpAttributes), func(e *Env) string {
		if isExec(e.Event) {
			return e.Event.Exec.Filename
		}
		return e.Event.Access.Path
	})
	twoNames := opsOf(event.OpRename, event.OpLink)
	return grouped('B', filename,
		path("evt.arg.path", opens()|opsOf(event.OpDelete, event.OpAttributes)),
		path("evt.arg.name", opens()|opsOf(event.OpDelete)),
		// The kernel asks for the old name and for the new one, each in an event of its own.
		path("evt.arg.oldpath", twoNames), path("evt.arg.newpath", twoNames),
		value("evt.arg.uid", event.OpSetuid, func(dst []byte, v uint32) []byte { return strconv.AppendUint(dst, uint64(v), 10) }),
		value("evt.arg.request", event.OpPtrace, ptraceRequest),
		value("evt.arg.cmd", event.OpBPF, bpfCommand),
		value("evt.arg.domain", event.OpSocket, socketDomain),
	)
}

// ptraceRequest stands for all requests of its kind: the hook tells apart only what they are for.
func ptraceRequest(dst []byte, v uint32) []byte {
	if v&event.PtraceRead != 0 {
		return append(dst, "PTRACE_PEEKDATA"...)
	}
	return append(dst, "PTRACE_ATTACH"...)
}

// bpfCommands are the commands of bpf(2) in the order of include/uapi/linux/bpf.h.
var bpfCommands = [...]string{
	"MAP_CREATE", "MAP_LOOKUP_ELEM", "MAP_UPDATE_ELEM", "MAP_DELETE_ELEM", "MAP_GET_NEXT_KEY", "PROG_LOAD", "OBJ_PIN",
	"OBJ_GET", "PROG_ATTACH", "PROG_DETACH", "PROG_TEST_RUN", "PROG_GET_NEXT_ID", "MAP_GET_NEXT_ID", "PROG_GET_FD_BY_ID",
	"MAP_GET_FD_BY_ID", "OBJ_GET_INFO_BY_FD", "PROG_QUERY", "RAW_TRACEPOINT_OPEN", "BTF_LOAD", "BTF_GET_FD_BY_ID",
	"TASK_FD_QUERY", "MAP_LOOKUP_AND_DELETE_ELEM", "MAP_FREEZE", "BTF_GET_NEXT_ID", "MAP_LOOKUP_BATCH",
	"MAP_LOOKUP_AND_DELETE_BATCH", "MAP_UPDATE_BATCH", "MAP_DELETE_BATCH", "LINK_CREATE", "LINK_UPDATE",
	"LINK_GET_FD_BY_ID", "LINK_GET_NEXT_ID", "ENABLE_STATS", "ITER_CREATE", "LINK_DETACH", "PROG_BIND_MAP",
}

func bpfCommand(dst []byte, v uint32) []byte {
	if int(v) < len(bpfCommands) {
		return append(append(dst, "BPF_"...), bpfCommands[v]...)
	}
	return strconv.AppendUint(dst, uint64(v), 10)
}

// socketDomain names the address family of OpSocket's value.
func socketDomain(dst []byte, v uint32) []byte {
	switch family := v >> 16; family {
	case 1:
		return append(dst, "AF_UNIX"...)
	case 2:
		return append(dst, "AF_INET"...)
	case 10:
		return append(dst, "AF_INET6"...)
	case 15:
		return append(dst, "AF_KEY"...)
	case 16:
		return append(dst, "AF_NETLINK"...)
	case 17:
		return append(dst, "AF_PACKET"...)
	case 29:
		return append(dst, "AF_CAN"...)
	case 30:
		return append(dst, "AF_TIPC"...)
	case 38:
		return append(dst, "AF_ALG"...)
	case 40:
		return append(dst, "AF_VSOCK"...)
	case 44:
		return append(dst, "AF_XDP"...)
	default:
		return strconv.AppendUint(dst, uint64(family), 10)
	}
}

func workloadFields() []field {
	id := text("container.id", allClasses, func(e *Env) string {
		if e.Workload.ContainerID == "" {
			return "host" // as Falco says it
		}
		return e.Workload.ContainerID
	})
	id.group = 'D'
	return []field{
		id,
		text("workload.name", allClasses, func(e *Env) string { return e.Workload.Name }),
		text("workload.kind", allClasses, func(e *Env) string { return e.Workload.Kind }),
		text("workload.spiffe_id", allClasses, func(e *Env) string { return e.Workload.SPIFFEID }),
	}
}

func pauseFields() []field {
	pauses := kindsOf(event.Pause)
	return []field{
		flag("gc.is_gc", pauses, func(e *Env) bool { return e.Event.Pause.GC }),
		number("gc.pause_us", pauses, func(e *Env) (int64, bool) { return microseconds(e.Event.Pause.Total), true }),
		number("gc.stopping_us", pauses, func(e *Env) (int64, bool) {
			return microseconds(e.Event.Pause.Stopping), e.Event.Pause.Stopping != 0
		}),
		number("gc.reason", pauses, func(e *Env) (int64, bool) {
			return int64(e.Event.Pause.Reason), e.Event.Pause.Reason != 0
		}),
	}
}

func microseconds(ns uint64) int64 { return int64(ns / 1000) }
