package agent

import (
	"cmp"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/plumbline-io/plumbline/pkg/enforce"
	"github.com/plumbline-io/plumbline/pkg/event"
	"github.com/plumbline-io/plumbline/pkg/sensor"
	"github.com/plumbline-io/plumbline/pkg/spool"
)

// Report is what Check found.
type Report struct {
	Kernel       string          `json:"kernel"`
	Arch         string          `json:"arch"`
	CgroupLayout string          `json:"cgroup_layout"`
	Strength     string          `json:"strength"`
	Means        string          `json:"means"`
	Hooks        []sensor.Status `json:"hooks"`
	// Dimensions that the configuration asks for, and by what they are held.
	Dimensions []DimensionStatus `json:"dimensions"`
	// Missing names what the agent would have to do without. Empty: nothing.
	Missing []string `json:"missing"`
}

// Check loads and attaches everything in scope, looks at every running process there, and takes it
// all away again. No workload is held while it runs. The error says why the agent cannot run at all.
func Check(cfg Config) (report Report, err error) {
	a := &Agent{cfg: cfg, stream: newStream()}
	defer func() { err = errors.Join(err, a.Close()) }()
	for _, open := range []func() error{a.openHost, a.openRules, a.openKernel} {
		if err := open(); err != nil {
			return report, err
		}
	}
	report = Report{
		Kernel: a.host.Kernel(), Arch: a.host.Arch(), CgroupLayout: a.host.Layout(),
		Strength: "none", Means: "nothing stops it",
	}
	if e := a.kernel.enforcer; e != nil {
		report.Strength, report.Means = e.Strength().String(), meansOf(e)
		report.Dimensions = a.dimensions()
		report.Missing = append(report.Missing, lacking(e)...)
	} else {
		report.Missing = append(report.Missing, "enforcement")
	}
	for _, r := range stopping(a.rules.InForce(), a.kernel.enforcer) {
		if r.Cannot != "" {
			report.Missing = append(report.Missing, fmt.Sprintf("rule %q cannot %s", r.Name, r.Cannot))
		}
	}
	cgroups, err := a.host.Cgroups()
	if err != nil {
		return report, err
	}
	for _, cg := range cgroups {
		for _, p := range a.host.Processes(cg) {
			a.follower.Visit(p.PID)
		}
	}
	report.Hooks = append(a.kernel.Status(), a.follower.Status()...)
	for _, m := range a.kernel.missing {
		report.Missing = append(report.Missing, fmt.Sprintf("%s: %s", m.Sensor, m.Reason))
	}
	for _, blind := range a.follower.Status() {
		report.Missing = append(report.Missing, fmt.Sprintf("%s: %s: %s", blind.Sensor, blind.Hook, blind.Reason))
	}
	return report, nil
}

// DimensionStatus is what a dimension is held by.
type DimensionStatus struct {
	Name     string `json:"name"`
	Strength string `json:"strength"` // lsm, fmod_ret, fanotify, cgroup, signal, or none
}

// dimensions that workloads are held in, and by what.
func (a *Agent) dimensions() []DimensionStatus {
	list := []DimensionStatus{}
	for d := range event.DimCount {
		if !a.cfg.dimensions().Has(d) {
			continue
		}
		by := ""
		if e := a.kernel.enforcer; e != nil {
			by = e.HeldBy(d)
		}
		list = append(list, DimensionStatus{d.String(), cmp.Or(by, "none")})
	}
	return list
}

// meansOf says what a denied execution meets, in words.
func meansOf(e *enforce.Enforcer) string {
	held, err := enforce.ParseStrength(e.HeldBy(event.DimExec))
	switch {
	case err != nil:
		return "nothing stops it"
	case held == enforce.Fanotify:
		return "the call returns EPERM if the agent is asked and answers in time, else SIGKILL before the first instruction"
	}
	return held.Hook().Means()
}

// lacking names what the strength in use cannot stop here.
func lacking(e *enforce.Enforcer) (list []string) {
	switch e.Strength() {
	case enforce.Signal:
		list = append(list, "EPERM instead of a signal: the kernel has neither BPF LSM nor fmod_ret for us. The strength fanotify has it, for most: each execution then waits for the agent")
	case enforce.Fanotify:
		list = append(list, "EPERM for files in memory (memfd), on file systems that are not local or were just mounted, for the first programs of a new container, "+
			"for what a rule denies, and while no agent answers: the new program is killed, as with the strength signal",
			"scripts: like the strength signal, fanotify holds their interpreters")
	}
	if ops := e.Unstopped(); ops != nil {
		var names []string
		for _, op := range ops {
			names = append(names, op.String())
		}
		list = append(list, fmt.Sprintf("strength %s stops no %s", e.Strength(), strings.Join(names, ", ")))
	}
	if e.Strength() != enforce.Cgroup && !e.SparesRuntimes() {
		list = append(list, "container runtimes are known a moment after they have entered a container, in which they may be stopped: the kernel has no fentry for us")
	}
	return append(list, e.Absent()...)
}

// IsPermission says whether an error means that the agent lacks privileges.
func IsPermission(err error) bool {
	return errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES)
}

// IsInUse says whether another process has what the agent wanted for itself.
func IsInUse(err error) bool {
	return errors.Is(err, unix.EADDRINUSE) || errors.Is(err, errStateInUse) || errors.Is(err, spool.ErrLocked)
}
