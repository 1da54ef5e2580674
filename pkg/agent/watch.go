package agent

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/plumbline-io/plumbline/pkg/alert"
)

// Names of the alerts about what keeps the agent from seeing, and from telling when.
const (
	LossRule  = "Events lost"
	ClockRule = "Clock not synchronised"
)

const (
	// watchEvery is the time between two looks: losses are of what happened in it.
	watchEvery = time.Minute
	// A thousandth of the events may be lost without an alert: one in lossFraction.
	lossFraction = 1000
	// steadyFor is how long a state has to last before it is told: a clock takes minutes to be set after the start of a
	// machine, and losses come in waves.
	steadyFor = 5 * time.Minute
)

// steady is a state that is told when it changes, once it has lasted.
type steady struct {
	is    bool
	since time.Time // it has been the other one; zero: it has not
}

// note takes down what is found, and says whether that is another state than was told last.
func (s *steady) note(now time.Time, found bool, lasts time.Duration) (changed bool) {
	if found == s.is {
		s.since = time.Time{}
		return false
	}
	if s.since.IsZero() {
		s.since = now
	}
	if now.Sub(s.since) < lasts-watchEvery/2 { // looks are not a minute apart to the nanosecond
		return false
	}
	s.is, s.since = found, time.Time{}
	return true
}

// lossWatch compares what was lost with what arrived.
type lossWatch struct {
	state  steady
	events uint64
	lost   map[string]uint64
}

// minute is what happened since the last look.
type minute struct {
	events uint64 // that arrived
	lost   map[string]uint64
	sum    uint64
}

// look says what happened since the last one, and whether that is another state. Losses are told at once.
func (w *lossWatch) look(now time.Time, events uint64, lost map[string]uint64) (m minute, changed bool) {
	m = minute{events: events - w.events, lost: map[string]uint64{}}
	for reason, n := range lost {
		if n -= w.lost[reason]; n > 0 {
			m.lost[reason] = n
			m.sum += n
		}
	}
	w.events, w.lost = events, lost
	losing, lasts := m.sum*lossFraction > m.sum+m.events, time.Duration(0)
	if !losing {
		lasts = steadyFor
	}
	return m, w.state.note(now, losing, lasts)
}

func (m minute) String() string {
	var reasons []string
	for _, reason := range slices.Sorted(maps.Keys(m.lost)) {
		reasons = append(reasons, fmt.Sprintf("%s=%d", reason, m.lost[reason]))
	}
	percent := 100 * float64(m.sum) / float64(max(m.sum+m.events, 1))
	return fmt.Sprintf("lost=%d arrived=%d percent=%.2f by=%s", m.sum, m.events, percent, cmp.Or(strings.Join(reasons, ","), "nothing"))
}

// lostEvents are those that never reached the rules: the ring buffer was full, or they could not be read.
func (a *Agent) lostEvents() (events uint64, lost map[string]uint64, err error) {
	lost, err = a.kernel.shared.LossCounters()
	if err != nil {
		return 0, nil, err
	}
	maps.DeleteFunc(lost, func(reason string, _ uint64) bool { return !strings.HasPrefix(reason, "ring_full_") })
	lost["undecoded"] = a.undecoded.Load()
	for i := range a.events {
		events += a.events[i].Load()
	}
	return events, lost, nil
}

func lossNotice(m minute, losing bool) notice {
	n := notice{
		rule: LossRule, tag: "loss", family: "tamper", severity: alert.Warning, reason: "lost",
		text:   fmt.Sprintf("Events were lost in the last minute, and no rule was asked about them (%s)", m),
		fields: map[string]any{"plumbline.events_lost": m.sum, "plumbline.events_arrived": m.events},
	}
	if !losing {
		n.severity, n.reason = alert.Notice, "over"
		n.text = fmt.Sprintf("Events are lost no more, or few (%s)", m)
	}
	return n
}

// clockState is what the kernel says of its clock.
type clockState struct {
	unsynchronised bool
	wrongBy        time.Duration // as it estimates
}

func readClock() (clockState, error) {
	var t unix.Timex
	if _, err := unix.Adjtimex(&t); err != nil {
		return clockState{}, fmt.Errorf("ask about the clock: %w", err)
	}
	return clockState{t.Status&unix.STA_UNSYNC != 0, time.Duration(t.Esterror) * time.Microsecond}, nil
}

// wrong says whether times are not to be relied on. limit is of what may be wrong.
func (c clockState) wrong(limit time.Duration) bool { return c.unsynchronised || c.wrongBy > limit }

func clockNotice(c clockState, limit time.Duration) notice {
	n := notice{
		rule: ClockRule, tag: "clock", family: "tamper", severity: alert.Warning, reason: "wrong",
		text:   fmt.Sprintf("The clock is not synchronised: times of alerts are those of this machine alone (synchronised=%t error=%s limit=%s)", !c.unsynchronised, c.wrongBy, limit),
		fields: map[string]any{"plumbline.clock_synchronised": !c.unsynchronised, "plumbline.clock_error_us": c.wrongBy.Microseconds()},
	}
	if !c.wrong(limit) {
		n.severity, n.reason = alert.Notice, "right"
		n.text = fmt.Sprintf("The clock is synchronised (error=%s limit=%s)", c.wrongBy, limit)
	}
	return n
}

// watchItself tells of lost events and of the clock until ctx ends.
func (a *Agent) watchItself(ctx context.Context) error {
	ticker := time.NewTicker(watchEvery)
	defer ticker.Stop()
	w := selfWatch{limit: a.cfg.clockError(), losses: a.lostEvents, clock: readClock, tell: a.tell}
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-ticker.C:
			if err := w.look(now); err != nil {
				a.cfg.Log.Error("look at the agent's own state", "error", err)
			}
		}
	}
}

// selfWatch is what watchItself knows.
type selfWatch struct {
	limit  time.Duration // of the clock's error; 0: it is not asked about
	losses func() (events uint64, lost map[string]uint64, err error)
	clock  func() (clockState, error)
	tell   func(notice)

	loss  lossWatch
	wrong steady
	blind bool // the clock's state is not known
}

func (w *selfWatch) look(now time.Time) error {
	events, lost, err := w.losses()
	if err != nil {
		return err
	}
	if m, changed := w.loss.look(now, events, lost); changed {
		w.tell(lossNotice(m, w.loss.state.is))
	}
	if w.limit == 0 || w.blind {
		return nil
	}
	c, err := w.clock()
	if err != nil {
		w.blind = true // it would be so each minute
		return err
	}
	if w.wrong.note(now, c.wrong(w.limit), steadyFor) {
		w.tell(clockNotice(c, w.limit))
	}
	return nil
}

func (c *Config) checkClock() error {
	if d, err := time.ParseDuration(c.ClockError); err != nil || d < 0 {
		return fmt.Errorf("check clock_error: %q is no time such as 100ms, and not 0", c.ClockError)
	}
	return nil
}

// clockError is that of the configuration; it has been checked. 0: nobody asks.
func (c *Config) clockError() time.Duration {
	d, _ := time.ParseDuration(c.ClockError)
	return d
}
