package rule

import "strings"

// need is what a condition cannot hold without: one of some checks, which can be looked up by the values of an event.
type need struct {
	found       bool
	first, last int // of the checks, in needs; 0: there are none, the condition never holds
	weight      int // how often one of them holds, and what it costs to look: the less, the better
}

// needs finds what conditions need in events of a class. Checks are in lists, so that those of many parts become one
// without being copied.
type needs struct {
	class int
	links []link // the first one is none
}

// link is one check of a list, and where the next one is, 0 if there is none.
type link struct {
	check *node
	next  int
}

// begin forgets the needs found so far, and finds those in events of a class.
func (s *needs) begin(class int) { s.class, s.links = class, append(s.links[:0], link{}) }

// each calls f with every check that is needed.
func (s *needs) each(of need, f func(*node)) {
	for i := of.first; i != 0; i = s.links[i].next {
		f(s.links[i].check)
	}
}

// Weights of checks, beside each other. What has more than weightFew is not worth looking.
const (
	weightIs     = 1 // a text is one of some
	weightAffix  = 2 // it begins or ends with one of some
	weightSearch = 4 // one of some is in it, or there are many texts
	weightFew    = 8 // what is compared has few values
)

// of tells what a node, or its negation, needs.
func (s *needs) of(n *node, negated bool) need {
	may := n.may
	if negated {
		may = n.mayNot
	}
	switch {
	case !may.has(s.class):
		return need{found: true} // it never holds
	case n.kind == macroNode:
		return s.of(n.kids[0], negated)
	case n.kind == notNode:
		return s.of(n.kids[0], !negated)
	case n.kind == checkNode && negated:
		return need{}
	case n.kind == checkNode:
		return s.ofCheck(n)
	case (n.kind == orNode) != negated:
		return s.ofAny(n, negated)
	}
	return s.ofAll(n, negated)
}

// ofAny: where one of the kids holds, so does what it needs.
func (s *needs) ofAny(n *node, negated bool) need {
	all := need{found: true}
	var last *field // that added to the weight: what one field is compared with is looked up at once
	for _, kid := range n.kids {
		one := s.of(kid, negated)
		if !one.found || all.weight > weightFew {
			return need{}
		}
		if one.first == 0 {
			continue
		}
		if f := s.links[one.first].check.field; last == nil || one.weight >= weightSearch || last.name != f.name {
			last = f
			all.weight += one.weight
		}
		if all.first == 0 {
			all.first = one.first
		} else {
			s.links[all.last].next = one.first
		}
		all.last = one.last
	}
	all.found = all.weight <= weightFew
	return all
}

// ofAll: where all kids hold, what one of them needs will do.
func (s *needs) ofAll(n *node, negated bool) need {
	var best need
	for _, kid := range n.kids {
		if one := s.of(kid, negated); one.found && (!best.found || one.weight < best.weight) {
			best = one
		}
	}
	return best
}

// ofCheck is the check itself, if the event's value can be looked up.
func (s *needs) ofCheck(n *node) need {
	one := weigh(n, s.class)
	if one.found {
		one.first, one.last = len(s.links), len(s.links)
		s.links = append(s.links, link{check: n})
	}
	return one
}

// weigh says whether a check can be looked up in events of a class, and its weight.
func weigh(n *node, class int) need {
	f := n.field
	one := need{found: true}
	switch {
	case f == nil || f.asks || f.host != nil || !n.mayNot.has(class):
		return need{} // names of hosts are compared in a way of their own
	case f.flag != nil:
		one.weight, one.found = weightFew, n.check.modifier == ""
		return one
	case f.text == nil && f.at == nil:
		return need{}
	}
	switch op := n.check.op; op {
	case "=", "==", "in", "intersects":
		one.weight = weightIs
	case "startswith", "endswith", "glob", "pmatch", "contains":
		one.weight = weightAffix
		if op == "contains" {
			one.weight = weightSearch * len(n.operands)
		}
		for _, v := range n.operands {
			if len(partOf(op, v)) < shortestPart {
				return need{}
			}
		}
	default:
		return need{}
	}
	switch {
	case f.few || f.words != nil:
		one.weight = weightFew
	case f.at != nil:
		one.weight = max(one.weight, weightSearch)
	}
	return one
}

// shortestPart is the shortest part of a text that says something: all paths begin with a slash.
const shortestPart = 2

// partOf is what a text begins with, ends with or has in it if it passes an operator with a value. With pmatch that is
// so of texts without doubled slashes.
func partOf(op, value string) string {
	const wild = `*?[\`
	switch op {
	case "glob":
		if i := strings.IndexAny(value, wild); i >= 0 {
			value = value[:i]
		}
	case "pmatch":
		var begin strings.Builder
		for name := range strings.SplitSeq(value, "/") {
			if strings.ContainsAny(name, wild) {
				break
			}
			if name == "" {
				continue
			}
			if begin.Len() > 0 || value[0] == '/' {
				begin.WriteByte('/')
			}
			begin.WriteString(name)
		}
		value = begin.String()
	}
	return value
}
