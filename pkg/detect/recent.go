package detect

import (
	"slices"
	"strings"
	"time"

	"github.com/plumbline-io/plumbline/pkg/event"
)

// maxRecent bounds the memory of what was told already. Beyond it the oldest half is forgotten, which
// tells something twice rather than never.
const maxRecent = 8192

// topic is what makes alerts equal: the parts of their fingerprint.
type topic struct {
	rule, workload, about string
	verdict               event.Verdict
}

// telling is when an alert was told, and how often it was not told since.
type telling struct {
	at     uint64 // ktime
	missed int64
}

// recent is what was told already.
type recent map[topic]*telling

// tell says whether an alert is to be told, and how many equal ones were not since the last. One that
// is not told costs no allocation: they come in floods.
func (r recent) tell(p topic, ktime uint64, window time.Duration) (missed int64, tell bool) {
	if window <= 0 {
		return 0, true
	}
	t := r[p]
	if t == nil {
		if len(r) >= maxRecent {
			r.forget()
		}
		p.workload, p.about = strings.Clone(p.workload), strings.Clone(p.about)
		r[p] = &telling{at: ktime}
		return 0, true
	}
	// Events of two processors may come in the wrong order.
	if max(ktime, t.at)-min(ktime, t.at) < uint64(window) {
		t.missed++
		return 0, false
	}
	missed = t.missed
	*t = telling{at: ktime}
	return missed, true
}

// forget drops the older half.
func (r recent) forget() {
	times := make([]uint64, 0, len(r))
	for _, t := range r {
		times = append(times, t.at)
	}
	slices.Sort(times)
	middle := times[len(times)/2]
	for p, t := range r {
		if t.at <= middle {
			delete(r, p)
		}
	}
}
