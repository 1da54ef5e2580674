package agent

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/plumbline-io/plumbline/pkg/alert"
	"github.com/plumbline-io/plumbline/pkg/baseline"
	"github.com/plumbline-io/plumbline/pkg/detect"
	"github.com/plumbline-io/plumbline/pkg/event"
)

// BaselineChangedRule names the alert about an entry that somebody added to a baseline.
const BaselineChangedRule = "Baseline changed"

// allowRequest asks for one more entry in a workload's baseline.
type allowRequest struct {
	Workload string `json:"workload"`
	Key      string `json:"key"`
	Reason   string `json:"reason"` // required
}

// allowAnswer tells what came of it.
type allowAnswer struct {
	Added bool `json:"added"` // false: it was allowed already
}

// Allow adds one entry to a workload's baseline, whatever its mode. It is one write to the generation that
// is in force: nothing else of it changes, and the budget stays as it is.
func (r *registry) Allow(name string, k event.Key, at time.Time) (who detect.Subject, added bool, err error) {
	m, who, err := r.allow(name, k, at)
	if m == nil {
		return who, false, err
	}
	return who, true, r.save(m)
}

// allow is Allow without the file. No member: nothing was added.
func (r *registry) allow(name string, k event.Key, at time.Time) (*member, detect.Subject, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	m, ok := r.byName[name]
	if !ok {
		return nil, detect.Subject{}, fmt.Errorf("allow %s in baseline of %q: %w", k, name, errUnknownWorkload)
	}
	next := m.profile.Clone()
	if added, err := next.Allow(k, at); err != nil || !added {
		return nil, m.subject, err
	}
	if r.Enforcer != nil {
		if err := r.Enforcer.Replace(m.id, m.generation, []event.Key{k}); err != nil {
			return nil, m.subject, fmt.Errorf("allow %s in baseline of %q: %w", k, name, err)
		}
	}
	m.profile, m.dirty = next, true
	return m, m.subject, nil
}

// allow does what a request asks for, and leaves a trace of it in the log and among the alerts.
func (a *Agent) allow(req allowRequest) (allowAnswer, error) {
	if strings.TrimSpace(req.Reason) == "" {
		return allowAnswer{}, errors.New("allow in baseline: no reason is given")
	}
	k, err := baseline.ParseKey(req.Key)
	if err != nil {
		return allowAnswer{}, err
	}
	now := time.Now()
	who, added, err := a.registry.Allow(req.Workload, k, now)
	if added {
		a.cfg.Log.Info("baseline changed", "workload", req.Workload, "mode", who.Mode.String(), "key", k.String(), "reason", req.Reason)
		a.sink.Raise(baselineChanged(who, k, req.Reason, alertOrigin{now.UTC(), a.cfg.Node}))
	}
	return allowAnswer{added}, err
}

// alertOrigin is when and where.
type alertOrigin struct {
	at   time.Time
	node string
}

func baselineChanged(w detect.Subject, k event.Key, why string, o alertOrigin) alert.Alert {
	about := k.String()
	text := fmt.Sprintf("Entry added to the baseline (%s workload=%s spiffe_id=%s reason=%q)", about, w.Name, w.SPIFFEID, why)
	return alert.Alert{
		Time: o.at, Rule: BaselineChangedRule, Severity: alert.Notice, Source: detect.InternalSource, Hostname: o.node,
		Output: alert.Text(o.at, alert.Notice, text), Tags: []string{"baseline", "audit"},
		Fields: map[string]any{"evt.time": o.at.UnixNano(), "workload.name": w.Name, "plumbline.reason": why},
		Detail: alert.Detail{
			SPIFFEID: w.SPIFFEID, IdentitySource: w.IdentitySource, Workload: w.Name, WorkloadKind: w.Kind, Cgroup: w.Cgroup,
			Verdict: event.Allow.String(), Hook: event.HookUnspecified.String(), Mode: w.Mode.String(), Key: about,
			Fingerprint: alert.Fingerprint(BaselineChangedRule, w.Name, about, o.at.String()),
		},
	}
}
