package agent

import (
	"github.com/plumbline-io/plumbline/pkg/detect"
	"github.com/plumbline-io/plumbline/pkg/rule"
	"github.com/plumbline-io/plumbline/pkg/workload"
)

// facts tells rules what no event holds: names of users and groups, and what runtimes know of containers. It
// belongs to the event loop.
type facts struct {
	proc       workload.Proc
	accounts   *workload.Accounts
	containers *workload.Containers // its Find is for everybody
	subject    *detect.Subject      // of the current event

	// The session that was read last, for one event.
	of    sessionKey
	last  rule.Session
	found bool

	// The container that was asked about last.
	mounted string
	mounts  []rule.Mount
}

type sessionKey struct {
	pid   uint32
	ktime uint64
}

func newFacts(h *host, subject *detect.Subject) *facts {
	return &facts{
		proc:       h.proc,
		accounts:   workload.NewAccounts(h.proc, func(cgroup string) (uint32, bool) { return h.hierarchy.Oldest(h.proc, cgroup) }),
		containers: workload.NewContainers(),
		subject:    subject,
	}
}

func (f *facts) actor(e *rule.Env) workload.Actor {
	return workload.Actor{
		PID: e.Event.Tgid, Start: e.Event.Process.Start, ContainerID: e.Workload.ContainerID, Cgroup: f.subject.Cgroup, Now: e.Event.Ktime,
	}
}

// User implements rule.Facts.
func (f *facts) User(e *rule.Env, uid uint32) (rule.User, bool) {
	u, ok := f.accounts.User(f.actor(e), uid)
	return rule.User(u), ok
}

// Session implements rule.Facts. A process that has ended has none.
func (f *facts) Session(e *rule.Env) (rule.Session, bool) {
	if key := (sessionKey{e.Event.Tgid, e.Event.Ktime}); key != f.of {
		f.of = key
		f.last, f.found = f.read(e)
	}
	return f.last, f.found
}

func (f *facts) read(e *rule.Env) (rule.Session, bool) {
	s, err := f.proc.Session(e.Event.Tgid, e.Event.Process.Start)
	if err != nil {
		return rule.Session{}, false
	}
	session := rule.Session{GID: s.GID, LoginUID: -1}
	if s.Audited {
		session.LoginUID = int64(s.LoginUID)
	}
	session.Group, _ = f.accounts.Group(f.actor(e), s.GID)
	return session, true
}

// mountsOf are a container's in the words of rules, made anew when it is another container's turn.
func (f *facts) mountsOf(id string, mounts []workload.Mount) []rule.Mount {
	if id == f.mounted && len(f.mounts) == len(mounts) {
		return f.mounts
	}
	f.mounted, f.mounts = id, make([]rule.Mount, len(mounts))
	for i, m := range mounts {
		f.mounts[i] = rule.Mount(m)
	}
	return f.mounts
}

// Container implements rule.Facts.
func (f *facts) Container(e *rule.Env) (rule.Container, bool) {
	i, ok := f.containers.Get(e.Workload.ContainerID, f.subject.PodUID, e.Event.Ktime)
	c := rule.Container{
		Name: i.Name, Runtime: i.Runtime, Image: i.Image, ImageID: i.ImageID, Pod: i.Pod, Namespace: i.Namespace, PodUID: i.PodUID,
	}
	c.Repository, c.Tag, c.Digest = rule.SplitImage(i.Image)
	c.Confined, c.Privileged = i.Confinement.Known, i.Confinement.Privileged
	c.Mounts = f.mountsOf(e.Workload.ContainerID, i.Confinement.Mounts)
	return c, ok
}
