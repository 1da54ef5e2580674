package agent

import (
	"errors"
	"fmt"

	"github.com/plumbline-io/plumbline/pkg/baseline"
	"github.com/plumbline-io/plumbline/pkg/event"
	"github.com/plumbline-io/plumbline/pkg/sensor"
	"github.com/plumbline-io/plumbline/pkg/workload"
)

// SetMode changes how a workload, and all that have its baseline, are held to it. The name may be the baseline's, too. The new
// policy is complete in the kernel before they are switched to it. reason overrides the conditions of a promotion.
func (r *registry) SetMode(name string, mode event.Mode, reason string) error {
	k, err := r.change(name, mode, reason)
	if k == nil {
		return err
	}
	if err := errors.Join(err, r.save(k)); err != nil {
		return fmt.Errorf("mode of %q is %s now, but: %w", name, mode, err)
	}
	return nil
}

// change is SetMode without the file. No baseline: the mode is as it was.
func (r *registry) change(name string, mode event.Mode, reason string) (*kin, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	k, err := r.find(name)
	if err != nil {
		return nil, fmt.Errorf("set mode of %q: %w", name, err)
	}
	if mode == event.Enforce {
		if err := r.checkAll(k); err != nil {
			return nil, err
		}
	}
	full := k.profile.Full()
	if k.seek != nil {
		full = 0 // nothing was said
	}
	next, err := r.prepare(k, mode, reason)
	if err != nil {
		return nil, err
	}
	learnt, err := r.switchTo(k, next, mode)
	if err != nil {
		return nil, fmt.Errorf("set mode of %q: %w", name, err)
	}
	k.seek = nil // somebody has decided about it
	r.Log.Info("mode changed", "workload", name, "baseline", k.name, "workloads", len(k.members), "mode", mode.String(), "entries", next.Len(), "reason", reason)
	err = r.settle(k, learnt)
	r.tellFullOf(k, full)
	return k, errors.Join(err, r.watchSyscalls())
}

// checkAll refuses to enforce if one of those that have the baseline cannot be.
func (r *registry) checkAll(k *kin) error {
	if err := r.checkEnforce(k.name); err != nil {
		return err
	}
	for _, m := range k.members {
		if err := r.checkEnforce(m.subject.Name); err != nil {
			return err
		}
	}
	return nil
}

// state is what the kernel has to know of a workload. What is not known as a whole, and what has used up
// its budget, is audited instead of enforced.
func (r *registry) state(m *member) sensor.WorkloadState {
	s := sensor.State(m.id, m.subject.Mode, m.generation, m.profile.Held()&r.reach(m.subject.Mode))
	s.Softened = uint32(m.softened()) | uint32(m.profile.Lacks())<<sensor.AddedShift
	if m.subject.Kind == string(workload.Container) {
		s.Flags |= sensor.Container
		if m.subject.Name == r.Own {
			s.Flags |= sensor.Own
		}
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

// setStates does that for all that have a baseline.
func (r *registry) setStates(k *kin) error {
	var errs []error
	for _, m := range k.members {
		errs = append(errs, r.setState(m, r.state(m)))
	}
	return errors.Join(errs...)
}

// soften lets dimensions be audited instead of enforced, until the mode is set again, of all that have the baseline: they run
// the same, and the next container must not go through it again. It counts only once the kernel knows: otherwise the next
// denial tries again.
func (r *registry) soften(k *kin, dims event.Dimensions) error {
	var errs []error
	for _, m := range k.members {
		s := r.state(m)
		s.Softened |= uint32(dims)
		errs = append(errs, r.setState(m, s))
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	k.profile.StepDown(dims)
	k.dirty = true
	return nil
}

// prepare makes the profile that the new mode will use; k's own stays as it is until the kernel has switched.
func (r *registry) prepare(k *kin, mode event.Mode, reason string) (*baseline.Profile, error) {
	if k.unreadable != nil {
		return r.startAnew(k, mode)
	}
	next := k.profile.Clone()
	if err := r.catchUp(k, next); err != nil {
		return nil, err
	}
	if mode != event.AuditMode && mode != event.Enforce {
		next.Demote(mode)
		return next, nil
	}
	widened := next.Generalise()
	if err := next.Promote(mode, reason); err != nil {
		return nil, fmt.Errorf("promote baseline of %q: %w", k.name, err)
	}
	r.tellWidenings(k, widened)
	return next, nil
}

// generalise widens what differs from run to run, after each run: otherwise no run would ever be without
// something new. The kernel gets the patterns beside what it has learnt itself.
func (r *registry) generalise(k *kin) {
	widened := k.profile.Generalise()
	if len(widened) == 0 {
		return
	}
	k.dirty = true
	r.tellWidenings(k, widened)
	if r.Enforcer == nil {
		return
	}
	patterns := make([]event.Key, len(widened))
	for i, w := range widened {
		patterns[i] = w.To
	}
	for _, m := range k.members {
		r.fill(m, patterns)
	}
}

// tellWidenings says which entries came to stand for several: whoever promotes a baseline has to know.
func (r *registry) tellWidenings(k *kin, widened []baseline.Widening) {
	for _, w := range widened {
		r.Log.Info("baseline generalised", "workload", k.name, "to", w.To.String(), "entries", len(w.From), "reason", w.Reason)
	}
}

// catchUp adds what the kernel has learnt and its events have not told yet.
func (r *registry) catchUp(k *kin, next *baseline.Profile) error {
	generations := map[*member]uint32{}
	for _, m := range k.members {
		if m.subject.Mode == event.Learn {
			generations[m] = m.generation
		}
	}
	news, err := r.untold(generations, next)
	for _, key := range news {
		next.Add(key, false, r.Now())
	}
	return err
}

// untold lists what the kernel holds under generations of workloads and a profile does not allow. It reads all that the kernel holds:
// so it is asked once for all that have a baseline.
func (r *registry) untold(generations map[*member]uint32, p *baseline.Profile) ([]event.Key, error) {
	if r.Enforcer == nil || len(generations) == 0 {
		return nil, nil
	}
	ids := make(map[uint32]uint32, len(generations))
	for m, generation := range generations {
		ids[m.id] = generation
	}
	news, err := r.Enforcer.Untold(ids, p.Allows)
	if err != nil {
		return nil, fmt.Errorf("read what %q has done last: %w", p.Workload(), err)
	}
	return news, nil
}
