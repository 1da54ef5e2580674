package agent

import (
	"context"
	"errors"
	"time"

	"github.com/plumbline-io/plumbline/pkg/workload"
)

// Containers are made under a new name each time, and would fill memory, kernel and disk in the end.
const (
	// forgetAfter their end they are forgotten: their last events have been read by then, and a container
	// that is only started again has come back.
	forgetAfter = time.Minute
	// expireAfter this, what was learnt of a container that has not run since is deleted. What somebody has
	// promoted stays.
	expireAfter = 7 * 24 * time.Hour
	// After a start of the machine the containers of before come back first.
	firstExpiry = time.Hour
	expireEvery = 24 * time.Hour
)

// Forget lets go of containers that ended a while ago. Their baselines stay in the store.
func (r *registry) Forget() error {
	var errs []error
	for m, k := range r.takeEnded() {
		err := r.save(k)
		if err == nil {
			err = r.drop(m)
		}
		errs = append(errs, err)
	}
	r.dropUnused()
	return errors.Join(errs...)
}

// takeEnded tells whom to forget, and their baselines. These are saved in any case, unless others that have them run: the age of the
// file is the time since their end.
func (r *registry) takeEnded() map[*member]*kin {
	r.mu.Lock()
	defer r.mu.Unlock()
	ended := map[*member]*kin{}
	for _, m := range r.byID {
		if m.subject.Kind == string(workload.Container) && len(m.cgroups) == 0 && r.Now().Sub(m.ended) >= forgetAfter {
			m.dirty = m.dirty || m.unreadable == nil && m.running() == 0
			ended[m] = m.kin
		}
	}
	return ended
}

// drop forgets a workload, unless it has come back. The kernel's entries go without the lock: to find them
// takes a while, and nobody gets the id any more.
func (r *registry) drop(m *member) error {
	gone, err := r.unlist(m)
	if !gone || r.Enforcer == nil {
		return err
	}
	return errors.Join(err, r.Enforcer.Remove(m.id, 0))
}

func (r *registry) unlist(m *member) (gone bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(m.cgroups) > 0 || m.dirty && len(m.members) == 1 {
		return false, nil
	}
	delete(r.byID, m.id)
	delete(r.byName, m.subject.Name)
	delete(m.members, m.id)
	return true, r.watchSyscalls()
}

// Knows says whether a baseline of that name is known now.
func (r *registry) Knows(name string) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.kins[name] != nil
}

// expireBaselines deletes what nobody will ask for, an hour after the start and once a day.
func (a *Agent) expireBaselines(ctx context.Context) error {
	next := time.NewTimer(firstExpiry)
	defer next.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-next.C:
			next.Reset(expireEvery)
		}
		n, err := a.store.Expire(time.Now().Add(-expireAfter), a.registry.Knows)
		if err != nil {
			a.cfg.Log.Error("expire baselines", "error", err)
		}
		if n > 0 {
			a.cfg.Log.Info("expired baselines of containers", "baselines", n)
		}
	}
}
