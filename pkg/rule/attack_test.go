package rule

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/plumbline-io/plumbline/pkg/event"
)

// Ids of techniques are those of one version, whichever the file was written for. What no version has is told of.
func TestAttackIDs(t *testing.T) {
	for given, want := range map[string]string{
		"T1562.001, T1059, T1685.006, T1070.002": "T1685 T1059 T1685.006 T1685.006",
		"T1100, T1086, T1089":                    "T1505.003 T1059.001 T1685", // before there were sub-techniques; by way of T1562
		"T1053.007, T1027.017, T1687":            "T1053.007 T1027.017 T1687",
		"T9999":                                  "T9999 unknown", "T1059.099": "T1059.099 unknown", "T1053.004": "T1053.004 unknown", "T1000": "T1000 unknown",
	} {
		set, problems := Load(File{Name: "r.yaml", Data: []byte(ruleOf("evt.type = execve") + "  attack: [" + given + "]\n")})
		got := set.Rules()[0].Attack
		for _, p := range problems {
			if p.ID != unknownTechnique || !p.Warning || p.Line != 5 || p.Column != 12 {
				t.Errorf("%s: %+v", given, p)
			}
			got = append(got, "unknown")
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s: got %q, want %q", given, got, want)
		}
	}
}

// The table holds whole: what is renamed is there under its new name, and under no old one.
func TestAttackTable(t *testing.T) {
	table := newTechniques()
	if len(table.known) != 674 || len(table.renamed) != 149 {
		t.Errorf("%d ids, %d renamed", len(table.known), len(table.renamed))
	}
	for old, now := range table.renamed {
		if id, known := table.current(now); !known || id != now || !isTechnique(now) || !isTechnique(old) {
			t.Errorf("%s is renamed to %s, which is %s", old, now, id)
		}
		if _, is := table.known[old]; is {
			t.Errorf("%s is renamed, and there", old)
		}
	}
	for id := range table.known {
		if !isTechnique(id) {
			t.Errorf("%s has not the form of an id", id)
		}
	}
}

// Who names no technique means those of his tags. Falco's own are corrected.
func TestAttackOfTags(t *testing.T) {
	for tags, want := range map[string]string{
		"host, mitre_execution, T1059.004":          "[T1059.004]",
		"T1562.001, T1089, T1555":                   "[T1685 T1555]",
		"maturity_stable, T1555":                    "[T1003.008]",
		"maturity_incubating, T1565, T1613":         "[T1613]",
		"maturity_stable, T9999, T15, t1059, T1059": "[T1059]",
		"network": "[]",
	} {
		set, problems := load(t, ruleOf("evt.type = execve")+"  tags: ["+tags+"]\n")
		if len(problems) > 0 {
			t.Fatal(problems)
		}
		r := set.Rules()[0]
		if got := fmt.Sprint(r.Attack); got != want || len(r.Tags) != 1+strings.Count(tags, ",") {
			t.Errorf("%s: %s, tags %q", tags, got, r.Tags)
		}
	}
	named, _ := load(t, ruleOf("evt.type = execve")+"  tags: [maturity_stable, T1555]\n  attack: T1552.004\n")
	if got := named.Rules()[0].Attack; !slices.Equal(got, []string{"T1552.004"}) {
		t.Errorf("named: %q", got)
	}
	cloud := strings.Replace(ruleOf("evt.type = execve"), " r\n", " Contact cloud metadata service from container\n", 1)
	set, _ := load(t, cloud+"  tags: [maturity_incubating, T1565]\n")
	if got := set.Rules()[0].Attack; !slices.Equal(got, []string{"T1552.005"}) {
		t.Errorf("cloud: %q", got)
	}
	for d := range event.DimSyscalls {
		if r := set.Drift(d); len(r.Attack) == 0 || !slices.Equal(r.Attack, newTechniques().ofTags(r.Name, r.Tags)) {
			t.Errorf("%s: %q of %q", r.Name, r.Attack, r.Tags)
		}
	}
}

// Falco's rules as they are.
func TestStableAttack(t *testing.T) {
	set, _ := Load(stable(t))
	want := map[string]string{
		"Read sensitive file untrusted": "T1003.008", "Contact K8S API Server From Container": "T1613", "Clear Log Activities": "T1070",
	}
	table := newTechniques()
	var without []string
	for _, r := range set.Rules() {
		if len(r.Attack) == 0 {
			without = append(without, r.Name) // it names a tactic alone
		}
		for _, id := range r.Attack {
			if now, known := table.current(id); !known || now != id || id == "T1555" || id == "T1565" {
				t.Errorf("%s: %s", r.Name, id)
			}
		}
		if id := want[r.Name]; id != "" && !slices.Contains(r.Attack, id) {
			t.Errorf("%s: %q, want %s", r.Name, r.Attack, id)
		}
	}
	if want := []string{"Linux Kernel Module Injection Detected", "Drop and execute new binary in container"}; !slices.Equal(without, want) {
		t.Errorf("no technique: %q", without)
	}
}
