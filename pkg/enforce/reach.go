package enforce

import (
	"slices"
	"strings"

	"github.com/plumbline-io/plumbline/pkg/event"
)

// HeldBy says by which strength a dimension is held: the network by hooks of cgroups where there are some, beside any
// other. Empty: it is not.
func (e *Enforcer) HeldBy(d event.Dimension) string {
	switch {
	case !e.covered.Has(d) || d == event.DimSyscalls:
		return ""
	case d == event.DimNetwork && e.byCgroup():
		return Cgroup.String()
	case e.gate.Ended() != nil:
		return Signal.String()
	}
	return e.strength.String()
}

// Unstopped lists the operations of the dimensions that were asked for which no hook stops here.
func (e *Enforcer) Unstopped() (ops []event.Operation) {
	for op := event.OpExec; op < event.OpCount; op++ {
		if !op.OnlyTold() && op != event.OpSyscall && e.wanted.Has(op.Dimension()) && !e.stops(op) {
			ops = append(ops, op)
		}
	}
	return ops
}

// stops says whether a hook that asks about an operation is attached.
func (e *Enforcer) stops(op event.Operation) bool {
	if op == event.OpExec {
		return e.strength != Cgroup // the others are named by the hook of executions
	}
	if op == event.OpExecWithCapabilities && e.strength == FmodRet {
		return false // its hook is before the kernel looks at a file's capabilities
	}
	names := op.Hooks()
	switch op { // the hooks of version 2 cgroups have others to stand in for them
	case event.OpConnect:
		names = append(names, "socket_connect")
	case event.OpBind:
		names = append(names, "socket_bind")
	case event.OpUnixBind:
		names = []string{"unix_bind"}
	}
	return slices.ContainsFunc(names, e.hasHook)
}

// Absent names the hooks of this strength that the kernel lacks or refuses, and why.
func (e *Enforcer) Absent() []string { return e.absent }

// SparesRuntimes says whether container runtimes are known from the moment on in which they enter a container, so
// that nothing is denied to them there. Else they are known a moment later.
func (e *Enforcer) SparesRuntimes() bool {
	return slices.ContainsFunc(e.links, func(l attached) bool { return l.program == "runtime_attach" })
}

// hasHook says whether a hook is attached, by the name of an LSM hook or of one of cgroups.
func (e *Enforcer) hasHook(name string) bool {
	programs := []string{"lsm_" + name, "fmod_" + name}
	if hook, ok := strings.CutPrefix(name, "cgroup/"); ok {
		programs = []string{"cgroup_" + hook}
	}
	return slices.ContainsFunc(e.links, func(l attached) bool { return slices.Contains(programs, l.program) })
}
