package rule

import (
	"slices"
	"strconv"
	"strings"

	"github.com/plumbline-io/plumbline/pkg/event"
)

// node is one part of a parsed condition. The parser knows nothing yet of fields, macros and lists.
type node struct {
	kind    nodeKind
	kids    []*node // of and, or, not
	in      *passage
	at, end int    // the bytes of the text
	macro   string // the name
	check   comparison

	// Filled in by the compiler: the classes for which it can hold, and for which it can fail.
	may, mayNot classes
	field       *field
	operands    []string
	lists       []string // that the operands name
}

type nodeKind uint8

const (
	andNode nodeKind = iota
	orNode
	notNode
	macroNode
	checkNode
)

// comparison is a check: an operand, an operator, and one value, a list of values, or another operand.
type comparison struct {
	left     *term
	op       string
	modifier string // oneof, anyof, allof
	opAt     int
	values   []value
	named    bool // values is the bare name of a list
	right    *term
}

// value is one on the right-hand side.
type value struct {
	text   string
	quoted bool
	in     *passage
	at     int
}

// term is an operand: a field, a transformer of others, a text, or a list of terms.
type term struct {
	kind   termKind
	name   string // of the field or transformer; the text itself
	arg    string // in brackets
	hasArg bool
	args   []*term
	in     *passage
	at     int
}

type termKind uint8

const (
	fieldTerm termKind = iota
	callTerm
	textTerm
	listTerm
)

// CheckInfo is one check of a rule's condition, where it is written down.
type CheckInfo struct {
	Text     string
	Field    string // the field it is about, without argument and transformers; "" if there is none
	Operator string // with its modifier
	Macro    string // "" if it is in the rule's own text
	File     string
	Line     int
	Column   int
	Supplied bool   // the field has a value in some event
	Why      string // why it is not supplied
	Where    string // InKernel, AsFilter or InUserSpace; of a check that the kernel could decide, what it does for this rule
}

// Checks lists the checks of the condition in the order in which they are written down, those of the
// macros where they are used.
func (r *Rule) Checks() []CheckInfo {
	if r.kernelDecides() {
		return r.checks(r.place)
	}
	return r.checks(func(n *node, negated bool) string {
		if place := r.place(n, negated); place != InKernel || n.foreknown(r.classes) {
			return place
		}
		return r.asked(n, negated)
	})
}

// checks lists them with the place that each has.
func (r *Rule) checks(place func(n *node, negated bool) string) []CheckInfo {
	var list []CheckInfo
	r.tree.walk(func(n *node, negated bool) {
		c := CheckInfo{Text: n.in.text[n.at:n.end], Operator: n.check.op, Macro: n.in.of, Supplied: true, Where: place(n, negated)}
		if n.check.modifier != "" {
			c.Operator += " " + n.check.modifier
		}
		if t := n.check.left.firstField(); t != nil {
			c.Field = t.name
			if f := r.firstField(n); f != nil && f.why != "" {
				c.Supplied, c.Why = false, f.why
			}
		}
		c.File, c.Line, c.Column = n.in.position(n.at)
		list = append(list, c)
	})
	return list
}

// kernelDecides says whether the kernel does all that there is to decide: what leaves it matches, or was denied.
func (r *Rule) kernelDecides() bool {
	if !r.InKernel() {
		return false
	}
	for _, i := range r.Plan() {
		if !r.Stops() && (i.Kind != event.Access || !i.Exact) {
			return false // executions leave it all, and who acts is asked of denials only
		}
	}
	return true
}

// foreknown says whether the kind of event alone decides a check.
func (n *node) foreknown(set classes) bool { return n.may&n.mayNot&set == 0 }

// asked says what a check that the kernel could decide is there for, if others are decided in user space.
func (r *Rule) asked(n *node, negated bool) string {
	place := InUserSpace
	r.classes.each(func(class int) {
		if _, access := operationOf(class); !access {
			return
		}
		if b := n.checkBound(class, negated); !b.anything() {
			place = AsFilter
		}
	})
	return place
}

// Uses names the macros and lists that the condition is made of, each once, in the order in which it meets
// them; those of a macro after it.
func (r *Rule) Uses() (macros, lists []string) {
	add := func(to *[]string, name string) {
		if !slices.Contains(*to, name) {
			*to = append(*to, name)
		}
	}
	var visit func(n *node)
	visit = func(n *node) {
		if n == nil {
			return
		}
		if n.kind == macroNode {
			add(&macros, n.macro)
		}
		for _, name := range n.lists {
			add(&lists, name)
		}
		for _, kid := range n.kids {
			visit(kid)
		}
	}
	visit(r.tree)
	return macros, lists
}

// walk calls f with every check, and whether it is negated. A macro's tree is a kid of the node that
// uses it, once compiled.
func (n *node) walk(f func(check *node, negated bool)) { n.descend(f, false) }

func (n *node) descend(f func(*node, bool), negated bool) {
	if n == nil {
		return
	}
	if n.kind == checkNode {
		f(n, negated)
	}
	for _, kid := range n.kids {
		kid.descend(f, negated != (n.kind == notNode))
	}
}

// firstField is the first field that a check is about, nil if there is none.
func (r *Rule) firstField(n *node) *field {
	t := n.check.left.firstField()
	if t == nil || r.known[t.name] == nil {
		return nil
	}
	f, _ := r.known[t.name].argument(t)
	return f
}

// firstField is the first field in the term, nil if there is none.
func (t *term) firstField() *term {
	if t == nil || t.kind == textTerm {
		return nil
	}
	if t.kind == fieldTerm {
		return t
	}
	for _, a := range t.args {
		if field := a.firstField(); field != nil {
			return field
		}
	}
	return nil
}

// String is the term as it is written, for messages and output fields.
func (t *term) String() string {
	var b strings.Builder
	t.write(&b)
	return b.String()
}

func (t *term) write(b *strings.Builder) {
	switch t.kind {
	case textTerm:
		b.WriteString(strconv.Quote(t.name))
		return
	case callTerm, fieldTerm:
		b.WriteString(t.name)
	}
	if t.kind != fieldTerm {
		b.WriteByte('(')
		for i, a := range t.args {
			if i > 0 {
				b.WriteString(", ")
			}
			a.write(b)
		}
		b.WriteByte(')')
	}
	if t.hasArg {
		b.WriteString("[" + t.arg + "]")
	}
}
