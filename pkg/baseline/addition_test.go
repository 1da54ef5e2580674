package baseline

import (
	"strings"
	"testing"

	"github.com/plumbline-io/plumbline/pkg/event"
)

// earlier is a baseline as an earlier version wrote it.
func earlier(t *testing.T, mode string) *Profile {
	t.Helper()
	p, err := Parse("f", []byte("apiVersion: plumbline.io/v1\nkind: Baseline\nworkload: w\nworkloadKind: unit\nmode: "+mode+`
exec:
  - path: /bin/a
privilege:
  - use: capability
    value: CAP_SYS_ADMIN
observed:
  runs: 5
`))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// again is what is read of what is written.
func again(t *testing.T, p *Profile) *Profile {
	t.Helper()
	back, err := Parse("f", p.Marshal())
	if err != nil {
		t.Fatalf("%v\n%s", err, p.Marshal())
	}
	if back.Lacks() != p.Lacks() || back.Digest() != p.Digest() {
		t.Errorf("lacks %v, read again %v", p.Lacks().Names(), back.Lacks().Names())
	}
	return back
}

// A baseline of an earlier version says what it lacks, and keeps its digest.
func TestEarlierBaselines(t *testing.T) {
	for _, mode := range []string{"learn", "audit", "enforce"} {
		p := earlier(t, mode)
		if p.Lacks() != event.AllAdditions {
			t.Errorf("%s: lacks %v", mode, p.Lacks().Names())
		}
		const says = "# An earlier version has learnt it, without namespaces, file_rights, keys: audited, and not enforced.\n"
		if text := string(p.Marshal()); !strings.Contains(text, says) || strings.Contains(text, learntHead) {
			t.Errorf("%s:\n%s", mode, text)
		}
		again(t, p)
	}
	p := New("w", "unit", event.AllDimensions)
	if text := string(p.Marshal()); p.Lacks() != 0 || strings.Contains(text, "earlier") || !strings.Contains(text, "\n# Learnt with: namespaces, file_rights, keys\napiVersion") {
		t.Errorf("a new one:\n%s", text)
	}
	again(t, p)
	for _, tc := range []struct {
		head string
		want event.Additions
	}{
		{"# Learnt with: keys, namespaces\n", 1 << event.AddedFileRights},
		{"# Something else\n# Learnt with: file_rights, time_travel, keys, namespaces\r\n", 0}, // by a later version
		{"\n# Learnt with: file_rights, namespaces\n", event.AllAdditions},                     // not at the begin
	} {
		p, err := Parse("f", append([]byte(tc.head), p.Canonical()...))
		if err != nil || p.Lacks() != tc.want {
			t.Errorf("%q: %v, lacks %v", tc.head, err, p.Lacks().Names())
		}
	}
}

// What it lacks it has once a run was learnt as a whole, or somebody promotes it for a reason.
func TestLacksAreLearnt(t *testing.T) {
	p := earlier(t, "learn")
	p.BeginRun()
	if p.Lacks() != event.AllAdditions {
		t.Errorf("in the first run: lacks %v", p.Lacks().Names())
	}
	if err := p.Clone().Promote(event.Enforce, ""); err != nil {
		t.Error(err)
	}
	p.BeginRun()
	if p.Lacks() != 0 || again(t, p).Lacks() != 0 {
		t.Errorf("after a run: lacks %v", p.Lacks().Names())
	}

	p = earlier(t, "enforce")
	for range 3 {
		p.BeginRun()
	}
	if err := p.Promote(event.Enforce, ""); err != nil || p.Lacks() != event.AllAdditions {
		t.Errorf("%v, lacks %v", err, p.Lacks().Names())
	}
	if err := p.Promote(event.Enforce, "the alerts were looked at"); err != nil || p.Lacks() != 0 {
		t.Errorf("%v, lacks %v", err, p.Lacks().Names())
	}

	p = earlier(t, "enforce")
	p.Demote(event.Learn)
	p.BeginRun()
	if err := p.Promote(event.Enforce, ""); err != nil || p.Lacks() != event.AllAdditions {
		t.Errorf("promoted in its first run: %v, lacks %v", err, p.Lacks().Names())
	}
}

// Of two baselines one may lack something; where privileges are not held, nothing is lacking.
func TestLacksOfSeveral(t *testing.T) {
	p := New("w", "unit", earlier(t, "learn").Held())
	if err := p.Merge(earlier(t, "learn")); err != nil || p.Lacks() != event.AllAdditions {
		t.Errorf("merged: %v, lacks %v", err, p.Lacks().Names())
	}
	p = New("w", "unit", earlier(t, "learn").Held())
	p.Adopt(earlier(t, "learn"))
	if p.Lacks() != event.AllAdditions {
		t.Errorf("adopted: lacks %v", p.Lacks().Names())
	}
	p = earlier(t, "learn")
	if err := p.Hold(execOnly); err != nil || p.Lacks() != 0 {
		t.Errorf("not held: %v, lacks %v", err, p.Lacks().Names())
	}
	if err := p.Hold(event.AllDimensions); err != nil || p.Lacks() != 0 {
		t.Errorf("held from now on: %v, lacks %v", err, p.Lacks().Names())
	}
}
