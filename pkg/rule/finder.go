package rule

import "math/bits"

// marks is a set of rules, by their numbers in load order.
type marks []uint64

func (m marks) add(rules ...int32) {
	for _, r := range rules {
		m[r>>6] |= 1 << (r & 63)
	}
}

// next is the first rule of the set from a number on, -1 if there is none.
func (m marks) next(from int) int {
	for i := from >> 6; i < len(m); i, from = i+1, 0 {
		if word := m[i] >> (from & 63); word != 0 {
			return i<<6 + from&63 + bits.TrailingZeros64(word)
		}
	}
	return -1
}

// probe looks at a field of an event, and marks the rules that get what they need.
type probe func(e *Env, to marks)

// finder finds the rules that an event may match by what they need. The others are not asked.
type finder struct {
	all    [classCount]marks // the rules about a class of events; nil: there is none
	always [classCount]marks // those of them that are always asked: what they need cannot be looked up
	probes [classCount][]probe
}

// fewRules about a class of events are asked one after the other: to look up what they need would take as long.
const fewRules = 8

// newFinder takes rules in load order. Of no more than few about a class of events it looks up nothing.
func newFinder(rules []*Rule, few int) *finder {
	x := &finder{}
	var about [classCount]int
	for _, r := range rules {
		r.classes.each(func(class int) { about[class]++ })
	}
	b := finderBuilder{byName: map[string]*lookup{}, added: map[*node]int32{}}
	var look needs
	size := (len(rules) + 63) / 64
	for i, r := range rules {
		number := int32(i)
		r.classes.each(func(class int) {
			if x.all[class] == nil {
				x.all[class], x.always[class] = make(marks, size), make(marks, size)
			}
			x.all[class].add(number)
			var is need
			if about[class] > few {
				look.begin(class)
				is = look.of(r.tree, false)
			}
			if !is.found {
				x.always[class].add(number)
				return
			}
			look.each(is, func(n *node) { b.add(n, class, number) })
		})
	}
	for _, l := range b.lookups {
		p := l.probe()
		l.classes.each(func(class int) { x.probes[class] = append(x.probes[class], p) })
	}
	return x
}

// finderBuilder collects by field what rules need.
type finderBuilder struct {
	lookups []*lookup
	byName  map[string]*lookup
	added   map[*node]int32 // the last rule that needs a check
}

func (b *finderBuilder) add(n *node, class int, rule int32) {
	name := n.check.left.String()
	l := b.byName[name]
	if l == nil {
		l = newLookup(n.field)
		b.byName[name] = l
		b.lookups = append(b.lookups, l)
	}
	l.classes |= 1 << class
	if last, ok := b.added[n]; !ok || last != rule {
		l.add(n, rule)
		b.added[n] = rule
	}
}

// find marks the rules that an event of a class may match. They are valid until the next call with the same Env.
func (x *finder) find(e *Env, class int) marks {
	e.marks = append(e.marks[:0], x.always[class]...)
	for _, p := range x.probes[class] {
		p(e, e.marks)
	}
	for i, all := range x.all[class] {
		e.marks[i] &= all
	}
	return e.marks
}
