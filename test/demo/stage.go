package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// patience is how long anything may take. It is needed only where the machine is busy, or emulated.
const patience = time.Minute

// stage is everything that the demo makes and has to take away again.
type stage struct {
	bin     string // directory of the programs
	dir     string // files of the demo
	scope   string // cgroup that the agent is confined to
	socket  string
	bus     string // URL of the control plane
	prints  fingerprints
	https   string // host:port of the service
	secret  string // see makeSecret
	running []*program
}

// program is a started process; its output is kept in a file.
type program struct {
	name string
	cmd  *exec.Cmd
	log  string
	done chan struct{}
	err  error // valid after done
}

func newStage(bin string) (*stage, error) {
	bin, err := filepath.Abs(bin)
	if err != nil {
		return nil, err
	}
	mount, err := cgroupMount()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "plumbline-demo-")
	if err != nil {
		return nil, fmt.Errorf("make directory: %w", err)
	}
	s := &stage{bin: bin, dir: dir, scope: filepath.Join(mount, filepath.Base(dir)), socket: filepath.Join(dir, "agent.sock")}
	for _, cgroup := range []string{s.scope, s.cgroup("shop"), s.cgroup("teller")} {
		if err := os.Mkdir(cgroup, 0o755); err != nil {
			return nil, errors.Join(fmt.Errorf("make cgroup: %w", err), s.clear())
		}
	}
	if s.prints, err = issueCertificates(dir); err != nil {
		return nil, errors.Join(err, s.clear())
	}
	return s, nil
}

func (s *stage) cgroup(name string) string { return filepath.Join(s.scope, name) }

func (s *stage) file(name string) string { return filepath.Join(s.dir, name) }

func cgroupMount() (string, error) {
	f, err := os.Open("/proc/mounts")
	if err != nil {
		return "", fmt.Errorf("find cgroups: %w", err)
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if field := strings.Fields(lines.Text()); len(field) > 2 && field[2] == "cgroup2" {
			return field[1], nil
		}
	}
	return "", errors.New("find cgroups: no cgroup2 hierarchy is mounted")
}

// start runs a program until the stage is cleared. cgroup may be empty.
func (s *stage) launch(name, cgroup string, args ...string) (*program, error) {
	p := &program{name: name, log: s.file(name + ".log"), done: make(chan struct{})}
	out, err := os.Create(p.log)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	defer out.Close()
	p.cmd = exec.Command(filepath.Join(s.bin, args[0]), args[1:]...)
	p.cmd.Stdout, p.cmd.Stderr = out, out
	if err := startIn(p.cmd, cgroup); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	s.running = append(s.running, p)
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

// startIn starts a program that is in the cgroup from its first instruction.
func startIn(cmd *exec.Cmd, cgroup string) error {
	// Of its own group: an interrupt from the terminal is for the demo, which ends the others in order.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if cgroup == "" {
		return cmd.Start()
	}
	dir, err := os.Open(cgroup)
	if err != nil {
		return err
	}
	defer dir.Close()
	cmd.SysProcAttr.UseCgroupFD, cmd.SysProcAttr.CgroupFD = true, int(dir.Fd())
	return cmd.Start()
}

// runIn runs a program to its end and returns what it printed.
func runIn(cgroup, name string, args ...string) (string, error) {
	var out strings.Builder
	cmd := exec.Command(name, args...)
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := startIn(cmd, cgroup); err != nil {
		return "", err
	}
	err := cmd.Wait()
	return strings.TrimSpace(out.String()), err
}

// tool runs one of our programs to its end and returns its standard output.
func (s *stage) tool(name string, args ...string) (string, error) {
	out, err := exec.Command(filepath.Join(s.bin, name), args...).Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return string(out), fmt.Errorf("%s %s: %w: %s", name, args[0], err, exit.Stderr)
	}
	return string(out), err
}

// until waits for a condition; it ends early if a program that must run has ended.
func (s *stage) until(ctx context.Context, what string, done func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		for _, p := range s.running {
			select {
			case <-p.done:
				return fmt.Errorf("wait for %s: %s ended: %v\n%s", what, p.name, p.err, p.tail())
			default:
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: gave up after %s%s", what, patience, s.tails())
		case <-tick.C:
		}
	}
	return nil
}

func (p *program) tail() string {
	out, err := os.ReadFile(p.log)
	if err != nil {
		return ""
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	return strings.Join(lines[max(0, len(lines)-8):], "\n")
}

func (s *stage) tails() string {
	var b strings.Builder
	for _, p := range s.running {
		fmt.Fprintf(&b, "\n--- %s\n%s", p.name, p.tail())
	}
	return b.String()
}

func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("find a free port: %w", err)
	}
	defer l.Close()
	return l.Addr().String(), nil
}

// clear ends the programs, last started first, and removes every trace. It reports what a user would
// find left behind.
func (s *stage) clear() error {
	var errs []error
	for i := len(s.running) - 1; i >= 0; i-- {
		errs = append(errs, s.running[i].stop())
	}
	// Where the agent was killed, enforcement stays.
	_, err := s.tool("plumbline-agent", "unload", "--socket", s.socket)
	errs = append(errs, err, s.removeCgroups(), os.RemoveAll(s.dir), noPins())
	return errors.Join(errs...)
}

func (p *program) stop() error {
	select {
	case <-p.done:
		return fmt.Errorf("%s had ended early: %v\n%s", p.name, p.err, p.tail())
	default:
	}
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(patience):
		_ = p.cmd.Process.Kill()
		<-p.done
		return fmt.Errorf("%s did not end within %s of SIGTERM\n%s", p.name, patience, p.tail())
	}
	// A program without a handler of its own ends by the signal; ours end with 0.
	var exit *exec.ExitError
	if errors.As(p.err, &exit) && exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGTERM {
		return fmt.Errorf("%s ended with %v\n%s", p.name, p.err, p.tail())
	}
	return nil
}

func (s *stage) removeCgroups() error {
	var errs []error
	for _, dir := range []string{s.cgroup("shop"), s.cgroup("teller"), s.scope} {
		if left, err := os.ReadFile(filepath.Join(dir, "cgroup.procs")); err == nil && len(left) > 0 {
			errs = append(errs, fmt.Errorf("processes are left in %s: %s", dir, strings.Fields(string(left))))
			for _, pid := range strings.Fields(string(left)) {
				if n, err := strconv.Atoi(pid); err == nil {
					_ = syscall.Kill(n, syscall.SIGKILL)
				}
			}
		}
		var err error
		for range 100 { // the kernel empties a cgroup a moment after its last process
			if err = os.Remove(dir); err == nil || errors.Is(err, fs.ErrNotExist) {
				err = nil
				break
			}
			time.Sleep(20 * time.Millisecond)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("remove cgroup: %w", err))
		}
	}
	return errors.Join(errs...)
}

// noPins checks that no program outlives the agent through the BPF file system.
func noPins() error {
	for _, pattern := range []string{"/sys/fs/bpf/plumbline*", "/run/plumbline-bpf/plumbline*-plumbline-demo-*"} {
		pins, err := filepath.Glob(pattern)
		if err != nil || len(pins) > 0 {
			return errors.Join(err, fmt.Errorf("pins are left: %s", pins))
		}
	}
	return nil
}
