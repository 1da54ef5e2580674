package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// scope is a cgroup of the benchmark's own.
type scope struct {
	dir string
	fd  *os.File
}

func newScope() (*scope, error) {
	f, err := os.Open("/proc/mounts")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		field := strings.Fields(lines.Text())
		if len(field) < 3 || field[2] != "cgroup2" {
			continue
		}
		dir, err := os.MkdirTemp(field[1], "plumbline-bench-")
		if err != nil {
			return nil, fmt.Errorf("make cgroup: %w", err)
		}
		fd, err := os.Open(dir)
		return &scope{dir: dir, fd: fd}, err
	}
	return nil, errors.New("make cgroup: no cgroup2 hierarchy is mounted")
}

func (s *scope) remove() error {
	_ = s.fd.Close()
	var err error
	for range 100 { // the kernel empties a cgroup a moment after its last process
		if err = os.Remove(s.dir); err == nil {
			return nil
		}
		time.Sleep(20 * time.Millisecond)
	}
	return fmt.Errorf("remove cgroup: %w", err)
}

// run runs a program in the scope; how it ends does not matter.
func (s *scope) run(name string) error {
	cmd := exec.Command(name)
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(s.fd.Fd())}
	err := cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) || errors.Is(err, syscall.EPERM) {
		return nil
	}
	return err
}

// service is one of our programs, running.
type service struct {
	cmd  *exec.Cmd
	done chan error
	log  string
}

func start(log string, program string, args ...string) (*service, error) {
	out, err := os.Create(log)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	s := &service{cmd: exec.Command(program, args...), done: make(chan error, 1), log: log}
	s.cmd.Stdout, s.cmd.Stderr = out, out
	if err := s.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", program, err)
	}
	go func() { s.done <- s.cmd.Wait() }()
	return s, nil
}

func (s *service) stop() error {
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	return <-s.done
}

// until waits for a condition.
func until(ctx context.Context, what string, done func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for !done() {
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w", what, ctx.Err())
		case <-time.After(5 * time.Millisecond):
		}
	}
	return nil
}

// agent is a running plumbline-agent that is confined to the scope.
type agent struct {
	*service
	bin, socket string
}

// agentStatus is what the benchmark reads of the agent's status.
type agentStatus struct {
	AttachedMs   float64 `json:"attached_ms"`
	RSS          uint64  `json:"rss_bytes"`
	Strength     string  `json:"strength"`
	ControlPlane struct {
		Connected bool   `json:"connected"`
		Stored    uint64 `json:"stored"`
	} `json:"control_plane"`
	Alerts uint64 `json:"alerts"`
}

func startAgent(ctx context.Context, bin, dir string, s *scope, args ...string) (*agent, error) {
	a := &agent{bin: bin, socket: filepath.Join(dir, "agent.sock")}
	var err error
	a.service, err = start(filepath.Join(dir, "agent.log"), filepath.Join(bin, "plumbline-agent"), append([]string{
		"run", "--scope", s.dir, "--state-dir", filepath.Join(dir, "state"), "--socket", a.socket, "--log-level", "warn", "--node", "bench", "--on-stop", "release",
	}, args...)...)
	if err != nil {
		return nil, err
	}
	return a, until(ctx, "the agent", func() bool { _, err := a.status(); return err == nil })
}

func (a *agent) status() (agentStatus, error) {
	var s agentStatus
	out, err := a.ask("status", "-o", "json")
	if err != nil {
		return s, err
	}
	return s, json.Unmarshal(out, &s)
}

func (a *agent) ask(args ...string) ([]byte, error) {
	out, err := exec.Command(filepath.Join(a.bin, "plumbline-agent"), append(args, "--socket", a.socket)...).CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("plumbline-agent %s: %w: %s", args[0], err, out)
	}
	return out, nil
}
