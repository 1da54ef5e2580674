package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/plumbline-io/plumbline/pkg/baseline"
	"github.com/plumbline-io/plumbline/pkg/event"
)

// What a node with many workloads is taken to be, and how large the largest profile is.
const (
	manyWorkloads  = 100
	manyEntries    = 500
	largestProfile = 10_000
)

// memory measures what the agent and its maps need for many enforced workloads, and how long a large
// profile takes to get into force.
func memory(ctx context.Context, bin string) ([]row, error) {
	many, err := withProfiles(ctx, bin, manyWorkloads, manyEntries, (*agent).footprint)
	if err != nil {
		return nil, err
	}
	large, err := withProfiles(ctx, bin, 1, largestProfile, (*agent).application)
	return append(many, large...), err
}

// withProfiles measures an agent with workloads that have a promoted baseline; names are theirs.
func withProfiles(ctx context.Context, bin string, workloads, entries int, measure func(a *agent, names []string) ([]row, error)) (rows []row, err error) {
	s, err := newScope()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "plumbline-bench-")
	if err != nil {
		return nil, errors.Join(err, s.remove())
	}
	defer os.RemoveAll(dir)
	var names, cgroups []string
	defer func() {
		for _, c := range cgroups {
			err = errors.Join(err, os.Remove(c))
		}
		err = errors.Join(err, s.remove())
	}()
	for i := range workloads {
		c := filepath.Join(s.dir, fmt.Sprintf("w%d", i))
		if err := os.Mkdir(c, 0o755); err != nil {
			return nil, fmt.Errorf("make cgroup: %w", err)
		}
		cgroups, names = append(cgroups, c), append(names, s.workload(c))
		if err := writeProfile(filepath.Join(dir, "state", "baselines"), s.workload(c), entries); err != nil {
			return nil, err
		}
	}
	a, err := startAgent(ctx, bin, dir, s)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, a.stop()) }()
	return measure(a, names)
}

// footprint is the memory of agent and maps.
func (a *agent) footprint(names []string) ([]row, error) {
	status, err := a.status()
	if err != nil {
		return nil, err
	}
	maps, err := mapBytes(a.cmd.Process.Pid)
	if err != nil {
		return nil, err
	}
	what := fmt.Sprintf("%d workloads of %d entries", len(names), manyEntries)
	return []row{
		{"agent's resident memory, " + what, fmt.Sprintf("%.1f MiB", float64(status.RSS)/(1<<20)), "48 MiB"},
		{"the kernel's memory for its maps, the same", fmt.Sprintf("%.1f MiB", float64(maps)/(1<<20)), "32 MiB"},
	}, nil
}

// application is how long a change of the mode takes, which writes all of the profile anew.
func (a *agent) application(names []string) ([]row, error) {
	const times = 10
	fastest, command := time.Hour, time.Hour
	for i := range times {
		begin := time.Now()
		if _, err := a.ask("mode", "set", names[0], []string{"audit", "enforce"}[i%2]); err != nil {
			return nil, err
		}
		fastest = min(fastest, time.Since(begin))
		begin = time.Now()
		if _, err := a.status(); err != nil {
			return nil, err
		}
		command = min(command, time.Since(begin))
	}
	return []row{{
		fmt.Sprintf("a profile of %d entries put into force by a command, with its file written; fastest of %d", largestProfile, times),
		fmt.Sprintf("%.0f ms (of it the command, as status takes: %.0f ms)", fastest.Seconds()*1e3, command.Seconds()*1e3), "",
	}}, nil
}

// workload is the agent's name for a cgroup of the scope.
func (s *scope) workload(cgroup string) string {
	return strings.TrimPrefix(cgroup, filepath.Dir(s.dir))
}

// writeProfile puts a promoted baseline of many files where the agent finds it.
func writeProfile(dir, workload string, entries int) error {
	p := baseline.New(workload, "cgroup", event.AllDimensions)
	p.Add(event.Key{Op: event.OpExec, Path: program}, false, time.Now())
	for i := range entries - p.Len() {
		path := fmt.Sprintf("/usr/share/service/%d/part-%x/file-%d.conf", i%97, i*2654435761%65536, i)
		if p.Add(event.Key{Op: event.OpRead, Path: path}, false, time.Now()) == baseline.Full {
			return fmt.Errorf("write profile of %s: full after %d entries", workload, i)
		}
	}
	if err := p.Promote(event.Enforce, "bench"); err != nil {
		return fmt.Errorf("write profile of %s: %w", workload, err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("write profile: %w", err)
	}
	return os.WriteFile(filepath.Join(dir, url.PathEscape(workload)+".yaml"), p.Marshal(), 0o600)
}

// mapBytes is what the kernel accounts for the BPF maps that a process has open.
func mapBytes(pid int) (uint64, error) {
	infos, err := filepath.Glob(fmt.Sprintf("/proc/%d/fdinfo/*", pid))
	if err != nil {
		return 0, err
	}
	sizes := map[uint64]uint64{} // by the map's id
	for _, name := range infos {
		text, err := os.ReadFile(name)
		if err != nil {
			continue // closed meanwhile
		}
		var id, bytes uint64
		_, rest, ok := strings.Cut(string(text), "map_id:")
		if !ok {
			continue
		}
		_, lock, _ := strings.Cut(string(text), "memlock:")
		if _, err := fmt.Sscan(rest, &id); err != nil {
			return 0, fmt.Errorf("read maps of process %d: %w", pid, err)
		}
		if _, err := fmt.Sscan(lock, &bytes); err != nil {
			return 0, fmt.Errorf("read maps of process %d: %w", pid, err)
		}
		sizes[id] = bytes
	}
	sum := uint64(0)
	for _, bytes := range sizes {
		sum += bytes
	}
	return sum, nil
}
