package agent

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/plumbline-io/plumbline/pkg/detect"
	"github.com/plumbline-io/plumbline/pkg/event"
	"github.com/plumbline-io/plumbline/pkg/sensor"
	"github.com/plumbline-io/plumbline/pkg/workload"
)

// ErrGuarded means that a machine depends on the workload too much to hold it to a baseline.
var ErrGuarded = errors.New("the machine depends on this workload")

// guards are the workloads that are never enforced unless the configuration names them: what starts
// containers and units, and the ways in. Shell patterns, of the names that pkg/workload gives.
func guards() []string {
	return []string{
		"host", "init.scope", "systemd-*.service", "user@*.service", "user@*.service/init.scope",
		"dbus.service", "dbus-broker.service", "user@*.service/dbus.service", "user@*.service/dbus-broker.service",

		// After the login, a part of sshd is in the session.
		"ssh.service", "sshd.service", "ssh@*.service", "sshd@*.service", "sshd-*.service", "session-*.scope",
		"getty@*.service", "serial-getty@*.service", "console-getty.service", "emergency.service", "rescue.service",

		// The monitors of containers start the runtime in their own scope.
		"kubelet.service", "containerd.service", "docker.service", "cri-docker.service", "crio.service", "podman.service",
		"*-conmon-*.scope", "user@*.service/*-conmon-*.scope", "user@*.service/podman.service", "user@*.service/docker.service",
		"k3s.service", "k3s-agent.service", "rke2-server.service", "rke2-agent.service",
		"k0scontroller.service", "k0sworker.service", "snap.docker.*", "snap.microk8s.daemon-*", "snap.k8s.*",
		"/docker", "/moby", "/k8s.io", "/libpod_parent", "/kubepods", "/kubepods/*", "/kubepods/*/*",

		"plumbline-agent.service",
	}
}

// isSlice says whether a name is that of a cgroup in which systemd makes units, and runtimes containers. As the
// parents of containers elsewhere it is guarded because what is made in it counts to it, until the agent has read of it.
func isSlice(name string) bool {
	return strings.HasPrefix(name, "/") && strings.HasSuffix(name, ".slice")
}

// matches says whether one of some shell patterns is for a name.
func matches(patterns []string, name string) bool {
	return slices.ContainsFunc(patterns, func(pattern string) bool {
		matches, err := path.Match(pattern, name)
		return err == nil && matches
	})
}

func (r *registry) isGuarded(name string) bool {
	return (name == r.Own || isSlice(name) || matches(guards(), name)) && !slices.Contains(r.Unguarded, name)
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

// newContainerFlags are those of a container that the agent has not read of yet. Where the agent is in one itself, rules do
// not deny there: the next agent is another container, and must be able to load its programs before anybody has named it.
func newContainerFlags(own detect.Subject, protect []string) uint32 {
	if own.Kind == string(workload.Container) || !slices.Contains(protect, protectContainers) {
		return sensor.Container
	}
	return sensor.Container | sensor.Protected
}

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
