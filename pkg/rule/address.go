package rule

import (
	"net/netip"
	"slices"
)

// addressed compares with addresses and networks.
func addressed(f *field, op string, values []string) (check, string) {
	var nets networks
	for _, v := range values {
		if !nets.add(v) {
			return nil, f.name + " is an address, " + shorten(v) + " is neither one nor a network"
		}
	}
	switch op {
	case "=", "==", "in", "intersects":
		return func(e *Env) bool { a, ok := f.addr(e); return ok && nets.hold(a) }, ""
	case "!=":
		return func(e *Env) bool { a, ok := f.addr(e); return ok && !nets.hold(a) }, ""
	}
	return nil, f.name + " is an address and has no operator " + op
}

// networks is a set of networks. An address is looked up once for each length of prefix that there is.
type networks struct {
	set     map[netip.Prefix]struct{}
	lengths []prefixLength
}

// prefixLength is that of the prefixes of one kind of address.
type prefixLength struct {
	is4  bool
	bits int
}

// parseNetwork reads a network, or an address as one of a single address.
func parseNetwork(text string) (netip.Prefix, bool) {
	if prefix, err := netip.ParsePrefix(text); err == nil {
		return prefix.Masked(), true
	}
	addr, err := netip.ParseAddr(text)
	addr = addr.Unmap()
	return netip.PrefixFrom(addr, addr.BitLen()), err == nil && addr.Zone() == ""
}

func (n *networks) add(text string) bool {
	prefix, ok := parseNetwork(text)
	if !ok {
		return false
	}
	if n.set == nil {
		n.set = map[netip.Prefix]struct{}{}
	}
	n.set[prefix] = struct{}{}
	if l := (prefixLength{prefix.Addr().Is4(), prefix.Bits()}); !slices.Contains(n.lengths, l) {
		n.lengths = append(n.lengths, l)
	}
	return true
}

func (n *networks) hold(a netip.Addr) bool {
	for _, l := range n.lengths {
		if a.Is4() != l.is4 {
			continue
		}
		if prefix, err := a.Prefix(l.bits); err == nil {
			if _, ok := n.set[prefix]; ok {
				return true
			}
		}
	}
	return false
}
