package enforce

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"github.com/plumbline-io/plumbline/pkg/rule"
)

// traitName is what the kernel looks up: what somebody, or something of him, is called.
type traitName struct {
	trait rule.Trait
	name  string
}

// nameSet is one of some names.
type nameSet struct {
	trait rule.Trait
	names string // with a zero byte between them
}

// denials are who is denied something. A wish names a set of them by its number; none is 0. What a set of names
// stands for is a bit, and so is each trait that is yes or no: one denial asks for some of them, and for none of others.
type denials struct {
	all    []denial
	sets   [][]int              // of indices of all, rising: in the order of the rules
	number map[string]uint32    // of a set
	joined map[[2]uint32]uint32 // what two sets make together

	bits  map[nameSet]uint64
	actor uint64               // those of what the actor and his file are called
	names map[traitName]uint64 // the bits of all sets that a name is in
	err   error                // what did not fit, the first of it

	lossy bool // what does not fit is left out
}

// denial is what one rule denies of one thing.
type denial struct {
	bpfDenial
	rule string
}

// kills is set in a denial's Ask.
const kills = 1 << 31

// What the kernel has room for, twice. The bits are those of a word, without those of traits that are yes or no.
const (
	maxDenials   = 1024
	maxNames     = 4096
	maxNameSets  = 64 - firstNameSet
	firstNameSet = int(rule.TraitCount - rule.ExecMemory)
	maxTogether  = len(bpfDenials{}.Of)
)

func newDenials() *denials {
	return &denials{
		sets: [][]int{nil}, number: map[string]uint32{"": 0}, joined: map[[2]uint32]uint32{},
		bits: map[nameSet]uint64{}, names: map[traitName]uint64{},
	}
}

// of is the set of what one of a rule's denials denies. It is empty if nobody can pass all of its tests.
func (d *denials) of(r *rule.Rule, tests []rule.TraitTest) uint32 {
	one := denial{rule: r.Name}
	one.Rule = r.ID()
	if r.Action == rule.Kill {
		one.Ask = kills
	}
	for _, t := range tests {
		one.Ask |= 1 << t.Trait
		if bit := d.bit(r, &t); t.Not {
			one.Forbid |= bit
		} else {
			one.Require |= bit
		}
	}
	if one.Require&one.Forbid != 0 {
		return 0
	}
	n := slices.IndexFunc(d.all, func(other denial) bool { return other.bpfDenial == one.bpfDenial })
	if n < 0 {
		n = len(d.all)
		d.all = append(d.all, one)
	}
	return d.set([]int{n})
}

// bit of what a test is about.
func (d *denials) bit(r *rule.Rule, t *rule.TraitTest) uint64 {
	if !t.Trait.Named() {
		return 1 << (t.Trait - rule.ExecMemory)
	}
	key := nameSet{t.Trait, strings.Join(t.Names, "\x00")}
	if bit, ok := d.bits[key]; ok {
		return bit
	}
	if len(d.bits) == maxNameSets {
		d.fail("rule %q: with it they compare names of programs with more than %d sets of names", r.Name, maxNameSets)
		return 0
	}
	bit := uint64(1) << (firstNameSet + len(d.bits))
	d.bits[key] = bit
	if t.Trait == rule.ActorName || t.Trait == rule.ActorFile {
		d.actor |= bit
	}
	for _, name := range t.Names {
		d.names[traitName{t.Trait, name}] |= bit
	}
	if len(d.names) > maxNames {
		d.fail("rule %q: with it they compare names of programs with more than %d names", r.Name, maxNames)
	}
	return bit
}

func (d *denials) fail(format string, args ...any) {
	if d.err == nil {
		d.err = fmt.Errorf("compile rules: "+format, args...)
	}
}

// join is what two sets deny together.
func (d *denials) join(a, b uint32) uint32 {
	switch {
	case a == b || b == 0:
		return a
	case a == 0:
		return b
	case d.err != nil:
		return 0
	}
	pair := [2]uint32{min(a, b), max(a, b)}
	n, ok := d.joined[pair]
	if !ok {
		all := d.together(d.sets[a], d.sets[b])
		if d.lossy && (len(all) > maxTogether || len(d.sets) > maxDenials) {
			return a
		}
		n = d.set(all)
		d.joined[pair] = n
	}
	return n
}

// together is the union of two sets, without what one before in it denies anyway.
func (d *denials) together(a, b []int) []int {
	all := slices.Compact(slices.Sorted(slices.Values(slices.Concat(a, b))))
	var kept []int
	for _, n := range all {
		if !slices.ContainsFunc(kept, func(before int) bool { return d.all[before].covers(&d.all[n]) }) {
			kept = append(kept, n)
		}
	}
	return kept
}

// covers says whether whoever is denied something by the other one is so by d, and is killed if he is there.
func (d *denial) covers(other *denial) bool {
	return d.Require&^other.Require == 0 && d.Forbid&^other.Forbid == 0 && d.Ask&kills >= other.Ask&kills
}

// set is the number of a set of denials.
func (d *denials) set(of []int) uint32 {
	if len(of) > maxTogether {
		var rules []string
		for _, n := range of {
			if name := d.all[n].rule; !slices.Contains(rules, name) {
				rules = append(rules, name)
			}
		}
		d.fail("of one operation on one thing they deny more than %d things, by who does it: %q", maxTogether, rules)
		return 0
	}
	var key []byte
	for _, n := range of {
		key = binary.BigEndian.AppendUint32(key, uint32(n))
	}
	if n, ok := d.number[string(key)]; ok {
		return n
	}
	if len(d.sets) > maxDenials {
		d.fail("rule %q: with it more than %d different combinations of rules deny something", d.all[of[len(of)-1]].rule, maxDenials)
		return 0
	}
	n := uint32(len(d.sets))
	d.sets = append(d.sets, of)
	d.number[string(key)] = n
	return n
}

// value is a set as the kernel has it.
func (d *denials) value(n uint32) bpfDenials {
	v := bpfDenials{Actor: d.actor}
	for i, at := range d.sets[n] {
		v.Of[i] = d.all[at].bpfDenial
	}
	return v
}

// pkg/rule repeats the kernel's traits; a difference does not compile.
var (
	_ = [1]struct{}{}[uint32(rule.ActorName)-uint32(bpfTraitTRAIT_ACTOR_NAME)]
	_ = [1]struct{}{}[uint32(rule.ActorFile)-uint32(bpfTraitTRAIT_ACTOR_FILE)]
	_ = [1]struct{}{}[uint32(rule.ParentName)-uint32(bpfTraitTRAIT_PARENT_NAME)]
	_ = [1]struct{}{}[uint32(rule.ParentFile)-uint32(bpfTraitTRAIT_PARENT_FILE)]
	_ = [1]struct{}{}[uint32(rule.AncestorName)-uint32(bpfTraitTRAIT_ANCESTOR_NAME)]
	_ = [1]struct{}{}[uint32(rule.ExecMemory)-uint32(bpfTraitTRAIT_EXEC_MEMORY)]
	_ = [1]struct{}{}[uint32(rule.ExecUnlinked)-uint32(bpfTraitTRAIT_EXEC_UNLINKED)]
	_ = [1]struct{}{}[uint32(rule.ExecDetached)-uint32(bpfTraitTRAIT_EXEC_DETACHED)]
	_ = [1]struct{}{}[uint32(rule.ExecUpper)-uint32(bpfTraitTRAIT_EXEC_UPPER)]
	_ = [1]struct{}{}[uint32(rule.ExecSocket)-uint32(bpfTraitTRAIT_EXEC_SOCKET)]
	_ = [1]struct{}{}[uint32(rule.OutsideBaseline)-uint32(bpfTraitTRAIT_OUTSIDE_BASELINE)]
	_ = [1]struct{}{}[uint32(rule.InBaseline)-uint32(bpfTraitTRAIT_IN_BASELINE)]
	_ = [1]struct{}{}[uint32(rule.ExecCwd)-uint32(bpfTraitTRAIT_EXEC_CWD)]
	_ = [1]struct{}{}[uint32(rule.ByAncestor)-uint32(bpfTraitTRAIT_BY_ANCESTOR)]
	_ = [1]struct{}{}[uint32(rule.HostNamespace)-uint32(bpfTraitTRAIT_HOST_NAMESPACE)]
	_ = [1]struct{}{}[uint32(rule.TraitCount)-uint32(bpfTraitTRAIT_MAX)]
)

// The kernel reads a byte more of a name than rules ask about, and a final NUL.
var _ = [1]struct{}{}[len(bpfNameKey{}.Text)-rule.MaxFile-2]
