package rule

import (
	"slices"
	"strings"
)

// lookup is what rules need of a field, by its values.
type lookup struct {
	field   *field
	classes classes    // of the events to look at
	flags   [2][]int32 // false, true
	is      map[string][]int32
	begins  affixes
	ends    affixes
	parts   affixes
	doubled []int32 // rules for which doubled slashes in a text are one
}

func newLookup(f *field) *lookup {
	return &lookup{
		field: f, is: map[string][]int32{},
		begins: affixes{compare: strings.Compare, has: strings.HasPrefix},
		ends:   affixes{compare: compareEnds, has: strings.HasSuffix},
		parts:  affixes{compare: strings.Compare, has: func(a, b string) bool { return a == b }},
	}
}

// affix is the begin or the end of a text, or a part of it, and the rules that need it.
type affix struct {
	text  string
	rules []int32
}

// with adds a rule, in load order.
func with(rules []int32, rule int32) []int32 {
	if n := len(rules); n > 0 && rules[n-1] == rule {
		return rules
	}
	return append(rules, rule)
}

// add notes that a rule needs a check to hold.
func (l *lookup) add(n *node, rule int32) {
	op := n.check.op
	switch {
	case l.field.flag != nil:
		for i, wanted := range wantedFlags(op, n.operands) {
			if wanted {
				l.flags[i] = with(l.flags[i], rule)
			}
		}
		return
	case op == "pmatch":
		l.doubled = with(l.doubled, rule)
	}
	for _, v := range n.operands {
		one := affix{partOf(op, v), []int32{rule}}
		switch op {
		case "startswith", "glob", "pmatch":
			l.begins.list = append(l.begins.list, one)
		case "endswith":
			l.ends.list = append(l.ends.list, one)
		case "contains":
			l.parts.list = append(l.parts.list, one)
		default:
			l.is[v] = with(l.is[v], rule)
		}
	}
}

// probe does the looking up. Nothing can be added any more.
func (l *lookup) probe() probe {
	f := l.field
	if f.flag != nil {
		return func(e *Env, to marks) {
			if b, ok := f.flag(e); ok {
				to.add(l.flags[index(b)]...)
			}
		}
	}
	mark := l.marker()
	if f.at != nil {
		return func(e *Env, to marks) {
			e.renew()
			for i := 1; ; i++ {
				s, ok := f.at(e, i)
				if !ok {
					return
				}
				mark(s, to)
			}
		}
	}
	return func(e *Env, to marks) {
		e.renew()
		if s, ok := f.text(e); ok {
			mark(s, to)
		}
	}
}

// marker marks the rules that need what a text is, or has.
func (l *lookup) marker() func(s string, to marks) {
	var known lengths
	for v := range l.is {
		known.add(v)
	}
	l.begins.sort()
	l.ends.sort()
	l.parts.sort()
	return func(s string, to marks) {
		if known.has(s) {
			to.add(l.is[s]...)
		}
		to.add(l.begins.find(s)...)
		to.add(l.ends.find(s)...)
		for i := range l.parts.list {
			if p := &l.parts.list[i]; strings.Contains(s, p.text) {
				to.add(p.rules...)
			}
		}
		if l.doubled != nil && strings.Contains(s, "//") {
			to.add(l.doubled...)
		}
	}
}

// affixes are begins or ends of texts. Sorted, none of them has another one: then only the last that is not greater than
// a text can be its begin. The rules of a longer one are with the shorter one.
type affixes struct {
	list    []affix
	compare func(a, b string) int
	has     func(text, affix string) bool
}

func (a *affixes) sort() {
	slices.SortStableFunc(a.list, func(x, y affix) int { return a.compare(x.text, y.text) })
	var kept []affix
	for _, one := range a.list {
		if n := len(kept); n == 0 || !a.has(one.text, kept[n-1].text) {
			kept = append(kept, one)
		} else if last := &kept[n-1]; !slices.Contains(last.rules, one.rules[0]) {
			last.rules = append(last.rules, one.rules[0])
		}
	}
	a.list = kept
}

// find lists the rules for how a text begins, or ends.
func (a *affixes) find(s string) []int32 {
	if len(a.list) == 0 {
		return nil
	}
	i, same := slices.BinarySearchFunc(a.list, s, func(x affix, s string) int { return a.compare(x.text, s) })
	switch {
	case same:
		return a.list[i].rules
	case i > 0 && a.has(s, a.list[i-1].text):
		return a.list[i-1].rules
	}
	return nil
}

// compareEnds orders texts by their ends.
func compareEnds(a, b string) int {
	i, j := len(a), len(b)
	for i > 0 && j > 0 {
		i, j = i-1, j-1
		if a[i] != b[j] {
			return int(a[i]) - int(b[j])
		}
	}
	return i - j
}
