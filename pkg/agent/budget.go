package agent

import (
	"time"

	"github.com/plumbline-io/plumbline/pkg/event"
)

// budget counts the denials of a workload, minute by minute. A dimension in which it is exceeded is
// audited from then on: the baseline is more likely wrong than the workload, and an outage is certain.
type budget struct {
	minute time.Time
	denied [event.DimCount]int
}

// note counts denials and says whether the budget of their dimension is exceeded by them.
func (b *budget) note(d event.Dimension, at time.Time, n, limit int) (exceeded bool) {
	if at.Sub(b.minute) >= time.Minute {
		b.minute, b.denied = at, [event.DimCount]int{}
	}
	b.denied[d] += n
	return limit > 0 && b.denied[d] > limit
}

// left is how many denials the dimension with the most has left in this minute; -1: there is no limit.
func (b *budget) left(now time.Time, limit int) int {
	if limit == 0 {
		return -1
	}
	left := limit
	if now.Sub(b.minute) < time.Minute {
		for _, n := range b.denied {
			left = min(left, limit-n)
		}
	}
	return max(left, 0)
}

// Denied counts n denials against the workload's budget. If that is exceeded, the dimension is audited
// from now on, and the second value is true.
func (r *registry) Denied(id uint32, d event.Dimension, at time.Time, n int) (denials int, softened bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	m := r.member(id)
	if m == nil || m.subject.Mode != event.Enforce {
		return 0, false
	}
	m.denials.note(d, at)
	if !m.budget.note(d, at, n, r.Budget) || m.profile.SteppedDown().Has(d) {
		return 0, false
	}
	if err := r.soften(m.kin, event.Dimensions(0).With(d)); err != nil {
		r.Log.Error("step down to audit", "workload", m.subject.Name, "dimension", d.String(), "error", err)
		return 0, false
	}
	r.Log.Warn("stepped down to audit", "workload", m.subject.Name, "dimension", d.String(), "denials", m.budget.denied[d])
	return m.budget.denied[d], true
}
