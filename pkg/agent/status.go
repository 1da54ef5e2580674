package agent

import (
	"strings"
	"time"

	"github.com/plumbline-io/plumbline/pkg/bus"
	"github.com/plumbline-io/plumbline/pkg/event"
	"github.com/plumbline-io/plumbline/pkg/sensor"
)

// Status is what `plumbline-agent status` prints and the heartbeat carries.
type Status struct {
	Version       string            `json:"version"`
	Node          string            `json:"node"`
	Kernel        string            `json:"kernel"`
	Arch          string            `json:"arch"`
	Started       time.Time         `json:"started"`
	AttachedMs    float64           `json:"attached_ms"` // from start to all hooks attached
	RSS           uint64            `json:"rss_bytes"`
	CgroupLayout  string            `json:"cgroup_layout"`
	Scope         []string          `json:"scope"` // empty: the whole machine
	Strength      string            `json:"strength"`
	Means         string            `json:"means"` // what a denied execution meets, in words
	Dimensions    []DimensionStatus `json:"dimensions"`
	OnStop        string            `json:"on_stop"`                  // what becomes of enforcement when the agent is told to stop
	PausedUntil   time.Time         `json:"paused_until,omitzero"`    // nothing is denied until then
	Pins          string            `json:"pins,omitempty"`           // where it is pinned
	Unprotected   string            `json:"unprotected,omitempty"`    // why containers may get at its maps, programs and pins
	ProtectedOnly string            `json:"protected_only,omitempty"` // how long they may not, if that is not for ever
	Unpinned      string            `json:"unpinned,omitempty"`       // why it is not, and so ends with the agent
	Quarantined   []Quarantine      `json:"quarantined,omitempty"`    // their processes are stopped
	Responses     ResponsesStatus   `json:"responses"`
	Readiness     ReadinessStatus   `json:"readiness"`
	Workloads     []WorkloadStatus  `json:"workloads"`
	Entries       int               `json:"entries"`        // of all baselines together
	BaselinePaths int               `json:"baseline_paths"` // those of them with a path that the kernel has room for
	Rules         RulesStatus       `json:"rules"`
	Hooks         []sensor.Status   `json:"hooks"`
	Events        map[string]uint64 `json:"events"` // by kind
	Alerts        uint64            `json:"alerts"`
	Suppressed    uint64            `json:"suppressed"` // repetitions within the window
	Lost          map[string]uint64 `json:"lost"`       // by reason; all zero is good
	ControlPlane  ControlPlaneState `json:"control_plane"`
	Outputs       []OutputState     `json:"outputs,omitempty"` // where alerts go besides
	Inputs        []InputState      `json:"inputs,omitempty"`  // whose alerts we take
}

// ControlPlaneState is the state of the way to it.
type ControlPlaneState struct {
	URL       string `json:"url,omitempty"` // empty: the agent works alone
	Connected bool   `json:"connected"`
	LastError string `json:"last_error,omitempty"`
	Published uint64 `json:"published"`
	Stored    uint64 `json:"stored"`
	Spooled   int    `json:"spooled"` // alerts waiting on disk
}

// Status tells the agent's state. Safe for concurrent use.
func (a *Agent) Status() (Status, error) {
	s := Status{
		Version: a.cfg.Version, Node: a.cfg.Node, Kernel: a.host.Kernel(), Arch: a.host.Arch(),
		Started: a.started, AttachedMs: float64(a.attached.Microseconds()) / 1e3, RSS: a.host.RSS(),
		CgroupLayout: a.host.Layout(), Scope: a.cfg.Scope,
		Strength: "none", Means: "this kernel has no means to stop an execution",
		Workloads: a.registry.List(), Hooks: append(a.kernel.Status(), a.follower.Status()...),
		Events: map[string]uint64{}, Alerts: a.sink.raised.Load(), Suppressed: a.detector.Stats().Suppressed,
	}
	for _, w := range s.Workloads {
		s.Entries += w.Entries
	}
	s.BaselinePaths, s.Unprotected, s.ProtectedOnly = a.cfg.BaselinePaths, a.unprotected, a.protectedOnly()
	s.Dimensions = a.dimensions()
	s.Quarantined, s.Responses, s.Readiness = a.responder.quarantines.List(), a.responsesStatus(), a.readinessStatus()
	s.Rules, s.PausedUntil = a.rulesStatus(), a.pause.Until(time.Now())
	if s.OnStop, s.Unpinned = a.cfg.OnStop, a.unpinned; s.Unpinned == "" {
		s.Pins = a.cfg.PinDir
	}
	if e := a.kernel.enforcer; e != nil {
		s.Strength, s.Means = e.Strength().String(), meansOf(e)
	}
	for k := event.Fork; k < event.KindCount; k++ {
		s.Events[k.String()] = a.events[k].Load()
	}
	lost, err := a.lost()
	if err != nil {
		return s, err
	}
	s.Lost, s.Inputs = lost, a.falco.States()
	for _, o := range a.sink.outputs {
		s.Outputs = append(s.Outputs, o.State())
	}
	if a.publisher != nil {
		p, sp := a.publisher.Stats(), a.spool.Stats()
		s.ControlPlane = ControlPlaneState{
			URL: a.cfg.ControlPlane.URL, Connected: p.Connected, LastError: p.LastError,
			Published: p.Published, Stored: p.Stored, Spooled: sp.Records,
		}
	}
	return s, nil
}

// lost gathers every counter of something that was not delivered or not done.
func (a *Agent) lost() (map[string]uint64, error) {
	lost, err := a.kernel.shared.LossCounters()
	if err != nil {
		return nil, err
	}
	if e := a.kernel.enforcer; e != nil {
		if lost["recursion_missed"], err = e.Missed(); err != nil {
			return nil, err
		}
	}
	a.inherited.addTo(lost)
	a.registry.LeftOut().addTo(lost)
	lost["place_left_out"] = a.places.leftOut.Load()
	lost["unit_left_out"] = a.unitsLeftOut
	lost["earlier_unread"] = a.leftUnread.Load()
	lost["undecoded"] = a.undecoded.Load()
	lost["follow_queue_full"] = a.follower.Dropped()
	lost["accounts_unread"] = a.facts.accounts.Unread()
	a.countNames(lost)
	a.environs.addTo(lost)
	lost["response_queue_full"] = a.responder.full.Load()
	lost["readiness_unasked"] = a.readiness.unasked.Load()
	lost["window_forgotten"] = a.detector.Stats().Forgotten
	lost["alert_not_written"] = a.sink.failed.Load()
	if a.marker != nil {
		g := a.kernel.enforcer.Gate()
		lost["fanotify_late"], lost["fanotify_unseen"], lost["fanotify_unread"] = g.Late, g.Unseen, g.Unread
		lost["fanotify_overflow"], lost["fanotify_unmarked"] = g.Overflown, a.marker.unset.Load()
	}
	for _, o := range a.sink.outputs {
		s := o.State()
		lost[s.Name+"_dropped"], lost[s.Name+"_failed"] = s.Dropped, s.Failed
	}
	for _, s := range a.falco.States() {
		lost[strings.ReplaceAll(s.Name, ".", "_")+"_refused"] = s.Refused
	}
	if a.spool != nil {
		s := a.spool.Stats()
		lost["spool_refused"], lost["spool_evicted"] = s.Refused, s.Evicted
		lost["spool_torn"], lost["spool_write_errors"] = s.Torn, s.WriteErrors
	}
	return lost, nil
}

func (a *Agent) heartbeat() bus.Heartbeat {
	s, err := a.Status()
	if err != nil {
		a.cfg.Log.Error("read status for heartbeat", "error", err)
	}
	beat := bus.Heartbeat{
		Version: s.Version, Kernel: s.Kernel, Arch: s.Arch, Started: s.Started, RSS: s.RSS,
		Modes: map[string]int{}, Lost: s.Lost,
	}
	for _, w := range s.Workloads {
		beat.Modes[w.Mode]++
	}
	beat.Weakened = weakened(s)
	for _, h := range s.Hooks {
		beat.Support = append(beat.Support, bus.Support(h))
	}
	for _, i := range s.Inputs {
		beat.Inputs = append(beat.Inputs, bus.Input(i))
	}
	return beat
}

// weakened counts the workloads whose mode is enforce and that are held to less than their baselines say.
func weakened(s Status) map[string]int {
	counts := map[string]int{}
	for _, w := range s.Workloads {
		if w.Mode != event.Enforce.String() {
			continue
		}
		for reason, applies := range map[string]bool{
			"paused": !s.PausedUntil.IsZero(), "unpinned": s.Unpinned != "",
			"stepped_down": len(w.Softened) > 0, "unfit": len(w.Unfit) > 0, "blind": len(w.Blind) > 0,
		} {
			if applies {
				counts[reason]++
			}
		}
	}
	return counts
}
