package agent

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/plumbline-io/plumbline/pkg/detect"
	"github.com/plumbline-io/plumbline/pkg/event"
	"github.com/plumbline-io/plumbline/pkg/response"
	"github.com/plumbline-io/plumbline/pkg/workload"
)

const (
	// readinessEvery is the time between two looks at a workload.
	readinessEvery = 5 * time.Second
	// unreadyFor is how long each look has to find a workload not ready: systemd, or a probe, may do with it again.
	unreadyFor = 10 * time.Second
	// blame is how long after a denial something is its consequence: a start may hang for 90 seconds, and three
	// probes fail in 30.
	blame = 2 * time.Minute
	// maxPodLooks at once: each is a request to the API server, one question is for all units. Those that were looked at
	// last have to wait.
	maxPodLooks = 64
	// lookTime is for all of them.
	lookTime = 4 * time.Second
	// lookGap between two looks is more than waiting for a turn: what was in between, nobody knows.
	lookGap = 6 * readinessEvery
)

// denials are when a workload was denied something in each dimension: the first and the last of those with less
// than blame between one and the next.
type denials [event.DimCount]struct{ first, last time.Time }

func (d *denials) note(dim event.Dimension, at time.Time) {
	span := &d[dim]
	if at.Sub(span.last) > blame {
		span.first = at
	}
	span.last = at
}

// since lists the dimensions with a denial from then on.
func (d *denials) since(then time.Time) event.Dimensions {
	return d.which(func(_, last time.Time) bool { return !last.Before(then) })
}

// causesOf lists the dimensions of the denials that may be the reason for what happened at a time.
func (d *denials) causesOf(at time.Time) event.Dimensions {
	return d.which(func(first, last time.Time) bool { return !first.After(at) && !last.Before(at.Add(-blame)) })
}

func (d *denials) which(is func(first, last time.Time) bool) event.Dimensions {
	var dims event.Dimensions
	for dim := range event.DimCount {
		if span := d[dim]; !span.last.IsZero() && is(span.first, span.last) {
			dims = dims.With(dim)
		}
	}
	return dims
}

// readiness is what looks at a workload have found since its mode was set.
type readiness struct {
	asked time.Time     // the last time
	last  response.Look // what was found then
	ready bool          // a look found it ready
	since time.Time     // of looks that found it not ready: the first of them in a row
	// start is the first that a look found after it was ready last.
	start response.Start
	// excused is until when what became of it may have been because we had stopped it.
	excused time.Time
}

// note says since when a workload is not ready any more, for good. Zero: it is, or that is not known.
func (r *readiness) note(look response.Look, now time.Time) (lost time.Time) {
	if now.Sub(r.asked) > lookGap {
		r.since = time.Time{}
	}
	r.asked, r.last = now, look
	r.ready = r.ready || look.Readiness == response.Ready
	if r.isAnother(look.Start) {
		look.Readiness, look.WasReady, look.Since = response.NotReady, true, look.Start.Begun
	}
	switch {
	case look.Readiness != response.NotReady, !look.WasReady && !r.ready:
		r.since = time.Time{}
		return time.Time{}
	case r.since.IsZero():
		r.since = now
	}
	if now.Sub(r.since) < unreadyFor {
		return time.Time{}
	}
	if look.Since.IsZero() {
		return r.since
	}
	return look.Since
}

// isAnother says whether an earlier start than this one has failed. One of a lower number is somebody's, who counts anew.
func (r *readiness) isAnother(s response.Start) bool {
	if s.After.IsZero() {
		return false
	}
	if !s.After.Equal(r.start.After) || s.Number < r.start.Number {
		r.start = s
	}
	return s.Number > r.start.Number
}

// suspect is a workload whose readiness matters.
type suspect struct {
	id    uint32
	w     detect.Subject
	asked time.Time
}

// Suspects are the workloads that were denied something lately, in a dimension that could step down; those that
// nobody has looked at for longest come first.
func (r *registry) Suspects(now time.Time) []suspect {
	r.mu.RLock()
	defer r.mu.RUnlock()
	var all []suspect
	for _, m := range r.byID {
		if m.subject.Mode == event.Enforce && m.denials.since(now.Add(-blame-2*unreadyFor))&^m.profile.SteppedDown() != 0 {
			all = append(all, suspect{m.id, m.subject, m.readiness.asked})
		}
	}
	slices.SortFunc(all, func(a, b suspect) int { return cmp.Or(a.asked.Compare(b.asked), cmp.Compare(a.id, b.id)) })
	return all
}

// Excuse takes note that a workload was quarantined until now.
func (r *registry) Excuse(name string, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if m := r.byName[name]; m != nil {
		m.readiness.since, m.readiness.excused = time.Time{}, now
	}
}

// Looked takes note of what a look has found. If a workload that was ready is not so any more after denials, their
// dimensions are audited from now on, and listed.
func (r *registry) Looked(id uint32, look response.Look, now time.Time) (dims event.Dimensions) {
	r.mu.Lock()
	defer r.mu.Unlock()
	m := r.member(id)
	if m == nil || m.subject.Mode != event.Enforce {
		return 0
	}
	lost := m.readiness.note(look, now)
	if !lost.After(m.readiness.excused) {
		return 0
	}
	dims = m.denials.causesOf(lost) &^ m.profile.SteppedDown()
	if dims == 0 {
		return 0
	}
	if err := r.soften(m.kin, dims); err != nil {
		r.Log.Error("step down to audit", "workload", m.subject.Name, "dimensions", names(dims), "error", err)
		return 0
	}
	r.Log.Warn("stepped down to audit", "workload", m.subject.Name, "dimensions", names(dims), "readiness", look.String(), "since", lost)
	return dims
}

// readinessWatch asks whether workloads are ready, beside the event loop.
type readinessWatch struct {
	look    func(context.Context, []workload.Workload) []response.Look
	looks   atomic.Uint64 // that were answered
	unasked atomic.Uint64 // for which there was no room or no time
}

// ReadinessStatus tells of looks at workloads that were denied something. They are off, too, where nothing can be denied.
type ReadinessStatus struct {
	On    bool   `json:"on"`
	Looks uint64 `json:"looks"`
}

func (a *Agent) readinessStatus() ReadinessStatus {
	return ReadinessStatus{On: a.looksAtReadiness(), Looks: a.readiness.looks.Load()}
}

func (a *Agent) looksAtReadiness() bool { return a.cfg.Readiness == on && a.kernel.enforcer != nil }

// watchReadiness looks at workloads that were denied something until ctx ends.
func (a *Agent) watchReadiness(ctx context.Context) error {
	ticker := time.NewTicker(readinessEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
			if !a.isPaused() {
				a.lookAtReadiness(ctx, time.Now())
			}
		}
	}
}

// lookAtReadiness looks once, and tells what steps down.
func (a *Agent) lookAtReadiness(ctx context.Context, now time.Time) {
	suspects, all, pods := []suspect{}, []workload.Workload{}, 0
	for _, s := range a.registry.Suspects(now) {
		if a.responder.quarantines.Has(s.w.Name) {
			continue // not ready because of us
		}
		if s.w.Kind == string(workload.Container) {
			if pods++; pods > maxPodLooks {
				a.readiness.unasked.Add(1)
				continue
			}
		}
		suspects, all = append(suspects, s), append(all, a.host.hierarchy.Resolve(s.w.Cgroup))
	}
	if len(all) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, lookTime)
	defer cancel()
	for i, look := range a.readiness.look(ctx, all) {
		s := suspects[i]
		if look.Readiness == response.NotAsked {
			a.readiness.unasked.Add(1)
			continue
		}
		a.readiness.looks.Add(1)
		dims := a.registry.Looked(s.id, look, now)
		for d := range event.DimCount {
			if dims.Has(d) {
				a.sink.Raise(a.detector.NotReady(now, &s.w, d, look.Why))
			}
		}
	}
}

// readinessText is what the last look has found, for status; "": nothing was denied lately.
func (m *member) readinessText(now time.Time) string {
	if m.readiness.asked.IsZero() || m.denials.since(now.Add(-blame)) == 0 {
		return ""
	}
	return fmt.Sprint(m.readiness.last)
}
