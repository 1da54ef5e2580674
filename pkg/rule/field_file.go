package rule

import (
	"net/netip"
	"strconv"
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
	case a.Op == event.OpUnixConnect || a.Op == event.OpUnixBind:
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
	num := number("fd.num", descriptors(), rawResult)
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

// endpoint writes the address and port that are known: the remote ones, or the local ones of a server.
func endpoint(e *Env) string {
	a := &e.Event.Access
	from := len(e.text)
	e.text = netip.AddrPortFrom(a.Address.Addr().Unmap(), a.Port).AppendTo(e.text)
	return e.since(from)
}

// socketFields are of IP sockets. An event knows one end: the remote one of connect and send, which is
// the server then, and the local one of bind and listen, the server too.
func socketFields() []field {
	remote, local := opsOf(event.OpConnect, event.OpSend), opsOf(event.OpBind, event.OpListen)
	addr := func(name string, set classes) field {
		return address(name, set, func(e *Env) (netip.Addr, bool) {
			prefix := e.Event.Access.Address
			return prefix.Addr().Unmap(), prefix.IsValid()
		})
	}
	port := func(name string, set classes) field {
		return number(name, set, func(e *Env) (int64, bool) { return int64(e.Event.Access.Port), true })
	}
	protocol := shared(text("fd.l4proto", sockets(), protocolName))
	protocol.writes = true
	return grouped('C', protocol,
		addr("fd.ip", remote|local), addr("fd.sip", remote|local), addr("fd.rip", remote), addr("fd.lip", local),
		addr("fd.net", remote|local), addr("fd.snet", remote|local), addr("fd.rnet", remote), addr("fd.lnet", local),
		port("fd.port", remote|local), port("fd.sport", remote|local), port("fd.rport", remote), port("fd.lport", local),
		shared(text("fd.sockfamily", unixes()|sockets(), func(e *Env) string {
			switch _, letter := descriptorType(e); letter {
			case "u":
				return "unix"
			case "4", "6":
				return "ip"
			}
			return ""
		})),
		// OpSend is a datagram of a socket that is not connected, told once for each destination.
		flag("fd.connected", opsOf(event.OpSend), func(*Env) bool { return false }),
		flag("fd.name_changed", opsOf(event.OpSend), func(*Env) bool { return true }),
	)
}

func protocolName(e *Env) string {
	switch p := e.Event.Access.Protocol; p {
	case event.ProtocolTCP:
		return "tcp"
	case event.ProtocolUDP:
		return "udp"
	case 1:
		return "icmp"
	case 255:
		return "raw"
	default:
		from := len(e.text)
		e.text = strconv.AppendUint(e.text, uint64(p), 10)
		return e.since(from)
	}
}
