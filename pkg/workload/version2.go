package workload

import (
	"errors"
	"path/filepath"
)

// ErrNoVersion2 means that no version 2 cgroup tree is mounted.
var ErrNoVersion2 = errors.New("no version 2 cgroup hierarchy is mounted")

// Version2Mount is where the version 2 tree is mounted, whether its cgroups name workloads or not. proc is
// where proc is mounted; empty: /proc.
func Version2Mount(proc string) (string, error) {
	if proc == "" {
		proc = "/proc"
	}
	mounts, err := readMounts(filepath.Join(proc, "self/mountinfo"))
	if err != nil {
		return "", err
	}
	found := ""
	for _, m := range mounts {
		if m.version2 && (found == "" || m.whole()) {
			found = m.dir
		}
	}
	if found == "" {
		return "", ErrNoVersion2
	}
	return found, nil
}
