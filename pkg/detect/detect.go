// Package detect turns events into alerts: deviation from a baseline, and matches of rules. It is pure:
// time comes from the caller's clock function, and nothing here may wait, log or do I/O. An event that
// raises nothing allocates nothing.
//
//	d := detect.New(detect.Config{Ruleset: set, Hostname: "n1", Wall: clock.Wall})
//	alerts = d.Observe(ev, &subject, alerts[:0])
package detect

import (
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/plumbline-io/plumbline/pkg/alert"
	"github.com/plumbline-io/plumbline/pkg/event"
	"github.com/plumbline-io/plumbline/pkg/rule"
)

// Config of a Detector.
type Config struct {
	Ruleset  *rule.Ruleset // nil: none but the drift rule
	Hostname string
	Wall     func(ktime uint64) time.Time // of a CLOCK_MONOTONIC time; required
	// Window in which an equal alert is told once; DenyWindow the same for denials. They are counted by
	// the kernel's clock. 0: every match is an alert.
	Window, DenyWindow time.Duration
	Matching           rule.Matching  // how many rules an event may match
	Facts              rule.Facts     // nil: none are known
	Names              rule.Names     // of hosts; nil: none are known
	Variables          rule.Variables // nil: none are known
}

// Subject is the workload that acted.
type Subject struct {
	Name, Kind, ContainerID, Cgroup string
	PodUID                          string // by the cgroup's path
	SPIFFEID, IdentitySource        string
	Baseline                        string // that it has in common with others; empty: its own
	Mode                            event.Mode
}

// Detector is used by one goroutine; Expect, SetRuleset and Stats by any.
type Detector struct {
	cfg    Config
	rules  atomic.Pointer[rule.Ruleset]
	beside atomic.Pointer[rule.Ruleset] // another that the kernel may deny by: replaced, or about to come
	env    rule.Env                     // scratch
	set    *rule.Ruleset                // of the current event
	match  []*rule.Rule                 // scratch
	recent recent
	counts *counts
	killed map[uint32]uint64 // start times of processes whose new image was denied by a signal
	alerts atomic.Uint64
	quiet  atomic.Uint64
}

// New makes a Detector.
func New(cfg Config) *Detector {
	d := &Detector{cfg: cfg, env: rule.Env{Facts: cfg.Facts, Names: cfg.Names, Variables: cfg.Variables}, recent: recent{}, counts: newCounts(), killed: map[uint32]uint64{}}
	d.SetRuleset(cfg.Ruleset)
	return d
}

// SetRuleset replaces the rules from the next event on. nil leaves the drift rule alone.
func (d *Detector) SetRuleset(set *rule.Ruleset) {
	if set == nil {
		set, _ = rule.Load()
	}
	d.beside.Store(d.rules.Swap(set))
}

// Expect lets the detector know rules that are not in force here yet: the kernel may deny by them before
// SetRuleset. Those that SetRuleset replaces are known as well, until the next Expect or SetRuleset.
func (d *Detector) Expect(set *rule.Ruleset) { d.beside.Store(set) }

// Stats counts since New.
type Stats struct {
	Alerts     uint64 // raised
	Suppressed uint64 // equal to one that was raised within its window
	Forgotten  uint64 // counts of rules with a window that began anew, because there were too many
}

// Stats of the detector.
func (d *Detector) Stats() Stats {
	return Stats{Alerts: d.alerts.Load(), Suppressed: d.quiet.Load(), Forgotten: d.counts.forgotten.Load()}
}

// Observe appends to out what an event raises. The alerts keep nothing of ev.
func (d *Detector) Observe(ev *event.Event, w *Subject, out []alert.Alert) []alert.Alert {
	d.set = d.rules.Load()
	d.env.Event = ev
	d.env.Number++
	d.env.Workload = rule.Workload{Name: w.Name, Kind: w.Kind, ContainerID: w.ContainerID, SPIFFEID: w.SPIFFEID}
	d.env.Wall = d.cfg.Wall(ev.Ktime).UnixNano()
	switch {
	case ev.RuleID != 0:
		return d.stopped(w, out)
	case ev.Kind == event.ExecCheck || ev.Kind == event.Access && ev.Verdict == event.Deny:
		return d.drift(w, out)
	case ev.Kind == event.Access:
		out = d.drift(w, out)
	case ev.Kind == event.Exec && d.wasKilled(ev):
		return out // the image was loaded and never ran: its denial has told of it
	}
	return d.ask(w, out)
}

// Asks says whether any rule is about events like this one.
func (d *Detector) Asks(ev *event.Event) bool { return len(d.rules.Load().ForEvent(ev)) > 0 }

// ask raises what the rules find in the event.
func (d *Detector) ask(w *Subject, out []alert.Alert) []alert.Alert {
	d.match = d.set.Match(&d.env, d.cfg.Matching, d.match[:0])
	for _, r := range d.match {
		out = d.raise(r, w, out)
	}
	return out
}

// drift reports what the kernel found outside the baseline. Rules that match what was denied are named
// in the same alert. What was allowed meets the rules itself: an execution as the Exec that follows.
func (d *Detector) drift(w *Subject, out []alert.Alert) []alert.Alert {
	ev := d.env.Event
	if ev.Verdict == event.Allow {
		return out // learnt, and an Exec follows
	}
	before := len(out)
	out = d.raise(d.set.Drift(dimension(ev)), w, out)
	if ev.Verdict != event.Deny {
		return out
	}
	d.noteKilled(ev)
	return d.addMatching(before, w, out)
}

// stopped reports what a rule denied: in one alert, which names what else speaks against it.
func (d *Detector) stopped(w *Subject, out []alert.Alert) []alert.Alert {
	ev := d.env.Event
	before := len(out)
	out = d.raise(d.stopper(ev), w, out)
	d.noteKilled(ev)
	if len(out) > before && ev.Deviates {
		a := &out[before]
		if drift := d.set.Drift(dimension(ev)).Name; a.Rule != drift {
			a.Detail.Also = append(a.Detail.Also, drift)
		}
	}
	return d.addMatching(before, w, out)
}

// stopper is the rule that denied an event. The rules may have been replaced since; if it is in none of
// them any more, the alert goes by the name of a deviation.
func (d *Detector) stopper(ev *event.Event) *rule.Rule {
	if r := d.set.ByID(ev.RuleID); r != nil {
		return r
	}
	if other := d.beside.Load(); other != nil {
		if r := other.ByID(ev.RuleID); r != nil {
			return r
		}
	}
	return d.set.Drift(dimension(ev))
}

// addMatching lets rules with a window count what was denied, and those alert that ask for more than a denial. It names
// the other rules that match in the alert of what was denied, out[at]. There is none if it was told already, within the window.
func (d *Detector) addMatching(at int, w *Subject, out []alert.Alert) []alert.Alert {
	told := len(out) > at
	d.match = d.set.Match(&d.env, rule.All, d.match[:0])
	for _, r := range d.match {
		switch {
		case r.Window.Count > 0, r.Action.Responds():
			out = d.raise(r, w, out)
		case told && r.Name != out[at].Rule:
			out[at].Detail.Also = append(out[at].Detail.Also, r.Name)
		}
	}
	return out
}

// noteKilled remembers a denial by signal until the exec that it ended is seen, right after it.
func (d *Detector) noteKilled(ev *event.Event) {
	const most = 1024 // those whose exec was lost
	if ev.Hook != event.HookSignal {
		return
	}
	if len(d.killed) >= most {
		clear(d.killed)
	}
	d.killed[ev.Tgid] = ev.Exec.Start
}

// wasKilled says whether an exec is the one of a denial, and forgets it.
func (d *Detector) wasKilled(ev *event.Event) bool {
	if len(d.killed) == 0 {
		return false
	}
	start, ok := d.killed[ev.Tgid]
	if ok {
		delete(d.killed, ev.Tgid)
	}
	return ok && start == ev.Exec.Start
}

// key is what the alert is about: what a baseline would have to hold, or the peer.
func key(ev *event.Event) string {
	h := &ev.Handshake
	switch {
	case ev.Kind == event.Exec || ev.Kind == event.ExecCheck:
		return ev.Exec.Path
	case ev.Kind == event.Access:
		return ev.Access.Key.String()
	case ev.Kind == event.Handshake && h.ServerName != "":
		return h.ServerName
	case ev.Kind == event.Handshake && h.PeerSPIFFEID != "":
		return h.PeerSPIFFEID
	}
	return ev.Process.Path
}

// dimension of a deviation.
func dimension(ev *event.Event) event.Dimension {
	if ev.Kind == event.Access {
		return ev.Access.Op.Dimension()
	}
	return event.DimExec
}

// raise tells that a rule matches: at once, or when its window is full, and unless it was told already.
func (d *Detector) raise(r *rule.Rule, w *Subject, out []alert.Alert) []alert.Alert {
	ev := d.env.Event
	about, verdict := key(ev), verdictOf(r, ev)
	var missed int64
	if r.Window.Count > 0 {
		if d.env.Count = d.counts.add(r, &d.env); d.env.Count == 0 {
			return out
		}
		about = r.Window.Describe(&d.env)
	} else {
		var tell bool
		if missed, tell = d.recent.tell(topic{r.Name, w.Name, about, verdict}, ev.Ktime, d.window(verdict)); !tell {
			d.quiet.Add(1)
			return out
		}
		missed += int64(ev.Repeats())
	}
	d.alerts.Add(1)
	fields := map[string]any{"evt.time": d.env.Wall}
	if missed > 0 {
		fields["alert.suppressed"] = missed // equal ones since it was told last
	}
	if d.env.Count > 0 {
		fields["window.count"] = int64(d.env.Count)
	}
	r.AddFields(fields, &d.env)
	at := time.Unix(0, d.env.Wall).UTC()
	about = strings.Clone(about)
	why := whyDenied(r, ev)
	told := alert.Alert{
		Time: at, Rule: r.Name, Severity: r.Severity, Source: r.Source, Hostname: d.cfg.Hostname,
		Output: alert.Text(at, r.Severity, string(appendWhy(r.AppendOutput(nil, &d.env), why))),
		Tags:   tags(r), Fields: fields, Detail: detail(r.Name, ev, verdict, w, about),
	}
	told.Detail.Attack, told.Detail.Why = slices.Clone(r.Attack), why
	if r.Action != rule.Alert {
		told.Detail.Action = r.Action.String()
	}
	if r.Action.Responds() && r.Mode != event.Enforce {
		told.Detail.Outcome = "refused: the rule's mode is " + r.Mode.String()
	}
	out = append(out, told)
	d.env.Count = 0
	return d.follow(r, w, out)
}

// follow asks the rules about alerts about one that was raised. What they raise is not asked about again.
func (d *Detector) follow(r *rule.Rule, w *Subject, out []alert.Alert) []alert.Alert {
	if d.env.Alert != nil {
		return out
	}
	d.env.Alert = r
	for _, about := range d.set.ForAlerts() {
		if about.Match(&d.env) {
			out = d.raise(about, w, out)
		}
	}
	d.env.Alert = nil
	return out
}

// verdictOf an event for a rule: what one that denies has let pass, it would have denied under enforce.
func verdictOf(r *rule.Rule, ev *event.Event) event.Verdict {
	if r.Stops() && r.Mode != event.Off && ev.Verdict == event.Allow {
		return event.Audit
	}
	return ev.Verdict
}

// tags of an alert are those of its rule, and the techniques, which readers of Falco's alerts look for there.
func tags(r *rule.Rule) []string {
	all := slices.Clone(r.Tags)
	for _, id := range r.Attack {
		if !slices.Contains(all, id) {
			all = append(all, id)
		}
	}
	return all
}

func detail(name string, ev *event.Event, verdict event.Verdict, w *Subject, about string) alert.Detail {
	d := alert.Detail{
		SPIFFEID: w.SPIFFEID, IdentitySource: w.IdentitySource, Workload: w.Name, WorkloadKind: w.Kind, Baseline: w.Baseline, Cgroup: w.Cgroup,
		Verdict: verdict.String(), Hook: ev.Hook.String(), Mode: w.Mode.String(), Key: about,
		PID: ev.Tgid, KernelTime: ev.Ktime, Fingerprint: alert.Fingerprint(name, w.Name, about, verdict.String()),
	}
	for _, ancestor := range ev.Process.Lineage {
		d.Lineage = append(d.Lineage, strings.Clone(ancestor))
	}
	return d
}

func (d *Detector) window(v event.Verdict) time.Duration {
	if v == event.Deny {
		return d.cfg.DenyWindow
	}
	return d.cfg.Window
}
