package detect

import (
	"fmt"
	"testing"

	"github.com/plumbline-io/plumbline/pkg/event"
	"github.com/plumbline-io/plumbline/pkg/rule"
)

// A rule about alerts may ask for a response, when its window is full.
func TestChainResponds(t *testing.T) {
	set, problems := rule.Load(rule.File{Name: "r.yaml", Data: []byte(`
- rule: first
  desc: d
  condition: evt.operation = read and evt.path = /etc/shadow
  output: x
  priority: error
- rule: chain
  desc: d
  condition: evt.type = alert and alert.rule = first
  output: x
  priority: critical
  source: internal
  action: quarantine
  mode: enforce
  window: {count: 2, within: 10m}
`)})
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	d := New(Config{Ruleset: set, Wall: wall})
	var got string
	for range 2 {
		for _, a := range d.Observe(access(event.OpRead, "/etc/shadow", event.Allow), subject(), nil) {
			got += fmt.Sprint(a.Rule, " ", a.Detail.Action, " ", a.Detail.Outcome, ";")
		}
	}
	if want := "first  ;first  ;chain quarantine ;"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// A rule that asks for a response has its own alert whatever the kernel did, which carries the action; unless its mode is
// enforce, the alert says that nothing comes of it. Other alerts have no outcome.
func TestResponses(t *testing.T) {
	for name, tc := range map[string]struct {
		keys    string
		verdict event.Verdict
		want    string
	}{
		"allowed":         {"  action: quarantine\n  mode: enforce\n", event.Allow, "[r quarantine  allow []]"},
		"denied":          {"  action: drain\n  mode: enforce\n", event.Deny, "[File access outside baseline   deny []] [r drain  deny []]"},
		"audited":         {"  action: evict\n  mode: enforce\n", event.Audit, "[File access outside baseline   audit []] [r evict  audit []]"},
		"in mode audit":   {"  action: restart\n  mode: audit\n", event.Allow, "[r restart refused: the rule's mode is audit allow []]"},
		"without a mode":  {"  action: quarantine\n", event.Deny, "[File access outside baseline   deny []] [r quarantine refused: the rule's mode is audit deny []]"},
		"alert":           {"", event.Allow, "[r   allow []]"},
		"alert, denied":   {"", event.Deny, "[File access outside baseline   deny [r]]"},
		"denying, denied": {"  action: deny\n  mode: enforce\n", event.Deny, "[File access outside baseline   deny [r]]"},
	} {
		t.Run(name, func(t *testing.T) {
			set, problems := rule.Load(rule.File{Name: "r.yaml", Data: []byte("- rule: r\n  desc: d\n  condition: evt.operation = read and evt.path = /etc/shadow\n  priority: error\n  output: x\n" + tc.keys)})
			if len(problems) > 0 {
				t.Fatal(problems)
			}
			got := ""
			for _, a := range New(Config{Ruleset: set, Wall: wall}).Observe(access(event.OpRead, "/etc/shadow", tc.verdict), subject(), nil) {
				if got != "" {
					got += " "
				}
				got += fmt.Sprint("[", a.Rule, " ", a.Detail.Action, " ", a.Detail.Outcome, " ", a.Detail.Verdict, " ", a.Detail.Also, "]")
			}
			if got != tc.want {
				t.Errorf("got %s, want %s", got, tc.want)
			}
		})
	}
}
