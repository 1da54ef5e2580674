package agent

import (
	"testing"
	"time"
)

// Also where no process is left to be visited.
func TestMemoryIsGivenBackSoon(t *testing.T) {
	f := &follower{parsed: true, freed: time.Now()}
	if next := f.nextDue(nil); next > giveBackEvery {
		t.Errorf("in %s, want %s", next, giveBackEvery)
	}
	f.freed = f.freed.Add(-giveBackEvery)
	if f.giveBack(); f.parsed {
		t.Error("nothing is given back")
	}
	if next := f.nextDue(nil); next != followForever {
		t.Errorf("in %s, with nothing to give back", next)
	}
}
