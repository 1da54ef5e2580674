package baseline

import (
	"fmt"
	"slices"
	"strings"

	"github.com/plumbline-io/plumbline/pkg/event"
)

// Delta is the difference of two profiles.
type Delta struct {
	Added, Removed []event.Key
	Held, Released event.Dimensions // that only the new one, only the old one holds
}

// Empty says that there is none.
func (d Delta) Empty() bool { return len(d.Added)+len(d.Removed) == 0 && d.Held|d.Released == 0 }

// Diff tells what new lists and old does not, and the other way round, sorted.
func Diff(old, new *Profile) Delta {
	d := Delta{Held: new.held &^ old.held, Released: old.held &^ new.held}
	for _, k := range new.Keys() {
		if !old.Has(k) {
			d.Added = append(d.Added, k)
		}
	}
	for _, k := range old.Keys() {
		if !new.Has(k) {
			d.Removed = append(d.Removed, k)
		}
	}
	return d
}

// Merge adds what other runs of the same workload did, on this node or another. A profile that does
// not learn any more is not widened.
func (p *Profile) Merge(other *Profile) error {
	if !p.learning() {
		return fmt.Errorf("merge baselines of %q: it is promoted or frozen: demote it first", p.workload)
	}
	if p.workload != other.workload || p.kind != other.kind {
		return fmt.Errorf("merge baselines: %s %q and %s %q are different workloads", p.kind, p.workload, other.kind, other.workload)
	}
	if p.held != other.held {
		return fmt.Errorf("merge baselines of %q: only one of them holds %s", p.workload, dimensionNames(p.held^other.held))
	}
	added, bytes := p.unknown(other), p.bytes
	for _, k := range added {
		bytes += len(k.Path)
	}
	if p.entries.len()+len(added) > MaxEntries || bytes > MaxBytes {
		return fmt.Errorf("merge baselines of %q: more than %d entries or %d bytes", p.workload, MaxEntries, MaxBytes)
	}
	for k, theirs := range other.entries.all() {
		if _, ours := p.find(k); ours != nil {
			ours.fold(theirs)
		}
	}
	for _, k := range added {
		p.insert(k, *other.entries.get(k))
	}
	p.settle()
	p.full |= other.full
	p.lacks |= other.lacks
	p.runs += other.runs
	p.novelty = slices.ContainsFunc(added, isHeld)
	if other.lastNovelty.After(p.lastNovelty) {
		p.lastNovelty = other.lastNovelty
	}
	return nil
}

// Adopt adds what one more of the same kind did under a profile of its own, before it was known as such. It lists what found
// no room; of a profile that does not learn any more, all that it does not allow.
func (p *Profile) Adopt(other *Profile) (left []event.Key) {
	for _, k := range other.Keys() {
		e := *other.entries.get(k)
		e.changed = 0 // there
		if done := p.add(k, e, p.learning()); done == Drift || done == Full {
			left = append(left, k)
		}
	}
	if p.learning() { // what it could not name is not in its keys
		p.full |= other.full & p.held
		p.lacks |= other.Lacks()
	}
	return left
}

// unknown lists what another profile has and this one does not allow, sorted.
func (p *Profile) unknown(other *Profile) []event.Key {
	var keys []event.Key
	for _, k := range other.Keys() {
		if !p.Allows(k) {
			keys = append(keys, k)
		}
	}
	return keys
}

func dimensionNames(s event.Dimensions) string { return strings.Join(dimensionList(s), ", ") }

func dimensionList(s event.Dimensions) (names []string) {
	for d := range event.DimCount {
		if s.Has(d) {
			names = append(names, d.String())
		}
	}
	return names
}
