package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/plumbline-io/plumbline/pkg/alert"
	"github.com/plumbline-io/plumbline/pkg/detect"
	"github.com/plumbline-io/plumbline/pkg/event"
	"github.com/plumbline-io/plumbline/pkg/workload"
)

// heldLateRule names the alert about a container that its baseline was found for too late.
const heldLateRule = "Container held late"

// maxLate of the keys that it tells of are named.
const maxLate = 10

// containerKin is what a container has in common with others. Safe for concurrent use.
func (a *Agent) containerKin(w detect.Subject) string {
	info, _ := a.facts.containers.Find(w.ContainerID, w.PodUID)
	return info.Kin()
}

func (a *Agent) tellLate(w detect.Subject, did []event.Key) {
	list := make([]string, 0, maxLate)
	for _, k := range did[:min(len(did), maxLate)] {
		list = append(list, k.String())
	}
	a.tell(notice{
		rule: heldLateRule, severity: alert.Warning, reason: "it had begun before it was known whose baseline it has", tag: "enforcement", subject: w,
		fields: map[string]any{"plumbline.keys": list, "plumbline.count": len(did)},
		text: fmt.Sprintf("Container had done what its baseline does not hold, %d things, before it was held to it (workload=%s baseline=%s spiffe_id=%s): %s",
			len(did), w.Name, w.Baseline, w.SPIFFEID, strings.Join(list, ", ")),
	})
}

// seek is for what a container is called. A runtime writes that down before it makes the container's cgroup, as a rule.
// Until it is found the container has a baseline of its own, which is not stored.
type seek struct {
	begins bool        // the container did after the agent
	early  []event.Key // what it executed before the kernel knew it: see NoteEarly
	tries  int
	next   time.Time
}

// seekDelays are the times between a look and the next one.
func seekDelays() []time.Duration {
	return []time.Duration{
		50 * time.Millisecond, 200 * time.Millisecond, time.Second, 2 * time.Second, 4 * time.Second, 8 * time.Second, 16 * time.Second, 32 * time.Second,
	}
}

func (r *registry) beginSeek(k *kin) {
	k.seek = &seek{next: r.Now().Add(seekDelays()[0])}
	select {
	case r.sought <- struct{}{}:
	default: // somebody has been told
	}
}

// runSeek looks for what containers are called, beside the event loop, until ctx ends.
func (r *registry) runSeek(ctx context.Context) error {
	for {
		next := r.seekAll()
		var due <-chan time.Time
		if !next.IsZero() {
			due = time.After(next.Sub(r.Now()))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-r.sought:
		case <-due:
		}
	}
}

// seekAll looks once for each container whose time has come, and says when the next one's will. Zero: none is left.
func (r *registry) seekAll() (next time.Time) {
	due := r.takeDue()
	for name, w := range due {
		kin := r.Kin(w)
		if kin == "" {
			continue
		}
		if err := r.Place(name, kin); err != nil {
			r.Log.Error("give a container the baseline of its name and image", "workload", name, "baseline", kin, "error", err)
		}
	}
	r.mu.RLock()
	defer r.mu.RUnlock()
	for _, k := range r.kins {
		if k.seek != nil && (next.IsZero() || k.seek.next.Before(next)) {
			next = k.seek.next
		}
	}
	return next
}

// takeDue lists the containers that have to be looked for now, by their names. One that was looked for often enough
// keeps its own baseline.
func (r *registry) takeDue() map[string]detect.Subject {
	r.mu.Lock()
	defer r.mu.Unlock()
	due, delays := map[string]detect.Subject{}, seekDelays()
	for _, k := range r.kins {
		if k.seek == nil || r.Now().Before(k.seek.next) {
			continue
		}
		if k.seek.tries++; k.seek.tries > len(delays) {
			r.Log.Info("no runtime tells what a container is called: its baseline is its own", "workload", k.name)
			k.seek = nil
			r.tellFullOf(k, 0)
			continue
		}
		for _, m := range k.members {
			due[m.subject.Name] = m.subject
		}
		k.seek.next = r.Now().Add(delays[k.seek.tries%len(delays)]) // soon after the last look it is given up
	}
	return due
}

// Place gives a container that is looked for the baseline that it has in common with others. What it did until now is
// learnt, if that one learns; else it counts no more, and is told.
func (r *registry) Place(name, baseline string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	m := r.byName[name]
	if m == nil || m.seek == nil {
		return nil
	}
	before := *m
	m.subject.Baseline = baseline
	m.kin, m.unfit = r.common(m.subject), 0
	r.takeMode(m)
	if m.subject.Mode != event.Learn {
		m.generation++
	}
	if r.Enforcer != nil && m.subject.Mode != event.Off {
		r.fill(m, m.profile.Keys())
	}
	if err := r.setState(m, r.state(m)); err != nil {
		*m = before
		return errors.Join(err, r.setState(m, r.state(m)), r.sweep(m))
	}
	delete(r.kins, before.name)
	m.members[m.id] = m
	r.named++
	if before.seek.begins || m.profile.Runs() == 0 {
		r.beginRun(m)
	}
	return errors.Join(r.handOver(m, &before), r.watchSyscalls())
}

// NoteEarly tells of a program that a container executed between the making of its cgroup and the agent's reading of that, if it
// has to be held and its baseline does not allow it. The kernel has counted it to the cgroup's parent.
func (r *registry) NoteEarly(ev *event.Event) {
	x := &ev.Exec
	if x.Unlinked || x.Detached || x.Partial {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if m := r.member(ev.Workload); m != nil && (m.subject.Kind == string(workload.Container) || m.subject.Kind == string(workload.Unit)) {
		return
	}
	for _, m := range r.byID {
		if !m.cgroups[ev.CgroupID] || m.subject.Kind != string(workload.Container) {
			continue
		}
		did := event.Key{Op: event.OpExec, Path: strings.Clone(x.Path)}
		if m.seek != nil && len(m.seek.early) < maxLate { // by what it is held is not known yet
			m.seek.early = append(m.seek.early, did)
		}
		if isHeld(m.subject.Mode) && !m.profile.Allows(did) {
			r.leftOut.late++
			r.Late(m.subject, []event.Key{did})
		}
	}
}

// handOver makes of what a container did under a baseline of its own what becomes of it under the common one.
func (r *registry) handOver(m, before *member) error {
	for _, k := range before.seek.early {
		before.profile.Add(k, false, r.Now())
	}
	if m.subject.Mode == event.Learn {
		full := m.profile.Full()
		m.profile.Adopt(before.profile)
		m.dirty = true
		r.tellFull(m, full)
		return nil
	}
	did := before.profile.Keys()
	untold, err := r.untold(map[*member]uint32{before: before.generation}, before.profile)
	if err != nil {
		return err
	}
	did = append(did, untold...)
	did = slices.DeleteFunc(did, m.profile.Allows)
	if len(did) > 0 && m.subject.Mode != event.Off && m.unreadable == nil {
		r.leftOut.late++
		r.Late(m.subject, did)
	}
	return r.sweep(m)
}
