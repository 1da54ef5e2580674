package agent

import (
	"errors"
	"fmt"
	"path"
	"slices"

	"github.com/plumbline-io/plumbline/pkg/event"
	"github.com/plumbline-io/plumbline/pkg/sensor"
)

// ErrGuarded means that a machine depends on the workload too much to hold it to a baseline.
var ErrGuarded = errors.New("the machine depends on this workload")

// guards are the workloads that are never enforced unless the configuration names them: what starts
// containers and units, and the way in. Shell patterns, of names.
func guards() []string {
	return []string{
		"/", "/init.scope", "init.scope", "systemd-*.service", "user@*.service", "dbus.service", "dbus-broker.service",
		"ssh.service", "sshd.service", "ssh@*.service", "sshd@*.service", "kubelet.service", "k3s.service", "k3s-agent.service",
		"containerd.service", "docker.service", "crio.service", "podman.service", "plumbline-agent.service",
	}
}

// matches says whether one of some shell patterns is for a name.
func matches(patterns []string, name string) bool {
	return slices.ContainsFunc(patterns, func(pattern string) bool {
		matches, err := path.Match(pattern, name)
		return err == nil && matches
	})
}

func (r *registry) isGuarded(name string) bool {
	return matches(guards(), name) && !slices.Contains(r.Unguarded, name)
}

// checkEnforce refuses to enforce what is guarded, and anything on a kernel without means.
func (r *registry) checkEnforce(name string) error {
	if r.Enforcer == nil {
		return fmt.Errorf("enforce %q: %w by this kernel", name, sensor.ErrNotSupported)
	}
	if r.isGuarded(name) {
		return fmt.Errorf("enforce %q: %w: name it under unguarded in the configuration if it has to be", name, ErrGuarded)
	}
	return nil
}

// protectContainers among the patterns of protected workloads stands for every container.
const protectContainers = "containers"

// isProtected says whether rules that deny do so in a workload: if it is enforced, or the configuration
// names it.
func (r *registry) isProtected(m *member) bool {
	switch {
	case r.Enforcer == nil || r.isGuarded(m.subject.Name):
		return false
	case m.subject.Mode == event.Enforce || matches(r.Protect, m.subject.Name):
		return true
	}
	return m.subject.ContainerID != "" && slices.Contains(r.Protect, protectContainers)
}
