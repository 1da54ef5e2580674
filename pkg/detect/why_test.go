package detect

import (
	"strings"
	"testing"

	"github.com/plumbline-io/plumbline/pkg/event"
	"github.com/plumbline-io/plumbline/pkg/rule"
)

// The alert of a rule that denied a file because of another name of it says so.
func TestWhyDenied(t *testing.T) {
	set, problems := rule.Load(rule.File{Name: "r.yaml", Data: []byte("- rule: shadow\n  condition: evt.operation = read and evt.path = /etc/shadow\n  output: read\n  priority: error\n  action: deny\n  mode: enforce\n")})
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	exec := func(other bool) *event.Event {
		return &event.Event{Kind: event.ExecCheck, Verdict: event.Deny, Exec: event.ExecInfo{Path: "/bin/x", Filename: "/mnt/x", OtherName: other}}
	}
	with := func(ev *event.Event, set func(*event.AccessInfo)) *event.Event {
		set(&ev.Access)
		return ev
	}
	for want, ev := range map[string]*event.Event{
		"":                                    access(event.OpRead, "/etc/shadow", event.Deny),
		"reached as /mnt/shadow":              with(access(event.OpRead, "/etc/shadow", event.Deny), func(a *event.AccessInfo) { a.Reached = "/mnt/shadow" }),
		"would give /etc/shadow another name": with(access(event.OpLink, "/etc/shadow", event.Deny), func(a *event.AccessInfo) { a.Renames = true }),
		"would give /etc, or what is below it, another name": with(access(event.OpRename, "/etc", event.Deny), func(a *event.AccessInfo) { a.Renames = true }),
		"would replace /etc/shadow":                          with(access(event.OpRename, "/etc/shadow", event.Deny), func(a *event.AccessInfo) { a.Replaces = true }),
		"executed as /mnt/x":                                 exec(true),
		"would give /srv, or what is below it, another name": with(access(event.OpRename, "/srv", event.Deny), func(a *event.AccessInfo) { a.Renames, a.Reached = true, "/mnt" }),
	} {
		ev.RuleID = set.Rules()[0].ID()
		got := New(Config{Ruleset: set, Wall: wall}).Observe(ev, subject(), nil)
		if len(got) != 1 || got[0].Rule != "shadow" || got[0].Detail.Why != want {
			t.Errorf("%q: %+v", want, got)
			continue
		}
		if end := "Error read: " + want; want != "" && !strings.HasSuffix(got[0].Output, end) || want == "" && !strings.HasSuffix(got[0].Output, "Error read") {
			t.Errorf("%q, want %q at its end", got[0].Output, end)
		}
	}
	ev := exec(false)
	ev.RuleID = set.Rules()[0].ID()
	if why := whyDenied(set.Rules()[0], ev); why != "" {
		t.Error(why)
	}
}
