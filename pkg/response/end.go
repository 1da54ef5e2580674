package response

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/plumbline-io/plumbline/pkg/workload"
)

const (
	endPoll  = 20 * time.Millisecond
	killTime = 5 * time.Second // until what was killed has gone
)

// process is one that we hold on to: its number may become another's, the descriptor does not.
type process struct {
	fd    int
	pid   uint32
	start uint64
}

func (p process) Close() { _ = unix.Close(p.fd) }

func (p process) signal(s unix.Signal) error {
	err := unix.PidfdSendSignal(p.fd, s, nil, 0)
	if err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("send signal %d to process %d: %w", s, p.pid, err)
	}
	return nil
}

// hasEnded says whether it runs no more.
func (p process) hasEnded() bool {
	n, err := unix.Poll([]unix.PollFd{{Fd: int32(p.fd), Events: unix.POLLIN}}, 0)
	return err == nil && n > 0
}

// members lists the processes of a target with their start times.
func (e *Executor) members(t Target) (map[uint32]uint64, error) {
	pids, err := t.processes()
	if err != nil {
		return nil, err
	}
	starts := map[uint32]uint64{}
	for pid := range pids {
		if p, err := e.Proc.Read(pid); err == nil {
			starts[pid] = p.Start
		}
	}
	return starts, nil
}

// hold gets hold of a process of the target that started then; ErrGone if it has ended.
func (e *Executor) hold(t Target, pid uint32, start uint64) (process, error) {
	fd, err := unix.PidfdOpen(int(pid), 0)
	if err != nil {
		return process{}, fmt.Errorf("hold process %d: %w", pid, errors.Join(err, workload.ErrGone))
	}
	p := process{fd, pid, start}
	// From here on nobody else gets the number as long as it has not ended: what we read is about it, or it has.
	now, err := e.members(t)
	if err == nil && now[pid] != start || p.hasEnded() {
		err = workload.ErrGone
	}
	if err != nil {
		p.Close()
		return process{}, fmt.Errorf("hold process %d: %w", pid, err)
	}
	return p, nil
}

// main gets hold of the process that started first, of equals the one with the smaller number.
func (e *Executor) main(t Target) (process, error) {
	members, err := e.members(t)
	if err != nil {
		return process{}, err
	}
	var first uint32
	for pid, start := range members {
		if first == 0 || start < members[first] || start == members[first] && pid < first {
			first = pid
		}
	}
	if first == 0 {
		return process{}, errors.New("nothing runs in it")
	}
	return e.hold(t, first, members[first])
}

// drainProcesses asks the main process to end, and waits for that.
func (e *Executor) drainProcesses(ctx context.Context, t Target) (string, error) {
	p, err := e.main(t)
	if err != nil {
		return "", err
	}
	defer p.Close()
	if err := p.signal(unix.SIGTERM); err != nil {
		return "", err
	}
	if !until(ctx, e.Patience, func() bool { return p.hasEnded() }) {
		return "", fmt.Errorf("its main process %d got SIGTERM, and has not ended within %s", p.pid, e.Patience)
	}
	return fmt.Sprintf("its main process %d has ended after SIGTERM", p.pid), nil
}

// restartProcesses ends what runs, which its runtime has to start anew: it is asked first, and killed after a while.
func (e *Executor) restartProcesses(ctx context.Context, t Target) (string, error) {
	before, err := e.members(t)
	if err != nil {
		return "", err
	}
	p, err := e.main(t)
	if err != nil {
		return "", err
	}
	defer p.Close()
	if err := p.signal(unix.SIGTERM); err != nil {
		return "", err
	}
	remain := func() map[uint32]uint64 { return e.remaining(t, before) }
	if until(ctx, e.Grace, func() bool { return len(remain()) == 0 }) {
		return "it has ended after SIGTERM", nil
	}
	if ctx.Err() != nil {
		return "", ctx.Err()
	}
	if err := e.kill(ctx, t, remain); err != nil {
		return "", fmt.Errorf("end it after %s: %w", e.Grace, err)
	}
	return fmt.Sprintf("it was killed %s after SIGTERM", e.Grace), nil
}

// remaining lists what has to end yet. The cgroup of a container is its own, and all that is in it. Elsewhere
// somebody may have started the workload anew in the same one: only who was there counts.
func (e *Executor) remaining(t Target, before map[uint32]uint64) map[uint32]uint64 {
	same := t
	same.Tops = nil
	for _, top := range t.Tops {
		if n, err := t.Hierarchy.Node(top.Dir); err == nil && n.ID == top.ID {
			same.Tops = append(same.Tops, top)
		}
	}
	now, err := e.members(same)
	if err != nil {
		return before
	}
	if t.Kind == workload.Container {
		return now
	}
	for pid, start := range now {
		if before[pid] != start {
			delete(now, pid)
		}
	}
	return now
}

// kill ends what remains.
func (e *Executor) kill(ctx context.Context, t Target, remain func() map[uint32]uint64) error {
	var failed error
	if until(ctx, killTime, func() bool {
		left := remain()
		if len(left) > 0 && (t.Kind != workload.Container || !killCgroups(t)) {
			failed = e.killEach(t, left)
		}
		return len(left) == 0
	}) {
		return nil
	}
	return errors.Join(failed, fmt.Errorf("%d processes are still there", len(remain())))
}

// killCgroups lets the kernel kill all that is in the cgroups, also what is being started. False: it cannot (before
// Linux 5.14, and in version 1). Newer kernels (6.18) may kill what is started later in a cgroup that this was ever done
// to, which is no harm where each start makes another one.
func killCgroups(t Target) bool {
	for _, top := range t.Tops {
		f := Frozen{Dir: top.Dir, Inode: top.ID}
		if err := f.write("cgroup.kill", "1"); err != nil {
			if _, gone := os.Stat(top.Dir); gone == nil {
				return false
			}
		}
	}
	return true
}

func (e *Executor) killEach(t Target, left map[uint32]uint64) error {
	var errs []error
	for pid, start := range left {
		p, err := e.hold(t, pid, start)
		if errors.Is(err, workload.ErrGone) {
			continue
		}
		if err == nil {
			err = p.signal(unix.SIGKILL)
			p.Close()
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// until waits until something is so, at most that long, and says whether it is.
func until(ctx context.Context, limit time.Duration, done func() bool) bool {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	ticker := time.NewTicker(endPoll)
	defer ticker.Stop()
	for !done() {
		select {
		case <-ctx.Done():
			return done()
		case <-ticker.C:
		}
	}
	return true
}
