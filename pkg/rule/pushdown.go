package rule

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/plumbline-io/plumbline/pkg/event"
)

// tests is what a check asks of the path, address, port or protocol of an event.
func (n *node) tests(class int) bound {
	f := n.field
	if f == nil || f.list != nil {
		return bound{} // another field is compared, or a list
	}
	// With a modifier at least one value fits too; that is exact only if any will do.
	loose := n.check.modifier == "oneof" || n.check.modifier == "allof"
	var b bound
	switch {
	case isPathOf(f.name, class):
		b = pathBound(n.check.op, n.operands)
	case isNameOf(f.name, class):
		b = nameBound(n.check.op, n.operands)
	case f.name == "fd.directory":
		b = directoryBound(n.check.op, n.operands)
	case f.addr != nil && isEqual(n.check.op) && f.isKeyed(class):
		b = networkBound(n.operands)
	case isPort(f.name) && f.isKeyed(class):
		b = portBound(n.check.op, n.operands)
	case f.name == "fd.l4proto" && isEqual(n.check.op):
		b = protocolBound(n.operands)
	case f.name == "container.id":
		b = containerBound(n.check.op, n.operands)
	case f.name == nameLength:
		b = lengthBound(n.check.op, n.operands)
	default:
		if op, ok := operationOf(class); ok {
			b = valueBound(f.name, op, n.check.op, n.operands)
		}
	}
	b.exact = b.exact && !loose
	return b
}

func isEqual(op string) bool { return op == "=" || op == "==" || op == "in" || op == "intersects" }

// isPathOf says whether a field is the path of the events of a class.
func isPathOf(name string, class int) bool {
	switch name {
	case "proc.exepath":
		return execs().has(class)
	case "fd.name":
		return (descriptors() | unixes()).has(class)
	case "evt.arg.filename":
		return opsOf(event.OpAttributes).has(class)
	case "fs.path.name", "evt.path", "evt.arg.path", "evt.arg.name", "evt.arg.oldpath", "evt.arg.newpath":
		return true
	}
	return false
}

func isPort(name string) bool {
	switch name {
	case "fd.port", "fd.sport", "fd.rport", "fd.lport":
		return true
	}
	return false
}

// isNameOf says whether a field is the last name of the path of the events of a class.
func isNameOf(name string, class int) bool {
	of, ok := strings.CutPrefix(name, "basename(")
	return name == "fd.filename" || ok && isPathOf(strings.TrimSuffix(of, ")"), class)
}

// nameBound: a name is the path itself, or what follows its last slash.
func nameBound(op string, values []string) bound {
	b := bound{exact: true, paths: []PathTest{}}
	for _, v := range values {
		switch {
		case v == "" || !isEqual(op):
			return bound{}
		case !strings.Contains(v, "/"):
			b.paths = append(b.paths, PathTest{Text: v})
			b.addSuffix("/" + v)
		}
	}
	return b.pathsOrAny()
}

// pathBound: an empty path is none, so no test on one passes.
func pathBound(op string, values []string) bound {
	b := bound{exact: true, paths: []PathTest{}}
	for _, v := range values {
		switch op {
		case "=", "==", "in", "intersects":
			if v != "" {
				b.paths = append(b.paths, PathTest{Text: v})
			}
		case "startswith":
			b.addPrefix(v)
		case "endswith":
			b.addSuffix(v)
		case "glob":
			b.exact = false
			b.addGlob(v)
		case "pmatch":
			b.addBelow(v)
		default:
			return bound{}
		}
	}
	return b.pathsOrAny()
}

// addPrefix adds paths that begin so. All begin with nothing.
func (b *bound) addPrefix(prefix string) {
	b.paths = append(b.paths, PathTest{Text: prefix, Prefix: true})
}

// addSuffix adds paths that end so. All end with nothing.
func (b *bound) addSuffix(suffix string) {
	b.paths = append(b.paths, PathTest{Text: suffix, Suffix: true})
}

// addGlob adds paths that begin as a pattern does, or that end so.
func (b *bound) addGlob(pattern string) {
	prefix := literal(pattern)
	if prefix == "" {
		b.addSuffix(pattern[strings.LastIndexAny(pattern, `*?]\`)+1:])
		return
	}
	b.addPrefix(prefix)
}

// addBelow adds a path and all below it, up to the first wildcard. The kernel writes no slash twice.
func (b *bound) addBelow(value string) {
	if !strings.HasPrefix(value, "/") {
		b.exact = false // the name of an abstract socket may have any slashes
		name, _, _ := strings.Cut(value, "/")
		b.addPrefix(literal(name))
		return
	}
	path := ""
	for name := range strings.SplitSeq(value, "/") {
		known := literal(name)
		if known != name {
			b.exact = false
			b.addPrefix(path + "/" + known)
			return
		}
		if name != "" {
			path += "/" + name
		}
	}
	b.addPrefix(path + "/")
	if path != "" {
		b.paths = append(b.paths, PathTest{Text: path})
	}
}

// pathsOrAny: a prefix or suffix of nothing is no test at all.
func (b *bound) pathsOrAny() bound {
	if slices.ContainsFunc(b.paths, func(t PathTest) bool { return (t.Prefix || t.Suffix) && t.Text == "" }) {
		return bound{}
	}
	b.never = len(b.paths) == 0
	return *b
}

// literal is what stands before the first wildcard.
func literal(pattern string) string {
	if i := strings.IndexAny(pattern, `*?[\`); i >= 0 {
		return pattern[:i]
	}
	return pattern
}

// directoryBound: a path begins with its directory and a slash.
func directoryBound(op string, values []string) bound {
	b := bound{paths: []PathTest{}}
	for _, v := range values {
		switch op {
		case "=", "==", "in", "intersects":
			if v != "" {
				b.addPrefix(strings.TrimSuffix(v, "/") + "/")
			}
		case "startswith":
			b.addPrefix(v)
		default:
			return bound{}
		}
	}
	return b.pathsOrAny()
}

func networkBound(values []string) bound {
	b := bound{exact: true, networks: []netip.Prefix{}}
	for _, v := range values {
		prefix, ok := parseNetwork(v)
		if !ok {
			return bound{}
		}
		b.networks = append(b.networks, prefix)
	}
	b.never = len(b.networks) == 0
	return b
}

func portBound(op string, values []string) bound {
	b := bound{exact: true, ports: []PortRange{}}
	for _, v := range values {
		n, err := parseNumber(v)
		if err != nil {
			return bound{}
		}
		low, high := n, n
		if !isEqual(op) {
			var ok bool
			if low, high, ok = interval(op, []int64{n}); !ok {
				return bound{}
			}
		}
		const most = 1<<16 - 1
		if low, high = max(low, 0), min(high, most); low <= high {
			b.ports = append(b.ports, PortRange{uint16(low), uint16(high)})
		}
	}
	b.never = len(b.ports) == 0
	return b
}

func protocolBound(values []string) bound {
	b := bound{exact: true, protocols: []event.Protocol{}}
	for _, v := range values {
		switch n, err := strconv.ParseUint(v, 10, 8); {
		case v == "icmp":
			b.protocols = append(b.protocols, 1)
		case v == "raw":
			b.protocols = append(b.protocols, 255)
		case v == "tcp" || v == "udp":
			p, _ := event.ParseProtocol(v) // one of those that it knows
			b.protocols = append(b.protocols, p)
		case err == nil && v == strconv.FormatUint(n, 10) && n != 1 && n != 6 && n != 17 && n != 255:
			b.protocols = append(b.protocols, event.Protocol(n))
		}
	}
	b.never = len(b.protocols) == 0
	return b
}

// containerBound: whether it is a container at all, the kernel knows; which one it is it does not.
func containerBound(op string, values []string) bound {
	var where Where
	all := true
	for _, v := range values {
		if v == "host" {
			where |= OnHost
		} else {
			where |= InContainers
			all = false
		}
	}
	switch {
	case isEqual(op) && len(values) > 0:
		return bound{exact: all, where: where}
	case op == "!=" && where == OnHost:
		return bound{exact: true, where: InContainers}
	}
	return bound{}
}

// valueBound is what a check asks of the number of an operation, however it writes it.
func valueBound(name string, o event.Operation, op string, values []string) bound {
	if !o.OnNumber() || !isEqual(op) && op != "startswith" || len(values) > maxTests {
		return bound{}
	}
	candidates := candidatesOf(name, o, values)
	if candidates == nil || op == "startswith" && o != event.OpPtrace {
		return bound{} // there are more numbers than can be tried
	}
	b := bound{exact: true, values: []ValueTest{}}
	among := make(map[string]bool, len(values))
	for _, v := range values {
		among[v] = true
	}
	for _, c := range candidates {
		written := writeValue(name, o, c.Value)
		if among[written] || op == "startswith" && slices.ContainsFunc(values, func(v string) bool { return strings.HasPrefix(written, v) }) {
			b.values = append(b.values, c)
		}
	}
	b.never = len(b.values) == 0
	return b
}

// candidatesOf lists the numbers that the texts can stand for, each once; nil: the field is not one.
func candidatesOf(name string, o event.Operation, values []string) []ValueTest {
	bits, names, shift := 32, 0, 0
	var named []uint32
	switch {
	case o == event.OpPtrace && (name == "evt.value" || name == "evt.arg.request"):
		return []ValueTest{
			{event.PtraceRead, 32}, {event.PtraceAttach, 32}, {event.PtraceRead | event.PtraceOther, 32}, {event.PtraceAttach | event.PtraceOther, 32},
		}
	case o == event.OpNamespace && name == "evt.value":
		named = event.Namespaces()
	case o == event.OpBPF && name == "evt.arg.cmd":
		names = len(bpfCommands)
	case o == event.OpSocket && name == "evt.arg.domain":
		bits, names, shift = 16, 64, 16
	case name == "evt.value":
		names = 64 // of capabilities
	case name != "evt.arg.uid":
		return nil
	}
	all, known := []ValueTest{}, map[ValueTest]bool{}
	add := func(n uint32) {
		if t := (ValueTest{n << shift, bits}); !known[t] {
			known[t] = true
			all = append(all, t)
		}
	}
	for n := range uint32(names) {
		add(n)
	}
	for _, n := range named {
		add(n)
	}
	for _, v := range values {
		if n, err := strconv.ParseUint(v, 10, bits); err == nil {
			add(uint32(n))
		}
	}
	return all
}

// writeValue is the text of a field that stands for a number.
func writeValue(name string, o event.Operation, n uint32) string {
	switch name {
	case "evt.arg.request":
		return string(ptraceRequest(nil, n))
	case "evt.arg.cmd":
		return string(bpfCommand(nil, n))
	case "evt.arg.domain":
		return string(socketDomain(nil, n))
	case "evt.arg.uid":
		return strconv.FormatUint(uint64(n), 10)
	}
	return event.ValueName(o, n)
}
