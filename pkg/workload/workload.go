// Package workload says which workload a cgroup is, and reads what the kernel tells of cgroups and
// processes. It is the only package that parses /proc and cgroupfs. It must never change anything
// there, and never trusts a name: whoever may make a cgroup chose it.
//
//	h, err := workload.Detect(workload.Config{})
//	w := workload.Resolve("/system.slice/nginx.service") // nginx.service, a unit
package workload

import (
	"regexp"
	"strings"
)

// Kind of a workload.
type Kind string

// The kinds. Cgroup is a control group that belongs to no unit and no container.
const (
	Container Kind = "container"
	Unit      Kind = "unit"
	Cgroup    Kind = "cgroup"
	Host      Kind = "host"
)

// Workload is what a baseline is kept for.
type Workload struct {
	Name        string // nginx.service, a container's short id, or a cgroup's path; see Resolve
	Kind        Kind
	ContainerID string // 64 hexadecimal digits
	PodUID      string
	Unit        string
	Cgroup      string // path of the cgroup that is the workload's top
}

// shortID is how many digits of a container's id people use.
const shortID = 12

// maxPath bounds a path that we look at; PATH_MAX of Linux.
const maxPath = 4096

// Resolver names workloads. It never changes and is safe for concurrent use.
type Resolver struct {
	container, pod *regexp.Regexp
	chosen         string // path of the scope: the operator vouches for the names in it
}

// NewResolver makes a Resolver.
func NewResolver() *Resolver {
	return &Resolver{
		// docker-ID.scope, cri-containerd-ID.scope, libpod-ID.scope, ID, and runc's slice:prefix:ID.
		container: regexp.MustCompile(`^(?:(.*)[-:])?([0-9a-f]{64})(?:\.scope)?$`),
		// A static pod's UID is a hash without dashes.
		pod: regexp.MustCompile(`(?:^|-)pod([0-9a-f]{8}[-_][0-9a-f]{4}[-_][0-9a-f]{4}[-_][0-9a-f]{4}[-_][0-9a-f]{12}|[0-9a-f]{32})(?:\.slice)?(?::.*)?$`),
	}
}

// Resolve names the workload of a cgroup by its path below the hierarchy's root.
//
// The outermost container or unit wins: what is below is made by the workload itself, which must not
// get another's name by making a cgroup of that name. Whoever else may make cgroups is part of the
// names below: user@1000.service/shell.service, web.service/0123456789ab, /batch/nginx.service.
func (r *Resolver) Resolve(path string) Workload {
	if len(path) > maxPath {
		path = path[:maxPath]
	}
	path = "/" + strings.Trim(path, "/")
	if path == "/" {
		return Workload{Name: "host", Kind: Host, Cgroup: "/"}
	}
	w := Workload{Name: path, Kind: Cgroup, Cgroup: path}
	var (
		owner, pod string
		held       bool // by a unit: the rest is its own
		at         int
	)
	chosen := r.chosenPart(path)
	for segment := range strings.SplitSeq(path[1:], "/") {
		at += 1 + len(segment)
		if m := r.pod.FindStringSubmatch(segment); m != nil {
			pod = strings.ReplaceAll(m[1], "_", "-")
		}
		if m := r.container.FindStringSubmatch(segment); m != nil && !strings.HasSuffix(m[1], "conmon") {
			return Workload{Name: below(owner, m[2][:shortID]), Kind: Container, ContainerID: m[2], PodUID: pod, Cgroup: path[:at]}
		}
		switch {
		case held:
		case isUnit(segment):
			w = Workload{Name: below(owner, segment), Kind: Unit, Unit: segment, Cgroup: path[:at]}
			// A user's manager makes units too.
			held = owner != "" || !isUserManager(segment)
			owner = w.Name
		case at <= chosen, w.Kind == Unit, strings.HasSuffix(segment, ".slice"), r.pod.MatchString(segment), isRuntimeParent(segment):
		default:
			owner = path[:at]
		}
	}
	if w.Kind == Cgroup {
		w.PodUID = pod
	}
	return w
}

// chosenPart is how much of path lies in the scope's own path.
func (r *Resolver) chosenPart(path string) int {
	if path == r.chosen || strings.HasPrefix(path, r.chosen+"/") {
		return len(r.chosen)
	}
	return 0
}

func below(owner, name string) string {
	if owner == "" {
		return name
	}
	return owner + "/" + name
}

// isUnit says whether systemd gave this name: a service or a scope. Slices only group others.
func isUnit(segment string) bool {
	for _, suffix := range [...]string{".service", ".scope", ".socket", ".mount", ".swap"} {
		if len(segment) > len(suffix) && strings.HasSuffix(segment, suffix) {
			return true
		}
	}
	return false
}

// isUserManager says whether a unit is the manager of a user's own units.
func isUserManager(unit string) bool {
	return strings.HasPrefix(unit, "user@") && strings.HasSuffix(unit, ".service")
}

// isRuntimeParent knows the cgroups in which runtimes that do without systemd put their containers.
func isRuntimeParent(segment string) bool {
	switch segment {
	case "docker", "kubepods", "burstable", "besteffort", "guaranteed", "libpod_parent", "k8s.io", "moby":
		return true
	}
	return false
}
