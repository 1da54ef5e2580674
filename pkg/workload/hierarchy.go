package workload

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// Layout is how a machine mounts its cgroup hierarchies.
type Layout string

// The layouts. Hybrid: version 1 controllers, and a version 2 tree without controllers beside them.
const (
	V2     Layout = "v2"
	Hybrid Layout = "hybrid"
	Legacy Layout = "legacy"
)

// Hierarchy is the one cgroup tree whose cgroups name workloads.
type Hierarchy struct {
	Layout     Layout
	Controller string // of version 1; empty: the version 2 tree
	ID         uint32 // the kernel's number of the hierarchy, 0 for version 2
	Mount      string
	root       string // path of the cgroup that is mounted at Mount; "/" unless it is a part of the tree
	resolver   *Resolver
}

// Config of Detect.
type Config struct {
	Proc  string // where proc is mounted; default /proc
	Scope string // a cgroup directory; its hierarchy is taken. Empty: the best of the machine
}

// controllers of version 1 that can name workloads, best first: systemd puts every unit into a pids
// cgroup by default, and every container runtime does.
func controllers() []string {
	return []string{"pids", "memory", "devices", "cpu", "freezer", "cpuset"}
}

type mount struct {
	dir, root   string
	version2    bool
	controllers []string
}

// Detect finds the layout and the hierarchy to use. In hybrid and legacy layouts only a version 1
// controller holds the containers too.
func Detect(cfg Config) (*Hierarchy, error) {
	if cfg.Proc == "" {
		cfg.Proc = "/proc"
	}
	mounts, err := readMounts(filepath.Join(cfg.Proc, "self/mountinfo"))
	if err != nil {
		return nil, err
	}
	layout, chosen, controller, err := choose(mounts, cfg.Scope)
	if err != nil {
		return nil, err
	}
	h := &Hierarchy{Layout: layout, Controller: controller, Mount: chosen.dir, root: chosen.root, resolver: NewResolver()}
	if cfg.Scope != "" {
		if h.resolver.chosen, err = h.path(cfg.Scope); err != nil {
			return nil, err
		}
	}
	if controller == "" {
		return h, nil
	}
	if h.ID, err = hierarchyID(filepath.Join(cfg.Proc, "self/cgroup"), controller); err != nil {
		return nil, err
	}
	return h, nil
}

func choose(mounts []mount, scope string) (Layout, mount, string, error) {
	var v2, inScope *mount
	v1 := map[string]mount{}
	for i, m := range mounts {
		if m.version2 && (v2 == nil || m.whole() && !v2.whole()) {
			v2 = &mounts[i]
		}
		for _, c := range m.controllers {
			if old, known := v1[c]; !known || m.whole() && !old.whole() {
				v1[c] = m
			}
		}
		if scope != "" && (scope == m.dir || strings.HasPrefix(scope, m.dir+"/")) && (inScope == nil || len(m.dir) > len(inScope.dir)) {
			inScope = &mounts[i]
		}
	}
	layout := V2
	switch {
	case len(v1) > 0 && v2 != nil:
		layout = Hybrid
	case len(v1) > 0:
		layout = Legacy
	case v2 == nil:
		return "", mount{}, "", errors.New("find cgroups: no cgroup hierarchy is mounted")
	}
	if scope != "" {
		if inScope == nil {
			return "", mount{}, "", fmt.Errorf("find cgroups: %s is in no mounted cgroup hierarchy", scope)
		}
		if inScope.version2 {
			return layout, *inScope, "", nil
		}
		if len(inScope.controllers) == 0 {
			return "", mount{}, "", fmt.Errorf("find cgroups: the hierarchy at %s has no controller; use one that has", inScope.dir)
		}
		return layout, *inScope, inScope.controllers[0], nil
	}
	if layout == V2 || v2 != nil && v2.dir == unified {
		return V2, *v2, "", nil // also if someone has mounted a version 1 controller for himself
	}
	for _, c := range controllers() {
		if m, ok := v1[c]; ok {
			return layout, m, c, nil
		}
	}
	return "", mount{}, "", errors.New("find cgroups: no version 1 controller that names workloads is mounted")
}

// unified is where the version 2 tree is mounted if it is the one that names workloads.
const unified = "/sys/fs/cgroup"

// whole says whether the mount shows all of its hierarchy. A container's bind mount does not.
func (m mount) whole() bool { return m.root == "/" }

// readMounts reads cgroup mounts from mountinfo, see proc_pid_mountinfo(5).
func readMounts(file string) ([]mount, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("read mounts: %w", err)
	}
	defer f.Close()
	var mounts []mount
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		left, right, ok := strings.Cut(lines.Text(), " - ")
		before, after := strings.Fields(left), strings.Fields(right)
		if !ok || len(before) < 5 || len(after) < 3 {
			continue
		}
		// In a cgroup namespace, what is above its root is shown as "/../..".
		m := mount{dir: unescape(before[4]), root: filepath.Join("/", unescape(before[3])), version2: after[0] == "cgroup2"}
		mounts = slices.DeleteFunc(mounts, func(hidden mount) bool { return hidden.dir == m.dir })
		if after[0] == "cgroup" {
			m.controllers = knownControllers(after[2])
		}
		if m.version2 || after[0] == "cgroup" {
			mounts = append(mounts, m)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read mounts: %w", err)
	}
	return mounts, nil
}

func knownControllers(options string) []string {
	var known []string
	for _, o := range strings.Split(options, ",") {
		for _, c := range controllers() {
			if o == c {
				known = append(known, c)
			}
		}
	}
	return known
}

// unescape undoes the octal escapes of mountinfo.
func unescape(s string) string {
	for _, e := range [][2]string{{`\040`, " "}, {`\011`, "\t"}, {`\012`, "\n"}, {`\134`, `\`}} {
		s = strings.ReplaceAll(s, e[0], e[1])
	}
	return s
}

// hierarchyID reads the number before a controller's line of /proc/self/cgroup, see cgroups(7).
func hierarchyID(file, controller string) (uint32, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return 0, fmt.Errorf("read hierarchy of %s: %w", controller, err)
	}
	for _, line := range strings.Split(string(data), "\n") {
		fields := strings.SplitN(line, ":", 3)
		if len(fields) != 3 {
			continue
		}
		for _, c := range strings.Split(fields[1], ",") {
			if c != controller {
				continue
			}
			id, err := strconv.ParseUint(fields[0], 10, 32)
			if err != nil {
				return 0, fmt.Errorf("read hierarchy of %s: %w", controller, err)
			}
			return uint32(id), nil
		}
	}
	return 0, fmt.Errorf("read hierarchy of %s: %s does not list it", controller, file)
}

// Node is one cgroup.
type Node struct {
	ID   uint64
	Path string // below the hierarchy's root, "/" for the root itself, as the kernel reports it
	Dir  string
}

// Resolve names the workload of a cgroup path.
func (h *Hierarchy) Resolve(path string) Workload { return h.resolver.Resolve(path) }

// path of a cgroup directory below the hierarchy's root.
func (h *Hierarchy) path(dir string) (string, error) {
	rel, err := filepath.Rel(h.Mount, dir)
	if err != nil || !filepath.IsLocal(rel) {
		return "", fmt.Errorf("read cgroup %s: it is not below %s", dir, h.Mount)
	}
	return filepath.Join("/", h.root, rel), nil
}

// Node describes a cgroup directory.
func (h *Hierarchy) Node(dir string) (Node, error) {
	info, err := os.Stat(dir)
	if err != nil {
		return Node{}, fmt.Errorf("read cgroup: %w", err)
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok || !info.IsDir() {
		return Node{}, fmt.Errorf("read cgroup %s: it is no directory", dir)
	}
	path, err := h.path(dir)
	if err != nil {
		return Node{}, err
	}
	// In kernfs the inode number is the cgroup's id (Linux 5.5, commit 67c0496e87d1).
	return Node{ID: stat.Ino, Path: path, Dir: dir}, nil
}

// Walk lists a cgroup directory and everything below it, parents first. What vanishes meanwhile or
// cannot be opened is left out: whoever may make a cgroup must not be able to stop us, for example by
// nesting them deeper than a path can be long.
func (h *Hierarchy) Walk(dir string) ([]Node, error) {
	top, err := h.Node(dir)
	if err != nil {
		return nil, fmt.Errorf("walk cgroups: %w", err)
	}
	nodes := []Node{top}
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		switch {
		case path == dir:
			return err
		case err != nil || !d.IsDir():
			return nil
		}
		n, err := h.Node(path)
		if err != nil {
			return fs.SkipDir
		}
		nodes = append(nodes, n)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("walk cgroups of %s: %w", dir, err)
	}
	return nodes, nil
}

// Processes lists the process ids in a cgroup itself; none if it is gone.
func (n Node) Processes() ([]uint32, error) {
	data, err := os.ReadFile(filepath.Join(n.Dir, "cgroup.procs"))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENODEV) || errors.Is(err, syscall.EOPNOTSUPP) {
		return nil, nil // removed meanwhile, or a threaded cgroup, whose top lists its processes
	}
	if err != nil {
		return nil, fmt.Errorf("read processes of %s: %w", n.Path, err)
	}
	var pids []uint32
	for _, field := range strings.Fields(string(data)) {
		pid, err := strconv.ParseUint(field, 10, 32)
		if err != nil {
			return nil, fmt.Errorf("read processes of %s: %w", n.Path, err)
		}
		pids = append(pids, uint32(pid))
	}
	return pids, nil
}

// Oldest finds the process of a container that started first, by the path of its cgroup as the kernel reports
// it. Of very many processes it looks at some. False: there is none.
func (h *Hierarchy) Oldest(proc Proc, path string) (pid uint32, ok bool) {
	const most = 64
	rel, err := filepath.Rel(filepath.Join("/", h.root), path)
	if err != nil || !filepath.IsLocal(rel) {
		return 0, false
	}
	var pids []uint32
	// crun puts a container's processes one cgroup below, and so does a systemd in it.
	for _, below := range []string{"", "container", "init.scope"} {
		pids, err = Node{Path: path, Dir: filepath.Join(h.Mount, rel, below)}.Processes()
		if err != nil || len(pids) > 0 {
			break
		}
	}
	var oldest uint64
	for _, candidate := range pids[:min(len(pids), most)] {
		stat, err := readBounded(proc.path(candidate, "stat"), maxStat)
		if err != nil {
			continue // ended meanwhile
		}
		if p, err := parseStat(stat); err == nil && (!ok || p.Start < oldest) {
			pid, oldest, ok = candidate, p.Start, true
		}
	}
	return pid, ok
}
