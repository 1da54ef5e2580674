package enforce

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
)

// grace waits for the kernel's grace periods: a program may be preempted between reading which generation is in
// force and looking into its entries, and must not find them gone.
//
// When user space changes a map of maps, the kernel itself waits until no program runs that may use the old map
// (kernel/bpf/syscall.c, maybe_wait_bpf_programs, Linux 5.0). membarrier(2) does not wait on machines with one CPU.
type grace struct{ outer, inner *ebpf.Map }

func newGrace() (*grace, error) {
	inner := &ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 4, MaxEntries: 1}
	g := &grace{}
	var err error
	if g.inner, err = ebpf.NewMap(inner); err != nil {
		return nil, fmt.Errorf("make map to wait by: %w", err)
	}
	g.outer, err = ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.ArrayOfMaps, KeySize: 4, ValueSize: 4, MaxEntries: 1, InnerMap: inner})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("make map to wait by: %w", err), g.inner.Close())
	}
	return g, nil
}

// Wait returns when every program that ran at its beginning has ended.
func (g *grace) Wait() error {
	if err := g.outer.Put(uint32(0), g.inner); err != nil {
		return fmt.Errorf("wait for running programs: %w", err)
	}
	return nil
}

func (g *grace) Close() error { return errors.Join(g.outer.Close(), g.inner.Close()) }
