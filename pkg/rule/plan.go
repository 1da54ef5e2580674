package rule

import (
	"net/netip"
	"reflect"
	"slices"
	"strings"

	"github.com/plumbline-io/plumbline/pkg/event"
)

// Interest is what a rule wants of events, in tests that the kernel can do. An event that the rule
// matches passes them; not all that pass match, unless Exact.
type Interest struct {
	Kind      event.Kind
	Op        event.Operation  // of kind Access
	Paths     []PathTest       // one of them; nil: any path
	Networks  []netip.Prefix   // one of them; nil: any address
	Ports     []PortRange      // one of them; nil: any port
	Protocols []event.Protocol // one of them; nil: any protocol
	Values    []ValueTest      // one of them; nil: any number
	Longer    int              // of OpDNSQuery: bytes of the name, at least
	Where     Where            // who acts
	Traits    []TraitTest      // all of them; nil: whoever acts
	Exact     bool             // the tests decide the rule
}

// Where is a set of kinds of workloads.
type Where uint8

// Containers, and everything else on the host. The kernel tells them apart.
const (
	OnHost Where = 1 << iota
	InContainers
	Anywhere = OnHost | InContainers
)

// whereOf a workload belongs.
func whereOf(w *Workload) Where {
	if w.ContainerID == "" {
		return OnHost
	}
	return InContainers
}

// PathTest is about the path that is executed or accessed.
type PathTest struct {
	Text           string
	Prefix, Suffix bool // the path begins or ends with Text; else it is Text
}

// Passes says whether a path passes the test.
func (t PathTest) Passes(path string) bool {
	switch {
	case t.Prefix:
		return strings.HasPrefix(path, t.Text)
	case t.Suffix:
		return strings.HasSuffix(path, t.Text)
	}
	return path == t.Text
}

// PortRange is a range of ports, both ends included.
type PortRange struct{ Low, High uint16 }

// ValueTest is about the number of an operation: its first Bits are those of Value.
type ValueTest struct {
	Value uint32
	Bits  int // 32: it is Value
}

// Passes says whether a number passes the test.
func (t ValueTest) Passes(n uint32) bool { return (n^t.Value)>>(32-t.Bits) == 0 }

// What one Interest can ask of the kernel exactly; what is more is asked more loosely.
const (
	// MaxSockets bounds the combinations of networks, protocols and ports.
	MaxSockets = 4096
	// MaxPrefix and MaxSuffix are the lengths in bytes of the longest prefix and suffix of a path.
	MaxPrefix, MaxSuffix = 243, 16
)

// Plan is what the rule wants, by kind and operation. An event that passes none of it cannot match. The
// drift rule has none: it is the kernel's.
func (r *Rule) Plan() []Interest {
	var plan, creates, dups []Interest
	r.classes.each(func(class int) {
		if class == alertClass {
			return // user space raises them
		}
		b := r.tree.bound(class, false)
		if b.never {
			return
		}
		i := b.interest(class)
		switch i.Op {
		case event.OpCreate:
			creates = append(creates, i)
		case event.OpDup:
			dups = append(dups, i)
		default:
			plan = append(plan, i)
		}
	})
	return slices.Concat(plan, together(creates), together(dups))
}

// interest says what a bound asks of the events of a class.
func (b *bound) interest(class int) Interest {
	i := Interest{
		Kind: event.Kind(class), Paths: b.paths, Networks: b.networks, Ports: b.ports, Protocols: b.protocols,
		Values: b.values, Longer: b.longer, Where: b.where, Traits: b.traits, Exact: b.exact,
	}
	if i.Where == 0 {
		i.Where = Anywhere
	}
	if op, ok := operationOf(class); ok {
		i.Kind, i.Op = event.Access, op
	}
	if i.Op == event.OpNamespace {
		i.Values = ofNamespaces(i.Values, class == enteredClass)
	}
	i.Exact = i.Exact && i.fits()
	return i
}

// ofNamespaces are those tests of OpNamespace's number that one of its classes can pass.
func ofNamespaces(tests []ValueTest, entered bool) []ValueTest {
	all := ValueTest{0, 1}
	if entered {
		all.Value = event.NamespaceEntered
	}
	if tests == nil {
		return []ValueTest{all}
	}
	return slices.DeleteFunc(slices.Clone(tests), func(t ValueTest) bool { return !all.Passes(t.Value) })
}

// together is what is wanted of OpCreate or OpDup, whose classes the kernel does not tell apart: it decides for all of
// them alike, or for none.
func together(each []Interest) []Interest {
	for i := range each {
		if len(each) != manifold || !reflect.DeepEqual(each[i], each[0]) {
			for i := range each {
				each[i].Exact = false
			}
			return each
		}
	}
	return each[:min(1, len(each))]
}

// fits says whether the kernel's tables can hold the tests as they are.
func (i *Interest) fits() bool {
	long := func(t PathTest) bool {
		return t.Prefix && len(t.Text) > MaxPrefix || t.Suffix && len(t.Text) > MaxSuffix
	}
	// There, IPv4 is a part of IPv6, and protocol 0 stands for any.
	both := func(n netip.Prefix) bool {
		return n.Addr().Is6() && n.Contains(netip.AddrFrom16([16]byte{10: 0xff, 11: 0xff}))
	}
	return !slices.ContainsFunc(i.Paths, long) && !slices.ContainsFunc(i.Networks, both) &&
		!slices.Contains(i.Protocols, 0) && i.Sockets() <= MaxSockets
}

// Sockets counts the combinations of networks, protocols and ports.
func (i *Interest) Sockets() int {
	ports := 0
	for _, p := range i.Ports {
		ports += int(p.High) - int(p.Low) + 1
	}
	return max(1, len(i.Networks)) * max(1, len(i.Protocols)) * max(1, ports)
}

// Plan is what all rules in force want together.
func (s *Ruleset) Plan() []Interest {
	var plan []Interest
	for _, r := range s.rules {
		plan = append(plan, r.Plan()...)
	}
	return plan
}

// Passes says whether an event passes the tests.
func (i *Interest) Passes(e *Env) bool {
	ev := e.Event
	if i.Where&whereOf(&e.Workload) == 0 {
		return false
	}
	if ev.Kind != i.Kind || ev.Kind == event.Access && ev.Access.Op != i.Op {
		return false
	}
	path := ev.Access.Path
	if isExec(ev) {
		path = ev.Exec.Path
	}
	a := &ev.Access
	return passes(i.Paths, func(t PathTest) bool { return t.Passes(path) }) &&
		passes(i.Networks, func(n netip.Prefix) bool { return n.Contains(a.Address.Addr().Unmap()) }) &&
		passes(i.Ports, func(p PortRange) bool { return p.Low <= a.Port && a.Port <= p.High }) &&
		passes(i.Protocols, func(p event.Protocol) bool { return p == a.Protocol }) &&
		passes(i.Values, func(t ValueTest) bool { return t.Passes(a.Value) }) &&
		len(a.Question.Name) >= i.Longer &&
		!slices.ContainsFunc(i.Traits, func(t TraitTest) bool { return !t.passes(e) })
}

// passes: nil stands for no test.
func passes[T any](tests []T, test func(T) bool) bool {
	return tests == nil || slices.ContainsFunc(tests, test)
}

// bound is a set of events of one class, as the product of sets of values. It may be larger than what it
// stands for, unless exact.
type bound struct {
	never     bool
	exact     bool
	paths     []PathTest
	networks  []netip.Prefix
	ports     []PortRange
	protocols []event.Protocol
	values    []ValueTest
	longer    int         // as of Interest
	where     Where       // 0: anywhere
	traits    []TraitTest // of an alternative only, see alternatives; all of them
}

// bound of a node, or of its negation, in a class.
func (n *node) bound(class int, negated bool) bound {
	may, mayNot := n.may, n.mayNot
	if negated {
		may, mayNot = mayNot, may
	}
	switch {
	case !may.has(class):
		return bound{never: true, exact: true}
	case !mayNot.has(class):
		return bound{exact: true}
	}
	switch n.kind {
	case macroNode:
		return n.kids[0].bound(class, negated)
	case notNode:
		return n.kids[0].bound(class, !negated)
	case checkNode:
		return n.checkBound(class, negated)
	}
	all := n.kids[0].bound(class, negated)
	for _, kid := range n.kids[1:] {
		if (n.kind == orNode) != negated {
			all = either(all, kid.bound(class, negated))
		} else {
			all = both(all, kid.bound(class, negated))
		}
	}
	return all
}

// checkBound: of most checks, only that they hold can be asked.
func (n *node) checkBound(class int, negated bool) bound {
	b := n.tests(class)
	switch {
	case !negated:
		return b
	case b.exact && b.never:
		return bound{exact: true}
	case b.exact && b.where != 0:
		return bound{exact: true, where: b.where ^ Anywhere}
	}
	return bound{}
}

// both is the intersection, or something larger.
func both(a, b bound) bound {
	if a.never || b.never {
		return bound{never: true, exact: a.exact && b.exact}
	}
	exact := a.exact && b.exact
	all := bound{
		paths: narrower(a.paths, b.paths, &exact, breadth), networks: narrower(a.networks, b.networks, &exact, nil),
		ports: narrower(a.ports, b.ports, &exact, nil), protocols: narrower(a.protocols, b.protocols, &exact, nil),
		values: narrower(a.values, b.values, &exact, nil), longer: max(a.longer, b.longer), where: a.where | b.where,
	}
	if a.where != 0 && b.where != 0 {
		all.where = a.where & b.where
		all.never = all.where == 0
	}
	all.exact = exact
	return all
}

// breadth is how much the widest of some tests lets pass, as a guess: more, the less it says.
func breadth(tests []PathTest) int {
	widest := -2 * maxBytes
	for _, t := range tests {
		says := len(t.Text)
		if !t.Prefix && !t.Suffix {
			says += maxBytes
		}
		widest = max(widest, -says)
	}
	return widest
}

// maxBytes is more than the kernel writes of a path.
const maxBytes = 256

// narrower takes one of two sets of tests, of which both have to pass: the one that is less broad, if that
// can be told, else the shorter one.
func narrower[T any](a, b []T, exact *bool, breadth func([]T) int) []T {
	switch {
	case a == nil:
		return b
	case b == nil:
		return a
	}
	*exact = false
	wider := 0
	if breadth != nil {
		wider = breadth(a) - breadth(b)
	}
	if wider > 0 || wider == 0 && len(b) < len(a) {
		return b
	}
	return a
}

// either is the union, or something larger: a product of unions is the union of products only if they
// differ in one factor.
func either(a, b bound) bound {
	switch {
	case a.never:
		return b
	case b.never:
		return a
	}
	factors := 0
	u := bound{
		paths: wider(a.paths, b.paths, &factors), networks: wider(a.networks, b.networks, &factors),
		ports: wider(a.ports, b.ports, &factors), protocols: wider(a.protocols, b.protocols, &factors),
		values: wider(a.values, b.values, &factors), longer: min(a.longer, b.longer),
	}
	if a.where != b.where {
		factors++
	}
	if a.where != 0 && b.where != 0 {
		u.where = a.where | b.where
	}
	u.exact = a.exact && b.exact && factors <= 1
	return u
}

// maxTests is the most that is asked of one thing; with more, nothing is.
const maxTests = 4096

// wider takes all tests of two sets, of which one has to pass.
func wider[T any](a, b []T, factors *int) []T {
	if a != nil || b != nil {
		*factors++
	}
	if a == nil || b == nil {
		return nil
	}
	if len(a)+len(b) > maxTests {
		*factors = 2 // not exact any more
		return nil
	}
	return append(a, b...) // each bound has slices of its own
}

// anything says whether nothing is asked.
func (b *bound) anything() bool {
	return !b.never && b.paths == nil && b.networks == nil && b.ports == nil && b.protocols == nil &&
		b.values == nil && b.longer == 0 && b.where == 0
}
