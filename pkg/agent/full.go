package agent

import (
	"fmt"

	"github.com/plumbline-io/plumbline/pkg/alert"
	"github.com/plumbline-io/plumbline/pkg/baseline"
	"github.com/plumbline-io/plumbline/pkg/detect"
	"github.com/plumbline-io/plumbline/pkg/event"
)

// fullRule names the alert about a baseline that does not hold all that its workload did while it was learnt.
const fullRule = "Baseline incomplete"

// tellFull says that dimensions are not known as a whole from now on, of those that were before: they can be audited, and not
// enforced. They stay so, also in the file, until the workload is learnt anew; so it is said once.
func (r *registry) tellFull(m *member, before event.Dimensions) {
	dims := m.profile.Full() &^ before
	if dims == 0 {
		return
	}
	m.dirty = true
	if m.seek != nil {
		return // it is said of the baseline that it will have
	}
	r.Log.Error("baseline has no room, or no name, for all that was done: these dimensions can only be audited",
		"workload", m.subject.Name, "baseline", m.name, "dimensions", names(dims), "entries", m.profile.Len())
	if r.Full != nil {
		r.Full(m.subject, dims, m.profile.Len())
	}
}

// tellFullOf is tellFull of a baseline that several may have.
func (r *registry) tellFullOf(k *kin, before event.Dimensions) {
	for _, m := range k.members {
		r.tellFull(m, before)
		return
	}
}

func (a *Agent) tellFull(w detect.Subject, dims event.Dimensions, entries int) {
	a.tell(notice{
		rule: fullRule, severity: alert.Error, reason: fmt.Sprintf("no room, or no name, for all of %v", names(dims)), tag: "enforcement", subject: w,
		fields: map[string]any{"plumbline.dimensions": names(dims), "plumbline.entries": entries},
		text: fmt.Sprintf("Baseline has no room, or no name, for all that was done: its dimensions %v can only be audited (workload=%s baseline=%s spiffe_id=%s entries=%d of %d)",
			names(dims), w.Name, w.Baseline, w.SPIFFEID, entries, baseline.MaxEntries),
	})
}
