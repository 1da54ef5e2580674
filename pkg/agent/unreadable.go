package agent

import (
	"fmt"
	"time"

	"github.com/plumbline-io/plumbline/pkg/alert"
	"github.com/plumbline-io/plumbline/pkg/baseline"
	"github.com/plumbline-io/plumbline/pkg/detect"
	"github.com/plumbline-io/plumbline/pkg/event"
)

// UnreadableRule names the alert about a stored baseline that cannot be read.
const UnreadableRule = "Baseline unreadable"

// openUnreadable takes in a workload's baseline whose stored baseline cannot be read: damaged, or of another version
// of the agent. It must not stop production, nor let anything pass as learnt; and as nothing is known,
// everything would be a deviation. So it is in audit and holds no dimension, and its file stays as it is
// until somebody decides.
func (r *registry) openUnreadable(k *kin, first detect.Subject, why error) {
	k.unreadable = why
	k.profile, k.mode = baseline.New(k.name, first.Kind, 0), event.AuditMode
	k.profile.Demote(event.AuditMode)
	r.Log.Error("read stored baseline", "workload", first.Name, "baseline", k.name, "error", why)
	if r.Unreadable != nil {
		first.Mode = k.mode
		r.Unreadable(first, why)
	}
}

// startAnew is the empty baseline of a workload whose stored one cannot be read.
func (r *registry) startAnew(k *kin, mode event.Mode) (*baseline.Profile, error) {
	if mode == event.AuditMode || mode == event.Enforce {
		return nil, fmt.Errorf("set mode of %q: its stored baseline cannot be read: %w: repair it and start the agent again, or learn it anew",
			k.name, k.unreadable)
	}
	next := r.newProfile(k.name, k.profile.Kind())
	next.Demote(mode)
	next.BeginRun()
	return next, nil
}

func (a *Agent) tellUnreadable(w detect.Subject, why error) {
	now := time.Now().UTC()
	text := fmt.Sprintf("Stored baseline cannot be read, and the workload is held to nothing (workload=%s spiffe_id=%s error=%q)", w.Name, w.SPIFFEID, why)
	a.sink.Raise(alert.Alert{
		Time: now, Rule: UnreadableRule, Severity: alert.Critical, Source: detect.InternalSource, Hostname: a.cfg.Node,
		Output: alert.Text(now, alert.Critical, text), Tags: []string{"baseline"},
		Fields: map[string]any{"evt.time": now.UnixNano(), "workload.name": w.Name, "plumbline.error": why.Error()},
		Detail: alert.Detail{
			SPIFFEID: w.SPIFFEID, IdentitySource: w.IdentitySource, Workload: w.Name, WorkloadKind: w.Kind, Baseline: w.Baseline, Cgroup: w.Cgroup,
			Verdict: event.Audit.String(), Hook: ownHook, Mode: w.Mode.String(),
			Fingerprint: alert.Fingerprint(UnreadableRule, w.Name, why.Error(), now.String()),
		},
	})
}
