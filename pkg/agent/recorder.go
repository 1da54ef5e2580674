package agent

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"strings"
	"time"

	"github.com/plumbline-io/plumbline/pkg/baseline"
	"github.com/plumbline-io/plumbline/pkg/enforce"
	"github.com/plumbline-io/plumbline/pkg/event"
	"github.com/plumbline-io/plumbline/pkg/process"
	"github.com/plumbline-io/plumbline/pkg/sensor"
	processsensor "github.com/plumbline-io/plumbline/pkg/sensor/process"
	"github.com/plumbline-io/plumbline/pkg/workload"
)

// recorder is the kernel side that learns what happens in one cell. What belongs to a run is of its reading
// goroutine until that has ended.
type recorder struct {
	cfg      RecordConfig
	cell     *cell
	shared   *sensor.Shared
	enforcer *enforce.Enforcer
	process  *processsensor.Sensor
	reader   *sensor.Reader
	table    *process.Table
	clock    workload.Clock
	proc     workload.Proc

	profile   *baseline.Profile // of this run
	first     map[event.Key]Deed
	nameless  int
	full      bool
	undecoded error
}

// recordedID is the id of the only workload that a recorder's maps hold.
const recordedID = 1

func openRecorder(cfg RecordConfig) (*recorder, error) {
	r := &recorder{
		cfg: cfg, table: process.New(process.Config{}), proc: workload.NewProc(""), first: map[event.Key]Deed{},
	}
	for _, open := range []func() error{r.openCell, r.openKernel} {
		if err := open(); err != nil {
			return nil, errors.Join(err, r.Close())
		}
	}
	return r, nil
}

func (r *recorder) openCell() (err error) {
	if r.clock, err = workload.NewClock(); err != nil {
		return err
	}
	r.cell, err = newCell(r.cfg.Scope)
	return err
}

// openKernel attaches everything, confined to the cell.
func (r *recorder) openKernel() (err error) {
	cfg := sensor.Config{Hierarchy: sensor.HierarchyV2, HierarchyID: r.cell.hierarchy.ID, Scoped: true, PerProcess: true}
	if cfg.Types, err = sensor.ReadTypes(r.cfg.BTF); err != nil {
		return err
	}
	if r.shared, err = sensor.NewShared(cfg); err != nil {
		return err
	}
	// Enforcement first, as in the agent: who executes is told before what it has become.
	r.enforcer, err = enforce.Open(r.shared, enforce.Config{Dimensions: r.cfg.Dimensions, Cgroups: []string{r.cell.node.Dir}})
	if err != nil {
		return err
	}
	if missing := r.missing(); r.held() == 0 {
		return fmt.Errorf("observe: %w: %s: %s", sensor.ErrNotSupported, missing[0].Dimension, missing[0].Reason)
	}
	if err := r.enforcer.WatchSyscalls(r.held().Has(event.DimSyscalls)); err != nil {
		return err
	}
	if r.process, err = processsensor.Open(r.shared); err != nil {
		return err
	}
	r.reader, err = sensor.NewReader(r.shared, []sensor.Sensor{r.process, r.enforcer}, func(err error) { r.undecoded = err })
	return err
}

// held is what is asked for and can be observed.
func (r *recorder) held() event.Dimensions { return r.cfg.Dimensions & r.enforcer.Covered() }

// carriers are the hooks without which a dimension is not observed, as their sections end.
func carriers() [event.DimCount]string {
	return [event.DimCount]string{
		event.DimExec: "bprm_check", event.DimLibrary: "mmap_file", event.DimFile: "file_open",
		event.DimUnix: "unix_stream_connect", event.DimNetwork: "connect4", event.DimPrivilege: "capable",
		event.DimSyscalls: "sys_enter",
	}
}

// missing tells what is asked for and cannot be observed.
func (r *recorder) missing() []MissingDimension {
	var missing []MissingDimension
	for d := range event.DimCount {
		if r.cfg.Dimensions.Has(d) && !r.enforcer.Covered().Has(d) {
			missing = append(missing, MissingDimension{d, missingReason(r.enforcer.Status(), d)})
		}
	}
	return missing
}

// missingReason finds why a dimension's hook is not there: it cannot be attached, or no rung of the ladder
// that has such hooks can be climbed.
func missingReason(hooks []sensor.Status, d event.Dimension) string {
	var rungs []string
	for _, h := range hooks {
		switch {
		case h.Supported:
		case strings.HasSuffix(h.Hook, carriers()[d]):
			return h.Hook + ": " + h.Reason
		case strings.Contains(h.Hook, carriers()[event.DimExec]):
			rungs = append(rungs, h.Hook+": "+h.Reason)
		}
	}
	return "needs LSM or fmod_ret hooks: " + strings.Join(rungs, "; ")
}

// begin starts a run with an empty profile, and opens the cgroup for its command.
func (r *recorder) begin(generation uint32) (*os.File, error) {
	r.profile = baseline.New(r.cfg.Workload, r.cfg.Kind, r.held())
	r.profile.BeginRun()
	node, room, err := r.cell.Room()
	if err != nil {
		return nil, err
	}
	if err := r.shared.SetWorkload(node.ID, sensor.State(recordedID, event.Learn, generation, r.held())); err != nil {
		return nil, errors.Join(err, room.Close())
	}
	return room, nil
}

// end takes over what the kernel has learnt and could not tell.
func (r *recorder) end(generation uint32) error {
	entries, err := r.enforcer.Entries(recordedID, generation)
	if err != nil {
		return err
	}
	now := time.Now()
	for _, e := range entries {
		if !r.profile.Allows(e.Key) && r.profile.Add(e.Key, false, now) == baseline.Full {
			r.full = true
		}
		r.profile.CountAtLeast(e.Key, e.Hits)
	}
	switch {
	case r.undecoded != nil:
		return r.undecoded
	case r.full:
		return fmt.Errorf("the baseline would have more than %d entries or %d bytes: record fewer dimensions", baseline.MaxEntries, baseline.MaxBytes)
	}
	return r.enforcer.Remove(recordedID, generation+1)
}

// handle is the body of the event loop.
func (r *recorder) handle(ev *event.Event) {
	r.table.Observe(ev)
	r.table.Fill(ev)
	if ev.Kind != event.ExecCheck && ev.Kind != event.Access {
		return
	}
	switch r.profile.Observe(ev, r.clock.Wall(ev.Ktime)) {
	case baseline.Learned:
		r.note(ev)
	case baseline.Refused:
		r.nameless++
	case baseline.Full:
		r.full = true
	}
}

// note remembers who did a thing first.
func (r *recorder) note(ev *event.Event) {
	k := ev.Access.Key
	if ev.Kind == event.ExecCheck {
		k = event.Key{Op: event.OpExec, Path: ev.Exec.Path}
	}
	if _, known := r.first[k]; known {
		return
	}
	k.Path = strings.Clone(k.Path)
	p := &ev.Process
	d := Deed{PID: p.PID, Path: strings.Clone(p.Path), Args: strings.Clone(p.Args), Lineage: []string{}}
	for _, ancestor := range p.Lineage {
		if ancestor != "" {
			d.Lineage = append(d.Lineage, strings.Clone(ancestor))
		}
	}
	r.first[k] = d
}

// lost are the loss counters that are not zero.
func (r *recorder) lost() (map[string]uint64, error) {
	lost, err := r.shared.LossCounters()
	maps.DeleteFunc(lost, func(_ string, n uint64) bool { return n == 0 })
	return lost, err
}

// Close ends what still runs in the cell and removes it, and takes everything out of the kernel.
func (r *recorder) Close() error {
	var errs []error
	if r.cell != nil {
		errs = append(errs, r.cell.Close())
	}
	if r.reader != nil {
		errs = append(errs, r.reader.Close())
	}
	if r.enforcer != nil {
		errs = append(errs, r.enforcer.Close())
	}
	if r.process != nil {
		errs = append(errs, r.process.Close())
	}
	if r.shared != nil {
		errs = append(errs, r.shared.Close())
	}
	return errors.Join(errs...)
}
