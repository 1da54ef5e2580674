package enforce

import "testing"

// Generations are counted as far as the kernel's word has room, and none comes twice.
func TestGenerations(t *testing.T) {
	for now, want := range map[uint32]uint32{0: 1, 1: 2, maxGeneration - 1: maxGeneration} {
		if next, err := nextGeneration(now); err != nil || next != want {
			t.Errorf("after %d: %d, %v", now, next, err)
		}
	}
	if next, err := nextGeneration(maxGeneration); err == nil {
		t.Errorf("after the last: %d", next)
	}
	if maxGeneration != 1<<24-1 {
		t.Errorf("%d generations", maxGeneration)
	}
}
