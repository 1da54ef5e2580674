package rules

import (
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/plumbline-io/plumbline/pkg/detect"
	"github.com/plumbline-io/plumbline/pkg/event"
	"github.com/plumbline-io/plumbline/pkg/rule"
)

// all loads every rule, those too that have to be enabled, and every test.
func all(t *testing.T) (*rule.Ruleset, []rule.Test) {
	t.Helper()
	names, err := fs.Glob(Files, "*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var files []rule.File
	var tests []rule.Test
	for _, name := range names {
		data, err := Files.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasSuffix(name, "_test.yaml") {
			files = append(files, rule.File{Name: name, Data: data})
			continue
		}
		more, err := rule.ParseTests(rule.File{Name: name, Data: data})
		if err != nil {
			t.Fatal(err)
		}
		tests = append(tests, more...)
	}
	off, _ := rule.Load(files...)
	for _, r := range off.Disabled() {
		files = append(files, rule.File{Name: "enable", Data: []byte("- rule: " + r.Name + "\n  enabled: true\n")})
	}
	set, problems := rule.Load(files...)
	for _, p := range problems {
		t.Error(p)
	}
	return set, tests
}

func TestRules(t *testing.T) {
	set, tests := all(t)
	outcomes := make([]detect.Outcome, len(tests))
	for i := range tests {
		outcomes[i] = detect.Try(set, &tests[i])
		if err := outcomes[i].Check(&tests[i]); err != nil {
			t.Error(err)
		}
	}
	// Each rule has a test that it matches and one that it is asked about in vain.
	for _, r := range set.Rules() {
		var matches, misses int
		for i := range tests {
			switch {
			case slices.Contains(tests[i].Names(), r.Name):
				matches++
			case slices.Contains(outcomes[i].Asked, r.Name):
				misses++
			}
		}
		if matches == 0 || misses == 0 {
			t.Errorf("%s:%d: rule %q has %d tests that match and %d that do not", r.File, r.Line, r.Name, matches, misses)
		}
		if r.Desc == "" || len(r.Tags) == 0 {
			t.Errorf("%s:%d: rule %q has no description or no tags", r.File, r.Line, r.Name)
		}
		for _, id := range r.Attack {
			if !slices.Contains(r.Tags, id) {
				t.Errorf("%s:%d: rule %q does not have %s among its tags", r.File, r.Line, r.Name, id)
			}
		}
	}
}

// Every rule says which technique of ATT&CK it is about. A scenario of the VM matrix triggers it for real, counts its
// alerts, and marks the lines that are alike and must raise none: "# twin:" and its name.
func TestTechniquesAndScenarios(t *testing.T) {
	noTechnique := []string{
		"Several stages of an attack",   // of whatever the stages are
		"Peer certificate expires soon", // an omission
	}
	scenarios := readScenarios(t)
	set, _ := all(t)
	for _, r := range set.Rules() {
		if got, want := len(r.Attack) > 0, !slices.Contains(noTechnique, r.Name); got != want {
			t.Errorf("%s:%d: rule %q has a technique: %t, want %t", r.File, r.Line, r.Name, got, want)
		}
		if !triggers(scenarios, r.Name) {
			t.Errorf("%s:%d: rule %q is counted by no scenario that has a twin of it", r.File, r.Line, r.Name)
		}
	}
	for file, text := range scenarios {
		for _, twin := range regexp.MustCompile(`(?m)^# twin: (.*)$`).FindAllStringSubmatch(text, -1) {
			if !slices.ContainsFunc(set.Rules(), func(r *rule.Rule) bool { return r.Name == twin[1] }) {
				t.Errorf("%s has a twin of %q, which is no rule", file, twin[1])
			}
		}
	}
}

// readScenarios reads them all, by file.
func readScenarios(t *testing.T) map[string]string {
	t.Helper()
	names, err := filepath.Glob("../test/vm/scenarios/*.txtar")
	if err != nil || len(names) == 0 {
		t.Fatal(names, err)
	}
	scenarios := map[string]string{}
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		scenarios[filepath.Base(name)] = string(text)
	}
	return scenarios
}

// triggers says whether one of the scenarios counts the alerts of a rule, of all of this name alone, and has a twin of
// it before it counts them, or all alerts that there are, for the last time.
func triggers(scenarios map[string]string, name string) bool {
	counted := regexp.MustCompile(`(?m)^(\[.*\] )?count alerts \d+ rule='` + regexp.QuoteMeta(strings.ReplaceAll(name, "'", "''")) + `'( |$)`)
	total := regexp.MustCompile(`(?m)^(\[.*\] )?count alerts \d+$`)
	twin := regexp.MustCompile(`(?m)^# twin: ` + regexp.QuoteMeta(name) + `\n(#.*\n)*(\[.*\] )?(! )?(within|start) `)
	for _, text := range scenarios {
		last := 0
		for _, match := range counted.FindAllStringIndex(text, -1) {
			last = match[0]
		}
		if last == 0 {
			continue
		}
		for _, match := range total.FindAllStringIndex(text, -1) {
			last = max(last, match[0])
		}
		if at := twin.FindStringIndex(text); at != nil && at[0] < last {
			return true
		}
	}
	return false
}

func TestTriggers(t *testing.T) {
	const count, twin = "count alerts 1 rule='Fileless execution' plumbline.verdict=allow\n", "# twin: Fileless execution\nwithin x true\n"
	for text, want := range map[string]bool{
		twin + count:                     true,
		twin + "[program:curl] " + count: true,
		"# twin: Fileless execution\n# twin: Other\n! within x true\n" + count: true,
		"\n" + count + twin + "count alerts 2\n":                               true,
		"\n" + count + twin:                                                    false,
		count:                                                                  false,
		twin:                                                                   false,
		twin + "count alerts 2\n":                                              false,
		"# twin: Fileless execution\n" + count:                                 false,
		twin + "count alerts 1 rule='Fileless execution in container'\n":   false,
		"# twin: Fileless execution in container\nwithin x true\n" + count: false,
	} {
		if got := triggers(map[string]string{"x": text}, "Fileless execution"); got != want {
			t.Errorf("%t: %s", got, text)
		}
	}
}

// What a protected workload is denied by default: nothing more and nothing less. A scenario sees each of it denied.
func TestDenied(t *testing.T) {
	want := []string{
		"Keys of SPIRE or Plumbline read", "Password file read in container", "Cloud metadata reached",
		"Host callback changed", "File outside of the container's root written", "Program outside of the container's root executed",
		"Program run from outside of the container's root", "Namespace of the host opened in container",
		"Kernel module loaded in container", "BPF program loaded in container", "Memory of the machine opened in container",
		"Raw device opened in container", "Container runtime reached from container",
		"Web server spawns shell in container", "Fileless execution in container", "Exec of a file that the container made",
		"Exec from shared memory in container", "Shell tied to the network",
		"Process attached in container", "Memory of another process written", "Dynamic linker hijacked",
		"Raw socket in container", "Mining program started", "Files of the agent changed",
	}
	set, _ := all(t)
	scenarios := readScenarios(t)
	var got []string
	for _, r := range set.Rules() {
		if !r.Stops() {
			continue
		}
		denied := regexp.MustCompile(`(?m)^count alerts \d+ rule='` + regexp.QuoteMeta(strings.ReplaceAll(r.Name, "'", "''")) + `' .*plumbline\.verdict=deny( |$)`)
		if !slices.ContainsFunc(slices.Collect(maps.Values(scenarios)), denied.MatchString) {
			t.Errorf("%s:%d: rule %q is seen denying by no scenario", r.File, r.Line, r.Name)
		}
		got = append(got, r.Name)
		if r.Mode != event.Enforce || len(r.Denials()) == 0 || !r.Enabled || r.Action == rule.Kill != (r.Name == "Shell tied to the network") {
			t.Errorf("%s: action %s, mode %s, %d denials", r.Name, r.Action, r.Mode, len(r.Denials()))
		}
	}
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
}

// Rules that are right only at some places are off until somebody enables them.
func TestQuietByDefault(t *testing.T) {
	data, err := Files.ReadFile("tls.yaml")
	if err != nil {
		t.Fatal(err)
	}
	set, _ := rule.Load(rule.File{Name: "tls.yaml", Data: data})
	for _, r := range set.Rules() {
		if r.Name == "Peer certificate expires soon" {
			t.Error("it fires on every short-lived certificate, and is enabled")
		}
	}
}
