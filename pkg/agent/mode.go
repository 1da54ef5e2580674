package agent

import (
	"fmt"
	"time"

	"github.com/plumbline-io/plumbline/pkg/alert"
	"github.com/plumbline-io/plumbline/pkg/detect"
	"github.com/plumbline-io/plumbline/pkg/event"
)

// ModeChangedRule names the alert that somebody has changed a workload's mode.
const ModeChangedRule = "Mode changed"

// setMode changes a workload's mode and leaves a trace among the alerts: who can switch enforcement off should
// not be able to do so unseen.
func (a *Agent) setMode(name string, mode event.Mode, reason string) error {
	before, err := a.registry.Named(name)
	if err != nil {
		return fmt.Errorf("set mode of %q: %w", name, err)
	}
	if err := a.registry.SetMode(name, mode, reason); err != nil {
		return err
	}
	if mode != before.Mode {
		a.sink.Raise(modeChanged(before, mode, reason, alertOrigin{time.Now().UTC(), a.cfg.Node}))
	}
	return nil
}

func modeChanged(before detect.Subject, mode event.Mode, why string, o alertOrigin) alert.Alert {
	severity := alert.Notice
	if before.Mode == event.Enforce {
		severity = alert.Warning
	}
	about := fmt.Sprintf("mode %s to %s", before.Mode, mode)
	text := fmt.Sprintf("Mode changed from %s to %s (workload=%s spiffe_id=%s reason=%q)", before.Mode, mode, before.Name, before.SPIFFEID, why)
	return alert.Alert{
		Time: o.at, Rule: ModeChangedRule, Severity: severity, Source: detect.InternalSource, Hostname: o.node,
		Output: alert.Text(o.at, severity, text), Tags: []string{"baseline", "audit"},
		Fields: map[string]any{"evt.time": o.at.UnixNano(), "workload.name": before.Name, "plumbline.reason": why, "plumbline.mode_before": before.Mode.String()},
		Detail: alert.Detail{
			SPIFFEID: before.SPIFFEID, IdentitySource: before.IdentitySource, Workload: before.Name, WorkloadKind: before.Kind, Cgroup: before.Cgroup,
			Verdict: event.Allow.String(), Hook: event.HookUnspecified.String(), Mode: mode.String(), Key: about,
			Fingerprint: alert.Fingerprint(ModeChangedRule, before.Name, about, o.at.String()),
		},
	}
}
