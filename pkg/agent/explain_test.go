package agent

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/plumbline-io/plumbline/pkg/alert"
	"github.com/plumbline-io/plumbline/pkg/baseline"
	"github.com/plumbline-io/plumbline/pkg/detect"
	"github.com/plumbline-io/plumbline/pkg/event"
	"github.com/plumbline-io/plumbline/pkg/rule"
)

func drift(key, verdict string) alert.Alert {
	return alert.Alert{
		Time: time.Unix(1_700_000_000, 0), Rule: rule.DriftRule, Source: "syscall", Hostname: "n1",
		Detail: alert.Detail{ID: alert.ID{Node: "n1", Epoch: "e", Seq: 4}, Workload: "it's a shop", Key: key, Verdict: verdict, Hook: "lsm", Mode: "enforce", Fingerprint: "f00"},
	}
}

func TestExplainAlert(t *testing.T) {
	renamed := drift("/bin/sh", "audit")
	renamed.Rule = "Shell in container"
	changed := drift("/bin/sh", "allow")
	changed.Rule, changed.Fields = BaselineChangedRule, map[string]any{"plumbline.reason": "ticket 7"}
	unready := drift("dimension exec", "audit")
	unready.Rule, unready.Fields = detect.SteppedDownRule, map[string]any{detect.ReadinessField: "not ready: failed"}
	flooded := unready
	flooded.Fields = map[string]any{detect.DenialsField: 61}
	stages, paused := drift("", "deny"), drift("no reason", "audit")
	stages.Rule, stages.Source = "Several stages of an attack", "internal"
	paused.Rule, paused.Source, paused.Detail.Hook, paused.Output = "Enforcement paused", "internal", "agent", "Nothing is denied"
	for name, tc := range map[string]struct {
		a     alert.Alert
		drift bool
		want  string
	}{
		"denied":  {drift("/bin/sh", "deny"), true, "the mode was enforce"},
		"audited": {drift("/bin/sh", "audit"), true, "enforce would have denied it"},
		"rule":    {renamed, false, `the rule "Shell in container"`},
		"changed": {changed, false, "ticket 7"},
		"unready": {unready, false, "not any more after denials (not ready: failed)"},
		"flooded": {flooded, false, "more denials within a minute"},
		"stages":  {stages, false, `the rule "Several stages of an attack" (source internal)`},
		"paused":  {paused, false, "the agent, of itself: Nothing is denied"},
	} {
		t.Run(name, func(t *testing.T) {
			x := ExplainAlert(tc.a)
			if IsDrift(tc.a) != tc.drift || !strings.Contains(x.Decided, tc.want) || x.ID != "n1.e.4" {
				t.Errorf("%v, %+v", IsDrift(tc.a), x)
			}
		})
	}
}

func TestExplainAgainst(t *testing.T) {
	at := time.Unix(1_700_000_000, 0)
	p := baseline.New("it's a shop", "unit", event.Dimensions(0).With(event.DimExec).With(event.DimFile))
	p.Add(event.Key{Op: event.OpExec, Path: "/usr/bin/sh"}, false, at)
	if _, err := p.Allow(event.Key{Op: event.OpRead, Path: "/srv/**"}, at); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		key            string
		allowed, holds bool
		by, command    string
	}{
		"missing":  {"/bin/sh", false, true, "", `plumbline-agent baseline allow 'it'\''s a shop' /bin/sh --reason TEXT`},
		"words":    {"write /srv/x", false, true, "", `plumbline-agent baseline allow 'it'\''s a shop' 'write /srv/x' --reason TEXT`},
		"listed":   {"/usr/bin/sh", true, true, "/usr/bin/sh", ""},
		"pattern":  {"read /srv/x", true, true, "read /srv/**", ""},
		"not held": {"connect tcp 10.0.0.1 port 80", true, false, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			x := ExplainAlert(drift(tc.key, "deny"))
			if err := x.Against("a file", p); err != nil {
				t.Fatal(err)
			}
			v := x.Baseline
			if v.Allowed != tc.allowed || v.Held != tc.holds || v.By != tc.by || v.Command != tc.command || v.From != "a file" {
				t.Errorf("%+v", v)
			}
			if !tc.allowed && !strings.Contains(v.YAML, "path: ") || name == "missing" && len(v.Nearest) != 1 {
				t.Errorf("%+v", v)
			}
		})
	}
	for _, key := range []string{"no key", "/tmp/x/**"} { // a file may be called like a pattern
		x := ExplainAlert(drift(key, "deny"))
		if err := x.Against("a file", p); err == nil || x.Baseline != nil {
			t.Errorf("%s: %v, %+v", key, err, x.Baseline)
		}
	}
}

func TestReadAlert(t *testing.T) {
	line, err := json.Marshal(drift("/bin/sh", "deny"))
	if err != nil {
		t.Fatal(err)
	}
	one := string(line)
	for name, tc := range map[string]struct{ text, want string }{
		"one":     {one + "\n", ""},
		"two":     {one + "\n" + one, "x: more than one alert"},
		"nothing": {"", "x: read alert"},
		"no rule": {"{}", "x: read alert: no rule"},
		"text":    {"hello", "x: read alert"},
	} {
		t.Run(name, func(t *testing.T) {
			a, err := ReadAlert("x", strings.NewReader(tc.text))
			if (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
				t.Fatalf("got %v", err)
			}
			if err == nil && a.Detail.Key != "/bin/sh" {
				t.Errorf("%+v", a)
			}
		})
	}
}

func TestFindAlert(t *testing.T) {
	var file strings.Builder
	for _, key := range []string{"/bin/a", "/bin/b"} {
		a := drift(key, "deny")
		a.Detail.ID.Seq = uint64(len(key) + strings.Count(file.String(), "\n"))
		line, err := json.Marshal(a)
		if err != nil {
			t.Fatal(err)
		}
		file.WriteString(string(line) + "\n")
	}
	for name, tc := range map[string]struct{ text, id, key, want string }{
		"by id":          {file.String(), "n1.e.6", "/bin/a", ""},
		"by fingerprint": {file.String(), "f00", "/bin/b", ""}, // the last one
		"none":           {file.String(), "n1.e.9", "", "not among the 2 lines of x"},
		"broken line":    {file.String() + "{", "n1.e.6", "", "x:3: read alert"},
		"long line":      {file.String() + strings.Repeat("x", 2*maxAlertBytes), "n1.e.6", "", "x:3: a line of more than"},
	} {
		t.Run(name, func(t *testing.T) {
			a, err := FindAlert("x", strings.NewReader(tc.text), tc.id)
			if (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
				t.Fatalf("got %v", err)
			}
			if err == nil && a.Detail.Key != tc.key {
				t.Errorf("%+v", a)
			}
		})
	}
}

func FuzzFindAlert(f *testing.F) {
	f.Add(`{"rule":"r","time":"2026-01-02T12:00:00Z","plumbline":{"id":{"node":"n","epoch":"e","seq":1},"fingerprint":"x"}}`+"\n", "n.e.1")
	f.Add("\n\n{}", "")
	f.Fuzz(func(t *testing.T, text, id string) {
		a, err := FindAlert("x", strings.NewReader(text), id)
		if err != nil {
			return
		}
		if a.Detail.ID.String() != id && a.Detail.Fingerprint != id {
			t.Errorf("%q: %+v", id, a.Detail)
		}
		x := ExplainAlert(a)
		_ = x.Against("x", baseline.New("w", "unit", event.AllDimensions))
	})
}
