package detect

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/plumbline-io/plumbline/pkg/alert"
	"github.com/plumbline-io/plumbline/pkg/event"
)

// An operation that is allowed meets the rules at once, since nothing follows it; what is denied is one alert.
func TestRulesOnOperations(t *testing.T) {
	for verdict, want := range map[event.Verdict][]string{
		event.Allow: {"Password file read"},
		event.Audit: {"File access outside baseline", "Password file read"},
		event.Deny:  {"File access outside baseline"},
	} {
		d := New(Config{Ruleset: builtIn(t), Wall: wall})
		ev := &event.Event{Kind: event.Access, Verdict: verdict, Hook: event.HookLSM, Process: event.Process{Path: "/usr/bin/cat"}}
		ev.Access = event.AccessInfo{Key: event.Key{Op: event.OpRead, Path: "/etc/shadow"}, Comm: "cat"}
		var got []string
		alerts := d.Observe(ev, subject(), nil)
		for _, a := range alerts {
			got = append(got, a.Rule)
			if a.Detail.Key != "read /etc/shadow" || a.Detail.Verdict != verdict.String() {
				t.Errorf("%s: %+v", verdict, a.Detail)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", verdict, got, want)
		}
		if also := alerts[0].Detail.Also; verdict == event.Deny && !slices.Equal(also, []string{"Password file read"}) {
			t.Errorf("%s: also %q", verdict, also)
		}
	}
}

// First sightings are frequent while a workload learns.
func TestQuietOperationDoesNotAllocate(t *testing.T) {
	d := New(Config{Ruleset: builtIn(t), Wall: wall, Window: time.Minute})
	for name, key := range map[string]event.Key{
		"read":       {Op: event.OpRead, Path: "/usr/lib/locale/locale-archive"},
		"write":      {Op: event.OpWrite, Path: "/var/lib/app/data"},
		"connect":    {Op: event.OpConnect, Protocol: event.ProtocolTCP, Address: netip.MustParsePrefix("10.2.3.4/32"), Port: 5432},
		"capability": {Op: event.OpCapability, Value: 10},
		"ptrace":     {Op: event.OpPtrace, Value: event.PtraceRead | event.PtraceOther},
		"socket":     {Op: event.OpSocket, Value: 16<<16 | 3<<8},
	} {
		ev := &event.Event{Kind: event.Access, Process: event.Process{Path: "/usr/bin/python3.11"}}
		ev.Access = event.AccessInfo{Key: key, Comm: "python3"}
		w, out := &Subject{Name: "0123456789ab", Kind: "container", ContainerID: "0123456789ab"}, []alert.Alert(nil)
		if n := testing.AllocsPerRun(1000, func() { out = d.Observe(ev, w, out[:0]) }); n != 0 || len(out) != 0 {
			t.Errorf("%s: %v allocations, %d alerts", name, n, len(out))
		}
	}
}
