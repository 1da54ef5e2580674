package rule

import (
	"fmt"
	"hash/fnv"
	"math/bits"
	"slices"

	"github.com/plumbline-io/plumbline/pkg/event"
)

// Stops says whether the rule wants what it matches not to happen. The kernel alone decides all such rules.
func (r *Rule) Stops() bool { return r.Action == Deny || r.Action == Kill }

// ID is what the kernel calls the rule when it denies something: a checksum of its name, not 0. It is the
// same in every ruleset, and no other rule that stops something has it in the same one.
func (r *Rule) ID() uint32 { return r.id }

func idOf(name string) uint32 {
	h := fnv.New32a()
	h.Write([]byte(name))
	return max(h.Sum32(), 1)
}

// ByID finds the rule that stops something by its ID; nil: there is none.
func (s *Ruleset) ByID(id uint32) *Rule { return s.stops[id] }

// stoppable are the classes of events at which the kernel can say no. The image of an Exec is loaded
// already; there was an ExecCheck before. System calls are learnt only, and what is only told is there by then.
func stoppable() classes {
	return kindsOf(event.Exec, event.ExecCheck, event.Access) &^ (opsOf(event.OpSyscall) | onlyTold())
}

// onlyTold are connections that a server takes, descriptors of sockets that are made of others, questions to name
// servers, and what connections begin with.
func onlyTold() classes { return opsWhere(event.Operation.OnlyTold) }

// decidable reports what keeps the kernel from deciding a rule that stops something.
func (l *loader) decidable(r *Rule, it *item) bool {
	action := it.value("action")
	if r.Stops() && r.classes&onlyTold() != 0 && r.classes&^onlyTold() != 0 {
		if n, about := r.telling(); n != nil {
			l.undecidable(r, n, fmt.Sprintf("nothing can be stopped at %s, and %s is about it", classType(bits.TrailingZeros64(uint64(about))), n.excerpt()))
			return false
		}
		r.classes &^= onlyTold() // it is about what is done, and by the way about these
	}
	switch {
	case !r.Stops():
		return true
	case r.Window.Count != 0:
		l.cannotStop(action, r, "the kernel counts nothing: a rule with a window can only alert")
		return false
	case r.classes&^stoppable() != 0:
		first := bits.TrailingZeros64(uint64(r.classes &^ stoppable()))
		l.cannotStop(action, r, "nothing can be stopped at "+classType(first)+": name the evt.type or evt.operation that is meant")
		return false
	}
	d := r.decide()
	switch l.work += d.work; {
	case l.work > maxAllWork:
		l.cannotStop(action, r, fmt.Sprintf("all rules together combine more than %d tests and names", maxAllWork))
		return false
	case d.exact:
		return true
	case r.classes&opsOf(event.OpCreate) != 0 && r.classes&opsOf(event.OpCreate) != opsOf(event.OpCreate):
		l.cannotStop(action, r, "the kernel does not tell files, directories and links apart that are made: name the evt.operation that is meant, not the evt.type")
		return false
	}
	switch undecided := l.tellUndecided(r); {
	case undecided > 0:
	case d.many:
		l.cannotStop(it.value("condition"), r, fmt.Sprintf("the condition has more than %d alternatives, or more names than can be combined", MaxAlternatives))
	default:
		l.cannotStop(it.value("condition"), r, "the kernel can test each part of the condition, and not all of them at once")
	}
	return false
}

// maxUndecided is how many parts of a condition are told of.
const maxUndecided = 20

// tellUndecided reports the checks that the kernel cannot decide, and counts them. Finding a place takes a while.
func (l *loader) tellUndecided(r *Rule) int {
	n := 0
	r.tree.walk(func(check *node, negated bool) {
		if r.place(check, negated) == InKernel {
			return
		}
		if n++; n > maxUndecided {
			return
		}
		why := "the kernel cannot decide " + check.excerpt()
		if check.field != nil && check.field.host != nil {
			why += ": which addresses a name has is asked in user space, and may change at any time"
		}
		l.undecidable(r, check, why)
	})
	if n > maxUndecided {
		l.more += n - maxUndecided
	}
	return n
}

// telling is the first check of the condition that is meant for what is only told, and for which of that: it names it,
// or holds for nothing else. nil: there is none.
func (r *Rule) telling() (first *node, about classes) {
	r.tree.walk(func(n *node, negated bool) {
		holds := n.may
		if negated {
			holds = n.mayNot
		}
		told := holds & onlyTold()
		if first == nil && told != 0 && (told&n.names() != 0 || told == holds) {
			first, about = n, told
		}
	})
	return first, about
}

// names is what is only told of what a check of evt.type or evt.operation names.
func (n *node) names() (named classes) {
	if n.field == nil || !slices.Contains([]string{"evt.type", "syscall.type", "evt.operation"}, n.field.name) {
		return 0
	}
	named = operationsNamed(n.operands)
	onlyTold().each(func(class int) {
		told := classType(class)
		if slices.ContainsFunc(n.operands, func(value string) bool { return value == told || slices.Contains(siblings(told), value) }) {
			named |= 1 << class
		}
	})
	return named & onlyTold()
}

// excerpt is the text of a check.
func (n *node) excerpt() string { return shorten(n.in.text[n.at:n.end]) }

// undecidable tells of a check, in its place.
func (l *loader) undecidable(r *Rule, n *node, why string) {
	file, line, column := n.in.position(n.at)
	l.add(Problem{ID: undecidable, File: file, Line: line, Column: column, Rule: r.Name, Message: "action " + r.Action.String() + ": " + why})
}

func (l *loader) cannotStop(at place, r *Rule, why string) {
	l.tell(Problem{ID: undecidable, Rule: r.Name, Message: "action " + r.Action.String() + ": " + why}, at)
}
