package rule

// doubtful tells of checks that do not ask what they seem to. Those of a macro are told once.
func (s *scope) doubtful(r *Rule) {
	s.doubtOutcomes(r.tree, false, r.classes)
	s.doubtNames(r.tree)
}

// doubt takes down a remark about a check, unless there is one.
func (s *scope) doubt(n *node, id, message string) {
	at := spot{n.in, n.at}
	if _, told := s.doubted[at]; told {
		return
	}
	s.doubted[at] = struct{}{}
	s.remark(n.check.left, id, message)
}

// spot is a place in a text.
type spot struct {
	in *passage
	at int
}

// doubtOutcomes looks for comparisons with how a call ends. set are the classes of events in which the node is asked.
func (s *scope) doubtOutcomes(n *node, negated bool, set classes) {
	set &= n.holds(negated)
	switch {
	case set == 0:
		return
	case n.kind == checkNode:
		t := n.check.left.firstField()
		if t == nil || set&results()&^(execs()|accepts()|dups()) == 0 {
			return
		}
		switch t.name {
		case "evt.res", "evt.rawres", "evt.failed":
			s.doubt(n, unknownOutcome, t.name+" is what the hook knows, before the call is done: that it succeeds, unless it is denied here")
		}
		return
	case n.kind == notNode:
		negated = !negated
	case (n.kind == andNode) != negated: // what one part rules out, the others are not asked about
		for _, kid := range n.kids {
			set &= kid.holds(negated)
		}
	}
	for _, kid := range n.kids {
		s.doubtOutcomes(kid, negated, set)
	}
}

// holds are the classes of events for which a node, or its negation, can hold.
func (n *node) holds(negated bool) classes {
	if negated {
		return n.mayNot
	}
	return n.may
}

// names are which names of a rename or a link a condition asks for, each by the first check that does.
type names struct{ old, new *node }

// doubtNames looks for conditions on both names of a rename or a link, which one event does not have.
func (s *scope) doubtNames(n *node) names {
	var all names
	switch n.kind {
	case notNode:
		return names{}
	case checkNode:
		switch t := n.check.left.firstField(); {
		case t == nil:
		case t.name == "evt.arg.oldpath":
			all.old = n
		case t.name == "evt.arg.newpath":
			all.new = n
		}
		return all
	}
	var oldAlone, newAlone bool
	for _, kid := range n.kids {
		one := s.doubtNames(kid)
		oldAlone = oldAlone || one.old != nil && one.new == nil
		newAlone = newAlone || one.new != nil && one.old == nil
		if all.old == nil {
			all.old = one.old
		}
		if all.new == nil {
			all.new = one.new
		}
	}
	if n.kind == andNode && oldAlone && newAlone {
		s.doubt(all.new, noEffect, "evt.arg.oldpath and evt.arg.newpath of a rename or a link come in an event each, and are the same text there: this asks both of one name")
	}
	return all
}
