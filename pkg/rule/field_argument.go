package rule

import (
	"strconv"
	"strings"

	"github.com/plumbline-io/plumbline/pkg/event"
)

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
	fields := grouped('B', filename,
		path("evt.arg.path", opens()|opsOf(event.OpDelete, event.OpAttributes)),
		path("evt.arg.name", opens()|opsOf(event.OpDelete)),
		// The kernel asks for the old name and for the new one, each in an event of its own.
		path("evt.arg.oldpath", twoNames), path("evt.arg.newpath", twoNames),
		value("evt.arg.uid", event.OpSetuid, func(dst []byte, v uint32) []byte { return strconv.AppendUint(dst, uint64(v), 10) }),
		value("evt.arg.request", event.OpPtrace, ptraceRequest),
		value("evt.arg.cmd", event.OpBPF, bpfCommand),
		value("evt.arg.domain", event.OpSocket, socketDomain),
		path("evt.arg.linkpath", links()),
		text("evt.arg.target", links(), func(e *Env) string { return e.Event.Access.Said }),
		detailed("evt.arg.flags", opsOf(event.OpRead, event.OpWrite), func(dst []byte, a *event.AccessInfo) []byte {
			return appendOpenFlags(dst, a.OpenFlags)
		}),
		detailed("evt.arg.mode", opens()&opsOf(event.OpCreate)|opsOf(event.OpAttributes), appendMode),
		field{name: "evt.is_open_exec", classes: descriptors(), flag: func(e *Env) (bool, bool) {
			a := &e.Event.Access
			return a.Op == event.OpCreate && a.Mode&event.TypeMask == event.TypeFile && a.Mode&anyMayExecute != 0, a.Detailed
		}},
	)
	all := allArguments(fields)
	info := all // by its older name
	info.name, info.group = "evt.info", 0
	return append(fields, all, info)
}

// anyMayExecute are the permissions of user, group and others to execute.
const anyMayExecute = 0o111

// detailed is written from what not all calls of an operation tell.
func detailed(name string, set classes, write func(dst []byte, a *event.AccessInfo) []byte) field {
	return field{name: name, classes: set, writes: true, text: func(e *Env) (string, bool) {
		from := len(e.text)
		if e.Event.Access.Detailed {
			e.text = write(e.text, &e.Event.Access)
		}
		return e.since(from), e.Event.Access.Detailed
	}}
}

// bit is a flag that has a name.
type bit struct {
	value uint32
	name  string
}

// appendBits writes the names of those that are set.
func appendBits(dst []byte, set uint32, names []bit) []byte {
	from := len(dst)
	for _, b := range names {
		if set&b.value == 0 {
			continue
		}
		if len(dst) > from {
			dst = append(dst, '|')
		}
		dst = append(dst, b.name...)
	}
	return dst
}

// appendOpenFlags writes flags of open(2), in Falco's order. Those that architectures number differently
// (O_DIRECTORY, O_NOFOLLOW, O_DIRECT, O_LARGEFILE) are left out.
func appendOpenFlags(dst []byte, flags uint32) []byte {
	from := len(dst)
	dst = appendBits(dst, flags, []bit{ // include/uapi/asm-generic/fcntl.h
		{0o1000, "O_TRUNC"},
		{0o4000000, "O_SYNC"},
		{0o4000, "O_NONBLOCK"},
		{0o200, "O_EXCL"},
		{0o10000, "O_DSYNC"},
		{0o2000, "O_APPEND"},
		{0o100, "O_CREAT"},
	})
	if len(dst) > from {
		dst = append(dst, '|')
	}
	switch flags & 3 {
	case 0:
		dst = append(dst, "O_RDONLY"...)
	case 1:
		dst = append(dst, "O_WRONLY"...)
	default:
		dst = append(dst, "O_RDWR"...)
	}
	return appendBits(dst, flags, []bit{{0o2000000, "|O_CLOEXEC"}})
}

// appendMode writes what chmod sets in words, in Falco's order, and the permissions of what is made as a number.
func appendMode(dst []byte, a *event.AccessInfo) []byte {
	if a.Op == event.OpCreate {
		return strconv.AppendUint(append(dst, '0'), uint64(a.Mode&^event.TypeMask), 8)
	}
	return appendBits(dst, a.Mode, []bit{ // include/uapi/linux/stat.h
		{0o001, "S_IXOTH"},
		{0o002, "S_IWOTH"},
		{0o004, "S_IROTH"},
		{0o010, "S_IXGRP"},
		{0o020, "S_IWGRP"},
		{0o040, "S_IRGRP"},
		{0o100, "S_IXUSR"},
		{0o200, "S_IWUSR"},
		{0o400, "S_IRUSR"},
		{0o1000, "S_ISVTX"},
		{0o2000, "S_ISGID"},
		{0o4000, "S_ISUID"},
	})
}

// allArguments is evt.args: those arguments that an event knows, in Falco's form.
func allArguments(fields []field) field {
	type argument struct {
		name string
		text func(*Env) (string, bool)
		in   classes
	}
	var list []argument
	set := sockets()
	for _, f := range fields {
		// A file has a name; that some calls say path for it, and rename both for one, is for rules that ask.
		name, ok := strings.CutPrefix(f.name, "evt.arg.")
		if !ok || name == "path" || name == "newpath" {
			continue
		}
		list = append(list, argument{name + "=", f.text, f.classes})
		set |= f.classes
	}
	return field{name: "evt.args", group: 'B', classes: set, writes: true, text: func(e *Env) (string, bool) {
		class, from := e.class(), len(e.text)
		if sockets().has(class) {
			e.text = append(e.text, "addr="...)
			endpoint(e)
		}
		for i := range list {
			a := &list[i]
			if !a.in.has(class) {
				continue
			}
			at := len(e.text)
			if at > from {
				e.text = append(e.text, ' ')
			}
			e.text = append(e.text, a.name...)
			begin := len(e.text)
			s, ok := a.text(e)
			switch written := len(e.text) > begin; {
			case !ok:
				e.text = e.text[:at]
			case !written:
				e.text = append(e.text, s...)
			}
		}
		return e.since(from), len(e.text) > from
	}}
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
