package response

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/plumbline-io/plumbline/pkg/workload"
)

// Target is a workload that a response is for.
type Target struct {
	workload.Workload
	Hierarchy *workload.Hierarchy
	Tops      []workload.Node // cgroups that hold all of it, and nothing else; at least one
}

// Check refuses what must not be touched whatever anybody configures: who holds the first process, or this one.
func (t Target) Check() error {
	if len(t.Tops) == 0 {
		return errors.New("it has no cgroup any more")
	}
	for _, top := range t.Tops {
		if top.Path == "/" {
			return errors.New("it is the root cgroup")
		}
	}
	pids, err := t.processes()
	if err != nil {
		return err
	}
	for pid, what := range map[uint32]string{1: "the machine's first process", uint32(os.Getpid()): "the agent"} {
		if pids[pid] {
			return fmt.Errorf("%s is in it", what)
		}
	}
	return nil
}

// processes lists what runs in it now.
func (t Target) processes() (map[uint32]bool, error) {
	all := map[uint32]bool{}
	for _, top := range t.Tops {
		if err := addProcesses(all, top.Dir); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// addProcesses adds what runs in a cgroup directory and below. What is gone has none.
func addProcesses(all map[uint32]bool, dir string) error {
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return nil
		}
		pids, err := workload.Node{Path: path, Dir: path}.Processes()
		if err != nil {
			return err
		}
		for _, pid := range pids {
			all[pid] = true
		}
		return nil
	})
}
