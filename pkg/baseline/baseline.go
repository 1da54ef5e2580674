// Package baseline is what a workload has been seen to do: one Profile, with a canonical text form. It
// is pure: it must never read a clock or a file, and never decides about an operation; the kernel
// does, from the keys that a Profile lists.
//
//	p := baseline.New("nginx.service", "unit", event.AllDimensions)
//	p.BeginRun()
//	p.Observe(ev, at)                                  // Learned
//	err := p.Promote(event.Enforce, "ticket OPS-12")   // not two runs yet: needs a reason
package baseline

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/plumbline-io/plumbline/pkg/event"
)

// Outcome is what a Profile made of an operation.
type Outcome uint8

// The outcomes.
const (
	Known   Outcome = iota // listed, or below a pattern, or of a dimension that is not held, or not the workload's
	Learned                // added
	Drift                  // not known, and the profile is not learning any more
	Refused                // no name that a baseline could hold: deleted, anonymous, outside the root, too long
	Full                   // MaxEntries or MaxBytes
)

// Bounds of a profile. A workload that does more different things is a machine, not a service.
const (
	MaxEntries = 10000
	MaxBytes   = 2 << 20 // of all paths together
)

// minRuns is how many runs a profile must have seen before it is promoted without a reason.
const minRuns = 2

// ErrNotReady means that a profile has not seen enough to be promoted.
var ErrNotReady = errors.New("baseline is not ready")

// Profile is the baseline of one workload. It is not safe for concurrent use.
type Profile struct {
	workload, kind string
	held           event.Dimensions
	mode           event.Mode
	force          string // why it was promoted although it was not ready
	frozen         bool
	entries        entries
	below          map[event.Key]event.Key // the patterns of paths, by the directory with its slash
	bytes          int                     // of all paths

	runs        int
	novelty     bool      // something was learnt in the current run
	lastNovelty time.Time // when something was learnt last

	full        event.Dimensions // in which something found no room, or no name
	steppedDown event.Dimensions // which are audited although the mode is enforce

	lacks event.Additions // that were not there yet when it was learnt
	whole bool            // they were, from the begin of this run on
}

// NoteFile takes note of when an executable's file was changed last, as its node's file system says, and
// returns what was noted before: zero if nothing was, or if the key is not listed.
func (p *Profile) NoteFile(k event.Key, changed time.Time) (before time.Time) {
	e := p.entries.get(k)
	if e == nil {
		return time.Time{}
	}
	before, e.changed = e.changed.Time(), momentOf(changed)
	return before
}

// New makes an empty profile in learn mode, which speaks about these dimensions.
func New(workload, kind string, held event.Dimensions) *Profile {
	return &Profile{
		workload: workload, kind: kind, held: held, mode: event.Learn,
		entries: newEntries(0, 0), below: map[event.Key]event.Key{},
	}
}

// Clone is an independent copy.
func (p *Profile) Clone() *Profile {
	c := *p
	c.entries, c.below = p.entries.clone(), maps.Clone(p.below)
	return &c
}

// Workload is whose baseline it is.
func (p *Profile) Workload() string { return p.workload }

// Kind of the workload: unit, container, cgroup or host.
func (p *Profile) Kind() string { return p.kind }

// Runs is how many runs of the workload it has seen.
func (p *Profile) Runs() int { return p.runs }

// Mode the workload is to be held in.
func (p *Profile) Mode() event.Mode { return p.mode }

// Held tells the dimensions that the profile speaks about. It learns nothing of the others, and what
// happens there is no deviation.
func (p *Profile) Held() event.Dimensions { return p.held }

// Hold changes the dimensions. What was learnt of those that are left out is forgotten.
func (p *Profile) Hold(dims event.Dimensions) error {
	if !p.learning() {
		return fmt.Errorf("change dimensions of baseline of %q: it is promoted or frozen: demote it first", p.workload)
	}
	if !p.held.Has(event.DimPrivilege) {
		p.lacks = 0 // none of it was learnt earlier
	}
	p.held = dims
	for k := range p.entries.all() {
		if !dims.Has(k.Op.Dimension()) {
			p.remove(k)
		}
	}
	return nil
}

// Observe takes note of an Exec, ExecCheck or Access; other kinds are Known. If it is learning, and what was done has a path
// that could not be read as a whole, its dimension is not known as a whole either: see Full.
func (p *Profile) Observe(ev *event.Event, at time.Time) Outcome {
	var k event.Key
	var named, cut bool
	switch ev.Kind {
	case event.Exec, event.ExecCheck:
		x := &ev.Exec
		k, named, cut = event.Key{Op: event.OpExec, Path: x.Path}, !x.Unlinked && !x.Detached && !x.Partial, x.Partial
	case event.Access:
		a := &ev.Access
		if a.SetUp || a.Op.OnlyTold() {
			return Known // nobody learns it
		}
		code := a.Op == event.OpLibrary || a.Op.GivesRights()
		k, named, cut = a.Key, !a.Partial && !(code && (a.Unlinked || a.Detached)), a.Partial
	default:
		return Known
	}
	if !named && p.held.Has(k.Op.Dimension()) {
		if cut && p.learning() {
			p.full = p.full.With(k.Op.Dimension())
		}
		return Refused
	}
	return p.Add(k, false, at)
}

// Add takes note of a key that was seen. partial: its process was found running. A path that reads
// like a pattern is refused, because a file may well be called "**": patterns come from Parse and
// Generalise.
func (p *Profile) Add(k event.Key, partial bool, at time.Time) Outcome {
	return p.add(k, entry{partial: partial, count: 1, first: secondOf(at), last: secondOf(at)}, p.learning())
}

// AddLate is Add of a key that was seen before a promotion, and is told only now.
func (p *Profile) AddLate(k event.Key, at time.Time) Outcome {
	return p.add(k, entry{count: 1, first: secondOf(at), last: secondOf(at)}, !p.frozen)
}

func (p *Profile) add(k event.Key, seen entry, learning bool) Outcome {
	if !p.held.Has(k.Op.Dimension()) {
		return Known
	}
	if _, e := p.find(k); e != nil {
		e.count++
		e.last = seen.last
		// What is enforced has been reviewed as it is.
		e.partial = e.partial && (seen.partial || !learning)
		return Known
	}
	if isPattern(k.Path) || check(k) != nil {
		return Refused
	}
	if !learning {
		return Drift
	}
	if !p.insert(k, seen) {
		p.full = p.full.With(k.Op.Dimension())
		return Full
	}
	p.novelty, p.lastNovelty = p.novelty || isHeld(k) && !p.isPromoted(), seen.last.Time() // what is told late is no news
	if isWide(k) {                                                                         // port 0
		p.settle() // so that the order of what was seen does not show
	}
	return Learned
}

// insert adds a key that is valid and not there yet, if there is room.
func (p *Profile) insert(k event.Key, e entry) bool {
	if p.entries.len() >= MaxEntries || p.bytes+len(k.Path) > MaxBytes {
		return false
	}
	k.Path = strings.Clone(k.Path)
	p.entries.set(k, &e)
	p.bytes += len(k.Path)
	if isPattern(k.Path) {
		p.below[event.Key{Op: k.Op, Path: directory(k.Path)}] = k
	}
	return true
}

func (p *Profile) remove(k event.Key) {
	p.entries.remove(k)
	p.bytes -= len(k.Path)
	if isPattern(k.Path) {
		delete(p.below, event.Key{Op: k.Op, Path: directory(k.Path)})
	}
}

// isHeld says whether a workload can be held to a key. System calls vary with time and chance, so that a new one
// does not keep a baseline from being ready for what it is used for.
func isHeld(k event.Key) bool { return k.Op != event.OpSyscall }

// Confirm says that what a key is about was seen from its start. True: it was partial until now.
func (p *Profile) Confirm(k event.Key) bool {
	_, e := p.find(k)
	if e == nil || !e.partial || !p.learning() {
		return false
	}
	e.partial = false
	return true
}

func (p *Profile) learning() bool { return p.mode == event.Learn && !p.frozen }

// BeginRun says that the workload was started. What it lacks it has after a run that was learnt as a whole.
func (p *Profile) BeginRun() {
	p.runs++
	p.novelty = false
	if p.whole {
		p.lacks = 0
	}
	p.whole = p.learning()
}

// Lacks tells the operations that were not there yet when it was learnt. They are audited, and not enforced, until it has
// learnt a run as a whole, or is promoted for a reason.
func (p *Profile) Lacks() event.Additions {
	if !p.held.Has(event.DimPrivilege) {
		return 0
	}
	return p.lacks
}

// Freeze ends learning; the profile waits for its promotion.
func (p *Profile) Freeze() { p.frozen = true }

// Frozen says whether it was frozen.
func (p *Profile) Frozen() bool { return p.frozen }

// Promote ends learning. Without a reason it wants two runs, nothing new in the last one and no partial
// entries; with a reason, which is kept, it does it anyway. From audit to enforce and back there are no conditions.
func (p *Profile) Promote(mode event.Mode, reason string) error {
	if mode != event.AuditMode && mode != event.Enforce {
		return fmt.Errorf("promote baseline: mode %s is no promotion", mode)
	}
	if err := p.checkUse(); err != nil {
		return err
	}
	if !p.isPromoted() && reason == "" {
		if err := p.checkSeen(); err != nil {
			return err
		}
	}
	p.mode, p.steppedDown = mode, 0
	if reason != "" {
		p.force, p.lacks = reason, 0
	}
	p.whole = false
	return nil
}

// Unready says why Promote would not have promoted it as it is. Nil: it would, or had a reason, or it is not promoted. Whoever writes a
// mode into its text is asked for no condition.
func (p *Profile) Unready() error {
	if !p.isPromoted() {
		return nil
	}
	if err := p.checkUse(); err != nil || p.force != "" {
		return err
	}
	return p.checkSeen()
}

func (p *Profile) isPromoted() bool { return p.mode == event.AuditMode || p.mode == event.Enforce }

// checkUse refuses what no reason is good for.
func (p *Profile) checkUse() error {
	switch {
	case p.held&event.AllDimensions == 0:
		return fmt.Errorf("%w: it holds no dimension, and would deny nothing", ErrNotReady)
	case p.held.Has(event.DimExec) && p.Count(event.DimExec) == 0:
		return fmt.Errorf("%w: it has no executables, and would deny everything", ErrNotReady)
	}
	return nil
}

// checkSeen refuses what has not seen enough.
func (p *Profile) checkSeen() error {
	partial := p.Partial()
	switch {
	case p.runs < minRuns:
		return fmt.Errorf("%w: %d of %d runs seen", ErrNotReady, p.runs, minRuns)
	case p.novelty:
		return fmt.Errorf("%w: the current run did something new", ErrNotReady)
	case partial > 0:
		return fmt.Errorf("%w: the start of %d entries was not seen, only that they ran", ErrNotReady, partial)
	}
	return nil
}

// Demote goes back to learning, or lets the workload go.
func (p *Profile) Demote(mode event.Mode) {
	p.mode, p.force, p.frozen, p.steppedDown, p.whole = mode, "", false, 0, false
	if mode == event.Learn {
		p.full = 0
	}
}

// Full tells the dimensions that are not known as a whole, because something found no room since learning
// began, or had a path that could not be read as a whole. They can be audited, and not enforced.
func (p *Profile) Full() event.Dimensions { return p.full }

// StepDown says that dimensions are audited until the mode is set again, whatever it is.
func (p *Profile) StepDown(dims event.Dimensions) { p.steppedDown |= dims }

// SteppedDown tells them.
func (p *Profile) SteppedDown() event.Dimensions { return p.steppedDown }

// Has says whether exactly this key is listed.
func (p *Profile) Has(k event.Key) bool { return p.entries.get(k) != nil }

// Len is the number of entries.
func (p *Profile) Len() int { return p.entries.len() }

// Count is the number of entries of a dimension.
func (p *Profile) Count(d event.Dimension) int {
	n := 0
	for k := range p.entries.all() {
		if k.Op.Dimension() == d {
			n++
		}
	}
	return n
}

// Partial is the number of entries that only processes made whose start was not observed.
func (p *Profile) Partial() int {
	n := 0
	for _, e := range p.entries.all() {
		if e.partial {
			n++
		}
	}
	return n
}

// Keys lists the entries in the order of the text form.
func (p *Profile) Keys() []event.Key {
	keys := make([]event.Key, 0, p.entries.len())
	for k := range p.entries.all() {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, compare)
	return keys
}
