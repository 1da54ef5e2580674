package rule

import (
	"slices"
	"strconv"
	"strings"
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
	Where    string // InKernel, AsFilter or InUserSpace
}

// Checks lists the checks of the condition in the order in which they are written down, those of the
// macros where they are used.
func (r *Rule) Checks() []CheckInfo {
	var list []CheckInfo
	r.tree.walk(func(n *node, negated bool) {
		c := CheckInfo{Text: n.in.text[n.at:n.end], Operator: n.check.op, Macro: n.in.of, Supplied: true, Where: r.place(n, negated)}
		if n.check.modifier != "" {
			c.Operator += " " + n.check.modifier
		}
		if name := n.check.left.firstField(); name != "" {
			c.Field = name
			if f, ok := r.known[name]; ok && f.why != "" {
				c.Supplied, c.Why = false, f.why
			}
		}
		c.File, c.Line, c.Column = n.in.position(n.at)
		list = append(list, c)
	})
	return list
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

// firstField is the name of the first field in the term, "" if there is none.
func (t *term) firstField() string {
	if t == nil || t.kind == textTerm {
		return ""
	}
	if t.kind == fieldTerm {
		return t.name
	}
	for _, a := range t.args {
		if name := a.firstField(); name != "" {
			return name
		}
	}
	return ""
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
