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

// ModeChange is what became of a wish for another mode.
type ModeChange struct {
	Workload string `json:"workload"`
	Mode     string `json:"mode"`
	Reason   string `json:"reason,omitempty"`
	// Baseline is what the workload has in common with others, Containers how many run and have it. Empty: it has its own.
	Baseline   string `json:"baseline,omitempty"`
	Containers int    `json:"containers,omitempty"`
}

// setMode changes a workload's mode and leaves a trace among the alerts: who can switch enforcement off should
// not be able to do so unseen.
func (a *Agent) setMode(req modeRequest, mode event.Mode) (ModeChange, error) {
	done := ModeChange{Workload: req.Workload, Mode: req.Mode, Reason: req.Reason}
	before, workloads, err := a.registry.Meant(req.Workload)
	if err != nil {
		return done, fmt.Errorf("set mode of %q: %w", req.Workload, err)
	}
	if err := a.registry.SetMode(req.Workload, mode, req.Reason); err != nil {
		return done, err
	}
	if before.Baseline != "" {
		done.Baseline, done.Containers = before.Baseline, workloads
	}
	if mode != before.Mode {
		a.sink.Raise(modeChanged(before, mode, done, alertOrigin{time.Now().UTC(), a.cfg.Node}))
	}
	return done, nil
}

func modeChanged(before detect.Subject, mode event.Mode, done ModeChange, o alertOrigin) alert.Alert {
	severity := alert.Notice
	if before.Mode == event.Enforce {
		severity = alert.Warning
	}
	about := fmt.Sprintf("mode %s to %s", before.Mode, mode)
	who := fmt.Sprintf("workload=%s spiffe_id=%s", before.Name, before.SPIFFEID)
	if done.Baseline != "" {
		who = fmt.Sprintf("%s baseline=%s containers=%d", who, done.Baseline, done.Containers)
	}
	text := fmt.Sprintf("Mode changed from %s to %s (%s reason=%q)", before.Mode, mode, who, done.Reason)
	return alert.Alert{
		Time: o.at, Rule: ModeChangedRule, Severity: severity, Source: detect.InternalSource, Hostname: o.node,
		Output: alert.Text(o.at, severity, text), Tags: []string{"baseline", "audit"},
		Fields: map[string]any{"evt.time": o.at.UnixNano(), "workload.name": before.Name, "plumbline.reason": done.Reason, "plumbline.mode_before": before.Mode.String()},
		Detail: alert.Detail{
			SPIFFEID: before.SPIFFEID, IdentitySource: before.IdentitySource, Workload: before.Name, WorkloadKind: before.Kind, Baseline: before.Baseline, Cgroup: before.Cgroup,
			Verdict: event.Allow.String(), Hook: ownHook, Mode: mode.String(), Key: about,
			Fingerprint: alert.Fingerprint(ModeChangedRule, before.Name, about, o.at.String()),
		},
	}
}
