// Package rule reads detection rules in Falco's form and compiles them. It is pure: it must never
// open a file, read a clock or keep state between events.
//
//	set, problems := rule.Load(rule.File{Name: "mine.yaml", Data: data})
//	matching := set.Match(&env, rule.First, nil)
package rule

import (
	"fmt"
	"slices"

	"github.com/plumbline-io/plumbline/pkg/alert"
	"github.com/plumbline-io/plumbline/pkg/event"
)

// Rule is one compiled rule. It is immutable and safe for concurrent use, each caller with its own Env.
type Rule struct {
	Name     string
	Desc     string
	Source   string // syscall, tls, gc, crypto, posture or internal
	Severity alert.Severity
	Tags     []string
	Attack   []string // ids of MITRE ATT&CK techniques, of AttackVersion
	Action   Action
	Mode     event.Mode // off, which disables it, audit or enforce; audit unless the file says otherwise
	Window   Window
	Enabled  bool
	File     string
	Line     int
	Column   int

	id        uint32
	match     check
	classes   classes // of the events that it can match
	condition *passage
	format    string
	tree      *node
	known     map[string]*field
	output    []piece
	fields    []*field // of the output, each once
	shown     []*term  // the same as they are written
}

// Match says whether the rule's condition holds. It does not allocate. A drift rule never matches:
// the kernel decides for it.
func (r *Rule) Match(e *Env) bool { return r.match != nil && r.match(e) }

// Condition is the text of the condition, macros and lists not replaced. A drift rule has none.
func (r *Rule) Condition() string {
	if r.condition == nil {
		return ""
	}
	return r.condition.text
}

// Output is the text of the output, fields not replaced.
func (r *Rule) Output() string { return r.format }

// AppendOutput writes the rule's output with the event's values, <NA> where there is none.
func (r *Rule) AppendOutput(dst []byte, e *Env) []byte {
	for _, p := range r.output {
		if p.field == nil {
			dst = append(dst, p.text...)
			continue
		}
		dst = p.field.appendTo(dst, e)
	}
	return dst
}

// AddFields puts the values that the output names into an alert's fields; nil where there is none. They
// keep nothing of the event.
func (r *Rule) AddFields(fields map[string]any, e *Env) {
	for _, f := range r.fields {
		fields[f.name] = f.value(e)
	}
}

// Matching is how many rules an event may match, Falco's rule_matching.
type Matching uint8

// All is every rule. First is Falco's default: the first rule in load order, and with it every rule that has a
// window, since these count what happens.
const (
	All Matching = iota
	First
)

func (m Matching) String() string {
	if m == First {
		return "first"
	}
	return "all"
}

// ParseMatching reads first or all.
func ParseMatching(s string) (Matching, error) {
	switch s {
	case "first":
		return First, nil
	case "all":
		return All, nil
	}
	return All, fmt.Errorf("unknown %.40q: want first or all", s)
}

// Ruleset is a set of rules, ready for use. It is immutable and safe for concurrent use.
type Ruleset struct {
	all      []*Rule // in load order, the disabled too
	rules    []*Rule
	disabled []*Rule
	leftOut  []string
	byKind   [event.KindCount][]*Rule
	byClass  [classCount][]*Rule
	finder   *finder
	stops    map[uint32]*Rule
	drift    [event.DimSyscalls]*Rule
	macros   []MacroInfo
	lists    []ListInfo
}

// Rules lists the rules in force, in load order. The drift rules are not among them.
func (s *Ruleset) Rules() []*Rule { return s.rules }

// Disabled lists the rules that are right and not enabled, in load order.
func (s *Ruleset) Disabled() []*Rule { return s.disabled }

// WithDisabled is the set in which the disabled rules are in force too, for those who test and explain them.
func (s *Ruleset) WithDisabled() *Ruleset {
	all := &Ruleset{all: s.all, leftOut: s.leftOut, stops: s.stops, drift: s.drift, macros: s.macros, lists: s.lists}
	for _, r := range s.all {
		all.use(r)
	}
	all.finder = newFinder(all.rules, fewRules)
	return all
}

// AtLeast is the set in which rules that are less severe than least are disabled, as with Falco's priority. Those
// that stop something stay: it must not happen in silence.
func (s *Ruleset) AtLeast(least alert.Severity) *Ruleset {
	some := &Ruleset{all: s.all, leftOut: s.leftOut, stops: s.stops, drift: s.drift, macros: s.macros, lists: s.lists, disabled: slices.Clone(s.disabled)}
	for _, r := range s.rules {
		if r.Severity <= least || r.Stops() {
			some.use(r)
		} else {
			some.disabled = append(some.disabled, r)
		}
	}
	some.finder = newFinder(some.rules, fewRules)
	return some
}

// use puts a rule in force.
func (s *Ruleset) use(r *Rule) {
	s.rules = append(s.rules, r)
	r.classes.each(func(class int) { s.byClass[class] = append(s.byClass[class], r) })
	for k := range event.KindCount {
		if r.classes.ofKind(k) {
			s.byKind[k] = append(s.byKind[k], r)
		}
	}
}

// LeftOut names the rules that are not there because they are wrong, or for a good reason, in load order.
func (s *Ruleset) LeftOut() []string { return s.leftOut }

// Macros lists the macros, in load order.
func (s *Ruleset) Macros() []MacroInfo { return s.macros }

// Lists lists the lists, in load order.
func (s *Ruleset) Lists() []ListInfo { return s.lists }

// For lists the rules that can match a kind of event, in load order. The drift rules are not among them.
func (s *Ruleset) For(k event.Kind) []*Rule {
	if k >= event.KindCount {
		return nil
	}
	return s.byKind[k]
}

// ForEvent is For with the operation looked at too: fewer rules for an event of kind Access.
func (s *Ruleset) ForEvent(ev *event.Event) []*Rule { return s.byClass[classOf(ev)] }

// ForAlerts lists the rules about alerts, in load order.
func (s *Ruleset) ForAlerts() []*Rule { return s.byClass[alertClass] }

// Match appends the rules that match the event to dst, in load order. Whether a window is full, it does not
// know.
func (s *Ruleset) Match(e *Env, m Matching, dst []*Rule) []*Rule {
	var found bool
	may := s.finder.find(e, classOf(e.Event))
	for i := may.next(0); i >= 0; i = may.next(i + 1) {
		r := s.rules[i]
		counts := r.Window.Count > 0
		if found && m == First && !counts || !r.Match(e) {
			continue
		}
		dst = append(dst, r)
		found = found || !counts
	}
	return dst
}
