package enforce

import (
	"fmt"
	"net/netip"

	"github.com/plumbline-io/plumbline/pkg/event"
	"github.com/plumbline-io/plumbline/pkg/rule"
)

// textWish is a path, or the begin or end of one.
type textWish struct {
	op   event.Operation
	text string
}

// factWish is the first bits of an address or of a number, and for an address its protocol and port.
type factWish struct {
	op      event.Operation
	value   uint32 // protocol << 16 | port, 0 for any of each; or the number
	bits    int    // of the address, IPv4 as a part of IPv6; or of the number
	address [16]byte
}

// wishes are what rules want of the operations that the kernel is asked about, as its tables hold it. What
// is wished of a part of a path, address or number is included in what is wished of each longer part.
type wishes struct {
	denials  *denials
	ops      uint64 // 1 << operation
	asked    int    // times that something was added to what follows
	byPath   bool   // they deny something by its path
	shortest int    // name that they want of questions to name servers; 0: any
	paths    map[textWish]bpfWish
	above    map[textWish]bpfWish // the directories above those paths and begins that are denied something, of opAbove
	prefixes map[textWish]bpfWish
	suffixes map[textWish]bpfWish // written from their ends
	facts    map[factWish]bpfWish
}

// opAbove is the operation of a directory in the kernel's tables, if below it something is denied.
const opAbove = event.Operation(bpfOperationOP_ABOVE)

// maxWishes of a kind: each of the kernel's tables holds two generations of them.
const maxWishes = 16384

// maxAsked is how many times rules may ask for something, so that making the tables of them takes a fraction of a
// second, whatever the rules are.
const maxAsked = 1 << 18

// compileWishes makes the tables of a ruleset. Executions leave the kernel anyway: of them, rules wish
// something only if they deny.
func compileWishes(set *rule.Ruleset) (*wishes, error) {
	w := &wishes{
		denials: newDenials(),
		paths:   map[textWish]bpfWish{}, above: map[textWish]bpfWish{}, prefixes: map[textWish]bpfWish{}, suffixes: map[textWish]bpfWish{}, facts: map[factWish]bpfWish{},
	}
	for _, r := range set.Rules() {
		for _, i := range r.Plan() {
			if i.Kind == event.Access {
				w.add(&i, bpfWish{Watch: uint32(i.Where)})
			}
		}
		if Denies(r) {
			for _, i := range r.Denials() {
				wish := w.denial(r, &i)
				w.add(&i, wish)
				w.addAbove(&i, wish)
			}
		}
		if err := w.check(); err != nil {
			return nil, err
		}
	}
	w.close()
	return w, w.denials.err
}

// check finds out whether there is more than fits, before more work is put into it.
func (w *wishes) check() error {
	for what, n := range map[string]int{
		"paths": len(w.paths), "directories above paths": len(w.above), "begins of paths": len(w.prefixes), "ends of paths": len(w.suffixes), "addresses and numbers": len(w.facts),
	} {
		if n > maxWishes {
			return fmt.Errorf("compile rules: they ask for more than %d %s", maxWishes, what)
		}
	}
	if w.asked > maxAsked {
		return fmt.Errorf("compile rules: they ask for more than %d things, equal ones among them", maxAsked)
	}
	return w.denials.err
}

// operationOf an interest; OpUnspecified: the kernel is not asked about it.
func operationOf(i *rule.Interest) event.Operation {
	switch {
	case i.Kind == event.Access && i.Op != event.OpSyscall: // which is told while it is learnt, and then only
		return i.Op
	case i.Kind == event.ExecCheck:
		return event.OpExec
	}
	return event.OpUnspecified
}

// Denies says whether a rule denies where it may: its action and its mode say so.
func Denies(r *rule.Rule) bool { return r.Stops() && r.Mode == event.Enforce }

// denial is the wish that what passes an interest is denied.
func (w *wishes) denial(r *rule.Rule, i *rule.Interest) bpfWish {
	var wish bpfWish
	n := w.denials.of(r, i.Traits)
	if i.Where&rule.OnHost != 0 {
		wish.DenyHost = n
	}
	if i.Where&rule.InContainers != 0 {
		wish.DenyContainer = n
	}
	return wish
}

// both is two wishes about the same thing.
func (w *wishes) both(a, b bpfWish) bpfWish {
	a.Watch |= b.Watch
	a.DenyHost = w.denials.join(a.DenyHost, b.DenyHost)
	a.DenyContainer = w.denials.join(a.DenyContainer, b.DenyContainer)
	return a
}

func join[K comparable](w *wishes, to map[K]bpfWish, k K, wish bpfWish) {
	w.asked++
	to[k] = w.both(to[k], wish)
}

// add writes down what a rule wants, or something wider where the tables cannot hold it as it is.
func (w *wishes) add(i *rule.Interest, wish bpfWish) {
	op := operationOf(i)
	if op == event.OpUnspecified || wish == (bpfWish{}) {
		return
	}
	if op == event.OpDNSQuery {
		w.noteName(i.Longer)
	}
	w.ops |= 1 << op
	switch {
	case op.OnPath():
		w.addPaths(op, i.Paths, wish)
	case op.OnAddress():
		w.addSockets(op, i, wish)
	case i.Values == nil:
		join(w, w.facts, factWish{op: op}, wish)
	}
	for _, v := range i.Values {
		join(w, w.facts, factWish{op: op, value: v.Value & (^uint32(0) << (32 - v.Bits)), bits: v.Bits}, wish)
	}
}

// noteName takes down that names of so many bytes and more are asked for.
func (w *wishes) noteName(bytes int) {
	if w.ops&(1<<event.OpDNSQuery) == 0 || bytes < w.shortest {
		w.shortest = bytes
	}
}

// leastQuestion is bpf/enforce_dns.h's dns_least: the bytes of the shortest question that is wanted.
func (w *wishes) leastQuestion() uint32 {
	const ends = 6 // beside the text: the length of the first label, that of the root, type and class
	if w.shortest <= 1 {
		return 0 // the root's name is shorter than its text
	}
	return uint32(w.shortest) + ends
}

func (w *wishes) addPaths(op event.Operation, tests []rule.PathTest, wish bpfWish) {
	if tests == nil {
		join(w, w.prefixes, textWish{op, ""}, wish)
	}
	for _, t := range tests {
		switch {
		case t.Prefix:
			join(w, w.prefixes, textWish{op, t.Text[:min(len(t.Text), rule.MaxPrefix)]}, wish)
		case t.Suffix:
			end := t.Text[max(0, len(t.Text)-rule.MaxSuffix):]
			join(w, w.suffixes, textWish{op, reversed(end)}, wish)
		case len(t.Text) < PathBytes: // the kernel writes no longer one
			join(w, w.paths, textWish{op, t.Text}, wish)
		}
	}
}

func reversed(s string) string {
	b := make([]byte, len(s))
	for i := range b {
		b[i] = s[len(s)-1-i]
	}
	return string(b)
}

// addSockets adds every combination of networks, protocols and ports; if those are too many, any port.
func (w *wishes) addSockets(op event.Operation, i *rule.Interest, wish bpfWish) {
	ports, least := i.Ports, uint32(1) // the kernel is not asked about port 0, which stands for any
	if ports == nil || i.Sockets() > rule.MaxSockets {
		ports, least = []rule.PortRange{{}}, 0
	}
	protocols := i.Protocols
	if protocols == nil {
		protocols = []event.Protocol{0}
	}
	networks := i.Networks
	if networks == nil {
		networks = []netip.Prefix{{}}
	}
	for _, n := range networks {
		fact := factWish{op: op}
		if n.IsValid() {
			pattern := addressPattern(0, 0, event.Key{Address: n})
			fact.bits, fact.address = int(pattern.Prefixlen)-addressHead, pattern.Address
		}
		for _, p := range protocols {
			for _, r := range ports {
				for port := max(uint32(r.Low), least); port <= uint32(r.High); port++ {
					fact.value = uint32(p)<<16 | port
					join(w, w.facts, fact, wish)
				}
			}
		}
	}
}

// close includes in each wish what is wished of the shorter parts. The kernel finds the longest one only.
func (w *wishes) close() {
	prefixes, suffixes, facts := w.prefixes, w.suffixes, w.facts
	w.prefixes, w.suffixes, w.facts = w.closed(prefixes), w.closed(suffixes), map[factWish]bpfWish{}
	for k := range w.paths {
		w.paths[k] = w.gather(w.paths[k], prefixes, k)
	}
	for k, wish := range facts {
		for shorter := k; shorter.bits > 0; {
			shorter = shorter.cut(shorter.bits - 1)
			wish = w.both(wish, facts[shorter])
		}
		w.facts[k] = wish
	}
}

func (w *wishes) closed(raw map[textWish]bpfWish) map[textWish]bpfWish {
	all := make(map[textWish]bpfWish, len(raw))
	for k := range raw {
		all[k] = w.gather(bpfWish{}, raw, k)
	}
	return all
}

// gather adds what is wished of a text and of all that it begins with, the longest first.
func (w *wishes) gather(wish bpfWish, of map[textWish]bpfWish, k textWish) bpfWish {
	w.denials.lossy = k.op == opAbove
	defer func() { w.denials.lossy = false }()
	for n := len(k.text); n >= 0; n-- {
		wish = w.both(wish, of[textWish{k.op, k.text[:n]}])
	}
	return wish
}

// named are the numbers of the sets of denials that the tables name.
func (w *wishes) named() map[uint32]bool {
	named := map[uint32]bool{}
	note := func(wish bpfWish) { named[wish.DenyHost], named[wish.DenyContainer] = true, true }
	for _, texts := range []map[textWish]bpfWish{w.paths, w.above, w.prefixes, w.suffixes} {
		for _, wish := range texts {
			note(wish)
		}
	}
	for _, wish := range w.facts {
		note(wish)
	}
	delete(named, 0)
	return named
}

// cut is the fact with fewer bits.
func (f factWish) cut(bits int) factWish {
	if f.op.OnNumber() {
		f.value &= uint32(^uint64(0) << (32 - bits))
	} else {
		f.address = netip.PrefixFrom(netip.AddrFrom16(f.address), bits).Masked().Addr().As16()
	}
	f.bits = bits
	return f
}
