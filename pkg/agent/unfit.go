package agent

import (
	"errors"
	"fmt"

	"github.com/plumbline-io/plumbline/pkg/detect"
	"github.com/plumbline-io/plumbline/pkg/enforce"
	"github.com/plumbline-io/plumbline/pkg/event"
)

// unfitRule names the alert about a baseline that the kernel has no room for.
const unfitRule = "Baseline does not fit"

// leftOut counts entries of baselines that the kernel does not hold, and cgroups, by why.
type leftOut struct {
	full, tooLong, refused, cgroups uint64
	late                            uint64 // containers that had done by then what their baselines do not hold
}

// fill gives the kernel more entries of a workload's generation in force. A dimension of which something does not
// get there is audited instead of enforced: what the baseline holds must not be denied, nor the rest be held less.
func (r *registry) fill(m *member, keys []event.Key) {
	err := r.Enforcer.Replace(m.id, m.generation, keys)
	if err == nil {
		return
	}
	unfit := &enforce.UnfitError{}
	if !errors.As(err, &unfit) {
		unfit.Dimensions, unfit.Refused = m.profile.Held(), len(keys)
	}
	r.leftOut.full += uint64(unfit.Full)
	r.leftOut.tooLong += uint64(unfit.TooLong)
	r.leftOut.refused += uint64(unfit.Refused)
	news := unfit.Dimensions &^ m.unfit
	m.unfit |= unfit.Dimensions
	if news != 0 && r.Unfit != nil {
		r.Unfit(m.subject, news, err)
	}
}

// LeftOut tells what the kernel does not hold of baselines, since the agent started.
func (r *registry) LeftOut() leftOut {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.leftOut
}

// addTo adds to counters of losses, by reason.
func (l leftOut) addTo(lost map[string]uint64) {
	lost["map_full"] += l.full
	lost["path_too_long"] += l.tooLong
	lost["entry_refused"] = l.refused
	lost["cgroup_left_out"] = l.cgroups
	lost["container_held_late"] = l.late
}

// tellUnfit tells of dimensions in which a workload is audited because its baseline is not in the kernel as a whole.
// What is learnt anyway has to be known in user space alone.
func (a *Agent) tellUnfit(w detect.Subject, dims event.Dimensions, why error) {
	a.cfg.Log.Error("baseline does not fit in the kernel", "workload", w.Name, "dimensions", names(dims), "error", why)
	if w.Mode != event.Enforce && w.Mode != event.AuditMode {
		return
	}
	a.tell(notice{
		rule: unfitRule, reason: why.Error(), tag: "enforcement", subject: w, fields: map[string]any{"plumbline.dimensions": names(dims)},
		text: fmt.Sprintf("Baseline does not fit in the kernel, its dimensions %v can only be audited (workload=%s spiffe_id=%s): %s", names(dims), w.Name, w.SPIFFEID, why),
	})
}

// take puts a cgroup into its workload. One that cannot be is counted, and told if it had to be held: the others go on.
func (a *Agent) take(cg cgroup, join func(uint64, detect.Subject) error) {
	w := a.host.Subject(cg.Path)
	err := join(cg.ID, w)
	if err == nil {
		return
	}
	a.cfg.Log.Error("take cgroup into scope", "cgroup", cg.Path, "error", err)
	a.registry.LeaveOut()
	if known, missing := a.registry.Named(w.Name); missing == nil && known.Mode == event.Enforce {
		a.tell(notice{
			rule: auditedRule, reason: err.Error(), tag: "enforcement", subject: known, fields: map[string]any{"plumbline.cgroup": cg.Path},
			text: fmt.Sprintf("Cgroup is neither held nor seen, though its workload is enforced (cgroup=%s workload=%s spiffe_id=%s): %s", cg.Path, known.Name, known.SPIFFEID, err),
		})
	}
}

// LeaveOut counts a cgroup that is not in the workload that it belongs to.
func (r *registry) LeaveOut() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.leftOut.cgroups++
}
