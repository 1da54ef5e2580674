package rule

import (
	"strings"

	"github.com/plumbline-io/plumbline/pkg/event"
)

// unixes are the operations on Unix sockets.
func unixes() classes { return opsOf(event.OpUnixConnect, event.OpUnixBind) }

// sockets are the operations on IP sockets.
func sockets() classes { return opsWhere(event.Operation.OnAddress) }

// descriptorType is what a file descriptor is about, with Falco's letter; "" where there is none.
func descriptorType(e *Env) (name, letter string) {
	switch a := &e.Event.Access; {
	case a.Op == event.OpRead || a.Op == event.OpWrite || a.Op == event.OpCreate:
		return "file", "f"
	case a.Op == event.OpUnixConnect || a.Op == event.OpUnixBind || a.Op == event.OpDup && a.Protocol == 0:
		return "unix", "u"
	case a.Op.OnAddress() && a.Address.IsValid() && a.Address.Addr().Unmap().Is4():
		return "ipv4", "4"
	case a.Op.OnAddress() && a.Address.IsValid():
		return "ipv6", "6"
	}
	return "", ""
}

// fileFields are of the descriptor that the operation makes or uses.
func fileFields() []field {
	all := descriptors() | unixes() | sockets()
	num := number("fd.num", descriptors()|accepts()|dups(), rawResult)
	num.vague = true
	name := text("fd.name", all, func(e *Env) string {
		switch _, letter := descriptorType(e); letter {
		case "":
			return ""
		case "f", "u":
			return e.Event.Access.Path
		}
		return endpoint(e)
	})
	name.writes = true
	paths := opsWhere(event.Operation.OnPath) &^ (opsOf(event.OpExec) | unixes())
	path := text("fs.path.name", paths, func(e *Env) string { return e.Event.Access.Path })
	return append([]field{path}, grouped('B', num, name,
		text("fd.directory", descriptors(), func(e *Env) string {
			path := e.Event.Access.Path
			switch i := strings.LastIndexByte(path, '/'); i {
			case -1:
				return ""
			case 0:
				return "/"
			default:
				return path[:i]
			}
		}),
		text("fd.nameraw", opsOf(event.OpRead, event.OpWrite), func(e *Env) string { return e.Event.Access.Said }),
		text("fd.filename", descriptors(), func(e *Env) string { return base(e.Event.Access.Path) }),
		shared(text("fd.type", all, func(e *Env) string { name, _ := descriptorType(e); return name })),
		shared(text("fd.typechar", all, func(e *Env) string { _, letter := descriptorType(e); return letter })),
	)...)
}
