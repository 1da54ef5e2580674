package rule

import (
	"reflect"
	"slices"

	"github.com/plumbline-io/plumbline/pkg/event"
)

// Bounds of what the kernel is asked to decide of one rule.
const (
	// MaxAlternatives is how many products of tests a condition may stand for in one class of events.
	MaxAlternatives = 64
	// maxWork is how many tests and names may be combined to find them, and maxAllWork those of all rules.
	maxWork, maxAllWork = 1 << 16, 1 << 20
)

// Denials are the events that a rule which stops something is about, exactly: those that pass one of them. There are
// none if the kernel cannot decide the rule.
func (r *Rule) Denials() []Interest {
	if d := r.decide(); r.Stops() && d.exact {
		return d.all
	}
	return nil
}

// InKernel says whether the kernel's tests alone decide the rule, for all events that it is about. It counts
// nothing, and sees no alerts.
func (r *Rule) InKernel() bool {
	d := r.decide()
	return d.exact
}

// decided is a rule's condition as the kernel is asked about it: an alternative of products of tests.
type decided struct {
	all   []Interest
	exact bool // they are the condition
	many  bool // they would be too many
	work  int
}

func (r *Rule) decide() decided {
	if r.tree == nil || r.Window.Count != 0 || r.classes.has(alertClass) {
		return decided{}
	}
	d := decided{exact: true}
	var creates, dups [][]Interest
	r.classes.each(func(class int) {
		a := alternatives{class: class, work: d.work}
		list := []Interest{}
		for _, b := range a.of(r.tree, false) {
			list = append(list, b.interest(class))
		}
		d.many, d.work = d.many || a.many, a.work
		d.exact = d.exact && !slices.ContainsFunc(list, func(i Interest) bool { return !i.Exact })
		switch op, _ := operationOf(class); op {
		case event.OpCreate:
			creates = append(creates, list)
		case event.OpDup:
			dups = append(dups, list)
		default:
			d.all = append(d.all, list...)
		}
	})
	for _, each := range [][][]Interest{creates, dups} {
		if each != nil {
			d.exact = d.exact && areTogether(each)
			d.all = append(d.all, each[0]...)
		}
	}
	return d
}

// areTogether says whether all classes of OpCreate or OpDup, which the kernel does not tell apart, are asked the same of.
func areTogether(each [][]Interest) bool {
	return len(each) == manifold && reflect.DeepEqual(each[0], each[1]) && reflect.DeepEqual(each[0], each[2])
}

// alternatives finds the products of tests that a condition stands for in a class of events.
type alternatives struct {
	class int
	many  bool // there are too many: what is found is wider
	work  int  // that was done so far
}

// of a node, or of its negation. There are none if it never holds.
func (a *alternatives) of(n *node, negated bool) []bound {
	may, mayNot := n.may, n.mayNot
	if negated {
		may, mayNot = mayNot, may
	}
	switch {
	case !may.has(a.class):
		return nil
	case !mayNot.has(a.class):
		return []bound{settled(true)}
	}
	switch n.kind {
	case macroNode:
		return a.of(n.kids[0], negated)
	case notNode:
		return a.of(n.kids[0], !negated)
	case checkNode:
		b := n.literal(a.class, negated)
		if a.spend(&b); b.never {
			return nil
		}
		return []bound{b}
	}
	all := a.of(n.kids[0], negated)
	for _, kid := range n.kids[1:] {
		if (n.kind == orNode) != negated {
			all = a.either(all, a.of(kid, negated))
		} else {
			all = a.both(all, a.of(kid, negated))
		}
		if a.many {
			return []bound{{}}
		}
	}
	return all
}

// spend counts work, and says whether there is some left.
func (a *alternatives) spend(products ...*bound) bool {
	for _, p := range products {
		a.work++
		for i := range p.traits {
			a.work += len(p.traits[i].Names)
		}
	}
	a.many = a.many || a.work > maxWork
	return !a.many
}

func (a *alternatives) either(all, more []bound) []bound {
	for i := range more {
		all = a.add(all, more[i])
	}
	return all
}

// add puts a product to others, into one that differs from it in one factor only if there is such a one.
func (a *alternatives) add(all []bound, b bound) []bound {
	for i := range all {
		if !a.spend(&all[i], &b) {
			return nil
		}
		if u := oneOf(all[i], b); u.exact {
			all[i] = u
			return all
		}
	}
	a.many = a.many || len(all) == MaxAlternatives
	return append(all, b)
}

// oneOf is the union of two products, which is exact only if it is a product.
func oneOf(a, b bound) bound {
	if a.traits == nil && b.traits == nil {
		return either(a, b)
	}
	if len(a.traits) != 1 || len(b.traits) != 1 {
		return bound{}
	}
	x, y := a.traits[0], b.traits[0]
	a.traits, b.traits = nil, nil
	if x.Trait != y.Trait || !x.Trait.Named() || x.Not || y.Not || !a.all() || !b.all() {
		return bound{}
	}
	x.Names = joinNames(x.Names, y.Names)
	return bound{exact: true, traits: []TraitTest{x}}
}

// all says whether a product is every event of its class.
func (b *bound) all() bool { return b.exact && b.anything() && len(b.traits) == 0 }

func (a *alternatives) both(these, those []bound) []bound {
	var all []bound
	for i := range these {
		for k := range those {
			if !a.spend(&these[i], &those[k]) {
				return nil
			}
			b := both(these[i], those[k])
			traits, ok := bothTraits(these[i].traits, those[k].traits)
			if b.never || !ok {
				continue
			}
			b.traits = traits
			b.clip()
			all = a.add(all, b)
		}
	}
	return all
}

// clip keeps what is added to one product out of others that have the same tests.
func (b *bound) clip() {
	b.paths, b.networks, b.ports = slices.Clip(b.paths), slices.Clip(b.networks), slices.Clip(b.ports)
	b.protocols, b.values = slices.Clip(b.protocols), slices.Clip(b.values)
}

// Undecided lists the checks that keep the kernel from deciding the rule alone: all of them, if it is
// how they are combined. There are none if InKernel.
func (r *Rule) Undecided() []CheckInfo {
	if r.tree == nil || r.InKernel() {
		return nil
	}
	all := r.checks(r.place)
	some := slices.DeleteFunc(slices.Clone(all), func(c CheckInfo) bool { return c.Where == InKernel })
	if len(some) == 0 {
		return all
	}
	return some
}

// Where a check can be done.
const (
	InKernel    = "kernel"     // it can be decided there
	AsFilter    = "filter"     // the kernel tests something weaker before, user space decides
	InUserSpace = "user space" // it plays no part in the kernel
)

// place says where a check of the rule can be done.
func (r *Rule) place(n *node, negated bool) string {
	place := InKernel
	r.classes.each(func(class int) {
		switch {
		case class == alertClass:
			place = InUserSpace // where alerts are raised
			return
		case !n.may.has(class) || !n.mayNot.has(class):
			return // known beforehand
		}
		switch b := n.literal(class, negated); {
		case b.interest(class).Exact:
		case b.anything():
			place = InUserSpace
		case place == InKernel:
			place = AsFilter
		}
	})
	return place
}
