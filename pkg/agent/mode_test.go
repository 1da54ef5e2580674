package agent

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/plumbline-io/plumbline/pkg/alert"
	"github.com/plumbline-io/plumbline/pkg/event"
)

// Each change of a mode is told once, and a weaker hold more urgently.
func TestModeChangeIsTold(t *testing.T) {
	a, _, out := held(t)
	for _, step := range []struct {
		mode     event.Mode
		told     bool
		severity alert.Severity
	}{{event.Enforce, false, 0}, {event.AuditMode, true, alert.Warning}, {event.Enforce, true, alert.Notice}, {event.Off, true, alert.Warning}} {
		out.Reset()
		if _, err := a.setMode(modeRequest{Workload: "shop.service", Mode: step.mode.String(), Reason: "ticket OPS-13"}, step.mode); err != nil {
			t.Fatal(err)
		}
		if out.Len() > 0 != step.told {
			t.Fatalf("%s: told %q", step.mode, out)
		}
		if !step.told {
			continue
		}
		told, err := alert.Parse(out.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		if told.Rule != ModeChangedRule || told.Severity != step.severity || told.Detail.Mode != step.mode.String() ||
			told.Detail.Workload != "shop.service" || !strings.Contains(told.Output, "ticket OPS-13") {
			t.Errorf("%s: %+v", step.mode, told)
		}
	}
	if _, err := a.setMode(modeRequest{Workload: "other"}, event.Off); err == nil || !strings.Contains(err.Error(), "unknown workload") {
		t.Errorf("%v", err)
	}
}

func TestWeakened(t *testing.T) {
	s := Status{
		PausedUntil: time.Unix(1, 0),
		Workloads: []WorkloadStatus{
			{Mode: "enforce", Softened: []string{"file"}}, {Mode: "enforce", Softened: []string{"exec"}, Unfit: []string{"exec"}}, {Mode: "enforce", Blind: []string{"unix"}}, {Mode: "learn", Softened: []string{"file"}},
		},
	}
	if got, want := weakened(s), map[string]int{"paused": 3, "stepped_down": 2, "unfit": 1, "blind": 1}; !reflect.DeepEqual(got, want) {
		t.Errorf("got %v", got)
	}
	if got := weakened(Status{Workloads: []WorkloadStatus{{Mode: "enforce"}}}); len(got) != 0 {
		t.Errorf("got %v", got)
	}
}
