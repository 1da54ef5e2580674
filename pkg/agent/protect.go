package agent

import (
	"context"
	"time"

	"github.com/plumbline-io/plumbline/pkg/enforce"
	"github.com/plumbline-io/plumbline/pkg/workload"
)

// protectFor is how long containers are kept from an agent in a container that does not say any more that it lives, and has
// not been seen to end.
const protectFor = 30 * time.Second

// protectable is what the protection of an agent in a container needs of the kernel: it lasts until this time of
// CLOCK_MONOTONIC.
type protectable interface{ ProtectUntil(until uint64) error }

// isContainer says whether the agent is in a container. The next one will be in another, and has to get at what this one
// leaves in the kernel.
func (a *Agent) isContainer() bool { return a.own.Kind == string(workload.Container) }

// protect keeps containers from what the agent has in the kernel: for ever, or as long as one in a container runs.
func (a *Agent) protect() error {
	dir := ""
	if a.unpinned == "" {
		dir = a.cfg.PinDir
	}
	until, err := enforce.ForEver, error(nil)
	if a.isContainer() {
		until, err = protectedUntil()
	}
	e := a.kernel.enforcer
	switch {
	case err != nil:
		a.unprotected = err.Error()
	case e == nil:
		a.unprotected = "this kernel has no means"
	case a.isContainer() && e.Unseen() != "":
		a.unprotected = "it runs in a container, as the next agent will, and the kernel would not see its end: " + e.Unseen()
	default:
		if err := e.Protect(dir, until); err != nil {
			a.unprotected = err.Error()
		}
	}
	if a.unprotected != "" {
		a.cfg.Log.Warn("containers are not kept from the agent's maps, programs and pins", "reason", a.unprotected)
	}
	return nil
}

// protectedUntil is how long the protection of an agent lasts that is alive now.
func protectedUntil() (uint64, error) {
	now, err := monotonic()
	return now + uint64(protectFor), err
}

// goOnProtecting says every second that the agent lives, until ctx ends.
func (a *Agent) goOnProtecting(ctx context.Context, kernel protectable) error {
	return a.lookAgain(ctx, "go on with the agent's protection", func() error {
		until, err := protectedUntil()
		if err != nil {
			return err
		}
		return kernel.ProtectUntil(until)
	})
}

// endProtection of an agent in a container, before another one may have its pins.
func (a *Agent) endProtection() error {
	if !a.isContainer() || a.kernel == nil || a.kernel.enforcer == nil {
		return nil
	}
	return a.kernel.enforcer.ProtectUntil(0)
}

// protectedOnly says how long containers are kept from the agent, in words; empty: for ever.
func (a *Agent) protectedOnly() string {
	if !a.isContainer() {
		return ""
	}
	return "while it runs: it is in a container, as the next agent will be"
}
