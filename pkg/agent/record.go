package agent

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/plumbline-io/plumbline/pkg/baseline"
	"github.com/plumbline-io/plumbline/pkg/event"
)

// RecordConfig says what Record runs, and what of it is wanted.
type RecordConfig struct {
	Workload, Kind        string   // whose baseline it becomes
	Command               []string // a program and its arguments
	Stdin, Stdout, Stderr *os.File // of the command
	// Scope is a version 2 cgroup directory; the command gets one of its own below it. Empty: the mount.
	Scope      string
	Runs       int              // how often; 0 is once
	Dimensions event.Dimensions // those that this kernel cannot observe are left out
	Exact      bool             // do not generalise
	// Linger is how long what the command leaves running may go on after it. Negative: to its end.
	Linger time.Duration
	BTF    string       // see Config
	Tell   func(string) // progress, for a person; nil: nobody wants to know
}

// RecordOutcome is what Record found beside the profile.
type RecordOutcome struct {
	Runs     int                // that ended well
	Exit     int                // exit code of the command, 128 and the signal if one ended it; not 0: there were no further runs
	Strength string             // of the hooks that observed
	First    map[event.Key]Deed // who did a thing first
	Missing  []MissingDimension // what was asked for and could not be observed
	Widened  []baseline.Widening
	Nameless int               // operations on what no baseline can name
	Killed   int               // processes that went on for longer than Linger
	Lost     map[string]uint64 // loss counters that are not zero
}

// Deed is an operation with who did it.
type Deed struct {
	PID     uint32   `json:"pid"`
	Path    string   `json:"path"` // executable before the operation, "" for the command itself
	Args    string   `json:"args"`
	Lineage []string `json:"lineage"` // executables of the ancestors, nearest first
}

// MissingDimension is one that this kernel does not let us observe.
type MissingDimension struct {
	Dimension event.Dimension
	Reason    string
}

// endGrace is how long the command may take to end after SIGTERM when Record is interrupted.
const endGrace = 5 * time.Second

// Record runs a command in a cgroup of its own and learns what it does there, from its first instruction to
// the end of all that it leaves running. It touches no other process. A command that fails is no error: see
// RecordOutcome.Exit.
func Record(ctx context.Context, cfg RecordConfig) (p *baseline.Profile, out RecordOutcome, err error) {
	if cfg.Tell == nil {
		cfg.Tell = func(string) {}
	}
	r, err := openRecorder(cfg)
	if err != nil {
		return nil, out, fmt.Errorf("record %q: %w", cfg.Workload, err)
	}
	defer func() {
		if wrong := r.Close(); wrong != nil {
			err = errors.Join(err, fmt.Errorf("record %q: %w", cfg.Workload, wrong))
		}
	}()
	out.Strength, out.Missing = r.enforcer.Strength().String(), r.missing()
	for run := 1; run == 1 || run <= cfg.Runs; run++ {
		cfg.Tell(fmt.Sprintf("run %d of %d: %s", run, max(cfg.Runs, 1), strings.Join(cfg.Command, " ")))
		seen, err := r.run(ctx, uint32(run), &out)
		if err != nil {
			return nil, out, fmt.Errorf("record %q: %w", cfg.Workload, err)
		}
		if p == nil {
			p = seen
		} else if err := p.Merge(seen); err != nil {
			return nil, out, err
		}
		if !cfg.Exact {
			out.Widened = append(out.Widened, p.Generalise()...)
		}
		if out.Exit != 0 {
			break
		}
		out.Runs++
	}
	out.First, out.Nameless = r.first, r.nameless
	out.Lost, err = r.lost()
	return p, out, err
}

// run is one run of the command. Each is learnt under a generation of its own, so that each tells all that
// it does.
func (r *recorder) run(ctx context.Context, generation uint32, out *RecordOutcome) (*baseline.Profile, error) {
	room, err := r.begin(generation)
	if err != nil {
		return nil, err
	}
	defer room.Close()
	reading, stop := context.WithCancel(context.Background())
	defer stop()
	var group errgroup.Group
	group.Go(func() error { return r.reader.Run(reading, r.handle) })
	out.Exit, err = r.command(ctx, room)
	var killed int
	if err == nil {
		killed, err = r.waitForRest(ctx)
		out.Killed += killed
	}
	// Whatever happened: nothing of this run may be left for the next one.
	err = errors.Join(err, r.cell.Kill(), r.cell.Clear())
	stop()
	if err = errors.Join(err, group.Wait()); err != nil {
		return nil, err
	}
	return r.profile, r.end(generation)
}

// command runs the command to its end, without what it leaves running.
func (r *recorder) command(ctx context.Context, room *os.File) (exit int, err error) {
	cmd := exec.CommandContext(ctx, r.cfg.Command[0], r.cfg.Command[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = r.cfg.Stdin, r.cfg.Stdout, r.cfg.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(room.Fd())}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = endGrace
	if err := cmd.Start(); err != nil {
		return 0, fmt.Errorf("start command: %w", err)
	}
	err = cmd.Wait()
	var failed *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return 0, fmt.Errorf("run command: %w", context.Cause(ctx))
	case errors.As(err, &failed):
		if s, ok := failed.Sys().(syscall.WaitStatus); ok && s.Signaled() {
			return 128 + int(s.Signal()), nil
		}
		return failed.ExitCode(), nil
	case err != nil:
		return 0, fmt.Errorf("run command: %w", err)
	}
	return 0, nil
}

// waitForRest waits for what the command left running, and ends what takes too long.
func (r *recorder) waitForRest(ctx context.Context) (killed int, err error) {
	empty, err := r.cell.Wait(ctx, 0)
	if empty || err != nil {
		return 0, err
	}
	left := r.cell.Processes()
	r.cfg.Tell(fmt.Sprintf("the command has ended and left %d processes running (%s)", len(left), r.commands(left)))
	if empty, err = r.cell.Wait(ctx, r.cfg.Linger); empty || err != nil {
		return 0, err
	}
	return len(r.cell.Processes()), r.cell.Kill()
}

// commands names processes, each name once.
func (r *recorder) commands(pids []uint32) string {
	named := map[string]bool{}
	for _, pid := range pids {
		if p, err := r.proc.Read(pid); err == nil {
			named[p.Comm] = true
		}
	}
	return strings.Join(slices.Sorted(maps.Keys(named)), ", ")
}
