package agent

import (
	"errors"

	"github.com/plumbline-io/plumbline/pkg/baseline"
	"github.com/plumbline-io/plumbline/pkg/event"
	"github.com/plumbline-io/plumbline/pkg/sensor"
)

// switchTo changes profile, generations and mode of all that have a baseline together, or nothing. It tells under which
// generations they were held before.
func (r *registry) switchTo(k *kin, next *baseline.Profile, mode event.Mode) (former map[*member]uint32, err error) {
	former, generations := map[*member]uint32{}, map[*member]uint32{}
	change := change{next, next.Keys(), mode, baseline.Diff(k.profile, next).Empty()}
	for _, m := range k.members {
		if generations[m], err = r.write(m, change); err != nil {
			return nil, errors.Join(err, r.sweepAll(k))
		}
	}
	before, members := *k, map[*member]member{}
	for m, generation := range generations {
		members[m], former[m] = *m, m.generation
		if generation != m.generation {
			m.unfit = 0 // all of it was written
		}
		m.generation, m.subject.Mode = generation, mode
		m.budget, m.denials, m.readiness = budget{}, denials{}, readiness{}
	}
	k.profile, k.mode, k.crashes = next, mode, crashes{}
	if err := r.setStates(k); err != nil {
		*k = before
		for m := range members {
			*m = members[m]
		}
		return nil, errors.Join(err, r.setStates(k), r.sweepAll(k))
	}
	k.dirty, k.setAside, k.unreadable, k.byHand = true, k.setAside || k.unreadable != nil, nil, nil
	return former, nil
}

// change is what switchTo does to each.
type change struct {
	next *baseline.Profile
	keys []event.Key // of next
	mode event.Mode
	same bool // next holds what the profile does
}

// write gives the kernel the entries that a workload needs in a mode, and says under which generation. What is
// there already is not written again, and off needs none: letting a workload go must work when the kernel
// has no room.
func (r *registry) write(m *member, c change) (generation uint32, err error) {
	held := m.subject.Mode == event.AuditMode || m.subject.Mode == event.Enforce
	if r.Enforcer == nil {
		return m.generation, nil
	}
	if c.mode != event.Off && held && c.same {
		if m.unfit != 0 { // there may be room by now
			m.unfit = 0
			r.fill(m, c.keys)
		}
		return m.generation, nil
	}
	if c.mode == event.Off {
		return m.generation + 1, nil
	}
	return m.generation + 1, r.Enforcer.Replace(m.id, m.generation+1, c.keys)
}

// settle ends a change of the mode: what the kernel has learnt under the former generations since it was read for
// the new ones is added, because its events are handled when the mode is no longer learn. The rest goes.
func (r *registry) settle(k *kin, former map[*member]uint32) error {
	if r.Enforcer == nil {
		return nil
	}
	if err := r.renew(k); err != nil {
		return err // what the former generations need stays
	}
	softened, changed := map[*member]event.Dimensions{}, map[*member]uint32{}
	for m, old := range former {
		softened[m] = m.softened()
		if old != m.generation {
			changed[m] = old
		}
	}
	news, err := r.untold(changed, k.profile)
	if err != nil {
		return err
	}
	var late []event.Key
	for _, key := range news {
		if k.profile.AddLate(key, r.Now()) == baseline.Learned {
			late = append(late, key)
		}
	}
	var errs []error
	for m, before := range softened {
		if m.subject.Mode != event.Off && len(late) > 0 {
			r.fill(m, late)
		}
		if m.softened() != before {
			errs = append(errs, r.setState(m, r.state(m)))
		}
	}
	if len(changed) > 0 {
		errs = append(errs, r.sweepAll(k))
	}
	return errors.Join(errs...)
}

// renew switches the cgroups that were made below those of the baseline meanwhile, and are not known here yet. The kernel copied
// what was in force for their parents.
func (r *registry) renew(k *kin) error {
	if err := r.Enforcer.Wait(); err != nil {
		return err
	}
	states := map[uint32]sensor.WorkloadState{}
	for _, m := range k.members {
		states[m.id] = r.state(m)
	}
	return r.Kernel.RenewWorkloads(states)
}

// sweep removes what no generation in force needs.
func (r *registry) sweep(m *member) error {
	if r.Enforcer == nil {
		return nil
	}
	return r.Enforcer.Remove(m.id, m.generation)
}

// sweepAll does that for all that have a baseline, at once.
func (r *registry) sweepAll(k *kin) error {
	if r.Enforcer == nil || len(k.members) == 0 {
		return nil
	}
	keep := make(map[uint32]uint32, len(k.members))
	for _, m := range k.members {
		keep[m.id] = m.generation
	}
	return r.Enforcer.Keep(keep)
}
