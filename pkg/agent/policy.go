package agent

import (
	"errors"
	"fmt"

	"github.com/plumbline-io/plumbline/pkg/baseline"
	"github.com/plumbline-io/plumbline/pkg/event"
	"github.com/plumbline-io/plumbline/pkg/sensor"
	"github.com/plumbline-io/plumbline/pkg/workload"
)

// SetMode changes how a workload is held to its baseline. The new policy is complete in the kernel
// before the workload is switched to it. reason overrides the conditions of a promotion.
func (r *registry) SetMode(name string, mode event.Mode, reason string) error {
	m, err := r.change(name, mode, reason)
	if m == nil {
		return err
	}
	if err := errors.Join(err, r.save(m)); err != nil {
		return fmt.Errorf("mode of %q is %s now, but: %w", name, mode, err)
	}
	return nil
}

// change is SetMode without the file. No member: the mode is as it was.
func (r *registry) change(name string, mode event.Mode, reason string) (*member, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	m, ok := r.byName[name]
	if !ok {
		return nil, fmt.Errorf("set mode of %q: %w", name, errUnknownWorkload)
	}
	if mode == event.Enforce {
		if err := r.checkEnforce(name); err != nil {
			return nil, err
		}
	}
	next, err := r.prepare(m, mode, reason)
	if err != nil {
		return nil, err
	}
	learnt := m.generation
	if err := r.switchTo(m, next, mode); err != nil {
		return nil, fmt.Errorf("set mode of %q: %w", name, err)
	}
	r.Log.Info("mode changed", "workload", name, "mode", mode.String(), "entries", next.Len(), "reason", reason)
	return m, errors.Join(r.settle(m, learnt), r.watchSyscalls())
}

// state is what the kernel has to know of a workload. What is not known as a whole, and what has used up
// its budget, is audited instead of enforced.
func (r *registry) state(m *member) sensor.WorkloadState {
	s := sensor.State(m.id, m.subject.Mode, m.generation, m.profile.Held()&r.reach(m.subject.Mode))
	s.Softened = uint32(m.softened())
	if m.subject.Kind == string(workload.Container) {
		s.Flags |= sensor.Container
	}
	if r.isProtected(m) {
		s.Flags |= sensor.Protected
	}
	return s
}

// softened are the dimensions that are audited although the mode is enforce.
func (m *member) softened() event.Dimensions {
	return m.profile.Full() | m.profile.SteppedDown() | m.unfit
}

// setState writes s for all cgroups of the workload, and for those that will come back.
func (r *registry) setState(m *member, s sensor.WorkloadState) error {
	var errs []error
	for cgroup := range m.cgroups {
		errs = append(errs, r.Kernel.SetWorkload(cgroup, s))
	}
	for path := range m.paths {
		errs = append(errs, r.Kernel.ExpectWorkload(path, s))
	}
	return errors.Join(errs...)
}

// soften lets dimensions of a workload be audited instead of enforced, until its mode is set again. It counts
// only once the kernel knows: otherwise the next denial tries again.
func (r *registry) soften(m *member, dims event.Dimensions) error {
	s := r.state(m)
	s.Softened |= uint32(dims)
	if err := r.setState(m, s); err != nil {
		return err
	}
	m.profile.StepDown(dims)
	m.dirty = true
	return nil
}

// prepare makes the baseline that the new mode will use; m's own stays as it is until the kernel has
// switched.
func (r *registry) prepare(m *member, mode event.Mode, reason string) (*baseline.Profile, error) {
	if m.unreadable != nil {
		return r.startAnew(m, mode)
	}
	next := m.profile.Clone()
	if err := r.catchUp(m, next); err != nil {
		return nil, err
	}
	if mode != event.AuditMode && mode != event.Enforce {
		next.Demote(mode)
		return next, nil
	}
	widened := next.Generalise()
	if err := next.Promote(mode, reason); err != nil {
		return nil, fmt.Errorf("promote baseline of %q: %w", m.subject.Name, err)
	}
	r.tellWidenings(m, widened)
	return next, nil
}

// generalise widens what differs from run to run, after each run: otherwise no run would ever be without
// something new. The kernel gets the patterns beside what it has learnt itself.
func (r *registry) generalise(m *member) {
	widened := m.profile.Generalise()
	if len(widened) == 0 {
		return
	}
	m.dirty = true
	r.tellWidenings(m, widened)
	if r.Enforcer == nil {
		return
	}
	patterns := make([]event.Key, len(widened))
	for i, w := range widened {
		patterns[i] = w.To
	}
	r.fill(m, patterns)
}

// tellWidenings says which entries came to stand for several: whoever promotes a baseline has to know.
func (r *registry) tellWidenings(m *member, widened []baseline.Widening) {
	for _, w := range widened {
		r.Log.Info("baseline generalised", "workload", m.subject.Name, "to", w.To.String(), "entries", len(w.From), "reason", w.Reason)
	}
}

// catchUp adds what the kernel has learnt and its events have not told yet.
func (r *registry) catchUp(m *member, next *baseline.Profile) error {
	if r.Enforcer == nil || m.subject.Mode != event.Learn {
		return nil
	}
	news, err := r.untold(m, m.generation, next)
	for _, k := range news {
		next.Add(k, false, r.Now())
	}
	return err
}

// untold lists what the kernel holds under a generation and a profile does not allow.
func (r *registry) untold(m *member, generation uint32, p *baseline.Profile) (news []event.Key, err error) {
	entries, err := r.Enforcer.Entries(m.id, generation)
	if err != nil {
		return nil, fmt.Errorf("read what %q has done last: %w", m.subject.Name, err)
	}
	for _, e := range entries {
		if !p.Allows(e.Key) {
			news = append(news, e.Key)
		}
	}
	return news, nil
}

// settle ends a change of the mode: what the kernel has learnt under the old generation since it was read for
// the new one is added, because its events are handled when the mode is no longer learn. The rest goes.
func (r *registry) settle(m *member, old uint32) error {
	if r.Enforcer == nil || old == m.generation {
		return nil
	}
	news, err := r.untold(m, old, m.profile)
	if err != nil {
		return err
	}
	before, late := m.softened(), []event.Key{}
	for _, k := range news {
		if m.profile.AddLate(k, r.Now()) == baseline.Learned {
			late = append(late, k)
		}
	}
	if m.subject.Mode != event.Off {
		r.fill(m, late)
	}
	if m.softened() != before {
		err = r.setState(m, r.state(m))
	}
	return errors.Join(err, r.sweep(m))
}

// switchTo changes profile, generation and mode together, or nothing.
func (r *registry) switchTo(m *member, next *baseline.Profile, mode event.Mode) error {
	generation, err := r.write(m, next, mode)
	if err != nil {
		return errors.Join(err, r.sweep(m))
	}
	before := *m
	if generation != m.generation {
		m.unfit = 0 // all of it was written
	}
	m.profile, m.generation, m.subject.Mode = next, generation, mode
	m.budget, m.crashes, m.denials, m.readiness = budget{}, crashes{}, denials{}, readiness{}
	if err := r.setState(m, r.state(m)); err != nil {
		*m = before
		return errors.Join(err, r.setState(m, r.state(m)), r.sweep(m))
	}
	m.dirty, m.setAside, m.unreadable = true, m.setAside || m.unreadable != nil, nil
	return nil
}

// write gives the kernel the entries that next needs in a mode, and says under which generation. What is
// there already is not written again, and off needs none: letting a workload go must work when the kernel
// has no room.
func (r *registry) write(m *member, next *baseline.Profile, mode event.Mode) (generation uint32, err error) {
	held := m.subject.Mode == event.AuditMode || m.subject.Mode == event.Enforce
	if r.Enforcer == nil {
		return m.generation, nil
	}
	if mode != event.Off && held && baseline.Diff(m.profile, next).Empty() {
		if m.unfit != 0 { // there may be room by now
			m.unfit = 0
			r.fill(m, next.Keys())
		}
		return m.generation, nil
	}
	if mode == event.Off {
		return m.generation + 1, nil
	}
	return m.generation + 1, r.Enforcer.Replace(m.id, m.generation+1, next.Keys())
}

// sweep removes what no generation in force needs.
func (r *registry) sweep(m *member) error {
	if r.Enforcer == nil {
		return nil
	}
	return r.Enforcer.Remove(m.id, m.generation)
}
