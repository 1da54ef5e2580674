package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/plumbline-io/plumbline/test/bench/load"
	"github.com/plumbline-io/plumbline/test/bench/report"
)

const (
	loadDir   = "/srv/bench"
	scopeDir  = "/sys/fs/cgroup/bench"
	agentDir  = "/sys/fs/cgroup/bench-agent"
	pageBytes = 4096
	// settle is how long the agent gets to work off what the load left in its queues.
	settle = 200 * time.Millisecond
	// rest is how long it gets for what it puts off after it was asked or told something, as to save and to give memory
	// back: ten million instructions, which are none of the load's. Idle time passes at once here.
	rest = 20 * time.Second
	// idleFor is how long it is watched without a load: what it does now and then is in it at its share.
	idleFor = 10 * time.Second
)

// stage is the two cgroups, that of the loads and that of the agent.
type stage struct {
	script string
	agent  bool // it is running
}

func newStage(script string) (*stage, error) {
	for _, dir := range []string{scopeDir, agentDir} {
		if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, fmt.Errorf("make cgroup: %w", err)
		}
	}
	return &stage{script: script}, nil
}

// in makes cmd run in a cgroup from its first instruction on. The directory is to be closed after the
// start.
func in(dir string, cmd *exec.Cmd) (*os.File, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, fmt.Errorf("open cgroup: %w", err)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(f.Fd())}
	return f, nil
}

// call asks the agent's script for something.
func (s *stage) call(word string, answer *bytes.Buffer) error {
	cmd := exec.Command(s.script, word)
	cmd.Env = append(os.Environ(), "SCOPE="+scopeDir)
	cmd.Stderr = os.Stderr
	if answer != nil {
		cmd.Stdout = answer
	}
	dir, err := in(agentDir, cmd)
	if err != nil {
		return err
	}
	defer dir.Close()
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("agent's script, %s: %w", word, err)
	}
	s.agent = word != "stop"
	return nil
}

// start starts the agent and tells what that took, and how much of it in the kernel.
func (s *stage) start() (all, kernel float64, err error) {
	before, err := usage()
	if err != nil {
		return 0, 0, err
	}
	if err := s.call("start", nil); err != nil {
		return 0, 0, err
	}
	after, err := usage()
	agent, threads := after.since(before)
	return agent + threads, after.system - before.system + threads, err
}

// events that reached the agent so far, by kind, if it tells.
func (s *stage) events() (map[string]uint64, error) {
	if !s.agent {
		return nil, nil
	}
	var out bytes.Buffer
	if err := s.call("report", &out); err != nil {
		return nil, err
	}
	var told struct{ Events map[string]uint64 }
	if err := json.Unmarshal(out.Bytes(), &told); err != nil {
		return nil, nil // another agent may have no such numbers
	}
	return told.Events, nil
}

// parts is how many measurements one is made of: what a part costs inline is the median of them, because
// now and then the kernel does something else in the middle of it.
const parts = 9

// run measures n operations of a load that is warm.
func (s *stage) run(k load.Kind, n int) (c report.Cost, err error) {
	p, err := startLoad(k.Name)
	if err != nil {
		return c, err
	}
	defer func() { err = errors.Join(err, p.end()) }()
	if _, err := p.do(max(n/10, learnRounds)); err != nil {
		return c, err
	}
	time.Sleep(settle)
	events, err := s.events()
	if err != nil {
		return c, err
	}
	time.Sleep(rest)
	// What it does in a while without a load is none of the load's, and in each measurement there is such a while. What it
	// does of itself while the load runs counts.
	idle, err := usage()
	if err != nil {
		return c, err
	}
	time.Sleep(idleFor)
	begin, err := usage()
	if err != nil {
		return c, err
	}
	each := max(n/parts, 1)
	inline := make([]float64, parts)
	for i := range inline {
		if inline[i], err = inlineOf(p, each); err != nil {
			return c, err
		}
	}
	time.Sleep(settle)
	end, err := usage()
	if err != nil {
		return c, err
	}
	slices.Sort(inline)
	done := float64(each * parts)
	idleAgent, idleThreads := begin.since(idle)
	agent, threads := end.since(begin)
	share := settle.Seconds() / idleFor.Seconds()
	c = report.Cost{
		Inline: inline[parts/2] / float64(each), Agent: max(agent-idleAgent*share, 0) / done, Threads: max(threads-idleThreads*share, 0) / done,
		Idle: (idleAgent + idleThreads) / idleFor.Seconds(),
	}
	now, err := s.events()
	if err != nil || now == nil {
		return c, err
	}
	c.Events = map[string]float64{}
	for kind, count := range now {
		if count != events[kind] {
			c.Events[kind] = float64(count-events[kind]) / done
		}
	}
	return c, nil
}

// inlineOf is the time of n operations without that of the agent and of kernel threads meanwhile.
func inlineOf(p *process, n int) (float64, error) {
	before, err := usage()
	if err != nil {
		return 0, err
	}
	elapsed, err := p.do(n)
	if err != nil {
		return 0, err
	}
	after, err := usage()
	agent, threads := after.since(before)
	return elapsed - agent - threads, err
}

// used is time on the CPU since boot, in nanoseconds.
type used struct {
	agent   float64
	system  float64            // of agent, in the kernel; to a timer's tick
	threads map[string]float64 // the kernel's, by process id
}

// since is what was used after u: by the agent, and by those kernel threads that are still there.
func (u used) since(before used) (agent, threads float64) {
	for pid, ns := range u.threads {
		threads += ns - before.threads[pid]
	}
	return u.agent - before.agent, threads
}

func usage() (u used, err error) {
	stat, err := os.ReadFile(agentDir + "/cpu.stat")
	if err != nil {
		return u, fmt.Errorf("read the agent's time: %w", err)
	}
	for name, to := range map[string]*float64{"usage_usec ": &u.agent, "system_usec ": &u.system} {
		_, rest, _ := strings.Cut(string(stat), name)
		if _, err := fmt.Sscan(rest, to); err != nil {
			return u, fmt.Errorf("read the agent's time: %s: %w", name, err)
		}
		*to *= 1e3
	}
	u.threads, err = kernelThreads()
	return u, err
}

// kernelThreads are the children of process 2.
func kernelThreads() (map[string]float64, error) {
	processes, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil, err
	}
	threads := map[string]float64{}
	for _, p := range processes {
		stat, err := os.ReadFile(p + "/stat")
		if err != nil || !bytes.Contains(stat, []byte(") S 2 ")) && !bytes.Contains(stat, []byte(") I 2 ")) && !bytes.Contains(stat, []byte(") R 2 ")) {
			continue // somebody else, or it has ended
		}
		used, err := os.ReadFile(p + "/schedstat")
		if err != nil {
			continue
		}
		first, _, _ := strings.Cut(string(used), " ")
		if threads[p], err = strconv.ParseFloat(first, 64); err != nil {
			return nil, fmt.Errorf("read time of kernel thread: %w", err)
		}
	}
	return threads, nil
}

// rss is the resident memory of the agent's processes.
func (s *stage) rss() (uint64, error) {
	list, err := os.ReadFile(agentDir + "/cgroup.procs")
	if err != nil {
		return 0, fmt.Errorf("read the agent's memory: %w", err)
	}
	var sum uint64
	for _, pid := range strings.Fields(string(list)) {
		statm, err := os.ReadFile("/proc/" + pid + "/statm")
		if err != nil {
			continue // it has ended
		}
		var size, resident uint64
		if _, err := fmt.Sscan(string(statm), &size, &resident); err != nil {
			return 0, fmt.Errorf("read the agent's memory: %w", err)
		}
		sum += resident * pageBytes
	}
	return sum, nil
}
