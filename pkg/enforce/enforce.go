// Package enforce holds workloads to their baselines inside the kernel. It owns the maps of known
// operations and the hooks that this kernel offers. It must never decide in user space: a denial is
// the kernel's alone, also where fanotify has us pass it on, and a failure here leaves the workload's mode as it was.
//
//	e, err := enforce.Open(shared, enforce.Config{Dimensions: event.AllDimensions})
//	err = e.Replace(id, 2, keys) // fill generation 2 ...
//	err = shared.SetWorkload(cgroup, sensor.State(id, event.Enforce, 2, held)) // ... then switch to it
package enforce

import (
	"cmp"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/cilium/ebpf"

	"github.com/plumbline-io/plumbline/pkg/event"
	"github.com/plumbline-io/plumbline/pkg/sensor"
)

//go:generate go tool bpf2go -cc clang-19 -strip ../../bpf/strip -target amd64,arm64 -no-global-types -type path_key -type fact_key -type path_pattern -type address_pattern -type suffix -type wish -type trait -type denial -type denials -type denials_key -type name_key -type entry -type tally -type object_kind -type object_key -type mode -type operation -type dup_call -type access_event bpf ../../bpf/enforce.bpf.c -- -I../../bpf -O2 -g -Wall -Werror

// Config of an Enforcer.
type Config struct {
	// Strength wanted; Auto is the strongest that there is.
	Strength Strength
	// Dimensions to hook; DimExec is always one of them. With the strength Cgroup, DimNetwork is all that is hooked.
	Dimensions event.Dimensions
	// Cgroups are version 2 directories that the network hooks are attached to. Without one, the
	// network is left to the hooks of the rung.
	Cgroups []string
	// PathEntries is how many executables, libraries, files and named sockets all baselines together may hold;
	// 0: DefaultPathEntries.
	PathEntries uint32
	// InContainer: we are in a container, as those who come after us will be: what Protect protects is not any more when we end.
	InContainer bool
}

// DefaultPathEntries are those of 13 profiles of 10,000. Each costs 16 bytes, and 352 more once it is there.
const DefaultPathEntries = 131072

// Enforcer is the attached hooks and their maps. Safe for concurrent use.
type Enforcer struct {
	maps                  maps
	paused                *ebpf.Variable
	asking                *ebpf.Variable // the kernel's word about rules
	denying               *ebpf.Variable // which operations they deny
	leastQuestion         *ebpf.Variable // beside it
	pinsInode, pinsDevice *ebpf.Variable
	protected             *ebpf.Variable // until when they are, with all that is ours
	links                 []attached
	renewed               renewed
	strength              Strength
	covered               event.Dimensions
	status                []sensor.Status
	wanted                event.Dimensions
	absent                []string // hooks that this rung has and this kernel has not
	syscalls              syscallWatch
	late                  late
	grace                 *grace
	gate                  *gate // nil: another strength

	rulesMu sync.Mutex
	rules   loadedRules
}

// maps are those of the object that user space reads or writes.
type maps struct {
	PathEntries     *ebpf.Map `ebpf:"path_entries"`
	FactEntries     *ebpf.Map `ebpf:"fact_entries"`
	PathPatterns    *ebpf.Map `ebpf:"path_patterns"`
	AddressPatterns *ebpf.Map `ebpf:"address_patterns"`
	Tallies         *ebpf.Map `ebpf:"tallies"`
	RulePaths       *ebpf.Map `ebpf:"rule_paths"`
	RulePrefixes    *ebpf.Map `ebpf:"rule_prefixes"`
	RuleSuffixes    *ebpf.Map `ebpf:"rule_suffixes"`
	RuleFacts       *ebpf.Map `ebpf:"rule_facts"`
	RuleDenials     *ebpf.Map `ebpf:"rule_denials"`
	RuleNames       *ebpf.Map `ebpf:"rule_names"`
	OwnObjects      *ebpf.Map `ebpf:"own_objects"`
	Mounters        *ebpf.Map `ebpf:"mounters"`
}

func (m *maps) all() []*ebpf.Map {
	return []*ebpf.Map{
		m.PathEntries, m.FactEntries, m.PathPatterns, m.AddressPatterns, m.Tallies,
		m.RulePaths, m.RulePrefixes, m.RuleSuffixes, m.RuleFacts, m.RuleDenials, m.RuleNames, m.OwnObjects, m.Mounters,
	}
}

// Open loads the programs and attaches the strongest rung that works, or exactly the one asked for.
// Hooks other than that of executions may be missing: see Status and Covered.
func Open(shared *sensor.Shared, cfg Config) (*Enforcer, error) {
	cfg.Dimensions = cfg.Dimensions.With(event.DimExec)
	grace, err := newGrace()
	if err != nil {
		return nil, err
	}
	e := &Enforcer{grace: grace, wanted: cfg.Dimensions}
	var tried []string
	for _, rung := range ladder(cfg.Strength) {
		if cfg.Strength != Auto && cfg.Strength != rung.strength {
			e.note(rung.hook, false, "another strength was asked for")
			continue
		}
		if e.links != nil {
			e.note(rung.hook, true, "not used: "+e.strength.String()+" is stronger")
			continue
		}
		err := e.climb(shared, cfg, rung)
		if err != nil && !unsupported(err) {
			return nil, errors.Join(fmt.Errorf("attach %s: %w", rung.hook, err), e.Close())
		}
		if err != nil {
			e.note(rung.hook, false, reason(err))
			tried = append(tried, rung.hook+": "+reason(err))
			continue
		}
		e.strength = rung.strength
	}
	if e.links == nil {
		err := fmt.Errorf("attach enforcement (%s): %w by this kernel: %s", cfg.Strength, sensor.ErrNotSupported, strings.Join(tried, "; "))
		return nil, errors.Join(err, e.Close())
	}
	return e, nil
}

func (e *Enforcer) note(hook string, supported bool, why string) {
	e.status = append(e.status, sensor.Status{Sensor: "enforce", Hook: hook, Supported: supported, Reason: why})
}

// climb loads and attaches one rung. The hook of executions decides whether the kernel has it; what
// else is missing is noted.
func (e *Enforcer) climb(shared *sensor.Shared, cfg Config, r rung) error {
	switch r.strength {
	case LSM:
		// LSM programs attach also where bpf is not in the list of LSMs, and are never called.
		if err := lsmActive(); err != nil {
			return err
		}
	case Fanotify:
		if err := survivesWarning(shared.HasFunction); err != nil {
			return err
		}
	}
	spec, err := readObject(r.strength)
	if err != nil {
		return err
	}
	hooks, absent := present(shared, wanted(r, cfg))
	if len(hooks) == 0 || hooks[0].section != r.hook {
		return fmt.Errorf("%w: %s", sensor.ErrNotSupported, r.lacks())
	}
	uses := lateMaps(spec)
	keep(spec, r, hooks)
	spec.Maps["path_entries"].MaxEntries = cmp.Or(cfg.PathEntries, DefaultPathEntries)
	if err := setSecret(spec); err != nil {
		return err
	}
	collection, refused, err := shared.LoadEach(spec, hooks[0].program)
	if err != nil {
		return err
	}
	defer collection.Close() // links and clones hold what is in use
	// A kernel may refuse others, for example because it cannot trace the hook's arguments.
	hooks = slices.DeleteFunc(hooks, func(h hook) bool {
		why := refused[h.program]
		if why != nil {
			e.lack(h, why)
		}
		return why != nil
	})
	if r.strength == Fanotify {
		if err := refused[gateProgram]; err != nil {
			return err
		}
		if e.gate, err = openGate(collection.Programs[gateProgram]); err != nil {
			return err
		}
	}
	links, missing, err := attachAll(collection, cfg, hooks)
	if err != nil {
		return err
	}
	if err := errors.Join(e.late.take(shared, collection, uses), e.take(collection)); err != nil {
		return errors.Join(err, closeAll(links))
	}
	e.links = links
	for _, h := range hooks {
		if why := missing[h.program]; why != nil {
			e.lack(h, why)
			continue
		}
		e.note(h.section, true, "")
		if h.carries {
			e.covered = e.covered.With(h.dimension)
		}
	}
	for _, h := range absent {
		e.lack(h, errNoHook)
	}
	return nil
}

var errNoHook = errors.New("this kernel has no such hook")

// lack notes a hook that this rung has, and this kernel has not.
func (e *Enforcer) lack(h hook, why error) {
	e.note(h.section, false, reason(why))
	e.absent = append(e.absent, h.section+": "+reason(why))
}

// keep leaves in the object what the rung needs: a kernel may refuse to load the rest.
func keep(spec *ebpf.CollectionSpec, r rung, hooks []hook) {
	for name := range spec.Programs {
		used := false
		for _, h := range hooks {
			used = used || h.program == name
		}
		if !used {
			delete(spec.Programs, name)
		}
	}
	if r.strength != LSM {
		delete(spec.Maps, "known_inodes") // of a type that LSM programs only may use
	}
}

// setSecret makes the hashes in the kernel's cache unpredictable.
func setSecret(spec *ebpf.CollectionSpec) error {
	var secret [8]byte
	_, _ = rand.Read(secret[:]) // never fails
	if err := spec.Variables["known_secret"].Set(binary.NativeEndian.Uint64(secret[:])); err != nil {
		return fmt.Errorf("set knob known_secret: %w", err)
	}
	return nil
}

// take keeps the collection's maps for us.
func (e *Enforcer) take(collection *ebpf.Collection) error {
	if err := collection.Assign(&e.maps); err != nil {
		return fmt.Errorf("take maps: %w", err)
	}
	e.paused, e.asking, e.denying = collection.Variables["paused_until"], collection.Variables["rules"], collection.Variables["rules_deny"]
	e.leastQuestion = collection.Variables["dns_least"]
	e.pinsInode, e.pinsDevice = collection.Variables["pins_inode"], collection.Variables["pins_device"]
	e.protected = collection.Variables["protected_until"]
	return e.syscalls.take(collection)
}

// Strength is the rung in use.
func (e *Enforcer) Strength() Strength { return e.strength }

// Covered lists the dimensions that this kernel lets us hold.
func (e *Enforcer) Covered() event.Dimensions { return e.covered }

// Status lists the hooks, those of executions first, strongest first.
func (e *Enforcer) Status() []sensor.Status {
	status := slices.Concat(e.status, e.late.status())
	why := e.gate.Ended()
	if why == nil {
		return status
	}
	for i := range status {
		if status[i].Hook == gateHook {
			status[i].Supported, status[i].Reason = false, why.Error()
		}
	}
	return status
}

// Pin keeps the hooks in the kernel while no agent runs.
func (e *Enforcer) Pin(pins *sensor.Pins) error {
	var errs []error
	for i, l := range e.links {
		errs = append(errs, pins.Pin(l.pinName(i), l.link))
	}
	return errors.Join(errs...)
}

// Close lets go of the hooks. Those that are not pinned are taken out of the kernel.
func (e *Enforcer) Close() error {
	errs := []error{e.gate.Close(), closeAll(e.links), e.renewed.Close(), e.syscalls.Close(), e.late.Close(), e.grace.Close()}
	for _, m := range e.maps.all() {
		if m != nil {
			errs = append(errs, m.Close())
		}
	}
	return errors.Join(errs...)
}

func closeAll(links []attached) error {
	var errs []error
	for _, l := range links {
		errs = append(errs, l.link.Close())
	}
	return errors.Join(errs...)
}

// Pause lets nothing be denied until this time of CLOCK_MONOTONIC, in nanoseconds; what would be is
// audited. 0 ends a pause. It holds without the agent too.
func (e *Enforcer) Pause(until uint64) error {
	if err := e.paused.Set(until); err != nil {
		return fmt.Errorf("pause enforcement: %w", err)
	}
	return nil
}

// Tally counts what happened to a workload's operations since the agent started. What an inode
// remembers as known is not counted.
type Tally struct {
	Hits, Learnt, Audited, Denied uint64
}

// Tally of a workload; zero if nothing happened yet.
func (e *Enforcer) Tally(workload uint32) (Tally, error) {
	var each []bpfTally
	var sum Tally
	err := e.maps.Tallies.Lookup(workload, &each)
	if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return sum, fmt.Errorf("read tally of workload %d: %w", workload, err)
	}
	for _, t := range each {
		sum.Hits += t.Hits
		sum.Learnt += t.Learnt
		sum.Audited += t.Audited
		sum.Denied += t.Denied
	}
	return sum, nil
}
