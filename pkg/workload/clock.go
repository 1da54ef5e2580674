package workload

import (
	"fmt"
	"math"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// measureEvery is how often the clocks are compared, in event time.
const measureEvery = 10 * time.Second

// Clock turns the kernel's monotonic time stamps into wall-clock time. It is safe for concurrent use;
// copies share their state. The zero Clock takes stamps as Unix time.
type Clock struct{ state *clockState }

type clockState struct {
	measure func() (mono, boot int64, err error)
	boot    atomic.Int64  // wall-clock time of monotonic zero, Unix nanoseconds
	due     atomic.Uint64 // stamps from here on ask for a new measurement
}

// NewClock compares the clocks.
func NewClock() (Clock, error) { return newClock(measureClocks) }

func newClock(measure func() (mono, boot int64, err error)) (Clock, error) {
	c := Clock{&clockState{measure: measure}}
	return c, c.compare()
}

// Wall is the time of a CLOCK_MONOTONIC stamp in nanoseconds. The clocks are compared again every ten
// seconds: the agent starts before a machine's clock is set, and the monotonic clock stands still
// while the machine sleeps.
func (c Clock) Wall(ktime uint64) time.Time {
	if c.state == nil {
		return time.Unix(0, int64(ktime))
	}
	if ktime >= c.state.due.Load() {
		_ = c.compare() // it worked before; the last difference stays
	}
	return time.Unix(0, c.state.boot.Load()+int64(ktime))
}

func (c Clock) compare() error {
	mono, boot, err := c.state.measure()
	if err != nil {
		return fmt.Errorf("compare clocks: %w", err)
	}
	c.state.boot.Store(boot)
	c.state.due.Store(uint64(mono) + uint64(measureEvery))
	return nil
}

// measureClocks takes the closest of three pairs of readings: we may lose the processor between two.
func measureClocks() (mono, boot int64, err error) {
	closest := int64(math.MaxInt64)
	for range 3 {
		var before, after unix.Timespec
		if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &before); err != nil {
			return 0, 0, err
		}
		wall := time.Now().UnixNano()
		if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &after); err != nil {
			return 0, 0, err
		}
		if gap := after.Nano() - before.Nano(); gap < closest {
			closest, mono = gap, before.Nano()+gap/2
			boot = wall - mono
		}
	}
	return mono, boot, nil
}
