package rule

import (
	"maps"
	"slices"
	"strings"

	"github.com/plumbline-io/plumbline/pkg/event"
)

// Variables knows the environment that the acting process was started with. Environments hold secrets: values of those
// variables alone are asked for that rules name, and nothing of them is ever shown.
type Variables interface {
	// VariableNames are those of all variables, with a space between two.
	VariableNames(e *Env) (names string, ok bool)
	// Variable is the value of one that rules ask for (Ruleset.Variables).
	Variable(e *Env, name string) (value string, ok bool)
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
			return e.Variables.Variable(e, name)
		})
	}
	return field{name: "proc.env", group: 'A', classes: set, takes: aKey, text: names, keyed: keyed, asks: true, secret: true}
}

// Variables lists the variables that the rules in force ask for the values of, each once, in order.
func (s *Ruleset) Variables() []string {
	names := map[string]struct{}{}
	note := func(t *term) { t.variables(names) }
	for _, r := range s.rules {
		r.tree.walk(func(n *node, _ bool) {
			note(n.check.left)
			note(n.check.right)
		})
	}
	return slices.Sorted(maps.Keys(names))
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
