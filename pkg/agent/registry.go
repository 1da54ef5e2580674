package agent

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/plumbline-io/plumbline/pkg/baseline"
	"github.com/plumbline-io/plumbline/pkg/detect"
	"github.com/plumbline-io/plumbline/pkg/enforce"
	"github.com/plumbline-io/plumbline/pkg/event"
	"github.com/plumbline-io/plumbline/pkg/sensor"
	"github.com/plumbline-io/plumbline/pkg/workload"
)

// kernel is what the registry needs of the kernel side.
type kernel interface {
	SetWorkload(cgroupID uint64, state sensor.WorkloadState) error
	RemoveWorkload(cgroupID uint64) error
	ExpectWorkload(path string, state sensor.WorkloadState) error
	RenewWorkloads(states map[uint32]sensor.WorkloadState) error
}

// enforcer is what the registry needs of pkg/enforce. Nil where the kernel has no means at all.
type enforcer interface {
	Replace(workload, generation uint32, keys []event.Key) error
	Untold(generations map[uint32]uint32, known func(event.Key) bool) ([]event.Key, error)
	Remove(workload, keep uint32) error
	Keep(generations map[uint32]uint32) error
	Wait() error
	Covered() event.Dimensions
	Tally(workload uint32) (enforce.Tally, error)
	WatchSyscalls(on bool) error
}

// baselines is where the registry keeps the baselines.
type baselines interface {
	Load(workload string) (*baseline.Profile, event.Mode, error) // nil: there is none
	Save(workload string, p *baseline.Profile) (digest string, err error)
	SetAside(workload string) error // what Load could not read
}

// member is one workload: all cgroups that resolve to the same name.
type member struct {
	*kin       // what it has in common with those that run the same
	id         uint32
	subject    detect.Subject
	generation uint32
	cgroups    map[uint64]bool
	paths      map[string]bool // of its cgroups, which will come back there
	files      map[string]time.Time
	budget     budget
	denials    denials
	readiness  readiness
	unfit      event.Dimensions // of which the kernel does not hold all that the profile does
	ended      time.Time        // when its last cgroup was removed
}

// maxPaths of a workload that are expected to come back.
const maxPaths = 64

// registryConfig of a registry.
type registryConfig struct {
	Kernel      kernel
	Enforcer    enforcer // nil: this kernel has no means
	Store       baselines
	Mode        event.Mode       // of a workload without a baseline
	Dimensions  event.Dimensions // that it learns
	Budget      int              // see Config.DenyBudget
	CrashBudget int              // see Config
	Own         string           // the workload that the agent is of; "": none in scope
	Unguarded   []string         // see Config
	Protect     []string         // see Config
	Now         func() time.Time
	Log         *slog.Logger
	// Audited is told of a workload that was promoted to enforce, and is audited; Unreadable of a stored
	// baseline that cannot be read.
	Audited, Unreadable func(w detect.Subject, why error)
	// ByHand is told of a stored baseline, by its name, in a mode that it would not have been promoted to, and why not.
	ByHand func(name string, w detect.Subject, why error)
	// Kin is what a container has in common with others; empty: nobody knows yet. Nil: nothing.
	Kin func(container detect.Subject) string
	// Late is told of a container that was held only once that was known, and of what it had done by then that its
	// baseline does not hold.
	Late func(w detect.Subject, did []event.Key)
	// Unfit is told of dimensions that are audited because the kernel has no room for all that the baseline holds.
	Unfit func(w detect.Subject, dims event.Dimensions, why error)
	// Full is told of dimensions that can only be audited because the baseline does not hold all that was done while it was learnt.
	Full func(w detect.Subject, dims event.Dimensions, entries int)
}

// registry holds the workloads, their baselines and modes, and keeps the kernel's map in step. It is
// safe for concurrent use.
type registry struct {
	registryConfig

	saving sync.Mutex // of who writes baselines; taken before mu
	mu     sync.RWMutex
	byID   map[uint32]*member // ids are not given twice: the kernel may remember things under old ones
	byName map[string]*member
	kins   map[string]*kin // every baseline, by its name
	lastID uint32
	named  int // counts what the names of workloads changed

	leftOut leftOut
	byHand  map[string]string // what was told of baselines in modes that they would not have been promoted to, by their names
	sought  chan struct{}     // has one when somebody has to look for what a container is called
}

func newRegistry(cfg registryConfig) *registry {
	return &registry{
		registryConfig: cfg, byID: map[uint32]*member{}, byName: map[string]*member{}, kins: map[string]*kin{}, byHand: map[string]string{}, sought: make(chan struct{}, 1),
	}
}

// covered are the dimensions that this kernel lets us learn. Without any means, what is executed is still
// seen.
func (r *registry) covered() event.Dimensions {
	if r.Enforcer == nil {
		return event.Dimensions(0).With(event.DimExec)
	}
	return r.Enforcer.Covered()
}

// reach are the dimensions in which this kernel does what a mode is about.
func (r *registry) reach(mode event.Mode) event.Dimensions {
	if r.Enforcer == nil && mode != event.Learn {
		return 0
	}
	return r.covered()
}

// errUnknownWorkload is told to the user with the names that exist.
var errUnknownWorkload = errors.New("unknown workload")

// Join puts a cgroup that was made into the workload that subject names, in the kernel too. A new workload
// takes its stored baseline and mode, or starts with the default mode. With its first cgroup a run begins.
func (r *registry) Join(cgroupID uint64, subject detect.Subject) error {
	return r.join(cgroupID, subject, true)
}

// Find is Join of a cgroup that was there before the agent: what runs in it goes on, and an earlier agent may
// have counted the run.
func (r *registry) Find(cgroupID uint64, subject detect.Subject) error {
	return r.join(cgroupID, subject, false)
}

func (r *registry) join(cgroupID uint64, subject detect.Subject, begins bool) error {
	subject.Baseline = r.look(subject)
	r.mu.Lock()
	defer r.mu.Unlock()
	m, known := r.byName[subject.Name]
	if !known {
		var err error
		if m, err = r.admit(subject); err != nil {
			return err
		}
	}
	if m.seek != nil {
		m.seek.begins = m.seek.begins || begins
	}
	if len(m.cgroups) == 0 && (begins || m.profile.Runs() == 0) {
		r.beginRun(m)
	}
	if err := r.Kernel.SetWorkload(cgroupID, r.state(m)); err != nil {
		return err
	}
	m.cgroups[cgroupID] = true
	return r.expect(m, subject)
}

// expect lets the kernel know a unit by the path of its cgroup when it is started again. Paths of
// containers do not come back.
func (r *registry) expect(m *member, subject detect.Subject) error {
	if subject.Kind != string(workload.Unit) || m.paths[subject.Cgroup] || len(m.paths) == maxPaths {
		return nil
	}
	m.paths[subject.Cgroup] = true
	return r.Kernel.ExpectWorkload(subject.Cgroup, r.state(m))
}

// watchSyscalls lets system calls be seen exactly as long as a workload learns them, also one that does not
// run now: its first calls, when it starts again, are the ones that it makes only then.
func (r *registry) watchSyscalls() error {
	if r.Enforcer == nil {
		return nil
	}
	for _, m := range r.byID {
		if m.subject.Mode == event.Learn && m.profile.Held().Has(event.DimSyscalls) {
			return r.Enforcer.WatchSyscalls(true)
		}
	}
	return r.Enforcer.WatchSyscalls(false)
}

// Leave forgets a cgroup that was removed. The workload stays, because it may come back; see Forget. The
// kernel has forgotten the cgroup already, unless it was removed before Join wrote it.
func (r *registry) Leave(cgroupID uint64) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, m := range r.byID {
		if m.cgroups[cgroupID] {
			delete(m.cgroups, cgroupID)
			m.ended = r.Now()
		}
	}
	return r.Kernel.RemoveWorkload(cgroupID)
}

// Close takes every cgroup out of the kernel's map.
func (r *registry) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	var errs []error
	for _, m := range r.byID {
		for id := range m.cgroups {
			errs = append(errs, r.Kernel.RemoveWorkload(id))
		}
	}
	return errors.Join(errs...)
}

// Subject is who a workload id stands for. False: nobody we know.
func (r *registry) Subject(id uint32) (detect.Subject, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	m := r.member(id)
	if m == nil {
		return detect.Subject{}, false
	}
	return m.subject, true
}

// Learn lets a workload's baseline take note of an operation.
func (r *registry) Learn(id uint32, ev *event.Event, at time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	m := r.member(id)
	if m == nil || m.subject.Mode != event.Learn {
		return
	}
	full := m.profile.Full()
	if m.profile.Observe(ev, at) == baseline.Learned {
		m.dirty = true
	}
	r.tellFull(m, full)
}

// Executed takes note of the file behind an executable of the baseline. If a workload is held to it, and the
// file was written, replaced or given other attributes since it was executed last, before is when it had been
// changed then; else it is zero.
func (r *registry) Executed(id uint32, ev *event.Event) (before time.Time) {
	x := &ev.Exec
	r.mu.Lock()
	defer r.mu.Unlock()
	m := r.member(id)
	if m == nil || m.subject.Mode == event.Off || x.Changed == 0 || x.Partial || x.Unlinked || x.Detached {
		return time.Time{}
	}
	now := time.Unix(0, int64(x.Changed))
	if before = m.noteFile(event.Key{Op: event.OpExec, Path: x.Path}, now); before.Equal(now) {
		return time.Time{}
	}
	if m.subject.Mode == event.Learn {
		return time.Time{}
	}
	return before
}

// Started tells of a program that a workload has executed. It may have been found running before, and be known
// to the kernel since, which does not report it as new.
func (r *registry) Started(id uint32, path string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	m := r.member(id)
	if m != nil && m.subject.Mode == event.Learn && m.profile.Confirm(event.Key{Op: event.OpExec, Path: path}) {
		m.dirty = true
	}
}

// IDOf is the workload of a cgroup, 0 if it is nobody's.
func (r *registry) IDOf(cgroupID uint64) uint32 {
	r.mu.RLock()
	defer r.mu.RUnlock()
	for _, m := range r.byID {
		if m.cgroups[cgroupID] {
			return m.id
		}
	}
	return 0
}

// member of that id; nil: nobody we know.
func (r *registry) member(id uint32) *member { return r.byID[id] }

// Seen adds the executable of a process that was running before the agent: its history is unknown,
// but what runs is part of what the workload does.
func (r *registry) Seen(cgroupID uint64, path string, at time.Time) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, m := range r.byID {
		if !m.cgroups[cgroupID] || m.subject.Mode != event.Learn {
			continue
		}
		k, full := event.Key{Op: event.OpExec, Path: path}, m.profile.Full()
		if m.profile.Add(k, true, at) != baseline.Learned {
			r.tellFull(m, full)
			return nil
		}
		m.dirty = true
		if r.Enforcer != nil {
			return r.Enforcer.Replace(m.id, m.generation, []event.Key{k})
		}
	}
	return nil
}

// Named is the workload of that name.
func (r *registry) Named(name string) (detect.Subject, error) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	m, ok := r.byName[name]
	if !ok {
		return detect.Subject{}, errUnknownWorkload
	}
	return m.subject, nil
}

// Baseline is a workload's baseline as YAML, or that of this name.
func (r *registry) Baseline(name string) ([]byte, error) {
	p, err := r.copyOf(name)
	if err != nil {
		return nil, fmt.Errorf("show baseline of %q: %w", name, err)
	}
	return p.Marshal(), nil
}

func (r *registry) copyOf(name string) (*baseline.Profile, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	k, err := r.find(name)
	switch {
	case err != nil:
		return nil, err
	case k.unreadable != nil:
		return nil, k.unreadable
	}
	return k.profile.Clone(), nil
}
