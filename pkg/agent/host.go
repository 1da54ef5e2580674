package agent

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/plumbline-io/plumbline/pkg/detect"
	"github.com/plumbline-io/plumbline/pkg/event"
	"github.com/plumbline-io/plumbline/pkg/identity"
	"github.com/plumbline-io/plumbline/pkg/sensor"
	"github.com/plumbline-io/plumbline/pkg/workload"
)

// cgroup is one control group in scope.
type cgroup = workload.Node

// host is the machine as the agent sees it: its cgroups, processes and clock.
type host struct {
	hierarchy *workload.Hierarchy
	proc      workload.Proc
	clock     workload.Clock
	ids       *identity.Template
	scope     []string
	kernel    string
	fallback  detect.Subject
	btf       string
}

func openHost(cfg Config) (*host, error) {
	h := &host{proc: workload.NewProc(""), scope: cfg.Scope, btf: cfg.BTF}
	first := ""
	if len(cfg.Scope) > 0 {
		first = cfg.Scope[0]
	}
	var err error
	if h.hierarchy, err = workload.Detect(workload.Config{Scope: first}); err != nil {
		return nil, err
	}
	for _, dir := range cfg.Scope {
		if rel, err := filepath.Rel(h.hierarchy.Mount, dir); err != nil || !filepath.IsLocal(rel) {
			return nil, fmt.Errorf("check scope %s: it is not in the hierarchy at %s, as %s is", dir, h.hierarchy.Mount, first)
		}
	}
	if h.clock, err = workload.NewClock(); err != nil {
		return nil, err
	}
	h.ids, err = identity.NewTemplate(cfg.TrustDomain, identity.DefaultTemplate, cfg.Node, cfg.ControlPlane.Cluster)
	if err != nil {
		return nil, err
	}
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return nil, fmt.Errorf("read kernel release: %w", err)
	}
	h.kernel = unix.ByteSliceToString(u.Release[:])
	h.fallback = h.Subject("/")
	return h, nil
}

// SensorConfig says which hierarchy the programs read.
func (h *host) SensorConfig() (sensor.Config, error) {
	cfg := sensor.Config{
		Hierarchy: sensor.HierarchyV2, HierarchyID: h.hierarchy.ID,
		Scoped: len(h.scope) > 0, PerProcess: len(h.scope) > 0,
	}
	var err error
	if cfg.Types, err = sensor.ReadTypes(h.btf); err != nil || h.hierarchy.Controller == "" {
		return cfg, err
	}
	cfg.Hierarchy, err = cfg.Types.ControllerIndex(h.hierarchy.Controller)
	return cfg, err
}

// Cgroups lists what is in scope, parents first.
func (h *host) Cgroups() ([]cgroup, error) {
	tops := h.scope
	if len(tops) == 0 {
		tops = []string{h.hierarchy.Mount}
	}
	var all []cgroup
	for _, top := range tops {
		nodes, err := h.hierarchy.Walk(top)
		if err != nil {
			return nil, err
		}
		all = append(all, nodes...)
	}
	return all, nil
}

// Own is the workload that this process is of; without a name if none of these cgroups holds it. In a container it is
// not to be had of /proc, which shows the cgroup as its own root.
func (h *host) Own(cgroups []cgroup) detect.Subject {
	for _, cg := range cgroups {
		if pids, err := cg.Processes(); err == nil && slices.Contains(pids, uint32(os.Getpid())) {
			return h.Subject(cg.Path)
		}
	}
	return detect.Subject{}
}

// NetworkCgroups are the directories for hooks of the network: what is in scope of a version 2 tree. In the
// other layouts workloads are told apart by another hierarchy, which has no such hooks.
func (h *host) NetworkCgroups() []string {
	switch {
	case h.hierarchy.Controller != "":
		return nil
	case len(h.scope) > 0:
		return h.scope
	}
	return []string{h.hierarchy.Mount}
}

// NetworkScope is the directory of a cgroup of the scope that has hooks of the network; false: it has none of its own.
func (h *host) NetworkScope(path string) (dir string, ok bool) {
	dir = filepath.Join(h.hierarchy.Mount, path)
	i := slices.IndexFunc(h.scope, func(s string) bool { return filepath.Clean(s) == dir })
	if i < 0 || h.hierarchy.Controller != "" {
		return "", false
	}
	return h.scope[i], true
}

// Subject names the workload of a cgroup path and gives it its identity.
func (h *host) Subject(path string) detect.Subject {
	w := h.hierarchy.Resolve(path)
	s := detect.Subject{
		Name: w.Name, Kind: string(w.Kind), ContainerID: w.ContainerID, PodUID: w.PodUID, Cgroup: w.Cgroup, IdentitySource: identity.Source,
	}
	id, err := h.ids.ID(s.Kind, s.Name)
	if err != nil {
		s.IdentitySource = "none" // a name that no SPIFFE ID can hold: too long
	}
	s.SPIFFEID = id
	return s
}

// Fallback stands for processes in a cgroup that is not known.
func (h *host) Fallback() detect.Subject { return h.fallback }

// Processes reads what runs in a cgroup now.
func (h *host) Processes(cg cgroup) []event.Process {
	pids, err := cg.Processes()
	if err != nil {
		return nil // removed meanwhile
	}
	var all []event.Process
	for _, pid := range pids {
		p, err := h.proc.Read(pid)
		if err != nil {
			continue // ended meanwhile
		}
		path := p.Exe
		if p.Deleted {
			path = "" // no name that a baseline could hold
		}
		all = append(all, event.Process{
			PID: p.PID, PPID: p.PPID, Start: p.Start, UID: p.UID, Comm: p.Comm,
			Path: path, Args: p.Args, Cwd: p.Cwd, Partial: true,
			Membership: event.Membership{VPID: p.VPID, Session: p.Session, Group: p.Group, TTY: p.TTY},
		})
	}
	return all
}

// Everybody lists the machine's first process and all that runs in scope.
func (h *host) Everybody() []uint32 {
	all := []uint32{1}
	cgroups, err := h.Cgroups()
	if err != nil {
		return all // the mount of the hierarchy is gone
	}
	for _, cg := range cgroups {
		if pids, err := cg.Processes(); err == nil {
			all = append(all, pids...)
		}
	}
	return all
}

// Images lists the executable files that a process has mapped, its own first.
func (h *host) Images(pid uint32) ([]sensor.Image, error) {
	files, err := h.proc.Images(pid)
	if err != nil {
		return nil, err
	}
	images := make([]sensor.Image, len(files))
	for i, f := range files {
		images[i] = sensor.Image{
			PID: pid, File: f.File, Name: f.Name,
			Key: sensor.ImageKey{Inode: f.Inode, Size: f.Size, Mtime: f.Mtime},
		}
	}
	return images, nil
}

// Wall is the time of a kernel time stamp.
func (h *host) Wall(ktime uint64) time.Time { return h.clock.Wall(ktime) }

// Kernel is the running kernel's release.
func (h *host) Kernel() string { return h.kernel }

// Arch is the processor architecture in Go's names.
func (h *host) Arch() string { return runtime.GOARCH }

// RSS is the agent's resident memory in bytes.
func (h *host) RSS() uint64 { return h.proc.RSS() }

// Layout is the cgroup layout and the hierarchy in use.
func (h *host) Layout() string {
	if h.hierarchy.Controller == "" {
		return fmt.Sprintf("%s, version 2 tree at %s", h.hierarchy.Layout, h.hierarchy.Mount)
	}
	return fmt.Sprintf("%s, controller %s at %s", h.hierarchy.Layout, h.hierarchy.Controller, h.hierarchy.Mount)
}
