package agent

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/plumbline-io/plumbline/pkg/alert"
)

// fakeSelf is an agent whose counters and clock are set by hand; told is what it says, as "RULE REASON SEVERITY".
type fakeSelf struct {
	selfWatch
	now    time.Time
	events uint64
	lost   map[string]uint64
	state  clockState
	told   []string
	last   notice
}

func newFakeSelf() *fakeSelf {
	f := &fakeSelf{now: time.Unix(1e9, 0), lost: map[string]uint64{}}
	f.selfWatch = selfWatch{
		limit: 100 * time.Millisecond,
		losses: func() (uint64, map[string]uint64, error) {
			copied := map[string]uint64{}
			for reason, n := range f.lost {
				copied[reason] = n
			}
			return f.events, copied, nil
		},
		clock: func() (clockState, error) { return f.state, nil },
		tell: func(n notice) {
			f.last = n
			f.told = append(f.told, fmt.Sprintf("%s %s %s", n.rule, n.reason, n.severity))
		},
	}
	return f
}

// minutes pass, in each of which so many events arrive and are lost.
func (f *fakeSelf) minutes(t *testing.T, n int, arrive, lost uint64) {
	t.Helper()
	for range n {
		f.now = f.now.Add(time.Minute)
		f.events += arrive
		f.lost["ring_full_exec"] += lost
		if err := f.look(f.now); err != nil {
			t.Fatal(err)
		}
	}
}

// Losses are told once when they begin, with the numbers, and once when they have been over for a while.
func TestLossesAreTold(t *testing.T) {
	f := newFakeSelf()
	f.minutes(t, 3, 10_000, 0)
	f.minutes(t, 3, 9_990, 10) // just a thousandth
	if len(f.told) != 0 {
		t.Fatalf("told %q", f.told)
	}
	f.minutes(t, 1, 9_989, 11)
	if want := []string{"Events lost lost Warning"}; !slices.Equal(f.told, want) {
		t.Fatalf("told %q", f.told)
	}
	if want := "Events were lost in the last minute, and no rule was asked about them (lost=11 arrived=9989 percent=0.11 by=ring_full_exec=11)"; f.last.text != want ||
		f.last.fields["plumbline.events_lost"] != uint64(11) || f.last.fields["plumbline.events_arrived"] != uint64(9_989) {
		t.Errorf("%q %v", f.last.text, f.last.fields)
	}
	f.minutes(t, 30, 100, 100)
	for range 4 { // in waves
		f.minutes(t, 4, 1000, 0)
		f.minutes(t, 1, 0, 1)
	}
	if len(f.told) != 1 {
		t.Fatalf("told again: %q", f.told)
	}
	f.minutes(t, 5, 1000, 0)
	if len(f.told) != 1 {
		t.Fatalf("over too early: %q", f.told)
	}
	f.minutes(t, 30, 1000, 0)
	if want := []string{"Events lost lost Warning", "Events lost over Notice"}; !slices.Equal(f.told, want) {
		t.Fatalf("told %q", f.told)
	}
	f.minutes(t, 1, 0, 1)
	if len(f.told) != 3 || f.last.fields["plumbline.events_lost"] != uint64(1) {
		t.Errorf("told %q, %v", f.told, f.last.fields)
	}
}

// So is the clock, whether it is not synchronised or too wrong; not while it is set after the start.
func TestClockIsTold(t *testing.T) {
	for name, wrong := range map[string]clockState{
		"not synchronised": {unsynchronised: true},
		"too wrong":        {wrongBy: 100*time.Millisecond + time.Microsecond},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFakeSelf()
			right := clockState{wrongBy: 100 * time.Millisecond}
			f.state = wrong
			f.minutes(t, 5, 1, 0)
			f.state = right
			f.minutes(t, 1, 1, 0)
			f.state = wrong
			f.minutes(t, 5, 1, 0)
			if len(f.told) != 0 {
				t.Fatalf("told %q", f.told)
			}
			f.minutes(t, 60, 1, 0)
			if want := []string{"Clock not synchronised wrong Warning"}; !slices.Equal(f.told, want) {
				t.Fatalf("told %q", f.told)
			}
			if f.last.fields["plumbline.clock_error_us"] != wrong.wrongBy.Microseconds() || f.last.fields["plumbline.clock_synchronised"] != !wrong.unsynchronised {
				t.Errorf("%v", f.last.fields)
			}
			f.state = right
			f.minutes(t, 60, 1, 0)
			if len(f.told) != 2 || f.last.severity != alert.Notice || f.last.reason != "right" {
				t.Errorf("told %q", f.told)
			}
		})
	}
}

// Who may not ask about the clock, or does not want to, is not told of it each minute.
func TestClockIsNotAsked(t *testing.T) {
	f := newFakeSelf()
	asked := 0
	f.clock = func() (clockState, error) { asked++; return clockState{}, errors.New("not permitted") }
	f.now = f.now.Add(time.Minute)
	if err := f.look(f.now); err == nil {
		t.Error("no error")
	}
	f.minutes(t, 10, 1, 0)
	f.limit, f.blind = 0, false
	f.minutes(t, 10, 1, 0)
	if asked != 1 || len(f.told) != 0 {
		t.Errorf("asked %d times, told %q", asked, f.told)
	}
}

// The kernel's own answer: a machine has a clock, and anybody may ask about it.
func TestReadClock(t *testing.T) {
	c, err := readClock()
	if err != nil {
		t.Fatal(err)
	}
	if c.wrongBy < 0 || c.wrongBy > time.Minute {
		t.Errorf("%+v", c)
	}
}
