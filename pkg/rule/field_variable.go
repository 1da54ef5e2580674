package rule

import (
	"maps"
	"slices"
	"strings"

	"github.com/plumbline-io/plumbline/pkg/event"
)

// Variables knows the environment of the acting process. Environments hold secrets: values of those variables alone are
// asked for that rules name, and nothing of them is ever shown.
type Variables interface {
	// VariableNames are those of all variables, with a space between two.
	VariableNames(e *Env) (names string, ok bool)
	// Variable is the value of one that rules ask for (Ruleset.Variables), or several if it stands there more than once;
	// none: it is not there, or not known. The caller does not change them.
	Variable(e *Env, name string) (values []string)
}

// withheld is what stands in outputs for what may only be compared.
const withheld = "<withheld>"

// environmentField is proc.env: the names of all variables, or with a name in brackets the value of one.
func environmentField() field {
	set := allClasses &^ (kindsOf(event.ExecCheck) | alerts()) // who executes has the old one until it has
	names := func(e *Env) (string, bool) {
		if e.Variables == nil {
			return "", false
		}
		return e.Variables.VariableNames(e)
	}
	keyed := func(name string) func(*Env) (string, bool) {
		return only(set, func(e *Env) (string, bool) {
			if e.Variables == nil {
				return "", false
			}
			values := e.Variables.Variable(e, name)
			if len(values) == 0 {
				return "", false
			}
			n := len(values)
			which := e.rest % n
			e.rest /= n
			e.turns = min(e.turns*n, maxTurns)
			return values[which], true
		})
	}
	return field{name: "proc.env", group: 'A', classes: set, takes: aKey, text: names, keyed: keyed, asks: true, secret: true}
}

// maxTurns of one check: six variables that stand there twice. Of more, not all choices are tried.
const maxTurns = 64

// anyTurn is a check on variables that holds if it does with any choice of their values: which one of several a program
// takes is not known, and must not be a way around a rule. A turn is a number whose digits choose, one for each variable in
// the order in which they are read.
func anyTurn(inner check) check {
	return func(e *Env) bool {
		is, turns := false, 1 // a check that fails early has not read all of them
		for turn := 0; turn < turns && !is; turn++ {
			e.rest, e.turns = turn, 1
			is = inner(e)
			turns = max(turns, e.turns)
		}
		e.rest, e.turns = 0, 0
		return is
	}
}

// Variables lists the variables that the rules in force ask for the values of, each once, in order.
func (s *Ruleset) Variables() []string {
	names := map[string]struct{}{}
	for _, r := range s.rules {
		r.variables(names)
	}
	return slices.Sorted(maps.Keys(names))
}

// variables adds those that the condition names.
func (r *Rule) variables(to map[string]struct{}) {
	r.tree.walk(func(n *node, _ bool) {
		n.check.left.variables(to)
		n.check.right.variables(to)
	})
}

// variables adds those that a term names.
func (t *term) variables(to map[string]struct{}) {
	switch {
	case t == nil:
	case t.kind == fieldTerm && t.name == "proc.env" && t.hasArg:
		to[t.arg] = struct{}{}
	default:
		for _, a := range t.args {
			a.variables(to)
		}
	}
}

// remarkVariables tells of values that are looked for where only names are.
func (s *scope) remarkVariables(f *field, c *comparison, values []string) {
	if f.name != "proc.env" || !slices.ContainsFunc(values, func(v string) bool { return strings.Contains(v, "=") }) {
		return
	}
	s.remark(c.left, noEffect, "proc.env holds the names of variables, not their values: ask for proc.env[NAME]")
}

// unread tells of variables in outputs that no condition of a rule in force names, nor that of the rule itself: they
// are not read.
func (l *loader) unread() {
	read := map[string]struct{}{}
	for _, h := range l.order {
		if h.rule != nil && h.rule.Enabled {
			h.rule.variables(read)
		}
	}
	for _, h := range l.order {
		r := h.rule
		if d, ok := driftOf(h.name); ok {
			r = l.drift[d]
		}
		if r == nil {
			continue
		}
		own := map[string]struct{}{}
		if !r.Enabled {
			r.variables(own)
		}
		for _, t := range r.shown {
			l.remarkUnread(t, read, own)
		}
		l.tellRemarks(r.Name)
	}
}

func (s *scope) remarkUnread(shown *term, read, own map[string]struct{}) {
	names := map[string]struct{}{}
	shown.variables(names)
	for _, name := range slices.Sorted(maps.Keys(names)) {
		_, is := read[name]
		_, mine := own[name]
		if !is && !mine {
			s.remark(shown, noEffect, "proc.env["+shorten(name)+"] is always <NA>: values are read of those variables alone that a condition names")
		}
	}
}
