package agent

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/plumbline-io/plumbline/pkg/detect"
	"github.com/plumbline-io/plumbline/pkg/enforce"
	"github.com/plumbline-io/plumbline/pkg/event"
	"github.com/plumbline-io/plumbline/pkg/response"
	"github.com/plumbline-io/plumbline/pkg/workload"
)

// What happens to a workload, in seconds from the beginning: it is denied something, or looked at.
type glimpse struct {
	at     float64
	denied event.Dimension // if look is empty
	look   string          // released, ready, changing, unknown, lost (not ready, it was) or not (not ready, nobody knows since when)
	since  float64         // of lost
}

func denial(at float64, d event.Dimension) glimpse { return glimpse{at: at, denied: d} }

// looks are every five seconds, with the same finding.
func looks(from, to float64, finding string, since float64) (all []glimpse) {
	for at := from; at <= to; at += 5 {
		all = append(all, glimpse{at: at, look: finding, since: since})
	}
	return all
}

func TestReadinessStepsDown(t *testing.T) {
	one := denial(100, event.DimExec)
	for name, tc := range map[string]struct {
		events []glimpse
		at     float64 // when it steps down; 0: it does not
		dims   []string
	}{
		"failed after a denial":      {append([]glimpse{one}, looks(103, 130, "lost", 100.1)...), 113, []string{"exec"}},
		"seen ready, then not":       {slices.Concat([]glimpse{one}, looks(103, 120, "ready", 0), looks(123, 140, "not", 0)), 133, []string{"exec"}},
		"nobody saw it ready":        {append([]glimpse{one}, looks(103, 200, "not", 0)...), 0, nil},
		"two looks only":             {slices.Concat([]glimpse{one}, looks(103, 108, "lost", 100.1), looks(113, 150, "ready", 0)), 0, nil},
		"comes and goes":             {slices.Concat([]glimpse{one}, looks(103, 108, "lost", 100.1), looks(113, 113, "ready", 0), looks(118, 123, "lost", 117), looks(128, 150, "ready", 0)), 0, nil},
		"unknown between":            {slices.Concat([]glimpse{one}, looks(103, 108, "lost", 100.1), looks(113, 113, "unknown", 0), looks(118, 123, "lost", 100.1)), 0, nil},
		"stopped by somebody":        {append([]glimpse{one}, looks(103, 150, "changing", 0)...), 0, nil},
		"started, and hung":          {slices.Concat([]glimpse{one}, looks(103, 188, "changing", 0), looks(193, 210, "lost", 190)), 203, []string{"exec"}},
		"failed before the denial":   {append([]glimpse{one}, looks(103, 150, "lost", 99.9)...), 0, nil},
		"failed long after it":       {append([]glimpse{one}, looks(223, 260, "lost", 220.1)...), 0, nil},
		"within two minutes":         {append([]glimpse{one}, looks(223, 260, "lost", 219.9)...), 233, []string{"exec"}},
		"denied anew meanwhile":      {append([]glimpse{denial(10, event.DimExec), one}, looks(103, 130, "lost", 99.9)...), 113, []string{"exec"}},
		"an old one, and one later":  {append([]glimpse{denial(10, event.DimExec), denial(140, event.DimExec)}, looks(143, 160, "lost", 135)...), 0, nil},
		"quarantined":                {slices.Concat([]glimpse{one}, looks(103, 108, "lost", 100.1), looks(140, 140, "released", 0), looks(143, 170, "lost", 130)), 0, nil},
		"failed after a quarantine":  {slices.Concat([]glimpse{one}, looks(121, 121, "released", 0), looks(123, 150, "lost", 122)), 133, []string{"exec"}},
		"two dimensions":             {append([]glimpse{denial(60, event.DimFile), one}, looks(103, 130, "lost", 100.1)...), 113, []string{"exec", "file"}},
		"one before, one after":      {append([]glimpse{one, denial(101, event.DimFile)}, looks(103, 130, "lost", 100.1)...), 113, []string{"exec"}},
		"after a gap":                {slices.Concat([]glimpse{one}, looks(103, 103, "lost", 100.1), looks(140, 145, "lost", 138)), 0, nil},
		"waits for its turn":         {slices.Concat([]glimpse{one}, looks(103, 103, "lost", 100.1), looks(123, 123, "lost", 100.1)), 123, []string{"exec"}},
		"no denials":                 {looks(103, 150, "lost", 100.1), 0, nil},
		"not known to anybody":       {append([]glimpse{one}, looks(103, 150, "unknown", 0)...), 0, nil},
		"was ready, and is replaced": {slices.Concat([]glimpse{one}, looks(103, 108, "ready", 0), looks(113, 150, "changing", 0)), 0, nil},
	} {
		t.Run(name, func(t *testing.T) {
			r, kernel, err := enforced(t, "shop.service")
			if err != nil {
				t.Fatal(err)
			}
			begin := time.Unix(1_800_000_000, 0)
			at := func(seconds float64) time.Time { return begin.Add(time.Duration(seconds * float64(time.Second))) }
			var softened event.Dimensions
			when := 0.0
			for _, g := range tc.events {
				if g.look == "" {
					r.Denied(1, g.denied, at(g.at), 1)
					continue
				}
				if g.look == "released" {
					r.Excuse("shop.service", at(g.at))
					continue
				}
				look := map[string]response.Look{
					"ready": {Readiness: response.Ready}, "changing": {Readiness: response.Changing}, "unknown": {Readiness: response.Unknown},
					"lost": {Readiness: response.NotReady, WasReady: true, Since: at(g.since)}, "not": {Readiness: response.NotReady},
				}[g.look]
				if dims := r.Looked(1, look, at(g.at)); dims != 0 {
					if softened != 0 {
						t.Errorf("stepped down again at %g", g.at)
					}
					softened, when = dims, g.at
				}
			}
			if when != tc.at || softened != 0 && !slices.Equal(names(softened), tc.dims) {
				t.Errorf("stepped down %v at %g, want %v at %g", names(softened), when, tc.dims, tc.at)
			}
			if s := kernel.states[42]; s.Softened != uint32(softened) || s.Mode != uint32(event.Enforce) {
				t.Errorf("kernel: %+v", s)
			}
			// It is written down, and ends when the mode is set; what was before that does not count.
			if err := r.Save(); err != nil {
				t.Fatal(err)
			}
			if p, _, err := r.Store.Load("shop.service"); err != nil || p.SteppedDown() != softened {
				t.Errorf("stored: %+v, %v", p, err)
			}
			if err := r.SetMode("shop.service", event.Enforce, ""); err != nil {
				t.Fatal(err)
			}
			if s := kernel.states[42]; s.Softened != 0 {
				t.Errorf("after the mode was set again: %+v", s)
			}
			if dims := r.Looked(1, response.Look{Readiness: response.NotReady, WasReady: true, Since: at(1000)}, at(2000)); dims != 0 {
				t.Errorf("stepped down again: %v", names(dims))
			}
		})
	}
}

// A start that systemd makes because the one before it failed is no start like others: the workload is not ready, although
// nobody has seen it fail.
func TestStartsThatFail(t *testing.T) {
	begin := time.Unix(1_800_000_000, 0)
	at := func(seconds int) time.Time { return begin.Add(time.Duration(seconds) * time.Second) }
	type seen struct{ from, to, after, number int } // every five seconds; no number: it is ready
	for name, tc := range map[string]struct {
		all  []seen
		when int // when it is not ready for good; 0: never
		lost int
	}{
		"starts long":              {[]seen{{0, 200, -1, 1}}, 0, 0},
		"hangs, and again":         {[]seen{{0, 85, -1, 1}, {90, 175, -1, 2}}, 100, 90},
		"hangs, nobody looks":      {[]seen{{0, 40, -1, 1}, {180, 220, -1, 2}}, 190, 180},
		"somebody's start hangs":   {[]seen{{0, 85, -1, 0}, {90, 175, -1, 1}}, 100, 90},
		"somebody starts it again": {[]seen{{0, 85, -1, 1}, {90, 175, -1, 0}}, 0, 0},
		"was ready between":        {[]seen{{0, 20, -1, 1}, {25, 25, 0, -1}, {30, 60, 27, 2}}, 0, 0},
		"so, and nobody looked":    {[]seen{{0, 20, -1, 1}, {30, 60, 27, 2}}, 0, 0},
		"ready in time":            {[]seen{{0, 85, -1, 1}, {90, 95, -1, 2}, {100, 120, 0, -1}}, 0, 0},
		"fails soon":               {[]seen{{0, 0, -1, 1}, {5, 5, -1, 9}, {10, 10, -1, 17}, {15, 15, -1, 25}}, 15, 15},
	} {
		var r readiness
		when, since := 0, time.Time{}
		for _, s := range tc.all {
			for now := s.from; now <= s.to; now += 5 {
				look := response.Look{Readiness: response.Ready}
				if s.number >= 0 {
					look = response.Look{Readiness: response.Changing, Start: response.Start{After: at(s.after), Begun: at(s.from), Number: uint32(s.number)}}
				}
				if lost := r.note(look, at(now)); when == 0 && !lost.IsZero() {
					when, since = now, lost
				}
			}
		}
		if when != tc.when || when != 0 && !since.Equal(at(tc.lost)) {
			t.Errorf("%s: lost at %d since %s", name, when, since)
		}
	}
}

// Asked about are workloads in enforce that were denied something lately; who was asked last waits.
func TestSuspects(t *testing.T) {
	r, _, err := enforced(t, "shop.service")
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Join(43, detect.Subject{Name: "mail.service", Kind: "unit"}); err != nil {
		t.Fatal(err)
	}
	begin := time.Unix(1_800_000_000, 0)
	list := func(at time.Time) (all []string) {
		for _, s := range r.Suspects(at) {
			all = append(all, s.w.Name)
		}
		return all
	}
	if got := list(begin); len(got) != 0 {
		t.Errorf("before any denial: %v", got)
	}
	r.Denied(1, event.DimExec, begin, 1)
	r.Denied(2, event.DimExec, begin, 1) // in learn mode nothing is denied
	if got := list(begin.Add(2 * time.Minute)); !slices.Equal(got, []string{"shop.service"}) {
		t.Errorf("after a denial: %v", got)
	}
	if got := list(begin.Add(3 * time.Minute)); len(got) != 0 {
		t.Errorf("long after it: %v", got)
	}
	learnPrograms(r, 2, "/bin/mail")
	if err := r.SetMode("mail.service", event.Enforce, "test"); err != nil {
		t.Fatal(err)
	}
	r.Denied(2, event.DimExec, begin, 1)
	r.Looked(1, response.Look{Readiness: response.Ready}, begin)
	if got := list(begin); !slices.Equal(got, []string{"mail.service", "shop.service"}) {
		t.Errorf("one was asked: %v", got)
	}
	r.Denied(2, event.DimExec, begin, 4) // more than the budget
	if got := list(begin); !slices.Equal(got, []string{"shop.service"}) {
		t.Errorf("one has stepped down already: %v", got)
	}
	r.Now = func() time.Time { return begin.Add(3 * time.Minute) }
	if w := r.List()[1]; w.Name != "shop.service" || w.Readiness != "" {
		t.Errorf("it was denied something long ago: %+v", w)
	}
	r.Now = func() time.Time { return begin.Add(time.Minute) }
	if w := r.List()[1]; w.Readiness != "ready" {
		t.Errorf("it was asked lately: %+v", w)
	}
}

// What looks find becomes an alert for each dimension; there is a bound for looks, and what is beyond it is counted.
func TestLookAtReadiness(t *testing.T) {
	r, _, err := enforced(t, "shop.service")
	if err != nil {
		t.Fatal(err)
	}
	hierarchy, err := workload.Detect(workload.Config{})
	if err != nil {
		t.Fatal(err)
	}
	alerts := &alertFile{}
	a := &Agent{
		cfg: Config{Readiness: "on"}, host: &host{hierarchy: hierarchy}, kernel: &kernelSide{enforcer: &enforce.Enforcer{}}, registry: r, sink: &sink{log: r.Log, file: alerts},
		detector: detect.New(detect.Config{Wall: func(uint64) time.Time { return time.Unix(1, 0) }}),
	}
	begin := time.Unix(1_800_000_000, 0)
	finding := response.Look{Readiness: response.NotReady, WasReady: true, Since: begin.Add(time.Second), Why: "failed (failed): watchdog"}
	var asked int
	a.readiness.look = func(ctx context.Context, all []workload.Workload) []response.Look {
		if deadline, ok := ctx.Deadline(); !ok || time.Until(deadline) > lookTime {
			t.Error("looks have no end")
		}
		asked += len(all)
		return slices.Repeat([]response.Look{finding}, len(all))
	}
	a.lookAtReadiness(context.Background(), begin)
	if asked != 0 {
		t.Errorf("asked %d times before any denial", asked)
	}
	r.Denied(1, event.DimFile, begin, 1)
	r.Denied(1, event.DimExec, begin, 1)
	a.responder.quarantines.all = []Quarantine{{Workload: "shop.service"}}
	a.lookAtReadiness(context.Background(), begin)
	if a.responder.quarantines.all = nil; asked != 0 {
		t.Errorf("asked %d times about a workload that is quarantined", asked)
	}
	finding.Since = begin.Add(8 * time.Second)
	for i := range 5 {
		a.lookAtReadiness(context.Background(), begin.Add(time.Duration(10+5*i)*time.Second))
	}
	if asked != 3 { // it has stepped down then
		t.Errorf("asked %d times", asked)
	}
	if n := strings.Count(alerts.String(), `"rule":"Enforcement stepped down"`); n != 2 || !strings.Contains(alerts.String(), "last=failed (failed): watchdog") {
		t.Errorf("%d alerts: %s", n, alerts.String())
	}
	if s := a.readinessStatus(); !s.On || s.Looks != 3 || a.readiness.unasked.Load() != 0 {
		t.Errorf("%+v, %d not asked", s, a.readiness.unasked.Load())
	}
	for _, off := range []*Agent{{cfg: Config{Readiness: "on"}, kernel: &kernelSide{}}, {cfg: Config{Readiness: "off"}, kernel: a.kernel}} {
		if off.readinessStatus().On {
			t.Errorf("it is on: configured %s, enforcer %v", off.cfg.Readiness, off.kernel.enforcer)
		}
	}

	// Units cost one question together, containers one each.
	for i := range 2 * (maxPodLooks + 3) {
		name, kind := fmt.Sprintf("s%d", i), "unit"
		if i%2 == 1 {
			kind = "container"
		}
		if err := r.Join(uint64(100+i), detect.Subject{Name: name, Kind: kind}); err != nil {
			t.Fatal(err)
		}
		learnPrograms(r, uint32(2+i), "/bin/s")
		if err := r.SetMode(name, event.Enforce, "test"); err != nil {
			t.Fatal(err)
		}
		r.Denied(uint32(2+i), event.DimExec, begin, 1)
	}
	asked, finding = 0, response.Look{}
	a.lookAtReadiness(context.Background(), begin)
	if got := a.readiness.unasked.Load(); asked != maxPodLooks+3+maxPodLooks || got != uint64(3+asked) {
		t.Errorf("%d asked, %d not", asked, got)
	}
}
