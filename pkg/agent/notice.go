package agent

import (
	"cmp"
	"fmt"
	"maps"
	"time"

	"github.com/plumbline-io/plumbline/pkg/alert"
	"github.com/plumbline-io/plumbline/pkg/detect"
	"github.com/plumbline-io/plumbline/pkg/event"
)

// auditedRule names the alert about a workload that is not held, although it was promoted to that.
const auditedRule = "Enforcement not possible"

// ownHook stands for a hook in alerts about what no hook of the kernel saw: the agent tells of itself.
const ownHook = "agent"

// notice is what the agent tells of enforcement itself, without an event of the kernel.
type notice struct {
	rule, text, reason, tag string
	family                  string         // the first tag; empty: baseline
	subject                 detect.Subject // of all workloads: its mode alone
	fields                  map[string]any // beside time, workload and reason
	severity                alert.Severity // 0: critical
	action, outcome         string         // of a response
}

// tell raises a notice as an alert. Safe for concurrent use.
func (a *Agent) tell(n notice) {
	now, w := time.Now().UTC(), n.subject
	fields := map[string]any{"evt.time": now.UnixNano(), "plumbline.reason": n.reason}
	if w.Name != "" {
		fields["workload.name"] = w.Name
	}
	maps.Copy(fields, n.fields)
	severity := cmp.Or(n.severity, alert.Critical)
	a.sink.Raise(alert.Alert{
		Time: now, Rule: n.rule, Severity: severity, Source: detect.InternalSource, Hostname: a.cfg.Node,
		Output: alert.Text(now, severity, n.text), Tags: []string{cmp.Or(n.family, "baseline"), n.tag}, Fields: fields,
		Detail: alert.Detail{
			SPIFFEID: w.SPIFFEID, IdentitySource: w.IdentitySource, Workload: w.Name, WorkloadKind: w.Kind, Baseline: w.Baseline, Cgroup: w.Cgroup,
			Verdict: event.Audit.String(), Hook: ownHook, Mode: w.Mode.String(), Key: n.reason, Action: n.action, Outcome: n.outcome,
			Fingerprint: alert.Fingerprint(n.rule, a.cfg.Node, w.Name+n.reason, now.String()),
		},
	})
}

// tellAudited tells of a workload whose stored mode is enforce, and which is only audited.
func (a *Agent) tellAudited(w detect.Subject, why error) {
	a.cfg.Log.Warn("audit a workload instead of enforcing", "workload", w.Name, "error", why)
	a.tell(notice{
		rule: auditedRule, reason: why.Error(), tag: "enforcement", subject: w,
		text: fmt.Sprintf("Workload is audited instead of enforced (workload=%s spiffe_id=%s): %s", w.Name, w.SPIFFEID, why),
	})
}
