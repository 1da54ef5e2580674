package sensor

import (
	"fmt"

	"github.com/plumbline-io/plumbline/pkg/event"
)

// faults names the slots of events_lost above the event kinds: enum fault of bpf/emit.h.
func faults() map[uint32]string {
	return map[uint32]string{
		16: "path_too_long",
		17: "read_failed",
		18: "map_full",
		19: "in_flight_full",
		20: "preempted",
		21: "workload_changed",
	}
}

// LossCounters sums the per-CPU counters: what the kernel side could not deliver or do, by reason.
// All reasons are present, also those at zero.
func (s *Shared) LossCounters() (map[string]uint64, error) {
	names := faults()
	for k := event.Fork; k < event.KindCount; k++ {
		names[uint32(k)] = "ring_full_" + k.String()
	}
	counters := make(map[string]uint64, len(names))
	var perCPU []uint64
	for slot, name := range names {
		if err := s.Lost.Lookup(slot, &perCPU); err != nil {
			return nil, fmt.Errorf("read loss counter %s: %w", name, err)
		}
		for _, n := range perCPU {
			counters[name] += n
		}
	}
	return counters, nil
}
