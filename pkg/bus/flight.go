package bus

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/plumbline-io/plumbline/pkg/alert"
)

// flightKey names an alert of this node.
type flightKey struct {
	epoch string
	seq   uint64
}

type flight struct {
	id      alert.ID
	sent    time.Time
	kept    bool      // JetStream has it
	asked   time.Time // when the control plane was last asked for it
	retryAt time.Time // not zero: JetStream refused it; goes back to the spool then
}

// flights are the alerts between the spool and the store. Safe for concurrent use.
type flights struct {
	slots chan struct{} // capacity is the most that may be on their way
	idle  chan struct{} // signalled when none is left; capacity 1

	mu  sync.Mutex
	all map[flightKey]*flight
}

func newFlights(limit int) *flights {
	return &flights{
		slots: make(chan struct{}, limit), idle: make(chan struct{}, 1),
		all: make(map[flightKey]*flight),
	}
}

// reserve waits for a slot.
func (f *flights) reserve(ctx context.Context) error {
	select {
	case f.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (f *flights) release() { <-f.slots }

// start takes the slot that the caller reserved.
func (f *flights) start(id alert.ID, now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.all[flightKey{id.Epoch, id.Seq}] = &flight{id: id, sent: now}
}

func (f *flights) get(k flightKey, do func(*flight)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if fl, ok := f.all[k]; ok {
		do(fl)
	}
}

// land takes flights out for which pick is true, and returns them in order.
func (f *flights) land(pick func(flightKey, *flight) bool) []alert.ID {
	f.mu.Lock()
	defer f.mu.Unlock()
	var ids []alert.ID
	for k, fl := range f.all {
		if pick(k, fl) {
			delete(f.all, k)
			ids = append(ids, fl.id)
		}
	}
	for range ids {
		<-f.slots
	}
	if len(f.all) == 0 {
		select {
		case f.idle <- struct{}{}:
		default:
		}
	}
	slices.SortFunc(ids, func(a, b alert.ID) int { return cmp.Compare(a.Seq, b.Seq) })
	return ids
}

// landRange is land for the sequence numbers of one confirmation.
func (f *flights) landRanges(s stored) []alert.ID {
	return f.land(func(k flightKey, _ *flight) bool {
		return k.epoch == s.Epoch && slices.ContainsFunc(s.Seqs, func(r [2]uint64) bool { return r[0] <= k.seq && k.seq <= r[1] })
	})
}

// unconfirmed returns, by epoch, what JetStream has kept since before the given time and nobody has
// confirmed, at most limit, and notes that it is asked for now.
func (f *flights) unconfirmed(before, now time.Time, limit int) map[string][][2]uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	seqs := make(map[string][]uint64)
	for k, fl := range f.all {
		if limit > 0 && fl.kept && fl.sent.Before(before) && fl.asked.Before(before) {
			seqs[k.epoch] = append(seqs[k.epoch], k.seq)
			fl.asked = now
			limit--
		}
	}
	ranges := make(map[string][][2]uint64)
	for epoch, list := range seqs {
		slices.Sort(list)
		for _, seq := range list {
			ranges[epoch] = addSeq(ranges[epoch], seq)
		}
	}
	return ranges
}

func (f *flights) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.all)
}
