package baseline

import "github.com/plumbline-io/plumbline/pkg/event"

// Result of a verification.
type Result uint8

// The results, for CI.
const (
	Same Result = iota
	NewBehaviour
	CoverageTooSmall
)

// Report is what a verification found.
type Report struct {
	Result  Result
	New     []event.Key      // that the baseline does not allow, sorted
	Runs    int              // that the baseline has seen
	MinRuns int              // that it should have seen
	Partial int              // entries of the baseline that only processes made whose start was not observed
	Unseen  event.Dimensions // that the baseline holds, and that were not looked at now
}

// Verify compares what was seen now with a baseline. What is new is news however little the baseline
// has seen; that nothing is new says little if the baseline is partial or has seen too few runs, or if
// now less was looked at.
func Verify(against, seen *Profile, minRuns int) Report {
	r := Report{
		New: against.unknown(seen), Runs: against.runs, MinRuns: minRuns, Partial: against.Partial(),
		Unseen: against.held &^ seen.held,
	}
	switch {
	case len(r.New) > 0:
		r.Result = NewBehaviour
	case r.Runs < minRuns || r.Partial > 0 || r.Unseen != 0:
		r.Result = CoverageTooSmall
	}
	return r
}
