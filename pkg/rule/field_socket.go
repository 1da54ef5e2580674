package rule

import (
	"net/netip"
	"slices"
	"strconv"

	"github.com/plumbline-io/plumbline/pkg/event"
)

// endpoint writes the address and port that are known: the remote ones, or the local ones of a server; of a connection
// that was taken both ends, the client's first, and of a descriptor that was made both, ours first.
func endpoint(e *Env) string {
	a := &e.Event.Access
	from := len(e.text)
	switch a.Op {
	case event.OpAccept:
		e.text = netip.AddrPortFrom(a.Address.Addr().Unmap(), a.ClientPort).AppendTo(e.text)
		e.text = netip.AddrPortFrom(a.Local, a.Port).AppendTo(append(e.text, "->"...))
		return e.since(from)
	case event.OpDup:
		e.text = append(netip.AddrPortFrom(a.Local, a.LocalPort).AppendTo(e.text), "->"...)
	}
	e.text = netip.AddrPortFrom(a.Address.Addr().Unmap(), a.Port).AppendTo(e.text)
	return e.since(from)
}

// accepts are the connections that a server takes, of which both ends are known.
func accepts() classes { return opsOf(event.OpAccept) }

// dups are descriptors of sockets that a process makes of others. Which end is the client is not known of them.
func dups() classes { return opsOf(event.OpDup) }

// socketFields are of IP sockets. Of others than accepts and dups, an event knows one end: the remote one of connect and send,
// which is the server then, and the local one of bind and listen, the server too. That of a question to a name server is the remote one, and so is that
// of a connection that begins to carry data.
func socketFields() []field {
	remote, local, both := opsOf(event.OpConnect, event.OpSend, event.OpDNSQuery, event.OpTCPBegin), opsOf(event.OpBind, event.OpListen), accepts()
	either := both | dups()
	keyed := func(e *Env) (netip.Addr, bool) {
		prefix := e.Event.Access.Address
		return prefix.Addr().Unmap(), prefix.IsValid()
	}
	server := func(e *Env) (netip.Addr, bool) {
		a := &e.Event.Access
		if a.Op == event.OpAccept || a.Op == event.OpDup {
			return a.Local, a.Local.IsValid()
		}
		return keyed(e)
	}
	port := func(e *Env) (int64, bool) {
		a := &e.Event.Access
		return int64(a.Port), a.Op != event.OpDup || a.Protocol != 0
	}
	clientPort := func(e *Env) (int64, bool) { return int64(e.Event.Access.ClientPort), e.Event.Access.ClientPort != 0 }
	otherPort := func(e *Env) (int64, bool) {
		if e.Event.Access.Op == event.OpDup {
			return int64(e.Event.Access.LocalPort), e.Event.Access.LocalPort != 0
		}
		return clientPort(e)
	}
	localPort := func(e *Env) (int64, bool) {
		if e.Event.Access.Op == event.OpDup {
			return otherPort(e)
		}
		return port(e)
	}
	remotePort := func(e *Env) (int64, bool) {
		if e.Event.Access.Op == event.OpAccept {
			return clientPort(e)
		}
		return port(e)
	}
	protocol := shared(text("fd.l4proto", sockets(), protocolName))
	protocol.writes = true
	return grouped('C', protocol,
		eitherEnd(address("fd.ip", remote|local|either, keyed), address("fd.ip", either, server)),
		eitherEnd(address("fd.net", remote|local|either, keyed), address("fd.net", either, server)),
		eitherEnd(number("fd.port", remote|local|either, port), number("fd.port", either, otherPort)),
		address("fd.sip", remote|local|both, server), address("fd.snet", remote|local|both, server), number("fd.sport", remote|local|both, port),
		address("fd.cip", both, keyed), address("fd.cnet", both, keyed), number("fd.cport", both, clientPort),
		address("fd.rip", remote|either, keyed), address("fd.rnet", remote|either, keyed), number("fd.rport", remote|either, remotePort),
		address("fd.lip", local|either, server), address("fd.lnet", local|either, server), number("fd.lport", local|either, localPort),
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
		flag("fd.connected", opsOf(event.OpSend)|both, func(e *Env) bool { return e.Event.Access.Op == event.OpAccept }),
		flag("fd.name_changed", opsOf(event.OpSend), func(*Env) bool { return true }),
	)
}

// eitherEnd is a field of one end of a connection that compares the other one too, where it is known.
func eitherEnd(f, other field) field {
	other.addr, other.number = only(other.classes, other.addr), only(other.classes, other.number)
	f.other = &other
	return f
}

// ends compares both ends: as with Falco one of them is enough, but that it differs is said of both.
func (s *scope) ends(f *field, c *comparison, values []string) (check, int, string) {
	one := *f
	one.other = nil
	first, cost, message := s.compare(&one, c, values)
	if message != "" {
		return nil, 0, message
	}
	second, _, message := s.compare(f.other, c, values)
	if message != "" {
		return nil, 0, message
	}
	if there := existence(f.other); c.op == "!=" {
		return func(e *Env) bool { return first(e) && (second(e) || !there(e)) }, 2 * cost, ""
	}
	return func(e *Env) bool { return first(e) || second(e) }, 2 * cost, ""
}

// isKeyed says whether a field of an end of a connection is what the kernel compares in the events of a class: of a
// connection that a server takes, that is the client's address, and the server's port; of a descriptor that is made,
// the other end.
func (f *field) isKeyed(class int) bool {
	switch {
	case accepts().has(class):
		return slices.Contains([]string{"fd.cip", "fd.cnet", "fd.rip", "fd.rnet", "fd.sport", "fd.lport"}, f.name)
	case dups().has(class):
		return slices.Contains([]string{"fd.rip", "fd.rnet", "fd.rport"}, f.name)
	}
	return true
}

func protocolName(e *Env) string {
	switch p := e.Event.Access.Protocol; p {
	case 0: // of a Unix socket
		return ""
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
