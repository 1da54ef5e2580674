package agent

import (
	"errors"
	"maps"
	"slices"

	"github.com/plumbline-io/plumbline/pkg/baseline"
)

// Save writes every baseline that has changed.
func (r *registry) Save() error {
	r.mu.RLock()
	all := slices.Collect(maps.Values(r.kins))
	r.mu.RUnlock()
	var errs []error
	for _, k := range all {
		errs = append(errs, r.save(k))
	}
	return errors.Join(errs...)
}

// unsaved is what save writes.
type unsaved struct {
	name     string
	profile  *baseline.Profile // nil: it has not changed
	setAside bool
}

// save writes a baseline if it has changed. It works on a copy and without the lock: a large one takes a
// second, and the lock is what every event needs.
func (r *registry) save(k *kin) error {
	r.saving.Lock()
	defer r.saving.Unlock()
	u := r.takeUnsaved(k)
	if u.profile == nil {
		return nil
	}
	var digest string
	var err error
	if u.setAside {
		err = r.Store.SetAside(u.name)
		u.setAside = err != nil
	}
	if err == nil {
		digest, err = r.Store.Save(u.name, u.profile)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil {
		k.dirty, k.setAside = true, u.setAside
		return err
	}
	k.version = versionOf(digest)
	return nil
}

func (r *registry) takeUnsaved(k *kin) (u unsaved) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if k.dirty && k.seek == nil {
		u = unsaved{k.name, k.profile.Clone(), k.setAside}
		k.dirty, k.setAside = false, false
	}
	return u
}
