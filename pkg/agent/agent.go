// Package agent is the node daemon: it puts the sensors, the enforcement, the workloads and the way to
// the control plane together and runs them. It must never decide about an event itself: verdicts are
// the kernel's, meaning is pkg/detect's.
//
//	a, err := agent.Open(cfg)
//	defer a.Close()
//	err = a.Run(ctx)
package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/plumbline-io/plumbline/pkg/alert"
	"github.com/plumbline-io/plumbline/pkg/bus"
	"github.com/plumbline-io/plumbline/pkg/detect"
	"github.com/plumbline-io/plumbline/pkg/enforce"
	"github.com/plumbline-io/plumbline/pkg/event"
	"github.com/plumbline-io/plumbline/pkg/hostname"
	"github.com/plumbline-io/plumbline/pkg/process"
	"github.com/plumbline-io/plumbline/pkg/sensor"
	"github.com/plumbline-io/plumbline/pkg/spool"
)

// Agent is one running node daemon.
type Agent struct {
	cfg           Config
	host          *host
	kernel        *kernelSide
	reader        *sensor.Reader
	store         *baselineStore
	registry      *registry
	follower      *follower
	marker        *marker        // nil: another strength than fanotify
	table         *process.Table // of the event loop
	detector      *detect.Detector
	rules         *rulebook
	facts         *facts                 // of the event loop
	environs      *environs              // of the event loop
	names         *hostname.Resolver     // nil: names of hosts are not asked for
	kernelProblem atomic.Pointer[string] // why the kernel has no rules; nil: it has them
	subject       detect.Subject         // scratch of the event loop
	alerts        []alert.Alert          // the same
	sink          *sink
	falco         falcoInput
	spool         *spool.Spool   // nil: no control plane
	publisher     *bus.Publisher // nil: no control plane
	metrics       *metrics       // nil: not wanted
	stream        *stream
	pause         pauser
	responder     responder
	readiness     readinessWatch
	pins          *sensor.Pins   // nil: enforcement ends with the agent
	unpinned      string         // why
	own           detect.Subject // the workload that the agent is of
	unprotected   string         // why containers may get at the agent; empty: they may not
	former        []*sensor.Pins // directories that earlier agents pinned in
	stateLock     *os.File
	pinDirs       []string // what the next agent has to look into
	left          []sensor.Left
	successor     *successor
	places        *places
	leftUnread    atomic.Uint64 // directories of pins of earlier agents
	unitsLeftOut  uint64        // that are not expected though rules deny in them; see expectable
	inherited     tallyByReason // losses that an earlier agent has not told
	told          bool          // to stop: Run ended because its ctx did
	started       time.Time
	attached      time.Duration // from start to all hooks attached
	events        [event.KindCount]atomic.Uint64
	undecoded     atomic.Uint64
}

// saveEvery bounds what a crash of the agent can take from a baseline that is being learnt.
const saveEvery = 5 * time.Second

// Open loads the kernel side and takes the workloads in scope. From here on they are learnt or held;
// events are kept in the ring buffer until Run.
func Open(cfg Config) (*Agent, error) {
	a := &Agent{cfg: cfg, started: time.Now(), stream: newStream(), table: process.New(process.Config{})}
	for _, open := range []func() error{
		a.openHost, a.openRules, a.openSinks, a.openFalco, a.openMetrics, a.lockPins, a.openSuccessor, a.openKernel, a.lockState, a.openPause,
		a.openResponses, a.openKernelRules, a.openRegistry, a.takeOver, a.protect,
	} {
		if err := open(); err != nil {
			return nil, errors.Join(err, a.Close())
		}
	}
	a.attached = time.Since(a.started)
	// The kernel's types and the programs' texts were needed once.
	a.kernel.shared.ForgetTypes()
	debug.FreeOSMemory()
	return a, nil
}

func (a *Agent) openHost() (err error) {
	a.host, err = openHost(a.cfg)
	return err
}

func (a *Agent) openSinks() (err error) {
	if a.sink, err = openSink(a.cfg.Alerts, a.cfg.alertsFormat(), a.cfg.Log); err != nil {
		return err
	}
	if err := a.openOutputs(); err != nil {
		return err
	}
	cp := a.cfg.ControlPlane
	if cp.URL == "" {
		return nil
	}
	a.spool, err = spool.Open(filepath.Join(a.cfg.StateDir, "spool"), spool.Config{
		Node: a.cfg.Node, MaxBytes: a.cfg.SpoolBytes, Logger: a.cfg.Log,
	})
	if err != nil {
		return err
	}
	a.sink.spool = a.spool
	a.publisher, err = bus.NewPublisher(bus.PublisherConfig{
		URL: cp.URL, PasswordFile: cp.PasswordFile, Tenant: cp.Tenant, Cluster: cp.Cluster, Node: a.cfg.Node,
		Source: a.spool, Heartbeat: a.heartbeat, Logger: a.cfg.Log,
	})
	return err
}

func (a *Agent) openKernel() error {
	strength, err := enforce.ParseStrength(a.cfg.Strength)
	if err != nil {
		return err
	}
	cfg, err := a.host.SensorConfig()
	if err != nil {
		return err
	}
	cfg.RingBytes, cfg.Log = a.cfg.RingBytes, a.cfg.Log
	cgroups, err := a.host.Cgroups()
	if err != nil {
		return err
	}
	a.own = a.host.Own(cgroups)
	cfg.ContainerFlags = newContainerFlags(a.own, a.cfg.Protect)
	if a.kernel, err = openKernel(cfg, enforce.Config{
		Strength: strength, Dimensions: a.cfg.dimensions(), Cgroups: a.host.NetworkCgroups(), PathEntries: uint32(a.cfg.BaselinePaths),
		InContainer: a.isContainer(),
	}, a.cfg.Log); err != nil {
		return err
	}
	a.follower = newFollower(a.kernel.followers, a.host.Images, a.cfg.Log)
	if strength == enforce.Fanotify {
		a.marker = newMarker(a.host, a.kernel.enforcer.Mark, a.cfg.Log)
	}
	a.reader, err = sensor.NewReader(a.kernel.shared, a.kernel.sensors(), a.noteUndecoded)
	return err
}

func (a *Agent) noteUndecoded(err error) {
	if a.undecoded.Add(1) == 1 {
		a.cfg.Log.Error("decode event", "error", err)
	}
}

// openRegistry takes the cgroups that exist and the processes that run in them.
func (a *Agent) openRegistry() error {
	var err error
	if a.store, err = openBaselineStore(filepath.Join(a.cfg.StateDir, "baselines")); err != nil {
		return err
	}
	mode, err := event.ParseMode(a.cfg.Mode)
	if err != nil {
		return err
	}
	cgroups, err := a.host.Cgroups()
	if err != nil {
		return err
	}
	var means enforcer
	if a.kernel.enforcer != nil {
		means = a.kernel.enforcer
	}
	a.registry = newRegistry(registryConfig{
		Kernel: a.kernel.shared, Enforcer: means, Store: a.store, Mode: mode, Dimensions: a.cfg.dimensions(),
		Budget: *a.cfg.DenyBudget, CrashBudget: *a.cfg.CrashBudget, Own: a.own.Name, Unguarded: a.cfg.Unguarded, Protect: a.cfg.Protect,
		Now: time.Now, Log: a.cfg.Log, Audited: a.tellAudited, Unreadable: a.tellUnreadable, Unfit: a.tellUnfit, Full: a.tellFull, ByHand: a.tellByHand,
		Kin: a.containerKin, Late: a.tellLate,
	})
	for _, cg := range cgroups {
		a.take(cg, a.registry.Find)
	}
	for _, cg := range cgroups {
		a.seed(cg)
	}
	if err := a.openPlaces(); err != nil {
		return err
	}
	return a.expectUnits()
}

// seed takes what already runs in a cgroup into the process table and the baseline.
func (a *Agent) seed(cg cgroup) {
	for _, p := range a.host.Processes(cg) {
		a.table.Seed(p)
		a.follower.Follow(p.PID, 0)
		if p.Path == "" {
			continue
		}
		if err := a.registry.Seen(cg.ID, p.Path, a.started); err != nil {
			a.cfg.Log.Warn("add running process to baseline", "pid", p.PID, "error", err)
		}
	}
}

// Attached is how long it took from the start until every hook was attached.
func (a *Agent) Attached() time.Duration { return a.attached }

// Run works until its context ends, then delivers what it has, as far as the control plane is there.
func (a *Agent) Run(outer context.Context) error {
	api, err := listenAPI(a.cfg.Socket, a)
	if err != nil {
		return err
	}
	delivery, outputs := a.startDelivery(), a.startOutputs()
	group, ctx := errgroup.WithContext(outer)
	group.Go(func() error {
		a.readLeft()
		return a.reader.Run(ctx, a.handle)
	})
	group.Go(func() error { return a.follower.Run(ctx) })
	group.Go(func() error { return a.saveBaselines(ctx) })
	group.Go(func() error { return a.registry.runSeek(ctx) })
	group.Go(func() error { return a.rules.Watch(ctx) })
	group.Go(func() error { return a.rules.Obey(ctx, a.cfg.Reload) })
	if a.names != nil {
		group.Go(func() error { return a.names.Run(ctx) })
	}
	group.Go(func() error { return a.expireBaselines(ctx) })
	group.Go(func() error { return a.watchItself(ctx) })
	if e := a.kernel.enforcer; e != nil {
		group.Go(func() error { return a.watchBreakGlass(ctx) })
		if a.isContainer() && e.Unseen() == "" {
			group.Go(func() error { return a.goOnProtecting(ctx, e) })
		}
	}
	if a.looksAtReadiness() {
		group.Go(func() error { return a.watchReadiness(ctx) })
	}
	group.Go(func() error { return a.watchQuarantines(ctx) })
	for range responders {
		group.Go(func() error { return a.runResponses(ctx) })
	}
	if a.marker != nil {
		group.Go(func() error { return a.answerExecutions(ctx) })
		group.Go(func() error { return a.marker.Run(ctx) })
	}
	group.Go(func() error { return api.Run(ctx) })
	for _, task := range a.falco.Tasks(a.raiseFalco) {
		group.Go(func() error { return task(ctx) })
	}
	if a.metrics != nil {
		group.Go(func() error { return a.metrics.Run(ctx) })
	}
	err = group.Wait()
	a.told = outer.Err() != nil
	if a.releases() {
		a.releaseAll("the agent was told to stop")
	}
	return errors.Join(err, outputs(), delivery(), a.registry.Save(), a.successor.Save(a.registry), a.places.Save(a.registry))
}

// startOutputs runs the outputs beyond the end of Run's ctx, as startDelivery does. One that fails must
// not take the agent with it: workloads are held to their baselines meanwhile.
func (a *Agent) startOutputs() (end func() error) {
	ctx, stop := context.WithCancel(context.Background())
	var group errgroup.Group
	for _, o := range a.sink.outputs {
		group.Go(func() error {
			err := o.Run(ctx)
			if err != nil {
				a.cfg.Log.Error("output ended", "output", o.State().Name, "error", err)
			}
			return nil
		})
	}
	return func() error {
		stop()
		return group.Wait()
	}
}

// startDelivery runs spool and publisher beyond the end of Run's ctx: the alerts of the last moment
// have to get out. The function it returns ends them in order.
func (a *Agent) startDelivery() (end func() error) {
	if a.publisher == nil {
		return func() error { return nil }
	}
	publishing, stopPublishing := context.WithCancel(context.Background())
	spooling, stopSpooling := context.WithCancel(context.Background())
	published, spooled := make(chan error, 1), make(chan error, 1)
	go func() { spooled <- a.spool.Run(spooling) }()
	go func() { published <- a.publisher.Run(publishing) }()
	return func() error {
		stopPublishing()
		err := <-published
		stopSpooling()
		return errors.Join(err, <-spooled)
	}
}

func (a *Agent) saveBaselines(ctx context.Context) error {
	ticker := time.NewTicker(saveEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
			if err := errors.Join(a.registry.Save(), a.successor.Save(a.registry), a.places.Save(a.registry), a.registry.Forget()); err != nil {
				a.cfg.Log.Error("save baselines", "error", err)
			}
		}
	}
}

// Close ends the agent. What is pinned stays in the kernel, unless Run ended because it was told to and the
// configuration says so: then workloads are held to nothing after it.
func (a *Agent) Close() error {
	var errs []error
	if a.registry != nil && !a.keeps() {
		errs = append(errs, a.registry.Close())
	}
	errs = append(errs, a.closePins())
	if a.reader != nil {
		errs = append(errs, a.reader.Close())
	}
	if a.kernel != nil {
		errs = append(errs, a.kernel.Close())
	}
	if a.metrics != nil {
		errs = append(errs, a.metrics.Close())
	}
	errs = append(errs, a.falco.Close())
	if a.spool != nil {
		errs = append(errs, a.spool.Close())
	}
	if a.sink != nil {
		errs = append(errs, a.sink.Close())
	}
	if a.stateLock != nil {
		errs = append(errs, a.stateLock.Close())
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("close agent: %w", err)
	}
	return nil
}
