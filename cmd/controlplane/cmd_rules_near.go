package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/plumbline-io/plumbline/pkg/rule"
)

func noSuchRule(c *catalogue, name string) error {
	for _, p := range c.problems {
		if p.Rule == name && !p.Warning {
			return hinted{usageError{fmt.Errorf("explain rule: %w", p)}, "the rule is left out: see 'plumbline rules lint'"}
		}
	}
	var names []string
	for _, r := range c.rules() {
		names = append(names, r.Name)
	}
	hint := "'plumbline rules list' shows the rules there are; name the file of yours after the rule"
	if close := near(name, names); len(close) > 0 {
		hint = "did you mean " + strings.Join(close, ", or ") + "?"
	}
	return hinted{usageError{fmt.Errorf("explain rule: there is no rule %q", name)}, hint}
}

// near finds at most three names that are alike: a part of it in any case, or few letters differ.
func near(name string, names []string) []string {
	const most = 3
	want := strings.ToLower(name)
	distance := map[string]int{}
	var found []string
	for _, n := range names {
		have := strings.ToLower(n)
		d := rule.Distance(want, have)
		if strings.Contains(have, want) {
			d = 0
		}
		if d <= max(len(want), len(have))/3 {
			distance[n] = d
			found = append(found, n)
		}
	}
	slices.SortStableFunc(found, func(a, b string) int { return distance[a] - distance[b] })
	for i := range found {
		found[i] = fmt.Sprintf("%q", found[i])
	}
	return found[:min(len(found), most)]
}
