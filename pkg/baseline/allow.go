package baseline

import (
	"errors"
	"fmt"
	"time"

	"github.com/plumbline-io/plumbline/pkg/event"
)

// ErrNotHeld means that a profile does not speak about a dimension: all is allowed there already.
var ErrNotHeld = errors.New("dimension is not held")

// Allow adds a key because somebody decided so: whatever the mode, and patterns too. False: it was allowed
// already.
func (p *Profile) Allow(k event.Key, at time.Time) (added bool, err error) {
	d := k.Op.Dimension()
	if err := check(k); err != nil {
		return false, fmt.Errorf("allow in baseline of %q: %s: %w", p.workload, d, err)
	}
	if !p.held.Has(d) {
		return false, fmt.Errorf("allow %s in baseline of %q: %w: %s", k, p.workload, ErrNotHeld, d)
	}
	if _, e := p.find(k); e != nil {
		return false, nil
	}
	if !p.insert(k, entry{first: secondOf(at), last: secondOf(at)}) {
		return false, fmt.Errorf("allow %s in baseline of %q: it is full: %d entries or %d bytes", k, p.workload, MaxEntries, MaxBytes)
	}
	p.settle()
	return true, nil
}

// CountAtLeast takes over how often the kernel has counted a key, if it counted more than was observed.
func (p *Profile) CountAtLeast(k event.Key, n uint64) {
	if _, e := p.find(k); e != nil {
		e.count = max(e.count, n)
	}
}
