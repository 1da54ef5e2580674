package sensor

import "github.com/cilium/ebpf"

// sweepAfter is how many processes end before maps are looked through for what they left: that takes as long as for
// one, and most of them never had a call in flight.
const sweepAfter = 1024

// Ended gathers processes that have ended, and may have left calls in flight in the kernel's maps. The zero value is
// none. It has one goroutine.
type Ended struct{ pids map[uint32]struct{} }

// Add takes a process, and says whether it is time to Sweep.
func (e *Ended) Add(pid uint32) bool {
	if e.pids == nil {
		e.pids = map[uint32]struct{}{}
	}
	e.pids[pid] = struct{}{}
	return len(e.pids) >= sweepAfter
}

// Sweep removes from a map what belongs to a process of e. Errors mean that the entry is gone already.
func Sweep[K any](e *Ended, m *ebpf.Map, owner func(K) uint32) {
	var (
		key   K
		stale []K
		value = make([]byte, m.ValueSize()) // not worth reading
	)
	for entries := m.Iterate(); entries.Next(&key, &value); {
		if _, ended := e.pids[owner(key)]; ended {
			stale = append(stale, key)
		}
	}
	for _, k := range stale {
		_ = m.Delete(k)
	}
}

// Clear forgets the processes: all maps were swept.
func (e *Ended) Clear() { clear(e.pids) }
