package rule

import (
	"fmt"

	"go.yaml.in/yaml/v3"

	"github.com/plumbline-io/plumbline/pkg/event"
)

// File is one rule file.
type File struct {
	Name string
	Data []byte
}

// maxProblems is how many are told, of all files; more are counted.
const maxProblems = 200

// loader gathers what the files define.
type loader struct {
	*scope
	file       *File
	unmet      bool // the file requires what is not there
	step       int  // counts the items
	macroOrder []*macro
	listOrder  []*list
	order      []*history
	byName     map[string]*history
	drift      [event.DimSyscalls]*Rule
	problems   []Problem
	more       int

	bytes, nodes int // of the files so far
	work         int // that finding out what the kernel decides has taken
}

// history is what the files say of one rule: the latest of it that is right is in force.
type history struct {
	name     string
	source   string
	versions []*item
	rule     *Rule
}

// Load reads files in order; later rules replace earlier ones of the same name. A rule that is wrong
// is left out and reported; the others are loaded. The Ruleset is never nil.
func Load(files ...File) (*Ruleset, []Problem) {
	l := &loader{scope: newScope(), byName: map[string]*history{}}
	l.drift = builtInDrift(l.scope)
	for i := range files {
		l.file = &files[i]
		l.read(files[i].Data)
	}
	for _, list := range l.listOrder {
		if m := l.resolve(list); m != nil {
			l.mistake(m, "", "", false)
		}
	}
	for _, m := range l.macroOrder {
		l.compileMacro(m)
	}
	l.tellRemarks("")
	for _, h := range l.order {
		l.settle(h)
	}
	l.unread()
	l.unused()
	if l.more += max(0, l.made-maxProblems); l.more > 0 {
		l.problems = append(l.problems, Problem{
			ID: moreProblems, File: l.file.Name, Line: 1, Column: 1, Message: fmt.Sprintf("and %d more problems", l.more),
		})
	}
	set := l.ruleset()
	return set, l.problems
}

// settle compiles the latest version of a rule, and earlier ones as long as that is wrong.
func (l *loader) settle(h *history) {
	const most = 3
	for n := 0; n < most && n < len(h.versions); n++ {
		r, ok := l.build(h.versions[len(h.versions)-1-n])
		l.tellRemarks(h.name)
		if ok {
			h.rule = r
			break
		}
	}
	if d, ok := driftOf(h.name); ok && h.rule != nil {
		l.drift[d], h.rule = h.rule, nil
	}
}

// tellRemarks reports what was found while a rule was compiled, or the macros.
func (l *loader) tellRemarks(rule string) {
	for _, m := range l.remarks {
		l.mistake(m, rule, "", true)
	}
	l.remarks = l.remarks[:0]
}

// unused tells of macros that are wrong although no rule has told of it, and of what nobody refers to.
func (l *loader) unused() {
	for _, m := range l.macroOrder {
		switch {
		case m.used:
		case m.wrong != nil:
			l.mistake(m.wrong, "", "macro "+m.name, false)
		default:
			l.doubt(unused, m.places[0], "", "macro %s is not used", m.name)
		}
	}
	for _, list := range l.listOrder {
		if !list.used {
			l.doubt(unused, list.places[0], "", "list %s is not used", list.name)
		}
	}
}

func (l *loader) ruleset() *Ruleset {
	set := &Ruleset{drift: l.drift, stops: map[uint32]*Rule{}}
	for _, h := range l.order {
		r := h.rule
		_, drift := driftOf(h.name)
		if r != nil && !l.register(set, r) {
			r = nil
		}
		switch {
		case r != nil && r.Enabled:
			set.use(r)
		case r != nil:
			set.disabled = append(set.disabled, r)
		case !drift:
			set.leftOut = append(set.leftOut, h.name)
		}
		if r != nil {
			set.all = append(set.all, r)
		}
	}
	for _, m := range l.macroOrder {
		set.macros = append(set.macros, m.info())
	}
	for _, list := range l.listOrder {
		set.lists = append(set.lists, list.info())
	}
	set.finder = newFinder(set.rules, fewRules)
	return set
}

// register makes a rule that stops something known by its ID.
func (l *loader) register(set *Ruleset, r *Rule) bool {
	if !r.Stops() {
		return true
	}
	if other := set.stops[r.id]; other != nil {
		l.add(Problem{
			ID: invalidEntry, File: r.File, Line: r.Line, Column: r.Column, Rule: r.Name,
			Message: fmt.Sprintf("its name has the checksum of that of rule %q: give it another one", other.Name),
		})
		return false
	}
	if r.Enabled {
		set.stops[r.id] = r
	}
	return true
}

func (l *loader) add(p Problem) {
	if len(l.problems) == maxProblems {
		l.more++
		return
	}
	p.Line, p.Column = max(p.Line, 1), max(p.Column, 1)
	l.problems = append(l.problems, p)
}

// at is the place of a node of the file that is being read.
func (l *loader) at(n *yaml.Node) place { return place{l.file, n} }

func (l *loader) problem(at place, rule, format string, args ...any) {
	l.tell(Problem{ID: invalidEntry, Rule: rule, Message: fmt.Sprintf(format, args...)}, at)
}

func (l *loader) warning(at place, rule, format string, args ...any) {
	l.tell(Problem{ID: noEffect, Rule: rule, Message: fmt.Sprintf(format, args...), Warning: true}, at)
}

// doubt is a warning of a kind of its own.
func (l *loader) doubt(id string, at place, rule, format string, args ...any) {
	l.tell(Problem{ID: id, Rule: rule, Message: fmt.Sprintf(format, args...), Warning: true}, at)
}

// tell adds a problem at a place.
func (l *loader) tell(p Problem, at place) {
	p.File, p.Line, p.Column = at.file.Name, at.node.Line, at.node.Column
	l.add(p)
}

// mistake reports what is wrong in a text, at its place. The text is what, or the macro that it is in.
func (l *loader) mistake(m *mistake, rule, what string, warning bool) {
	p := Problem{ID: invalidCondition, Rule: rule, Message: m.message, Warning: warning}
	switch {
	case m.refused:
		p.ID = refusedField
	case m.unknown:
		p.ID = unknownName
	case m.id != "":
		p.ID = m.id
	}
	switch {
	case m.in.of != "":
		p.Message = "macro " + m.in.of + ": " + m.message
	case what != "":
		p.Message = what + ": " + m.message
	}
	if len(l.problems) < maxProblems {
		p.File, p.Line, p.Column = m.in.position(m.at)
	}
	l.add(p)
}
