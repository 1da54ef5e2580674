package workload

import (
	"os"
	"path/filepath"
	"slices"
	"syscall"
)

// Freezer is a cgroup that may be able to stop processes.
type Freezer struct {
	Dir      string
	ID       uint64
	Version1 bool // by the freezer controller
}

// Freezers lists where processes of a cgroup may be stopped: itself, in version 2. In the other layouts these are the
// cgroups of the same path under the freezer controller and in the version 2 tree, if somebody has made them: whether
// they hold the same processes, nobody says. proc is where proc is mounted; empty: /proc.
func (h *Hierarchy) Freezers(proc string, n Node) ([]Freezer, error) {
	if h.Controller == "" {
		return []Freezer{{Dir: n.Dir, ID: n.ID}}, nil
	}
	if proc == "" {
		proc = "/proc"
	}
	mounts, err := readMounts(filepath.Join(proc, "self/mountinfo"))
	if err != nil {
		return nil, err
	}
	var found []Freezer
	for _, m := range mounts {
		version1 := slices.Contains(m.controllers, "freezer")
		rel, err := filepath.Rel(m.root, n.Path)
		if !version1 && !m.version2 || err != nil || !filepath.IsLocal(rel) || rel == "." {
			continue
		}
		dir := filepath.Join(m.dir, rel)
		info, err := os.Stat(dir)
		if err != nil {
			continue
		}
		if stat, ok := info.Sys().(*syscall.Stat_t); ok && info.IsDir() {
			found = append(found, Freezer{Dir: dir, ID: stat.Ino, Version1: version1})
		}
	}
	return found, nil
}
