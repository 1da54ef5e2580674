package response

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/plumbline-io/plumbline/pkg/rule"
)

func ordinary(name string) Request {
	return Request{Action: rule.Quarantine, Workload: name, Protected: true}
}

// Each condition by itself refuses what is admitted without it.
func TestGateRefuses(t *testing.T) {
	on := Limits{On: true, PerNode: 3}
	for name, tc := range map[string]struct {
		limits Limits
		change func(*Request)
		want   string
	}{
		"nothing":       {on, func(*Request) {}, ""},
		"off":           {Limits{PerNode: 3}, func(*Request) {}, "responses are off in the configuration"},
		"alert":         {on, func(r *Request) { r.Action = rule.Alert }, "alert is no response"},
		"deny":          {on, func(r *Request) { r.Action = rule.Deny }, "deny is no response"},
		"kill":          {on, func(r *Request) { r.Action = rule.Kill }, "kill is no response"},
		"drain":         {on, func(r *Request) { r.Action = rule.Drain }, ""},
		"restart":       {on, func(r *Request) { r.Action = rule.Restart }, ""},
		"evict":         {on, func(r *Request) { r.Action = rule.Evict }, ""},
		"unknown":       {on, func(r *Request) { r.Unknown = true }, "not known yet"},
		"guarded":       {on, func(r *Request) { r.Guarded = true }, "the machine depends on this workload"},
		"not protected": {on, func(r *Request) { r.Protected = false }, "is not protected"},
		"paused":        {on, func(r *Request) { r.Paused = true }, "enforcement is paused"},
		"fresh":         {on, func(r *Request) { r.Age = MaxAge }, ""},
		"old":           {on, func(r *Request) { r.Age = MaxAge + time.Second }, "it happened 1m1s ago"},
		"quarantined":   {on, func(r *Request) { r.Quarantined = true }, "the workload is quarantined"},
	} {
		t.Run(name, func(t *testing.T) {
			r := ordinary("w")
			tc.change(&r)
			err := NewGate(tc.limits).Admit(r, time.Unix(0, 0))
			if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
}

func TestGateCounts(t *testing.T) {
	g := NewGate(Limits{On: true, PerNode: 2})
	start := time.Unix(1000, 0)
	for i, step := range []struct {
		name  string
		after time.Duration
		want  string
	}{
		{"a", 0, ""},
		{"a", time.Second, "the workload met a response 1s ago: one in 10m0s"},
		{"b", 2 * time.Second, ""},
		{"c", 3 * time.Second, "2 workloads of this node met responses within 10m0s"},
		{"c", Every - time.Nanosecond, "2 workloads"},
		{"c", Every, ""}, // a's time is over
		{"a", Every + time.Second, "2 workloads"},
		{"b", Every + 2*time.Second, ""}, // b's is, too
		{"c", 2*Every - time.Nanosecond, "the workload met a response"},
		{"c", 2 * Every, ""},
	} {
		err := g.Admit(ordinary(step.name), start.Add(step.after))
		if step.want == "" && err != nil || step.want != "" && (err == nil || !strings.Contains(err.Error(), step.want)) {
			t.Errorf("step %d: got %v, want %q", i, err, step.want)
		}
	}
	if len(g.taken) > 2 {
		t.Errorf("it remembers %d workloads", len(g.taken))
	}
}

// What is refused counts for nothing.
func TestRefusedDoesNotCount(t *testing.T) {
	g := NewGate(Limits{On: true, PerNode: 1})
	for i := range 10 {
		r := ordinary(fmt.Sprint(i))
		r.Guarded = true
		if g.Admit(r, time.Unix(0, 0)) == nil {
			t.Fatal("admitted")
		}
	}
	if err := g.Admit(ordinary("x"), time.Unix(0, 0)); err != nil {
		t.Error(err)
	}
}
