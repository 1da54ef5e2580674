package main

import (
	"errors"

	"github.com/spf13/cobra"

	"github.com/plumbline-io/plumbline/pkg/agent"
	"github.com/plumbline-io/plumbline/pkg/sensor"
)

// hintFor says what a user can do about an error of a verb.
func hintFor(cmd *cobra.Command, err error) string {
	switch {
	case errors.Is(err, agent.ErrNotRunning) && agent.IsPermission(err):
		return "the agent answers root only"
	case errors.Is(err, agent.ErrNotRunning):
		return "start it with 'plumbline-agent run', or name its socket with --socket"
	case errors.Is(err, agent.ErrNotReady):
		return "start it anew (systemctl restart UNIT, or another container) and use it, until a run from its start does nothing new; or say with --force why it will do"
	case errors.Is(err, agent.ErrNoSuchWorkload):
		return "'plumbline-agent status' lists the workloads"
	case agent.IsPermission(err):
		return "run it as root, or with the capabilities that deploy/rpm/plumbline-agent.service lists"
	case agent.IsPinned(err):
		return "stop the other agent, or choose another --pin-dir"
	case agent.IsNotOwn(err):
		return "name a directory of its own with --pin-dir"
	case agent.IsInUse(err):
		return "stop what has it (another agent?), or choose another --state-dir, --socket, --metrics, --falco-socket or --falco-http-listen"
	case errors.Is(err, sensor.ErrNotSupported) && cmd.Name() != "check":
		return "'plumbline-agent check' lists what this kernel supports"
	case errors.Is(err, sensor.ErrNotSupported):
		return "docs/limits.md says which kernels it can run on"
	case isUsage(err):
		return "see '" + cmd.CommandPath() + " --help'"
	default:
		return ""
	}
}
