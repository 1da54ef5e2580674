package sensor

import (
	"errors"
	"fmt"
	"log/slog"
	"os"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/rlimit"
)

// HierarchyV2 chooses the default (version 2) cgroup hierarchy; any other value of Config.Hierarchy
// is the index of a version 1 controller.
const HierarchyV2 = 0xffffffff

// Config of the kernel side.
type Config struct {
	// RingBytes is the size of the ring buffer, a power of two and a multiple of the page size.
	// Zero means 4 MiB.
	RingBytes int
	// Hierarchy and HierarchyID choose the cgroup hierarchy that names workloads.
	Hierarchy   uint32
	HierarchyID uint32
	// Scoped confines every program to the cgroups in the workload map.
	Scoped bool
	// PerProcess makes uprobes fire in followed processes only, not for everyone who maps the
	// file. Implied by Scoped on a host that is shared.
	PerProcess bool
	// BTF is a file with the kernel's types, for kernels that do not bring them. Empty: the
	// kernel's own.
	BTF string
	Log *slog.Logger
}

// Shared is what all objects have in common. It is safe for concurrent use after NewShared.
type Shared struct {
	Config
	Events    *ebpf.Map // ring buffer
	Lost      *ebpf.Map // per-CPU counters, see bpf/emit.h
	Workloads *ebpf.Map // cgroup id -> workload, see bpf/workload.h
	kernel    *btf.Spec

	uprobeMulti bool
}

const (
	defaultRingBytes = 4 << 20
	lostSlots        = 32
	maxWorkloads     = 16384
)

// NewShared makes the shared maps. It needs CAP_BPF (Linux 5.8, CAP_SYS_ADMIN before) and the
// kernel's BTF (CONFIG_DEBUG_INFO_BTF, or Config.BTF).
func NewShared(cfg Config) (*Shared, error) {
	s := &Shared{Config: cfg}
	if s.RingBytes == 0 {
		s.RingBytes = defaultRingBytes
	}
	if err := s.loadBTF(); err != nil {
		return nil, err
	}
	s.uprobeMulti = haveUprobeMulti(s.kernel)
	// Kernels before 5.11 account maps against the memlock limit.
	if err := rlimit.RemoveMemlock(); err != nil {
		return nil, fmt.Errorf("raise memlock limit: %w", err)
	}
	specs := []struct {
		to   **ebpf.Map
		spec ebpf.MapSpec
	}{
		{&s.Events, ebpf.MapSpec{Name: "events", Type: ebpf.RingBuf, MaxEntries: uint32(s.RingBytes)}},
		{&s.Lost, ebpf.MapSpec{Name: "events_lost", Type: ebpf.PerCPUArray, KeySize: 4, ValueSize: 8, MaxEntries: lostSlots}},
		{&s.Workloads, ebpf.MapSpec{Name: "workloads", Type: ebpf.Hash, KeySize: 8, ValueSize: 16, MaxEntries: maxWorkloads, Flags: 1 /* BPF_F_NO_PREALLOC */}},
	}
	for _, m := range specs {
		made, err := ebpf.NewMap(&m.spec)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("make map %s: %w", m.spec.Name, err), s.Close())
		}
		*m.to = made
	}
	return s, nil
}

func (s *Shared) loadBTF() error {
	if s.BTF != "" {
		spec, err := btf.LoadSpec(s.BTF)
		if err != nil {
			return fmt.Errorf("read BTF file %s: %w", s.BTF, err)
		}
		s.kernel = spec
		return nil
	}
	spec, err := btf.LoadKernelSpec()
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, btf.ErrNotFound) || errors.Is(err, ebpf.ErrNotSupported) {
		return fmt.Errorf("read kernel BTF: %w: the kernel has no /sys/kernel/btf/vmlinux; pass a file with --btf", ErrNotSupported)
	}
	if err != nil {
		return fmt.Errorf("read kernel BTF: %w", err)
	}
	s.kernel = spec
	return nil
}

// Load puts a collection into the kernel: it sets the knobs that every object has, replaces the
// shared maps by ours, and fills to (a bpf2go objects struct).
func (s *Shared) Load(spec *ebpf.CollectionSpec, to any) error {
	knobs := map[string]any{
		"hierarchy":    s.Hierarchy,
		"hierarchy_id": s.HierarchyID,
		"scoped":       s.Scoped,
		"agent_tgid":   uint32(os.Getpid()),
	}
	for name, value := range knobs {
		v, ok := spec.Variables[name]
		if !ok {
			continue
		}
		if err := v.Set(value); err != nil {
			return fmt.Errorf("set knob %s: %w", name, err)
		}
	}
	replace := map[string]*ebpf.Map{}
	for name, m := range map[string]*ebpf.Map{"events": s.Events, "events_lost": s.Lost, "workloads": s.Workloads} {
		if ms, ok := spec.Maps[name]; ok {
			// The object names the sizes it needs; the shared map has the final word on room.
			ms.MaxEntries = m.MaxEntries()
			ms.KeySize, ms.ValueSize = m.KeySize(), m.ValueSize()
			replace[name] = m
		}
	}
	if s.uprobeMulti {
		useUprobeMulti(spec)
	}
	opts := &ebpf.CollectionOptions{
		MapReplacements: replace,
		Programs:        ebpf.ProgramOptions{KernelTypes: s.kernel},
	}
	if err := spec.LoadAndAssign(to, opts); err != nil {
		return fmt.Errorf("load object: %w", err)
	}
	return nil
}

// Close releases the shared maps. Programs that hold them go on until they are closed too.
func (s *Shared) Close() error {
	var errs []error
	for _, m := range []*ebpf.Map{s.Events, s.Lost, s.Workloads} {
		if m != nil {
			errs = append(errs, m.Close())
		}
	}
	return errors.Join(errs...)
}
