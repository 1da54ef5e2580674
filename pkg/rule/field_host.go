package rule

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
)

// Names knows which names of hosts an address has, among those that rules ask for (Ruleset.Hosts).
type Names interface {
	// Of lists them in order. The caller does not change the list. It is called by the goroutine that matches, and
	// neither waits nor allocates.
	Of(addr netip.Addr) []string
}

// NameTable is what is known of names at one time. It is immutable and safe for concurrent use; nil knows nothing.
type NameTable struct{ of map[netip.Addr][]string }

// NewNameTable makes a table of the addresses of each name.
func NewNameTable(addresses map[string][]netip.Addr) *NameTable {
	t := &NameTable{of: map[netip.Addr][]string{}}
	for _, host := range slices.Sorted(maps.Keys(addresses)) {
		name := hostName(host)
		for _, a := range addresses[host] {
			a = a.Unmap().WithZone("")
			if names := t.of[a]; !slices.Contains(names, name) {
				t.of[a] = append(names, name)
			}
		}
	}
	return t
}

// ParseNames reads the addresses of each name.
func ParseNames(texts map[string][]string) (*NameTable, error) {
	addresses := make(map[string][]netip.Addr, len(texts))
	for name, list := range texts {
		if !isHostName(name) {
			return nil, fmt.Errorf("names: %.60q is no name of a host", name)
		}
		for _, text := range list {
			a, err := netip.ParseAddr(text)
			if err != nil {
				return nil, fmt.Errorf("names: %w", err)
			}
			addresses[name] = append(addresses[name], a)
		}
	}
	return NewNameTable(addresses), nil
}

// Of implements Names.
func (t *NameTable) Of(addr netip.Addr) []string {
	if t == nil {
		return nil
	}
	return t.of[addr]
}

// hostName is the one way in which a name is written here: whether a letter is small or large, or whether the name ends
// with the dot of the root, makes no other name of it. A name that has a dot is asked for as if it ended with one.
func hostName(s string) string { return strings.ToLower(strings.TrimSuffix(s, ".")) }

// isHostName says whether a text can be asked of a name server: parts of letters, digits, hyphens and underscores. An
// address is its own name.
func isHostName(s string) bool {
	const longest, longestPart = 253, 63
	if _, err := netip.ParseAddr(s); err == nil {
		return true
	}
	if s = hostName(s); s == "" || len(s) > longest {
		return false
	}
	for part := range strings.SplitSeq(s, ".") {
		if part == "" || len(part) > longestPart || strings.Trim(part, "abcdefghijklmnopqrstuvwxyz0123456789-_") != "" {
			return false
		}
	}
	return true
}

// hosted compares the names of an address. As with Falco, an address that none of the names is known to have is not
// theirs; who has no address at all is nobody.
func hosted(f *field, op string, values []string) (check, string) {
	if !isEqual(op) && op != "!=" {
		return nil, f.name + " is the name of a host and has only the operators exists, =, != and in: which addresses it has is asked for, not which names they have"
	}
	wanted := make([]string, len(values))
	for i, v := range values {
		if !isHostName(v) {
			return nil, f.name + " is the name of a host, " + shorten(v) + " is none"
		}
		wanted[i] = hostName(v)
	}
	is, differs := member(wanted), op == "!="
	return func(e *Env) bool {
		a, ok := f.host(e)
		return ok && slices.ContainsFunc(namesOf(e, a), is) != differs
	}, ""
}

func namesOf(e *Env, a netip.Addr) []string {
	if e.Names == nil {
		return nil
	}
	return e.Names.Of(a)
}

// hostFields are names of the ends of a connection.
func hostFields() []field {
	var fields []field
	for _, end := range socketFields() {
		if name := end.name; name != "fd.sip" && name != "fd.cip" && name != "fd.lip" && name != "fd.rip" {
			continue
		}
		host := only(end.classes, end.addr)
		fields = append(fields, field{
			name: end.name + ".name", group: 'E', classes: end.classes, host: host,
			at: func(e *Env, i int) (string, bool) {
				a, ok := host(e)
				if names := namesOf(e, a); ok && i > 0 && i <= len(names) {
					return names[i-1], true
				}
				return "", false
			},
		})
	}
	return fields
}

// Hosts lists the names that the rules in force ask for, each once, in order.
func (s *Ruleset) Hosts() []string {
	names := map[string]struct{}{}
	for _, r := range s.rules {
		r.tree.walk(func(n *node, _ bool) {
			if n.field == nil || n.field.host == nil {
				return
			}
			for _, v := range n.operands {
				names[hostName(v)] = struct{}{}
			}
		})
	}
	return slices.Sorted(maps.Keys(names))
}
