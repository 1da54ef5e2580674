package agent

import (
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/plumbline-io/plumbline/pkg/alert"
	"github.com/plumbline-io/plumbline/pkg/event"
	"github.com/plumbline-io/plumbline/pkg/sensor"
)

// What becomes of enforcement when the agent is told to stop. When it is killed or fails, enforcement stays.
const (
	onStopKeep    = "keep"
	onStopRelease = "release"
)

// lockPins takes possession of the pins before anything is loaded: two agents with the same pins would
// take each other's hooks away.
func (a *Agent) lockPins() error {
	dirs, err := PinDirs(a.cfg)
	if err != nil {
		a.cfg.Log.Error("look for pins in other directories", "error", err)
		dirs = []string{a.cfg.PinDir}
	}
	pins, err := sensor.OpenPins(a.cfg.PinDir)
	switch {
	case errors.Is(err, sensor.ErrInUse), errors.Is(err, sensor.ErrNotOwn):
		return err
	case err != nil:
		a.cfg.Log.Warn("open pins: enforcement will end with the agent", "error", err)
		a.unpinned = err.Error()
	default:
		a.pins = pins
	}
	return a.lockFormerPins(dirs)
}

// lockFormerPins does the same in the directories that earlier agents had.
func (a *Agent) lockFormerPins(dirs []string) error {
	a.pinDirs = []string{dirs[0]}
	for _, dir := range dirs[1:] {
		pins, err := sensor.FindPins(dir)
		switch {
		case errors.Is(err, sensor.ErrInUse):
			return err
		case err != nil:
			a.cfg.Log.Error("open pins of an earlier agent: what it left is in force too", "error", err)
		case pins == nil:
			continue // nothing has been there since the machine was started
		default:
			a.former = append(a.former, pins)
		}
		a.pinDirs = append(a.pinDirs, dir)
	}
	return nil
}

// takeOver pins what is in force now, and takes the hooks of an earlier agent away. Both are in force for
// a moment, and there is none without.
func (a *Agent) takeOver() error {
	all := slices.Clone(a.former)
	if a.pins != nil {
		all = append(all, a.pins)
		if err := a.pinOwn(); err != nil {
			a.cfg.Log.Error("pin enforcement: it will end with the agent", "error", err)
			a.unpinned = err.Error()
		}
	}
	if err := a.successor.Save(a.registry); err != nil {
		a.cfg.Log.Error("keep the names of workloads for the next agent", "error", err)
	}
	for _, pins := range all {
		left, err := pins.Left()
		if err != nil {
			a.cfg.Log.Error("look for what an earlier agent left: it is in force too", "error", err)
		}
		a.left = append(a.left, left...)
	}
	for _, l := range a.left {
		if err := l.Detach(); err != nil {
			a.cfg.Log.Error("detach what an earlier agent left: it is in force too", "pins", l.Name(), "error", err)
		}
	}
	return nil
}

// pinOwn pins all that has to outlive the agent, or nothing: half of the hooks would hold nobody, and be one
// more for each agent that is started.
func (a *Agent) pinOwn() error {
	if err := notedPinDirs(a.cfg.StateDir).Save(a.pinDirs); err != nil {
		a.cfg.Log.Error("note pin directory: an agent that is configured otherwise will not find it", "error", err)
	}
	if err := a.pins.Begin(time.Now()); err != nil {
		return err
	}
	if err := a.kernel.Pin(a.pins); err != nil {
		return errors.Join(err, a.pins.Abandon())
	}
	a.successor.Begin(a.pins.Name())
	return nil
}

// readLeft reads what happened while no agent ran, and then removes what the earlier one has left.
func (a *Agent) readLeft() {
	for _, l := range a.left {
		events, err := a.readOne(l)
		if err != nil {
			a.tellUnread(l.Name(), err)
		}
		a.cfg.Log.Info("took over from an earlier agent", "pins", l.Name(), "events", events)
		if err := l.Remove(); err != nil {
			a.cfg.Log.Error("remove what an earlier agent left", "pins", l.Name(), "error", err)
		}
	}
	a.left = nil
	a.successor.Read()
	if err := a.closeFormer(); err != nil {
		a.cfg.Log.Error("remove pin directory of an earlier agent", "error", err)
	}
}

// unreadRule names the alert about denials and audits that nobody will be told of.
const unreadRule = "Events of an earlier agent lost"

// tellUnread tells that what happened while no agent ran is lost, or the rest of it: how much it was nobody knows.
func (a *Agent) tellUnread(pins string, why error) {
	a.cfg.Log.Error("read what an earlier agent left", "pins", pins, "error", why)
	a.leftUnread.Add(1)
	a.tell(notice{
		rule: unreadRule, reason: why.Error(), tag: "loss", severity: alert.Error,
		text: "What was denied while no agent ran cannot be told: " + why.Error(),
	})
}

// closeFormer gives the directories of earlier agents up, which removes those that hold nothing any more.
func (a *Agent) closeFormer() error {
	var errs []error
	for _, pins := range a.former {
		errs = append(errs, pins.Close())
	}
	a.former = nil
	return errors.Join(errs...)
}

func (a *Agent) readOne(l sensor.Left) (events int, err error) {
	maps, err := l.Maps()
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, maps.Close()) }()
	reader, err := sensor.NewReader(maps, a.kernel.sensors(), a.noteUndecoded)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, reader.Close()) }()
	err = reader.Drain(func(ev *event.Event) {
		// Lives of processes and cgroups have been read from /proc and the tree meanwhile.
		if ev.Kind != event.ExecCheck && ev.Kind != event.Access {
			return
		}
		events++
		ev.Workload = a.whose(l.Name(), ev)
		a.handle(ev)
	})
	if err != nil {
		return events, err
	}
	lost, err := maps.LossCounters()
	if err != nil { // the events are read
		a.cfg.Log.Error("read what an earlier agent lost", "pins", l.Name(), "error", err)
	}
	a.inherited.add(lost)
	return events, nil
}

// tallyByReason is safe for concurrent use.
type tallyByReason struct {
	mu     sync.Mutex
	counts map[string]uint64
}

func (t *tallyByReason) add(counts map[string]uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.counts == nil {
		t.counts = map[string]uint64{}
	}
	for reason, n := range counts {
		t.counts[reason] += n
	}
}

// addTo adds what was counted.
func (t *tallyByReason) addTo(counts map[string]uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for reason, n := range t.counts {
		counts[reason] += n
	}
}

// closePins keeps what is pinned, or takes it out of the kernel.
func (a *Agent) closePins() error {
	err := errors.Join(a.endProtection(), a.closeFormer()) // whoever gets the pins next may be a container
	if a.pins == nil {
		return err
	}
	if a.releases() {
		_, clearing := a.pins.Clear()
		return errors.Join(err, clearing)
	}
	return errors.Join(err, a.pins.Close())
}

// releases says whether the agent was told to stop, and to take enforcement with it.
func (a *Agent) releases() bool { return a.told && a.cfg.OnStop == onStopRelease }

// keeps says whether workloads are held on after the agent has ended.
func (a *Agent) keeps() bool {
	return a.pins != nil && a.unpinned == "" && !a.releases()
}

// Unload takes out of the kernel what agents have left in a pin directory, and tells what that was. It is
// refused while one runs.
func Unload(dir string) ([]string, error) { return sensor.Unload(dir) }

// IsNotOwn says whether a pin directory is used for something else.
func IsNotOwn(err error) bool { return errors.Is(err, sensor.ErrNotOwn) }

// IsPinned says whether another agent holds the pins.
func IsPinned(err error) bool { return errors.Is(err, sensor.ErrInUse) }
