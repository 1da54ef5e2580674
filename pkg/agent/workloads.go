package agent

import (
	"cmp"
	"slices"

	"github.com/plumbline-io/plumbline/pkg/event"
)

// WorkloadStatus is one workload in the agent's status.
type WorkloadStatus struct {
	Name        string `json:"name"`
	Kind        string `json:"kind"`
	SPIFFEID    string `json:"spiffe_id"`
	Mode        string `json:"mode"`
	Cgroups     int    `json:"cgroups"`
	Baseline    string `json:"baseline,omitempty"`   // that it has in common with others; empty: its own
	Containers  int    `json:"containers,omitempty"` // that run and have it
	Executables int    `json:"executables"`          // in the baseline
	Entries     int    `json:"entries"`              // in the baseline, of all dimensions
	Version     string `json:"version,omitempty"`    // of the baseline: the first digits of its digest when it was saved last; empty: not computed yet
	Runs        int    `json:"runs"`                 // that the baseline has seen
	// Held are the dimensions that the mode is about; Softened those of them that are audited although
	// the mode is enforce, because they are not known as a whole, have used up the budget, or are Unfit: the kernel has
	// not got all that the baseline holds; Blind those in the baseline that this kernel cannot hold; Recorded those that
	// nothing is held to.
	Held     []string `json:"held"`
	Softened []string `json:"softened,omitempty"`
	// Lacking are the operations that the baseline was learnt without, by an earlier version: they are audited too.
	Lacking  []string `json:"lacking,omitempty"`
	Unfit    []string `json:"unfit,omitempty"`
	Full     []string `json:"full,omitempty"` // of which the baseline does not hold all that was done while it was learnt
	Blind    []string `json:"blind,omitempty"`
	Recorded []string `json:"recorded,omitempty"`
	// Unreadable is why its stored baseline cannot be read: it is held to nothing until its mode is set.
	Unreadable string `json:"unreadable,omitempty"`
	// ByHand is why it would not have been promoted to its mode, which somebody wrote into its baseline's file.
	ByHand string `json:"by_hand,omitempty"`
	// Readiness is what was found when somebody asked whether it is ready, which is done for two minutes after a denial.
	Readiness string `json:"readiness,omitempty"`
	// Protected: rules that deny do so here.
	Protected bool   `json:"protected"`
	Budget    int    `json:"budget_left"` // denials in this minute until a dimension is softened
	Hits      uint64 `json:"hits"`        // lookups that found an entry; what an inode remembers as allowed is not looked up
	Learnt    uint64 `json:"learnt"`
	Audited   uint64 `json:"audited"`
	Denied    uint64 `json:"denied"`
}

// List tells every workload, by name.
func (r *registry) List() []WorkloadStatus {
	r.mu.RLock()
	defer r.mu.RUnlock()
	list := make([]WorkloadStatus, 0, len(r.byID))
	for _, m := range r.byID {
		w := WorkloadStatus{
			Name: m.subject.Name, Kind: m.subject.Kind, SPIFFEID: m.subject.SPIFFEID,
			Mode: m.subject.Mode.String(), Cgroups: len(m.cgroups), Executables: m.profile.Count(event.DimExec),
			Entries: m.profile.Len(), Held: names(m.profile.Held() & r.reach(m.subject.Mode) & event.AllDimensions),
			Blind: names(m.profile.Held() &^ r.reach(m.subject.Mode)), Recorded: names(m.profile.Held() & r.covered() &^ event.AllDimensions), Budget: m.budget.left(r.Now(), r.Budget),
			Runs: m.profile.Runs(), Protected: r.isProtected(m), Unfit: names(m.unfit), Full: names(m.profile.Full()), Lacking: m.profile.Lacks().Names(),
			Readiness: m.readinessText(r.Now()),
		}
		if m.subject.Mode == event.Enforce {
			w.Softened = names(m.softened())
		}
		if m.isCommon() {
			w.Baseline, w.Containers = m.name, m.running()
		}
		if m.unreadable != nil {
			w.Unreadable = m.unreadable.Error()
		}
		if m.byHand != nil {
			w.ByHand = m.byHand.Error()
		}
		if r.Enforcer != nil {
			if t, err := r.Enforcer.Tally(m.id); err == nil {
				w.Hits, w.Learnt, w.Audited, w.Denied = t.Hits, t.Learnt, t.Audited, t.Denied
			}
		}
		list = append(list, w)
	}
	slices.SortFunc(list, func(a, b WorkloadStatus) int { return cmp.Compare(a.Name, b.Name) })
	return list
}

// names of a set of dimensions.
func names(dims event.Dimensions) []string {
	list := []string{}
	for d := range event.DimCount {
		if dims.Has(d) {
			list = append(list, d.String())
		}
	}
	return list
}
