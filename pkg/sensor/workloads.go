package sensor

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cilium/ebpf"

	"github.com/plumbline-io/plumbline/pkg/event"
)

// WorkloadState is struct workload of bpf/workload.h: what the kernel knows of a cgroup.
type WorkloadState struct {
	ID         uint32 // > 0
	Mode       uint32
	Generation uint32
	Flags      uint32
	Held       uint32 // event.Dimensions that Mode is about
	Softened   uint32 // those of them that are enforced as audit: not all is known; from AddedShift on event.Additions
}

// AddedShift is where in Softened the bits ADDED_* of bpf/operation.h begin.
const AddedShift = 16

// Flags of a WorkloadState.
const (
	Inherited = 1 // by the kernel, in a cgroup that user space has not named yet
	Container = 2 // it may not touch the agent, whatever its mode is
	Protected = 4 // rules that deny do so here
	Own       = 8 // the agent's own: it may, though it is a container
)

// sealedState is struct sealed_workload, which says why there is a seal.
type sealedState struct {
	WorkloadState
	Seal uint64
}

// sealing is SEAL of bpf/workload.h.
const sealing uint64 = 0xd1342543de82ef95

// sealed is the state as the kernel's maps hold it for a cgroup, by its id or by the sum of its path.
func (s WorkloadState) sealed(whose uint64) sealedState {
	seal := uint64(0)
	for _, word := range [][2]uint32{{s.Held, s.Softened}, {s.Generation, s.Flags}, {s.ID, s.Mode}} {
		seal = (seal + uint64(word[1])<<32 + uint64(word[0])) * sealing
	}
	return sealedState{s, seal + whose}
}

// SetWorkload puts a cgroup in scope.
func (s *Shared) SetWorkload(cgroupID uint64, state WorkloadState) error {
	if err := s.Workloads.Put(cgroupID, state.sealed(cgroupID)); err != nil {
		return fmt.Errorf("write workload of cgroup %d: %w", cgroupID, err)
	}
	return nil
}

// scanned is how many entries one system call reads.
const scanned = 1024

// RenewWorkloads writes states, by workload, for all of their cgroups, also those that the kernel has put into a workload itself
// and user space has not read of yet: these stay marked. It needs Linux 5.6.
func (s *Shared) RenewWorkloads(states map[uint32]WorkloadState) error {
	renewed := map[uint64]WorkloadState{}
	cgroups, old := make([]uint64, scanned), make([]sealedState, scanned)
	for cursor := new(ebpf.MapBatchCursor); ; {
		n, err := s.Workloads.BatchLookup(cursor, cgroups, old, nil)
		for i := range n {
			state, ok := states[old[i].ID]
			if state.Flags |= old[i].Flags & (Inherited | Container); ok && state != old[i].WorkloadState {
				renewed[cgroups[i]] = state
			}
		}
		if errors.Is(err, ebpf.ErrKeyNotExist) {
			break // that was all
		}
		if err != nil {
			return fmt.Errorf("read workloads of cgroups: %w", err)
		}
	}
	for cgroup, state := range renewed {
		// One that was removed meanwhile must not come back.
		if err := s.Workloads.Update(cgroup, state.sealed(cgroup), ebpf.UpdateExist); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return fmt.Errorf("write workload of cgroup %d: %w", cgroup, err)
		}
	}
	return nil
}

// cgroupPathBytes is the size of struct cgroup_path of bpf/process.bpf.c.
const cgroupPathBytes = 256

// pathSum is sum_of of bpf/process.bpf.c.
func pathSum(path [cgroupPathBytes]byte) (sum uint64) {
	for at := 0; at < len(path); at += 8 {
		sum = sum*sealing + binary.LittleEndian.Uint64(path[at:])
	}
	return sum
}

// ExpectWorkload says what a cgroup will be that is made at this path of the hierarchy, from its first
// process on. The least recently used are forgotten when there are too many; such a cgroup, and one whose
// path is too long, begins in its parent's workload.
func (s *Shared) ExpectWorkload(path string, state WorkloadState) error {
	var key [cgroupPathBytes]byte
	if copy(key[:cgroupPathBytes-1], path) < len(path) {
		return nil
	}
	if err := s.Expected.Put(key, state.sealed(pathSum(key))); err != nil {
		return fmt.Errorf("write workload of cgroup %s: %w", path, err)
	}
	return nil
}

// Workload reads a cgroup's state; false if it is not in scope.
func (s *Shared) Workload(cgroupID uint64) (WorkloadState, bool) {
	var found sealedState
	if err := s.Workloads.Lookup(cgroupID, &found); err != nil || found != found.sealed(cgroupID) {
		return WorkloadState{}, false
	}
	return found.WorkloadState, true
}

// RemoveWorkload takes a cgroup out of scope. One that is not there is no error.
func (s *Shared) RemoveWorkload(cgroupID uint64) error {
	if err := s.Workloads.Delete(cgroupID); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return fmt.Errorf("remove workload of cgroup %d: %w", cgroupID, err)
	}
	return nil
}

// State is a WorkloadState for a mode that is about the dimensions in held.
func State(id uint32, mode event.Mode, generation uint32, held event.Dimensions) WorkloadState {
	return WorkloadState{ID: id, Mode: uint32(mode), Generation: generation, Held: uint32(held)}
}
