package detect

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/plumbline-io/plumbline/pkg/alert"
	"github.com/plumbline-io/plumbline/pkg/rule"
)

// Outcome is what came of a rule's test.
type Outcome struct {
	Raised []string      // the rules that raised an alert, each once, in the order of their first alerts
	Alerts []alert.Alert // these first ones
	Asked  []string      // the rules that were asked about some event, or some alert
}

// Try asks the rules about the events of a test, whatever their verdicts. The kernel's own alerts are not
// among what is raised.
func Try(set *rule.Ruleset, t *rule.Test) Outcome {
	d := New(Config{Ruleset: set, Wall: func(ktime uint64) time.Time { return time.Unix(0, int64(ktime)) }})
	d.set = set
	var facts stepFacts
	d.env.Facts, d.env.Variables = &facts, &facts
	var o Outcome
	for i := range t.Steps {
		step := &t.Steps[i]
		w := step.Workload
		facts.step = step
		step.Event.Ktime = uint64(step.At.UnixNano())
		d.env.Names = step.Names
		d.env.Event, d.env.Workload, d.env.Wall = &step.Event, w, step.At.UnixNano()
		o.Asked = appendNames(o.Asked, set.ForEvent(&step.Event))
		for _, a := range d.ask(&Subject{Name: w.Name, Kind: w.Kind, ContainerID: w.ContainerID, SPIFFEID: w.SPIFFEID}, nil) {
			o.Asked = appendNames(o.Asked, set.ForAlerts())
			if !slices.Contains(o.Raised, a.Rule) {
				o.Raised, o.Alerts = append(o.Raised, a.Rule), append(o.Alerts, a)
			}
		}
	}
	return o
}

// appendNames adds the names that are not there yet.
func appendNames(names []string, rules []*rule.Rule) []string {
	for _, r := range rules {
		if !slices.Contains(names, r.Name) {
			names = append(names, r.Name)
		}
	}
	return names
}

// Check says what is not as the test wants it.
func (o *Outcome) Check(t *rule.Test) error {
	if want := t.Names(); !slices.Equal(o.Raised, want) {
		return fmt.Errorf("%s:%d: test %q: got %q, want %q", t.File, t.Line, t.Name, o.Raised, want)
	}
	for i := range t.Want {
		if what := t.Want[i].Differs(&o.Alerts[i]); what != "" {
			return fmt.Errorf("%s:%d: test %q: rule %q: %s", t.File, t.Line, t.Name, t.Want[i].Rule, what)
		}
	}
	return nil
}

// stepFacts are those that a test's step names.
type stepFacts struct{ step *rule.Step }

func (f *stepFacts) User(*rule.Env, uint32) (rule.User, bool) { return f.step.User, true }
func (f *stepFacts) Session(*rule.Env) (rule.Session, bool)   { return f.step.Session, true }
func (f *stepFacts) Container(*rule.Env) (rule.Container, bool) {
	return f.step.Container, true
}

func (f *stepFacts) VariableNames(*rule.Env) (string, bool) {
	return strings.Join(slices.Sorted(maps.Keys(f.step.Variables)), " "), f.step.Variables != nil
}

func (f *stepFacts) Variable(_ *rule.Env, name string) []string {
	if value, ok := f.step.Variables[name]; ok {
		return []string{value}
	}
	return nil
}
