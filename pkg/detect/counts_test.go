package detect

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/plumbline-io/plumbline/pkg/event"
	"github.com/plumbline-io/plumbline/pkg/rule"
)

func loadSet(t testing.TB, text string) *rule.Ruleset {
	t.Helper()
	set, problems := rule.Load(rule.File{Name: "r.yaml", Data: []byte(text)})
	for _, p := range problems {
		if !p.Warning {
			t.Fatal(p)
		}
	}
	return set
}

// windowed is a rule on executions with a window.
func windowed(window string) string {
	return "- rule: R\n  desc: d\n  condition: evt.type = execve\n  output: n=%window.count\n  priority: ERROR\n  window: " + window + "\n"
}

// execAt is an execution of path at a time in milliseconds.
func execAt(path string, ms int) *event.Event {
	return &event.Event{Kind: event.Exec, Ktime: uint64(time.Hour) + uint64(ms)*uint64(time.Millisecond), Exec: event.ExecInfo{Path: path}}
}

// Which of the events raises an alert, and with which count.
func TestWindowSlides(t *testing.T) {
	const plain, distinct = "{count: 3, within: 1s}", "{count: 3, within: 1s, distinct: [proc.exepath]}"
	for name, tc := range map[string]struct {
		window string
		events string        // the time in milliseconds and the path's letter
		want   map[int]int64 // by index of the event
	}{
		"full":                            {plain, "0a 100a 200a", map[int]int64{2: 3}},
		"exactly within":                  {plain, "0a 500a 999a", map[int]int64{2: 3}},
		"a moment too late":               {plain, "0a 500a 1000a", nil},
		"it slides over a bucket's edge":  {plain, "0a 900a 1100a 1300a", map[int]int64{3: 3}},
		"once in a window's time":         {plain, "0a 100a 200a 300a 400a 1199a", map[int]int64{2: 3}},
		"again, with all since":           {plain, "0a 100a 200a 300a 400a 1100a 1150a 1200a", map[int]int64{2: 3, 7: 5}},
		"anew after a silence":            {plain, "0a 100a 200a 300a 9000a 9100a 9200a", map[int]int64{2: 3, 6: 3}},
		"a trickle is not summed up":      {plain, "0a 600a 1200a 1800a 2400a 2500a", map[int]int64{5: 3}},
		"late events count as of now":     {plain, "5000a 100a 200a", map[int]int64{2: 3}},
		"distinct":                        {distinct, "0a 1a 2b 3b 4c", map[int]int64{4: 3}},
		"distinct, the same":              {distinct, "0a 1a 2a 3a 4a", nil},
		"distinct, a value stays young":   {distinct, "0a 100b 900a 1050c", map[int]int64{3: 3}},
		"distinct, a value grows too old": {distinct, "0a 100b 1000c", nil},
		"distinct, again":                 {distinct, "0a 1b 2c 500d 900e 1003f 1004g", map[int]int64{2: 3, 5: 3}},
	} {
		t.Run(name, func(t *testing.T) {
			d := New(Config{Ruleset: loadSet(t, windowed(tc.window)), Wall: wall, Window: time.Minute})
			got := map[int]int64{}
			var at int
			var path string
			for i, rest := 0, tc.events; rest != ""; i++ {
				if _, err := fmt.Sscanf(rest, "%d%1s", &at, &path); err != nil {
					t.Fatal(err)
				}
				for _, a := range d.Observe(execAt("/"+path, at), subject(), nil) {
					got[i] = a.Fields["window.count"].(int64)
				}
				rest = rest[slices.Index([]byte(rest), path[0])+1:]
				if rest != "" {
					rest = rest[1:]
				}
			}
			if !maps.Equal(got, tc.want) {
				t.Errorf("got %v, want %v", got, tc.want)
			}
		})
	}
}

func TestWindowGroups(t *testing.T) {
	d := New(Config{Ruleset: loadSet(t, windowed("{count: 2, within: 10s, by: [proc.exepath]}")), Wall: wall})
	other := &Subject{Name: "other.service"}
	var got []string
	for _, step := range []struct {
		path string
		who  *Subject
	}{{"/a", subject()}, {"/b", subject()}, {"/a", other}, {"/b", subject()}, {"/a", other}, {"/a", subject()}} {
		for _, a := range d.Observe(execAt(step.path, 0), step.who, nil) {
			got = append(got, a.Detail.Workload+" "+a.Detail.Key)
		}
	}
	want := []string{"nginx.service proc.exepath=/b", "other.service proc.exepath=/a", "nginx.service proc.exepath=/a"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// A denial counts too, although the rules that it matches raise no alerts of their own.
func TestWindowCountsDenials(t *testing.T) {
	set := loadSet(t, `
- rule: R
  desc: d
  condition: evt.operation = connect
  output: o
  priority: ERROR
  window: {count: 3, within: 10s}
`)
	d := New(Config{Ruleset: set, Wall: wall, Window: time.Minute, DenyWindow: time.Second})
	var got []string
	for range 3 {
		for _, a := range d.Observe(access(event.OpConnect, "", event.Deny), subject(), nil) {
			got = append(got, a.Rule+" "+a.Detail.Verdict)
		}
	}
	if want := []string{"Network outside baseline deny", "R deny"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// What was counted outlives a reload, unless the window is another one.
func TestWindowOverReload(t *testing.T) {
	for window, want := range map[string]int{"{count: 3, within: 10s}": 1, "{count: 3, within: 11s}": 0} {
		d := New(Config{Ruleset: loadSet(t, windowed("{count: 3, within: 10s}")), Wall: wall})
		n := len(d.Observe(execAt("/a", 0), subject(), nil)) + len(d.Observe(execAt("/a", 1), subject(), nil))
		d.SetRuleset(loadSet(t, windowed(window)))
		if n += len(d.Observe(execAt("/a", 2), subject(), nil)); n != want {
			t.Errorf("%s: %d alerts, want %d", window, n, want)
		}
	}
}

func TestWindowMemoryIsBounded(t *testing.T) {
	text := windowed("{count: 2, within: 1h, by: [proc.exepath]}")
	d := New(Config{Ruleset: loadSet(t, text), Wall: wall})
	const extra = 100
	for i := range maxGroups + extra {
		d.Observe(execAt(fmt.Sprint("/", i), i), subject(), nil)
	}
	if got := d.Stats().Forgotten; len(d.counts.groups) != maxGroups || got != extra {
		t.Errorf("%d groups, %d forgotten, want %d and %d", len(d.counts.groups), got, maxGroups, extra)
	}
	// The oldest is forgotten and begins anew, the newest is not.
	if n := len(d.Observe(execAt("/0", maxGroups+extra), subject(), nil)); n != 0 {
		t.Error("the first group is still there")
	}
	if n := len(d.Observe(execAt(fmt.Sprint("/", maxGroups+extra-1), maxGroups+extra), subject(), nil)); n != 1 {
		t.Error("the last group is gone")
	}

	// Few groups with many marks.
	d = New(Config{Ruleset: loadSet(t, windowed("{count: 10000, within: 1h, by: [proc.exepath]}")), Wall: wall})
	for i := range 40 {
		for range 9999 {
			d.Observe(execAt(fmt.Sprint("/", i), i), subject(), nil)
		}
	}
	marks := 0
	for _, g := range d.counts.groups {
		marks += cap(g.marks)
	}
	if marks != d.counts.marks || marks > maxMarks || d.Stats().Forgotten == 0 {
		t.Errorf("%d marks, counted as %d, at most %d; %d forgotten", marks, d.counts.marks, maxMarks, d.Stats().Forgotten)
	}

	// What is too old anyway is no loss.
	d = New(Config{Ruleset: loadSet(t, windowed("{count: 2, within: 1ms, by: [proc.exepath]}")), Wall: wall})
	for i := range 2 * maxGroups {
		d.Observe(execAt(fmt.Sprint("/", i), i), subject(), nil)
	}
	if got := d.Stats().Forgotten; got != 0 {
		t.Errorf("%d forgotten, want none", got)
	}
}

// A match that only counts costs no allocation.
func TestCountingDoesNotAllocate(t *testing.T) {
	for _, window := range []string{"{count: 100, within: 1s, by: [proc.exepath]}", "{count: 100, within: 1s, distinct: [proc.exepath, proc.cmdline]}"} {
		d := New(Config{Ruleset: loadSet(t, windowed(window)), Wall: wall})
		ev := execAt("/a", 0)
		step := func() {
			ev.Ktime += uint64(time.Second) / 50
			d.Observe(ev, subject(), nil)
		}
		for range 200 {
			step()
		}
		who := subject()
		if n := testing.AllocsPerRun(1000, func() { ev.Ktime += uint64(time.Second) / 50; d.Observe(ev, who, nil) }); n != 0 {
			t.Errorf("%s: %v allocations", window, n)
		}
	}
}

const (
	ruleFirst  = "- {rule: First, desc: d, condition: evt.type = execve, output: o, priority: ERROR, tags: [escape]}\n"
	ruleSecond = "- {rule: Second, desc: d, condition: evt.type = execve, output: o, priority: ERROR, tags: [network]}\n"
)

func names(d *Detector, ev *event.Event) []string {
	var all []string
	for _, a := range d.Observe(ev, subject(), nil) {
		all = append(all, a.Rule)
	}
	return all
}

// With rule_matching first, one rule at most raises an alert; those that count see everything.
func TestRuleMatching(t *testing.T) {
	counting := "- {rule: Counts, desc: d, condition: evt.type = execve, output: o, priority: ERROR, window: {count: 2, within: 1s}}\n"
	for m, want := range map[rule.Matching][]string{
		rule.All:   {"First", "Second", "First", "Second", "Counts"},
		rule.First: {"First", "First", "Counts"},
	} {
		d := New(Config{Ruleset: loadSet(t, ruleFirst+ruleSecond+counting), Wall: wall, Matching: m})
		if got := append(names(d, execAt("/a", 0)), names(d, execAt("/a", 1))...); !slices.Equal(got, want) {
			t.Errorf("%s: got %q, want %q", m, got, want)
		}
	}
}

// Rules of source internal are asked about what the others raise, those of the kernel's verdicts too, and not
// about each other.
func TestRulesAboutAlerts(t *testing.T) {
	set := loadSet(t, ruleFirst+ruleSecond+`
- rule: Stages
  desc: d
  source: internal
  condition: evt.type = alert and alert.family in (escape, network, execution) and alert.severity in (error, critical)
  output: the last was %alert.rule of %proc.exepath
  priority: CRITICAL
  tags: [escape]
  window: {count: 3, within: 10m, distinct: [alert.family]}
`)
	d := New(Config{Ruleset: set, Wall: wall, Window: time.Minute})
	if got, want := names(d, execAt("/a", 0)), []string{"First", "Second"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	check := denied("/b", execAt("", 1).Ktime)
	got := d.Observe(check, subject(), nil)
	if len(got) != 2 || got[0].Rule != rule.DriftRule || got[1].Rule != "Stages" || got[1].Fields["alert.rule"] != rule.DriftRule {
		t.Fatalf("%+v", got)
	}
	if want := []string{"First", "Second"}; !slices.Equal(got[0].Detail.Also, want) {
		t.Errorf("also %q, want %q", got[0].Detail.Also, want)
	}
	if want := "Critical the last was " + rule.DriftRule + " of /b"; got[1].Output[len(got[1].Output)-len(want):] != want {
		t.Errorf("%q", got[1].Output)
	}
}
