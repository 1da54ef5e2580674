package enforce_test

import (
	"fmt"
	"testing"

	"github.com/plumbline-io/plumbline/pkg/enforce"
	"github.com/plumbline-io/plumbline/pkg/event"
	"github.com/plumbline-io/plumbline/pkg/sensor/sensortest"
)

// largest is the largest profile that is promised to be applied fast.
const largest = 10_000

func largeProfile() []event.Key {
	keys := make([]event.Key, largest)
	for i := range keys {
		keys[i] = event.Key{Op: event.OpRead, Path: fmt.Sprintf("/usr/share/service/part-%d/file-%d", i%97, i)}
	}
	return keys
}

// What is more than one system call reads must neither be missed nor be told twice, and other workloads'
// entries stay.
func TestLargeProfile(t *testing.T) {
	scope := sensortest.NewScope(t)
	e, err := enforce.Open(scope.Shared, enforce.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	keys, other := largeProfile(), scope.Workload+1
	for _, w := range []uint32{scope.Workload, other} {
		if err := e.Replace(w, 1, keys); err != nil {
			t.Fatal(err)
		}
	}
	if err := e.Replace(scope.Workload, 2, keys[:1]); err != nil {
		t.Fatal(err)
	}
	count := func(workload, generation uint32, want int) {
		t.Helper()
		entries, err := e.Entries(workload, generation)
		if err != nil {
			t.Fatal(err)
		}
		seen := map[event.Key]bool{}
		for _, entry := range entries {
			seen[entry.Key] = true
		}
		if len(entries) != want || len(seen) != want {
			t.Errorf("workload %d, generation %d: %d entries, %d different ones, want %d", workload, generation, len(entries), len(seen), want)
		}
	}
	count(scope.Workload, 1, largest)
	if err := e.Remove(scope.Workload, 2); err != nil {
		t.Fatal(err)
	}
	count(scope.Workload, 1, 0)
	count(scope.Workload, 2, 1)
	count(other, 1, largest)
}

// A large profile gets into force beside the one before, which is then removed.
func BenchmarkApply(b *testing.B) {
	scope := sensortest.NewScope(b)
	e, err := enforce.Open(scope.Shared, enforce.Config{})
	if err != nil {
		b.Fatal(err)
	}
	defer e.Close()
	keys := largeProfile()
	b.ReportAllocs()
	generation := uint32(1)
	for b.Loop() {
		generation++
		if err := e.Replace(scope.Workload, generation, keys); err != nil {
			b.Fatal(err)
		}
		scope.Set(b, event.AuditMode, generation)
		if err := e.Remove(scope.Workload, generation); err != nil {
			b.Fatal(err)
		}
	}
}
