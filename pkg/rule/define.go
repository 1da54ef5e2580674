package rule

import (
	"fmt"
	"slices"
	"strconv"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/plumbline-io/plumbline/pkg/alert"
	"github.com/plumbline-io/plumbline/pkg/event"
)

// classesOfSource are the events that a source's rules are about; known says whether there is such a
// source at all.
func classesOfSource(source string) (set classes, known bool) {
	switch source {
	case "syscall":
		return kindsOf(event.Fork, event.Exec, event.Exit, event.ExecCheck, event.Cgroup, event.Access), true
	case "tls":
		return kindsOf(event.Handshake), true
	case "gc":
		return kindsOf(event.Pause), true
	case "internal":
		return alerts(), true
	case "crypto", "posture":
		return 0, true
	}
	return 0, false
}

// sourcesNamed are the events of some sources; those that no sensor supplies have none.
func sourcesNamed(names []string) classes {
	var set classes
	for _, name := range names {
		of, _ := classesOfSource(name)
		set |= of
	}
	return set
}

// sourceOf is the source of some of the classes.
func sourceOf(set classes) string {
	for _, source := range []string{"tls", "gc", "internal"} {
		if all, _ := classesOfSource(source); set&all != 0 {
			return source
		}
	}
	return "syscall"
}

// build compiles one rule.
func (l *loader) build(it *item) (*Rule, bool) {
	r := &Rule{Name: it.name, File: it.file.Name, Line: it.node.Line, Column: it.node.Column, Source: "syscall", Mode: event.AuditMode, id: idOf(it.name)}
	r.Desc = newPassage("", slices.DeleteFunc(slices.Clone(it.values["desc"]), func(p place) bool { return !isScalar(p.node) })...).text
	if !l.describe(r, it) || !l.extras(r, it) || !l.output(r, it) {
		return nil, false
	}
	if _, drift := driftOf(it.name); drift {
		if r.Window = (Window{}); it.has("window") {
			l.warning(it.value("window"), it.name, "the window is not used: each deviation is told")
		}
		if it.has("condition") {
			l.warning(it.value("condition"), it.name, "the condition is not used: the kernel decides")
		}
		for _, key := range []string{"enabled", "mode"} {
			if it.has(key) && (!r.Enabled || r.Mode == event.Off) {
				l.warning(it.value(key), it.name, "it cannot be disabled: change the workload's mode")
			}
		}
		return r, true
	}
	r.Enabled = r.Enabled && r.Mode != event.Off
	return r, l.condition(r, it) && l.decidable(r, it)
}

// describe reads Falco's keys but output, condition and exceptions.
func (l *loader) describe(r *Rule, it *item) bool {
	var ok bool
	if r.Enabled, ok = l.boolean(r.Name, it.value("enabled"), true); !ok {
		return false
	}
	priority, ok := l.scalar(it, "priority")
	if !ok {
		return false
	}
	var err error
	if r.Severity, err = alert.ParseSeverity(priority.node.Value); err != nil {
		l.problem(priority, r.Name, "%v", err)
		return false
	}
	if at := it.value("source"); at.node != nil {
		r.Source = at.node.Value
		if _, known := classesOfSource(r.Source); !known {
			l.doubt(unknownSource, at, r.Name, "no sensor supplies the source %.60q; the rule is left out", at.node.Value)
			return false
		}
	}
	for _, key := range []string{"warn_evttypes", "skip-if-unknown-filter"} {
		if _, ok := l.boolean(r.Name, it.value(key), false); !ok {
			return false
		}
	}
	r.Tags, ok = l.words(r.Name, "tags", it)
	return ok
}

// words reads a list of words.
func (l *loader) words(rule, key string, it *item) ([]string, bool) {
	var words []string
	for _, at := range it.values[key] {
		for _, c := range at.node.Content {
			if resolved(c).Kind != yaml.ScalarNode {
				l.problem(place{at.file, c}, rule, "%s: expected a word", key)
				return nil, false
			}
			words = append(words, resolved(c).Value)
		}
		if at.node.Kind != yaml.SequenceNode {
			l.problem(at, rule, "%s: expected a list of words", key)
			return nil, false
		}
	}
	return words, true
}

// extras reads the keys that are ours.
func (l *loader) extras(r *Rule, it *item) bool {
	var err error
	if at := it.value("action"); at.node != nil {
		if r.Action, err = ParseAction(at.node.Value); err != nil {
			l.problem(at, r.Name, "%v", err)
			return false
		}
	}
	if at := it.value("mode"); at.node != nil {
		if r.Mode, err = event.ParseMode(at.node.Value); err != nil || r.Mode == event.Learn {
			l.problem(at, r.Name, "unknown mode %.40q: want off, audit or enforce", at.node.Value)
			return false
		}
	}
	l.idle(r, it)
	return l.attack(r, it) && l.window(r, it)
}

// idle tells of keys that change nothing.
func (l *loader) idle(r *Rule, it *item) {
	if it.has("mode") && r.Mode != event.Off && r.Action == Alert {
		l.warning(it.value("mode"), r.Name, "mode %s has no effect: the action is alert", r.Mode)
	}
	for _, key := range []string{"capture", "capture_duration"} {
		if at := it.value(key); at.node != nil && at.node.Value != "false" {
			l.warning(at, r.Name, "%s has no effect: nothing is captured", key)
		}
	}
}

// attack reads ids of techniques: one or a list. A rule without any has those of its tags.
func (l *loader) attack(r *Rule, it *item) bool {
	if !it.has("attack") {
		r.Attack = l.techniques.ofTags(r.Name, r.Tags)
	}
	for _, at := range it.values["attack"] {
		nodes := at.node.Content
		if at.node.Kind == yaml.ScalarNode {
			nodes = []*yaml.Node{at.node}
		}
		for _, n := range nodes {
			n = resolved(n)
			if n.Kind != yaml.ScalarNode || !isTechnique(n.Value) {
				l.problem(place{at.file, n}, r.Name, "attack: %.40q is not of the form T1059 or T1059.004", n.Value)
				return false
			}
			id, known := l.techniques.current(n.Value)
			if !known {
				l.doubt(unknownTechnique, place{at.file, n}, r.Name, "attack: ATT&CK %s has no %s", AttackVersion, n.Value)
			}
			r.Attack = append(r.Attack, id)
		}
	}
	return true
}

// window reads {count: 5, within: 10s, by: [proc.pid], distinct: [fd.sport]}.
func (l *loader) window(r *Rule, it *item) bool {
	at := it.value("window")
	if at.node == nil {
		return true
	}
	if at.node.Kind != yaml.MappingNode {
		l.problem(at, r.Name, "window: expected count, within, by and distinct")
		return false
	}
	for i := 0; i+1 < len(at.node.Content); i += 2 {
		key, value := place{at.file, at.node.Content[i]}, place{at.file, resolved(at.node.Content[i+1])}
		if what := l.windowKey(r, key.node.Value, value); what != "" {
			l.problem(value, r.Name, "window: %s", what)
			return false
		}
	}
	switch w := &r.Window; {
	case w.Count == 0 || w.Within == 0:
		l.problem(at, r.Name, "window: count and within are needed")
		return false
	case len(w.Distinct) > 0 && w.Count > maxDistinct:
		l.problem(at, r.Name, "window: with distinct, count is a number from 2 to %d", maxDistinct)
		return false
	}
	return true
}

// windowKey reads one key; it returns what is wrong.
func (l *loader) windowKey(r *Rule, key string, value place) string {
	var err error
	switch key {
	case "count":
		if r.Window.Count, err = strconv.Atoi(value.node.Value); err != nil || r.Window.Count < 2 || r.Window.Count > maxCount {
			return fmt.Sprintf("count is a number from 2 to %d", maxCount)
		}
	case "within":
		if r.Window.Within, err = time.ParseDuration(value.node.Value); err != nil || r.Window.Within <= 0 || r.Window.Within > 24*time.Hour {
			return "within is a duration of at most 24h, such as 10s"
		}
	case "by":
		return l.windowFields(key, value, &r.Window.By, &r.Window.by)
	case "distinct":
		return l.windowFields(key, value, &r.Window.Distinct, &r.Window.distinct)
	default:
		return shorten(key) + " is unknown: want count, within, by and distinct"
	}
	return ""
}

func (l *loader) windowFields(key string, value place, names *[]string, fields *[]*field) string {
	if value.node.Kind != yaml.SequenceNode || len(value.node.Content) > maxWindowFields {
		return fmt.Sprintf("%s is a list of at most %d fields", key, maxWindowFields)
	}
	for _, n := range value.node.Content {
		f, m := l.fieldIn(newPassage("", place{value.file, resolved(n)}))
		switch {
		case m != nil:
			return key + ": " + m.message
		case f.told:
			return key + ": " + f.name + " is known only in outputs"
		case f.secret:
			return key + ": " + f.name + " is compared, and nothing is counted by it"
		}
		*names, *fields = append(*names, f.name), append(*fields, f)
	}
	return ""
}

// scalar reads a text that has to be there.
func (l *loader) scalar(it *item, key string) (place, bool) {
	at := it.value(key)
	if !isScalar(at.node) {
		if at.node == nil {
			at = it.place
		}
		l.problem(at, it.name, "%s is missing", key)
		return at, false
	}
	return at, true
}

// passage reads a text that has to be there, what was appended to it included.
func (l *loader) passage(it *item, key string) (*passage, bool) {
	if _, ok := l.scalar(it, key); !ok {
		return nil, false
	}
	for _, at := range it.values[key] {
		if !isScalar(at.node) {
			l.problem(at, it.name, "%s: expected a text", key)
			return nil, false
		}
	}
	return newPassage("", it.values[key]...), true
}

func (l *loader) output(r *Rule, it *item) bool {
	in, ok := l.passage(it, "output")
	if !ok {
		return false
	}
	if m := l.setOutput(r, in); m != nil {
		l.mistake(m, r.Name, "output", l.skips(m, it))
		return false
	}
	return true
}

// skips says whether there is a good reason to leave the rule out: a refused field, or one that is not
// known where the author expects that.
func (l *loader) skips(m *mistake, it *item) bool {
	at := it.value("skip-if-unknown-filter")
	return m.refused || m.unknown && at.node != nil && at.node.Value == "true"
}

func (l *loader) condition(r *Rule, it *item) bool {
	in, ok := l.passage(it, "condition")
	if !ok {
		return false
	}
	tree, m := parse(in)
	if m == nil {
		tree, m = l.exceptions(tree, it)
	}
	var p part
	if m == nil {
		p, m = l.part(tree, everything)
		m = l.charge(p, tree, m)
	}
	if m != nil {
		l.mistake(m, r.Name, "condition", l.skips(m, it))
		return false
	}
	r.match, r.condition, r.tree, r.known = p.check, in, tree, l.scope.fields
	if !l.classify(r, it, p) {
		return false
	}
	l.doubtful(r)
	if m := l.chargePlan(r); m != nil {
		l.mistake(m, r.Name, "condition", false)
		return false
	}
	return true
}

// classify finds the events that the rule has to be asked about.
func (l *loader) classify(r *Rule, it *item, p part) bool {
	at := it.value("condition")
	all, _ := classesOfSource(r.Source)
	r.classes = p.may & all
	quiet := it.has("warn_evttypes") && it.value("warn_evttypes").node.Value == "false"
	switch {
	case all == 0:
		l.doubt(unknownSource, it.value("source"), r.Name, "no sensor supplies the source %s yet: the rule is never asked", r.Source)
	case p.may == 0:
		l.doubt(neverAsked, at, r.Name, "the condition holds for no event that is observed%s", r.missing())
	case r.classes == 0:
		l.problem(at, r.Name, "the condition holds for no event of source %s: set source to %s", r.Source, sourceOf(p.may))
		return false
	case r.classes == all && r.Source == "syscall" && !quiet:
		l.doubt(alwaysAsked, at, r.Name, "the condition names no evt.type: every event is asked")
	}
	return true
}

// missing names the fields that are not supplied among those that the condition wants to hold.
func (r *Rule) missing() string {
	var names []string
	r.tree.walk(func(n *node, negated bool) {
		if f := r.firstField(n); f != nil && f.why != "" && !negated && !slices.Contains(names, f.name) {
			names = append(names, f.name)
		}
	})
	if names == nil {
		return ""
	}
	return " (not supplied: " + joined(names) + ")"
}
