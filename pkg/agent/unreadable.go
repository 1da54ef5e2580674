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

// admitUnreadable admits a workload whose stored baseline cannot be read: damaged, or of another version
// of the agent. It must not stop production, nor let anything pass as learnt; and as nothing is known,
// everything would be a deviation. So it is in audit and holds no dimension, and its file stays as it is
// until somebody decides.
func (r *registry) admitUnreadable(m *member, why error) {
	m.unreadable = why
	m.profile, m.subject.Mode = baseline.New(m.subject.Name, m.subject.Kind, 0), event.AuditMode
	m.profile.Demote(event.AuditMode)
	r.Log.Error("read stored baseline", "workload", m.subject.Name, "error", why)
	if r.Unreadable != nil {
		r.Unreadable(m.subject, why)
	}
}

// startAnew is the empty baseline of a workload whose stored one cannot be read.
func (r *registry) startAnew(m *member, mode event.Mode) (*baseline.Profile, error) {
	if mode == event.AuditMode || mode == event.Enforce {
		return nil, fmt.Errorf("set mode of %q: its stored baseline cannot be read: %w: repair it and start the agent again, or learn it anew",
			m.subject.Name, m.unreadable)
	}
	next := r.newProfile(m.subject)
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
			SPIFFEID: w.SPIFFEID, IdentitySource: w.IdentitySource, Workload: w.Name, WorkloadKind: w.Kind, Cgroup: w.Cgroup,
			Verdict: event.Audit.String(), Hook: event.HookUnspecified.String(), Mode: w.Mode.String(),
			Fingerprint: alert.Fingerprint(UnreadableRule, w.Name, why.Error(), now.String()),
		},
	})
}
