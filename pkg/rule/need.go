package rule

import "strings"

// need is what a condition cannot hold without: one of some checks, which can be looked up by the values of an event.
type need struct {
	found  bool
	checks []*node // none: the condition never holds
	weight int     // how often one of them holds, and what it costs to look: the less, the better
}

// Weights of checks, beside each other. What has more than weightFew is not worth looking.
const (
	weightIs     = 1 // a text is one of some
	weightAffix  = 2 // it begins or ends with one of some
	weightSearch = 4 // one of some is in it, or there are many texts
	weightFew    = 8 // what is compared has few values
)

// needFor tells what a node, or its negation, needs in events of a class.
func (n *node) needFor(class int, negated bool) need {
	may := n.may
	if negated {
		may = n.mayNot
	}
	switch {
	case !may.has(class):
		return need{found: true} // it never holds
	case n.kind == macroNode:
		return n.kids[0].needFor(class, negated)
	case n.kind == notNode:
		return n.kids[0].needFor(class, !negated)
	case n.kind == checkNode && negated:
		return need{}
	case n.kind == checkNode:
		return n.needOfCheck(class)
	case (n.kind == orNode) != negated:
		return n.needOfAny(class, negated)
	}
	return n.needOfAll(class, negated)
}

// needOfAny: where one of the kids holds, so does what it needs.
func (n *node) needOfAny(class int, negated bool) need {
	all := need{found: true}
	var last *node // that added to the weight: what one field is compared with is looked up at once
	for _, kid := range n.kids {
		one := kid.needFor(class, negated)
		if !one.found || all.weight > weightFew {
			return need{}
		}
		all.checks = append(all.checks, one.checks...)
		if len(one.checks) > 0 && (last == nil || one.weight >= weightSearch || last.field.name != one.checks[0].field.name) {
			last = one.checks[0]
			all.weight += one.weight
		}
	}
	all.found = all.weight <= weightFew
	return all
}

// needOfAll: where all kids hold, what one of them needs will do.
func (n *node) needOfAll(class int, negated bool) need {
	var best need
	for _, kid := range n.kids {
		if one := kid.needFor(class, negated); one.found && (!best.found || one.weight < best.weight) {
			best = one
		}
	}
	return best
}

// needOfCheck is the check itself, if the event's value can be looked up.
func (n *node) needOfCheck(class int) need {
	f := n.field
	one := need{found: true, checks: []*node{n}}
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
