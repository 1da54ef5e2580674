package agent

import (
	"strings"
	"time"

	"github.com/plumbline-io/plumbline/pkg/baseline"
	"github.com/plumbline-io/plumbline/pkg/detect"
	"github.com/plumbline-io/plumbline/pkg/event"
	"github.com/plumbline-io/plumbline/pkg/workload"
)

// kin is a baseline with the workloads that have it: those containers that are called the same and run the same image, one
// after the other or at once. Every other workload has one of its own, under its own name.
type kin struct {
	name       string // of the baseline, and its file
	members    map[uint32]*member
	profile    *baseline.Profile
	mode       event.Mode
	dirty      bool   // profile has changed since it was saved
	version    string // of the profile as it was saved last; "": nobody has asked
	crashes    crashes
	unreadable error // why its stored baseline cannot be read, until somebody sets its mode
	setAside   bool  // then: the next save must not replace the file
	seek       *seek // nil: it is known whose it is
	byHand     error // why its stored mode is none that it would have been promoted to, until somebody sets its mode
}

// isCommon says whether others may have the workload's baseline too.
func (m *member) isCommon() bool { return m.name != m.subject.Name }

// running counts those that have the baseline and have not ended.
func (k *kin) running() (n int) {
	for _, m := range k.members {
		if len(m.cgroups) > 0 {
			n++
		}
	}
	return n
}

// admit takes a workload in that is not known yet, with its stored baseline or the one that it has in common with others. What was
// stored for a container under its id stays that one's own.
func (r *registry) admit(subject detect.Subject) (*member, error) {
	own, mode, err := r.Store.Load(subject.Name)
	if own != nil || err != nil {
		subject.Baseline = ""
		return r.enrol(subject, r.open(subject.Name, subject, own, mode, err))
	}
	if subject.Baseline != "" {
		return r.enrol(subject, r.common(subject))
	}
	k := r.open(subject.Name, subject, nil, mode, nil)
	if r.mayHaveKin(subject) {
		r.beginSeek(k)
	}
	return r.enrol(subject, k)
}

// mayHaveKin says whether a workload is a container that a runtime of the host has made. One below somebody's unit may be
// called as its owner likes, and must not teach another's baseline.
func (r *registry) mayHaveKin(w detect.Subject) bool {
	return r.Kin != nil && w.Kind == string(workload.Container) && len(w.ContainerID) > shortID && w.Name == w.ContainerID[:shortID]
}

// look asks what a container that is not known yet has in common with others; empty: nobody knows. It reads files, which is why it
// takes the lock only to see whom it knows.
func (r *registry) look(w detect.Subject) string {
	if w.Baseline != "" || !r.mayHaveKin(w) || r.isKnown(w.Name) {
		return w.Baseline
	}
	return r.Kin(w)
}

func (r *registry) isKnown(name string) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.byName[name] != nil
}

// common is the baseline that a container has in common with others.
func (r *registry) common(w detect.Subject) *kin {
	if k := r.kins[w.Baseline]; k != nil {
		return k
	}
	stored, mode, err := r.Store.Load(w.Baseline)
	return r.open(w.Baseline, w, stored, mode, err)
}

// open takes a stored baseline in, for one workload first; nil: there is none.
func (r *registry) open(name string, first detect.Subject, stored *baseline.Profile, mode event.Mode, err error) *kin {
	k := &kin{name: name, members: map[uint32]*member{}}
	switch {
	case err != nil:
		r.openUnreadable(k, first, err)
	case stored != nil:
		k.profile, k.mode = stored, mode
		r.checkByHand(k, first)
	default:
		k.profile, k.mode = r.newProfile(name, first.Kind), r.Mode
	}
	r.kins[name] = k
	return k
}

// find is the baseline that a user means: that of a workload, or the one of that name, which is read if nobody has it now.
func (r *registry) find(name string) (*kin, error) {
	if m := r.byName[name]; m != nil {
		return m.kin, nil
	}
	if k := r.kins[name]; k != nil {
		return k, nil
	}
	if !workload.IsKin(name) {
		return nil, errUnknownWorkload
	}
	stored, mode, err := r.Store.Load(name)
	if err == nil && stored == nil {
		return nil, errUnknownWorkload
	}
	return r.open(name, detect.Subject{Name: name, Kind: string(workload.Container), Baseline: name}, stored, mode, err), nil
}

// Meant is who a user means by the name of a workload or of a baseline, and how many that run have that baseline.
func (r *registry) Meant(name string) (who detect.Subject, workloads int, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	k, err := r.find(name)
	if err != nil {
		return who, 0, err
	}
	if m := r.byName[name]; m != nil {
		return m.subject, k.running(), nil
	}
	return k.subject(), k.running(), nil
}

// subject stands for all that have the baseline.
func (k *kin) subject() detect.Subject {
	return detect.Subject{Name: k.name, Kind: k.profile.Kind(), Baseline: k.name, Mode: k.mode}
}

// enrol makes a workload one of those that have a baseline.
func (r *registry) enrol(subject detect.Subject, k *kin) (*member, error) {
	r.lastID++
	r.named++
	m := &member{kin: k, id: r.lastID, subject: subject, generation: 1, cgroups: map[uint64]bool{}, paths: map[string]bool{}}
	r.takeMode(m)
	if r.Enforcer != nil && m.subject.Mode != event.Off {
		r.fill(m, m.profile.Keys())
	}
	r.byID[m.id], r.byName[subject.Name], k.members[m.id] = m, m, m
	return m, r.watchSyscalls()
}

// takeMode gives a workload the mode of its baseline. Where that cannot be enforced it is audited.
func (r *registry) takeMode(m *member) {
	m.subject.Mode = m.mode
	if err := r.checkEnforce(m.subject.Name); err != nil && m.mode == event.Enforce {
		m.subject.Mode = event.AuditMode
		r.Audited(m.subject, err)
	}
}

// newProfile is the baseline of a workload of which nothing is known.
func (r *registry) newProfile(name, kind string) *baseline.Profile {
	return baseline.New(name, kind, r.Dimensions&r.covered())
}

// beginRun says that a workload has begun one. Each container that begins is a run of what it has in common with others.
func (r *registry) beginRun(m *member) {
	if m.unreadable != nil {
		return
	}
	r.generalise(m.kin)
	m.profile.BeginRun()
	m.dirty = m.dirty || m.subject.Mode == event.Learn // of what is held, nobody asks for the runs
}

// noteFile takes note of when an executable's file was changed last, and returns what was noted before. Containers of an
// image need not have its files in common: of these each has its own notes, as long as the agent runs.
func (m *member) noteFile(k event.Key, changed time.Time) (before time.Time) {
	if !m.isCommon() {
		before = m.profile.NoteFile(k, changed)
		m.dirty = m.dirty || !before.Equal(changed)
		return before
	}
	if !m.profile.Has(k) {
		return time.Time{}
	}
	if before = m.files[k.Path]; before.Equal(changed) {
		return before
	}
	if m.files == nil {
		m.files = map[string]time.Time{}
	}
	m.files[strings.Clone(k.Path)] = changed
	return before
}

// dropUnused forgets baselines that no workload has, once they are stored.
func (r *registry) dropUnused() {
	r.saving.Lock() // what is being written is not dirty, and not stored yet
	defer r.saving.Unlock()
	r.mu.Lock()
	defer r.mu.Unlock()
	for name, k := range r.kins {
		if len(k.members) == 0 && !k.dirty {
			delete(r.kins, name)
		}
	}
}
