package main

import (
	"github.com/plumbline-io/plumbline/pkg/event"
	"github.com/plumbline-io/plumbline/pkg/rule"
)

// catalogue is what rule files define.
type catalogue struct {
	set      *rule.Ruleset // as the agent has it
	all      *rule.Ruleset // those rules too that are switched off
	problems []rule.Problem
}

func newCatalogue(files []rule.File) *catalogue {
	set, problems := rule.Load(files...)
	return &catalogue{set: set, all: set.WithDisabled(), problems: problems}
}

// rules lists all that compiled, the drift rules first.
func (c *catalogue) rules() []*rule.Rule {
	var rules []*rule.Rule
	for d := range event.DimSyscalls {
		rules = append(rules, c.set.Drift(d))
	}
	return append(rules, c.all.Rules()...)
}

// drift is the dimension that a drift rule is about.
func (c *catalogue) drift(r *rule.Rule) (event.Dimension, bool) {
	for d := range event.DimSyscalls {
		if c.set.Drift(d) == r {
			return d, true
		}
	}
	return 0, false
}
