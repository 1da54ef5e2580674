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

// Allow adds one entry to a workload's baseline, whatever its mode; the name may be the baseline's, too. It is one write to
// the generations that are in force: nothing else of them changes, and the budgets stay as they are.
func (r *registry) Allow(name string, key event.Key, at time.Time) (who detect.Subject, added bool, err error) {
	who, _, err = r.Meant(name)
	if err != nil {
		return who, false, fmt.Errorf("allow %s in baseline of %q: %w", key, name, err)
	}
	k, err := r.allow(name, key, at)
	if k == nil {
		return who, false, err
	}
	return who, true, errors.Join(err, r.save(k))
}

// allow is Allow without the file. No baseline: nothing was added.
func (r *registry) allow(name string, key event.Key, at time.Time) (*kin, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	k, err := r.find(name)
	if err != nil {
		return nil, fmt.Errorf("allow %s in baseline of %q: %w", key, name, err)
	}
	next := k.profile.Clone()
	if added, err := next.Allow(key, at); err != nil || !added {
		return nil, err
	}
	first := true
	for _, m := range k.members {
		if r.Enforcer == nil {
			break
		}
		if !first { // it is allowed by now, and audited where it does not fit
			err = errors.Join(err, r.fillOne(m, key))
			continue
		}
		if err := r.Enforcer.Replace(m.id, m.generation, []event.Key{key}); err != nil {
			return nil, fmt.Errorf("allow %s in baseline of %q: %w", key, name, err)
		}
		first = false
	}
	k.profile, k.dirty, k.seek = next, true, nil
	return k, err
}

// fillOne gives the kernel one more entry of a workload.
func (r *registry) fillOne(m *member, key event.Key) error {
	before := m.softened()
	r.fill(m, []event.Key{key})
	if m.softened() == before {
		return nil
	}
	return r.setState(m, r.state(m))
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
			SPIFFEID: w.SPIFFEID, IdentitySource: w.IdentitySource, Workload: w.Name, WorkloadKind: w.Kind, Baseline: w.Baseline, Cgroup: w.Cgroup,
			Verdict: event.Allow.String(), Hook: ownHook, Mode: w.Mode.String(), Key: about,
			Fingerprint: alert.Fingerprint(BaselineChangedRule, w.Name, about, o.at.String()),
		},
	}
}
