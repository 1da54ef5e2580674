package workload

import (
	"errors"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestClock(t *testing.T) {
	c, err := NewClock()
	if err != nil {
		t.Fatal(err)
	}
	var mono unix.Timespec
	before := time.Now()
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &mono); err != nil {
		t.Fatal(err)
	}
	if off := c.Wall(uint64(mono.Nano())).Sub(before); off < -time.Second || off > time.Second {
		t.Errorf("%s off", off)
	}
	if d := c.Wall(5e9).Sub(c.Wall(2e9)); d != 3*time.Second {
		t.Errorf("3 s between two stamps became %s", d)
	}
}

func TestZeroClock(t *testing.T) {
	if got := (Clock{}).Wall(5e9).Unix(); got != 5 {
		t.Errorf("got %d", got)
	}
}

// A step of the wall clock shows after ten seconds, and one measurement serves until then.
func TestClockFollows(t *testing.T) {
	const second = int64(time.Second)
	mono, boot, calls := 100*second, 1000*second, 0
	var failure error
	c, err := newClock(func() (int64, int64, error) {
		calls++
		return mono, boot, failure
	})
	if err != nil {
		t.Fatal(err)
	}
	check := func(at, want int64, wantCalls int) {
		t.Helper()
		if got := c.Wall(uint64(at * second)).Unix(); got != want || calls != wantCalls {
			t.Errorf("stamp %d s: %d after %d measurements, want %d after %d", at, got, calls, want, wantCalls)
		}
	}
	boot = 5000 * second
	check(109, 1109, 1)
	mono = 110 * second
	check(110, 5110, 2)
	check(90, 5090, 2)
	check(119, 5119, 2)
	failure = errors.New("no clock")
	check(120, 5120, 3)
	if _, err := newClock(func() (int64, int64, error) { return 0, 0, failure }); !errors.Is(err, failure) {
		t.Errorf("got %v", err)
	}
}

func BenchmarkWall(b *testing.B) {
	c, err := NewClock()
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		c.Wall(1)
	}
}
