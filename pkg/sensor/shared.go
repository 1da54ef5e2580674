package sensor

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"time"
	"unsafe"

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
	// ContainerFlags are those (Container, Protected) of a cgroup that has the name of a container, from its first process
	// on: until it is set, beside what it inherits.
	ContainerFlags uint32
	// PerProcess makes uprobes fire in followed processes only, not for everyone who maps the
	// file. Implied by Scoped on a host that is shared.
	PerProcess bool
	// Poll bounds how long a record that does not wake the reader stays in the ring: those that keep the
	// process table up to date. Zero means 100 ms, and 50 ms with PerProcess, where each process has to be
	// found before it is observed. Each look costs the machine some 0.1 ms.
	Poll time.Duration
	// Types are the kernel's. Nil: its own are read.
	Types *Types
	Log   *slog.Logger
}

// Shared is what all objects have in common. It is safe for concurrent use after NewShared.
type Shared struct {
	Config
	Events    *ebpf.Map // ring buffer
	Lost      *ebpf.Map // per-CPU counters, see bpf/emit.h
	Workloads *ebpf.Map // cgroup id -> workload, see bpf/workload.h
	Expected  *ebpf.Map // path of a cgroup -> workload, see bpf/process.bpf.c

	uprobeMulti, loop bool
}

const (
	defaultRingBytes = 4 << 20
	defaultPoll      = 100 * time.Millisecond
	lostSlots        = 32
	maxWorkloads     = 16384
	maxExpected      = 4096
)

// NewShared makes the shared maps. It needs CAP_BPF (Linux 5.8, CAP_SYS_ADMIN before) and the
// kernel's BTF (CONFIG_DEBUG_INFO_BTF, or Config.BTF).
func NewShared(cfg Config) (*Shared, error) {
	s := &Shared{Config: cfg}
	if s.Poll == 0 {
		s.Poll = defaultPoll
		if s.PerProcess {
			s.Poll /= 2
		}
	}
	if s.RingBytes == 0 {
		s.RingBytes = defaultRingBytes
	}
	var err error
	if s.Types == nil {
		if s.Types, err = ReadTypes(""); err != nil {
			return nil, err
		}
	}
	s.uprobeMulti, s.loop = haveUprobeMulti(s.Types.kernel), haveLoop(s.Types.kernel)
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
		{&s.Workloads, ebpf.MapSpec{Name: "workloads", Type: ebpf.Hash, KeySize: 8, ValueSize: uint32(unsafe.Sizeof(sealedState{})), MaxEntries: maxWorkloads}},
		{&s.Expected, ebpf.MapSpec{Name: "expected", Type: ebpf.LRUHash, KeySize: cgroupPathBytes, ValueSize: uint32(unsafe.Sizeof(sealedState{})), MaxEntries: maxExpected}},
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

// ForgetTypes lets go of the kernel's types, several MiB, once everything is loaded. What is loaded
// after it reads them anew. It must not be called while anything is being loaded.
func (s *Shared) ForgetTypes() { s.Types = &Types{} }

// HasFunction says whether the kernel's types name a function, for example the target of a hook.
func (s *Shared) HasFunction(name string) bool {
	var f *btf.Func
	return s.Types.kernel.TypeByName(name, &f) == nil
}

// ownStart is our start in clock ticks, proc_pid_stat(5) field 22: with the pid it tells us from a later
// process of the same pid.
func ownStart() (uint64, error) {
	const field = 22 - 3 // the first field behind the name, which may hold spaces, is the third
	stat, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		return 0, fmt.Errorf("read own start time: %w", err)
	}
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	if len(fields) <= field {
		return 0, fmt.Errorf("read own start time: %d fields in /proc/self/stat", len(fields))
	}
	start, err := strconv.ParseUint(fields[field], 10, 64)
	if err != nil {
		return 0, fmt.Errorf("read own start time: %w", err)
	}
	return start, nil
}

// Load puts a collection into the kernel and fills to (a bpf2go objects struct).
func (s *Shared) Load(spec *ebpf.CollectionSpec, to any) error {
	opts, err := s.prepare(spec)
	if err != nil {
		return err
	}
	if err := spec.LoadAndAssign(to, opts); err != nil {
		return fmt.Errorf("load object: %w", err)
	}
	return nil
}

// prepare sets the knobs that every object has and replaces the shared maps by ours.
func (s *Shared) prepare(spec *ebpf.CollectionSpec) (*ebpf.CollectionOptions, error) {
	start, err := ownStart()
	if err != nil {
		return nil, err
	}
	knobs := map[string]any{
		"agent_start":     start,
		"hierarchy":       s.Hierarchy,
		"hierarchy_id":    s.HierarchyID,
		"scoped":          s.Scoped,
		"agent_tgid":      uint32(os.Getpid()),
		"can_loop":        s.loop,
		"container_flags": s.ContainerFlags,
	}
	for name, value := range knobs {
		v, ok := spec.Variables[name]
		if !ok {
			continue
		}
		if err := v.Set(value); err != nil {
			return nil, fmt.Errorf("set knob %s: %w", name, err)
		}
	}
	replace := map[string]*ebpf.Map{}
	for name, m := range map[string]*ebpf.Map{"events": s.Events, "events_lost": s.Lost, "workloads": s.Workloads, "expected": s.Expected} {
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
	if !s.loop {
		dropCallbacks(spec)
	}
	return &ebpf.CollectionOptions{
		MapReplacements: replace,
		Cache:           s.Types.cache,
		Programs:        ebpf.ProgramOptions{KernelTypes: s.Types.kernel},
	}, nil
}

// Close releases the shared maps. Programs that hold them go on until they are closed too.
func (s *Shared) Close() error {
	var errs []error
	for _, m := range []*ebpf.Map{s.Events, s.Lost, s.Workloads, s.Expected} {
		if m != nil {
			errs = append(errs, m.Close())
		}
	}
	return errors.Join(errs...)
}
