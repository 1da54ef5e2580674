package enforce

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/plumbline-io/plumbline/pkg/rule"
)

// stopper is a rule that stops something.
func stopper(t *testing.T, name string, action rule.Action) *rule.Rule {
	t.Helper()
	text := fmt.Sprintf("- rule: %s\n  condition: evt.operation = read and evt.path = /x\n  output: o\n  priority: warning\n  action: %s\n  mode: enforce\n", name, action)
	set, problems := rule.Load(rule.File{Name: "r.yaml", Data: []byte(text)})
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	return set.Rules()[0]
}

func named(t rule.Trait, names ...string) rule.TraitTest {
	return rule.TraitTest{Trait: t, Names: names}
}

func not(t rule.TraitTest) rule.TraitTest {
	t.Not = true
	return t
}

// What several rules deny of one thing becomes one set: in the order of the rules, equal ones once, and without what
// one before it denies anyway, unless that does not kill.
func TestDenialsTogether(t *testing.T) {
	d := newDenials()
	first, second, killer := stopper(t, "first", rule.Deny), stopper(t, "second", rule.Deny), stopper(t, "killer", rule.Kill)
	thief, boss := named(rule.ActorFile, "thief"), named(rule.ParentFile, "boss")
	memory := rule.TraitTest{Trait: rule.ExecMemory}

	byThief := d.of(first, []rule.TraitTest{thief})
	byThiefOfBoss := d.of(second, []rule.TraitTest{thief, boss})
	anybody := d.of(second, nil)
	notBoss := d.of(second, []rule.TraitTest{not(boss)})
	killed := d.of(killer, []rule.TraitTest{memory, not(thief)})
	anybodyKilled := d.of(killer, nil)

	const one, two, memoryBit = 1 << firstNameSet, 2 << firstNameSet, 1
	const byFile, byParent, byMemory = 1 << rule.ActorFile, 1 << rule.ParentFile, 1 << rule.ExecMemory
	deny := func(r *rule.Rule, require, forbid uint64, ask uint32) bpfDenial {
		return bpfDenial{Require: require, Forbid: forbid, Rule: r.ID(), Ask: ask}
	}
	for name, tc := range map[string]struct {
		set  uint32
		want []bpfDenial
	}{
		"one":            {byThief, []bpfDenial{deny(first, one, 0, byFile)}},
		"order of rules": {d.join(notBoss, byThief), []bpfDenial{deny(first, one, 0, byFile), deny(second, 0, two, byParent)}},
		"covered":        {d.join(byThief, byThiefOfBoss), []bpfDenial{deny(first, one, 0, byFile)}},
		"by anybody":     {d.join(d.join(byThief, anybody), notBoss), []bpfDenial{deny(first, one, 0, byFile), deny(second, 0, 0, 0)}},
		"killed":         {d.join(anybody, killed), []bpfDenial{deny(second, 0, 0, 0), deny(killer, memoryBit, one, byMemory|byFile|kills)}},
		"killed anyway": {d.join(d.join(killed, anybodyKilled), anybody), []bpfDenial{
			deny(second, 0, 0, 0), deny(killer, memoryBit, one, byMemory|byFile|kills), deny(killer, 0, 0, kills),
		}},
	} {
		got := d.value(tc.set)
		all := got.Of[:slices.IndexFunc(got.Of[:], func(one bpfDenial) bool { return one == bpfDenial{} })]
		if !slices.Equal(all, tc.want) || got.Actor != one {
			t.Errorf("%s: actor %b: %+v, want %+v", name, got.Actor, all, tc.want)
		}
	}
	if a, b := d.join(d.join(byThief, notBoss), killed), d.join(killed, d.join(notBoss, byThief)); a != b || d.join(a, byThief) != a || d.join(0, a) != a {
		t.Errorf("equal sets are %d and %d", a, b)
	}
	if n := d.of(first, []rule.TraitTest{thief, not(thief)}); n != 0 {
		t.Errorf("set %d of who is and is not", n)
	}
	if d.err != nil {
		t.Error(d.err)
	}
	for name, bits := range map[traitName]uint64{{rule.ActorFile, "thief"}: one, {rule.ParentFile, "boss"}: two, {rule.ActorFile, "boss"}: 0} {
		if d.names[name] != bits {
			t.Errorf("%v gives %b, want %b", name, d.names[name], bits)
		}
	}
}

// A name that is in several sets gives the bits of all of them; sets are told apart by their trait and names.
func TestNamesOfDenials(t *testing.T) {
	d, r := newDenials(), stopper(t, "r", rule.Deny)
	for _, test := range []rule.TraitTest{
		named(rule.ActorFile, "a", "b"), named(rule.ActorFile, "b", "c"), named(rule.ActorName, "a", "b"), not(named(rule.ActorFile, "a", "b")),
	} {
		d.of(r, []rule.TraitTest{test})
	}
	for name, want := range map[traitName]uint64{
		{rule.ActorFile, "a"}: 0b001, {rule.ActorFile, "b"}: 0b011, {rule.ActorFile, "c"}: 0b010, {rule.ActorName, "a"}: 0b100, {rule.ActorName, "b"}: 0b100,
	} {
		if got := d.names[name] >> firstNameSet; got != want {
			t.Errorf("%v gives %b, want %b", name, got, want)
		}
	}
	if len(d.names) != 5 || len(d.bits) != 3 {
		t.Errorf("%d names in %d sets, want 5 in 3", len(d.names), len(d.bits))
	}
}

// What does not fit is refused, with the rule.
func TestTooManyDenials(t *testing.T) {
	r := stopper(t, "too much", rule.Deny)
	name := func(i int) string { return fmt.Sprintf("n%d", i) }
	for what, tc := range map[string]struct {
		fits int
		deny func(d *denials, i int)
		want string
	}{
		"sets of names": {maxNameSets, func(d *denials, i int) { d.of(r, []rule.TraitTest{named(rule.ActorFile, name(i))}) }, `rule "too much": with it they compare names of programs with more than 54 sets`},
		"names": {maxNames, func(d *denials, i int) {
			if i%1024 == 0 {
				names := make([]string, 1024)
				for n := range names {
					names[n] = name(i + n)
				}
				d.of(r, []rule.TraitTest{named(rule.ActorFile, names...)})
			}
		}, `rule "too much": with it they compare names of programs with more than 4096 names`},
		"of one thing": {maxTogether, func(d *denials, i int) {
			all := uint32(0)
			for n := range i + 1 {
				all = d.join(all, d.of(r, []rule.TraitTest{named(rule.ActorFile, name(n))}))
			}
		}, `of one operation on one thing they deny more than 16 things, by who does it: ["too much"]`},
		"combinations": {maxDenials, func(d *denials, i int) {
			var tests []rule.TraitTest
			for bit := range 11 {
				test := named(rule.ActorFile, name(bit))
				test.Not = i>>bit&1 != 0
				tests = append(tests, test)
			}
			d.of(r, tests)
		}, `rule "too much": with it more than 1024 different combinations of rules deny something`},
	} {
		t.Run(what, func(t *testing.T) {
			d := newDenials()
			for i := range tc.fits {
				tc.deny(d, i)
			}
			if d.err != nil {
				t.Fatalf("%d: %v", tc.fits, d.err)
			}
			tc.deny(d, tc.fits)
			if d.err == nil || !strings.Contains(d.err.Error(), tc.want) {
				t.Errorf("one more than %d: %v, want %s", tc.fits, d.err, tc.want)
			}
		})
	}
}

// The whole ruleset is refused then.
func TestDenialsThatDoNotFit(t *testing.T) {
	var text strings.Builder
	for i := range maxNameSets + 1 {
		fmt.Fprintf(&text, "- rule: r%d\n  condition: evt.operation = read and evt.path = /x%d and not proc.pname = n%d\n  output: o\n  priority: warning\n  action: deny\n  mode: enforce\n", i, i, i)
	}
	set, problems := rule.Load(rule.File{Name: "r.yaml", Data: []byte(text.String())})
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	if _, err := compileWishes(set); err == nil || !strings.Contains(err.Error(), fmt.Sprintf(`rule "r%d"`, maxNameSets)) {
		t.Error(err)
	}
}
