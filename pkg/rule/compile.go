package rule

import (
	"cmp"
	"fmt"
	"math/bits"
	"slices"
	"strconv"
)

// check is a compiled condition. It does not allocate.
type check func(*Env) bool

// part is one compiled part of a condition.
type part struct {
	check check
	// The classes of events for which it can hold, and for which it can fail.
	may, mayNot classes
	cost        int // relative, to ask what is cheap first
	checks      int // in it, macros expanded
	depth       int
}

// scope is what a condition may refer to, and what is left of the bounds.
type scope struct {
	fields map[string]*field // those that events have, and all if whole, see named
	whole  bool
	macros map[string]*macro
	lists  map[string]*list

	checks, values, planned, program int

	techniques techniques

	types   map[string]classes // by the names of evt.type
	remarks []*mistake         // on what was compiled since they were told
	made    int                // remarks, those included that are only counted
	doubted map[spot]struct{}  // the checks that there is a remark about already
	hinted  int                // names that were looked for among those that there are
}

// remark takes down what is right, and has no effect. More than are told are counted.
func (s *scope) remark(at *term, id, message string) {
	if s.made++; s.made <= maxProblems {
		s.remarks = append(s.remarks, &mistake{in: at.in, at: at.at, message: message, id: id})
	}
}

// remarkTypes tells of names of evt.type that match nothing.
func (s *scope) remarkTypes(at *term, names []string) {
	if s.made >= maxProblems { // what is not told need not be worded
		if slices.ContainsFunc(names, func(name string) bool { return s.types[name] == 0 }) {
			s.made++
		}
		return
	}
	for _, message := range s.strangers(names) {
		s.remark(at, unobservedType, message)
	}
}

func newScope() *scope {
	s := &scope{fields: map[string]*field{}, types: typesByName(), macros: map[string]*macro{}, lists: map[string]*list{}, doubted: map[spot]struct{}{}}
	s.know(suppliedFields())
	return s
}

// compile reads and compiles a condition.
func (s *scope) compile(in *passage) (part, *node, *mistake) {
	tree, m := parse(in)
	if m != nil {
		return part{}, nil, m
	}
	p, m := s.part(tree, everything)
	return p, tree, s.charge(p, tree, m)
}

// charge counts a rule's checks towards the bound of all rules.
func (s *scope) charge(p part, n *node, m *mistake) *mistake {
	if m != nil {
		return m
	}
	if s.checks += p.checks; s.checks > maxTotalChecks {
		return tooManyChecks(n)
	}
	return nil
}

// chargePlan counts what Plan looks at towards the bound of all rules: each value of each check, for each class of
// events that the rule is about.
func (s *scope) chargePlan(r *Rule) *mistake {
	values := 0
	r.tree.walk(func(n *node, _ bool) { values += 1 + len(n.operands) })
	if s.planned += values * bits.OnesCount64(uint64(r.classes)); s.planned > maxPlanned {
		return wrong(r.tree.in, r.tree.at, "all rules together compare events with more than %d values, once for each kind and operation", maxPlanned)
	}
	return nil
}

func tooManyChecks(n *node) *mistake {
	return wrong(n.in, n.at, "more than %d checks, or more than %d in all rules", maxChecks, maxTotalChecks)
}

func tooDeep(n *node) *mistake { return wrong(n.in, n.at, "nested deeper than %d", maxDepth) }

// everything is the view of a rule: it sees all macros.
const everything = int(^uint(0) >> 1)

// part compiles a node. Macros that are defined from view on are not seen.
func (s *scope) part(n *node, view int) (part, *mistake) {
	p, m := s.partOf(n, view)
	n.may, n.mayNot = p.may, p.mayNot
	return p, m
}

func (s *scope) partOf(n *node, view int) (part, *mistake) {
	switch n.kind {
	case macroNode:
		return s.expand(n, view)
	case checkNode:
		return s.comparison(n)
	}
	parts := make([]part, len(n.kids))
	all := part{}
	for i, kid := range n.kids {
		var m *mistake
		if parts[i], m = s.part(kid, view); m != nil {
			return part{}, m
		}
		all.checks += parts[i].checks
		all.depth = max(all.depth, parts[i].depth+1)
	}
	switch {
	case all.checks > maxChecks:
		return part{}, tooManyChecks(n)
	case all.depth > maxDepth:
		return part{}, tooDeep(n)
	}
	switch n.kind {
	case notNode:
		all.negate(parts[0])
	case orNode:
		all.join(parts, true)
	default:
		all.join(parts, false)
	}
	return all, nil
}

// negate: also where the field does not exist the check is false, and its negation true.
func (p *part) negate(of part) {
	inner := of.check
	p.check = func(e *Env) bool { return !inner(e) }
	p.may, p.mayNot, p.cost = of.mayNot, of.may, of.cost
}

// join combines parts by or, else by and. They have no effects, so the cheap ones go first, and those
// that cannot change the result go away.
func (p *part) join(parts []part, or bool) {
	if or {
		p.mayNot = allClasses
	} else {
		p.may = allClasses
	}
	slices.SortStableFunc(parts, func(a, b part) int { return cmp.Compare(a.cost, b.cost) })
	var checks []check
	for _, c := range parts {
		if or {
			p.may, p.mayNot = p.may|c.may, p.mayNot&c.mayNot
		} else {
			p.may, p.mayNot = p.may&c.may, p.mayNot|c.mayNot
		}
		if or && c.may == 0 || !or && c.mayNot == 0 {
			continue
		}
		checks = append(checks, c.check)
		p.cost += c.cost
	}
	p.check = func(e *Env) bool {
		for _, c := range checks {
			if c(e) == or {
				return or
			}
		}
		return !or
	}
}

// macro is a named condition. As with Falco it sees those macros whose first definition is before its
// own last one.
type macro struct {
	name        string
	first, last int
	places      []place
	used        bool

	state compileState
	tree  *node
	part  part
	wrong *mistake
}

type compileState uint8

const (
	notCompiled compileState = iota
	compiling
	compiled
)

// expand compiles the macro that a node names, once, and hangs its tree below the node.
func (s *scope) expand(n *node, view int) (part, *mistake) {
	m := s.macros[n.macro]
	if m == nil {
		unknown := wrong(n.in, n.at, "unknown macro %.60q%s", n.macro, s.nearestMacro(n.macro))
		unknown.unknown = true
		return part{}, unknown
	}
	switch m.used = true; {
	case m.state == compiling:
		return part{}, wrong(n.in, n.at, "macro %s refers to itself", n.macro)
	case m.first >= view:
		return part{}, wrong(n.in, n.at, "macro %s is defined later", n.macro)
	}
	s.compileMacro(m)
	if m.wrong != nil {
		return part{}, m.wrong
	}
	n.kids = []*node{m.tree}
	p := m.part
	if p.depth++; p.depth > maxDepth {
		return part{}, tooDeep(n)
	}
	return p, nil
}

func (s *scope) compileMacro(m *macro) {
	if m.state != notCompiled {
		return
	}
	m.state = compiling
	m.tree, m.wrong = parse(newPassage(m.name, m.places...))
	if m.wrong == nil {
		m.part, m.wrong = s.part(m.tree, m.last)
	}
	m.state = compiled
}

// field finds what a term stands for.
func (s *scope) field(t *term) (*field, *mistake) {
	switch t.kind {
	case textTerm:
		return constant(t.name), nil
	case callTerm, listTerm:
		return s.transformed(t)
	}
	f, ok := s.named(t.name)
	if !ok {
		m := wrong(t.in, t.at, "unknown field %.60q%s", t.name, s.nearestField(t.name))
		m.unknown = true
		return nil, m
	}
	f, m := f.argument(t)
	switch {
	case m != nil:
		return nil, m
	case f.refused:
		m := wrong(t.in, t.at, "%s is refused: %s", f.name, f.why)
		m.refused = true
		return nil, m
	case f.why != "":
		s.remark(t, notSupplied, f.name+" is not supplied: "+f.why)
	}
	return f, nil
}

// argument is the field with what stands in brackets behind it.
func (f *field) argument(t *term) (*field, *mistake) {
	if !t.hasArg {
		return f, nil
	}
	switch f.takes {
	case anIndex:
		return indexed(f, t)
	case aKey:
		one := *f
		one.name = t.String()
		if f.keyed != nil {
			one.text = f.keyed(t.arg)
		}
		return &one, nil
	}
	if f.whyOne != "" {
		return &field{name: t.String(), why: f.whyOne, text: func(*Env) (string, bool) { return "", false }}, nil
	}
	return nil, wrong(t.in, t.at, "%s has no index", f.name)
}

// indexed is the nth of many.
func indexed(f *field, t *term) (*field, *mistake) {
	const most = 100
	n, err := strconv.Atoi(t.arg)
	if err != nil || n < 0 || n > most {
		return nil, wrong(t.in, t.at, "%s: the index is a number from 0 to %d", f.name, most)
	}
	one := *f
	one.name = fmt.Sprintf("%s[%d]", f.name, n)
	if f.at != nil {
		one.text, one.at = func(e *Env) (string, bool) { return f.at(e, n) }, nil
	}
	return &one, nil
}
