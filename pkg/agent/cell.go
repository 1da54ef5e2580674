package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/plumbline-io/plumbline/pkg/sensor"
	"github.com/plumbline-io/plumbline/pkg/workload"
)

// cell is a version 2 cgroup of our own: what is started in it can be told apart, waited for and ended as a
// whole. It is for one goroutine.
type cell struct {
	hierarchy *workload.Hierarchy
	node      workload.Node
}

const (
	cellName  = "plumbline-record"
	maxCells  = 64 // at the same time
	cellRetry = 10 * time.Millisecond
	cellPoll  = 100 * time.Millisecond // how late an end of the context is noticed
	killTime  = 5 * time.Second        // until what was killed has gone
)

// newCell makes a cgroup below parent, or below the mount of the version 2 tree. Its name is always the same,
// if nobody else records: programs read files in their own cgroup.
func newCell(parent string) (*cell, error) {
	if parent == "" {
		mount, err := workload.Version2Mount("")
		if errors.Is(err, workload.ErrNoVersion2) {
			err = fmt.Errorf("%w: %w", sensor.ErrNotSupported, err)
		}
		if err != nil {
			return nil, fmt.Errorf("make cgroup: %w", err)
		}
		parent = mount
	}
	h, err := workload.Detect(workload.Config{Scope: parent})
	if err != nil {
		return nil, err
	}
	if h.Controller != "" {
		return nil, fmt.Errorf("make cgroup in %s: %w: it is of version 1, a process cannot be started in it", parent, sensor.ErrNotSupported)
	}
	dir, err := makeCellDir(parent)
	if err != nil {
		return nil, fmt.Errorf("make cgroup: %w", err)
	}
	node, err := h.Node(dir)
	if err != nil {
		return nil, errors.Join(err, os.Remove(dir))
	}
	return &cell{hierarchy: h, node: node}, nil
}

// Room makes a cgroup in it to start processes in, and opens it. Where cgroup.kill was ever written, newer
// kernels (6.18) end also what is started later: each run needs a new one.
func (c *cell) Room() (workload.Node, *os.File, error) {
	dir := filepath.Join(c.node.Dir, "run")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return workload.Node{}, nil, fmt.Errorf("make cgroup: %w", err)
	}
	node, err := c.hierarchy.Node(dir)
	if err != nil {
		return node, nil, err
	}
	f, err := os.Open(dir)
	return node, f, err
}

func makeCellDir(parent string) (string, error) {
	dir := filepath.Join(parent, cellName)
	for i := 2; ; i++ {
		err := os.Mkdir(dir, 0o755)
		if !errors.Is(err, os.ErrExist) || i > maxCells {
			return dir, err
		}
		dir = filepath.Join(parent, fmt.Sprintf("%s-%d", cellName, i))
	}
}

// Wait waits until no process is left, at most that long; negative: for ever. It says whether none is.
func (c *cell) Wait(ctx context.Context, limit time.Duration) (empty bool, err error) {
	f, err := os.Open(filepath.Join(c.node.Dir, "cgroup.events"))
	if err != nil {
		return false, fmt.Errorf("wait for processes: %w", err)
	}
	defer f.Close()
	var text [256]byte
	for deadline := time.Now().Add(limit); ; {
		n, err := f.ReadAt(text[:], 0)
		if n == 0 {
			return false, fmt.Errorf("wait for processes: read %s: %w", f.Name(), err)
		}
		left := cellPoll
		if limit >= 0 {
			left = min(left, time.Until(deadline))
		}
		switch {
		case bytes.Contains(text[:n], []byte("populated 0")):
			return true, nil
		case ctx.Err() != nil:
			return false, ctx.Err()
		case left <= 0:
			return false, nil
		}
		// The kernel tells a change of the file as an exceptional condition.
		_, err = unix.Poll([]unix.PollFd{{Fd: int32(f.Fd()), Events: unix.POLLPRI}}, int(left.Milliseconds())+1)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return false, fmt.Errorf("wait for processes: %w", err)
		}
	}
}

// Processes lists what runs in it.
func (c *cell) Processes() []uint32 {
	nodes, _ := c.hierarchy.Walk(c.node.Dir)
	var all []uint32
	for _, n := range nodes {
		pids, _ := n.Processes() // removed meanwhile
		all = append(all, pids...)
	}
	return all
}

// Kill ends what runs in it, and nothing else.
func (c *cell) Kill() error {
	ctx := context.Background()
	if empty, err := c.Wait(ctx, 0); empty || err != nil {
		return err
	}
	for deadline := time.Now().Add(killTime); ; {
		err := os.WriteFile(filepath.Join(c.node.Dir, "cgroup.kill"), []byte("1"), 0)
		if errors.Is(err, os.ErrNotExist) { // Linux before 5.14
			err = c.killEach()
		}
		if err != nil {
			return fmt.Errorf("end processes: %w", err)
		}
		empty, err := c.Wait(ctx, cellPoll)
		if empty || err != nil {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("end processes: %d are still there", len(c.Processes()))
		}
	}
}

// killEach holds on to each process before it looks whether it is still in the cgroup: its number could
// have become another's.
func (c *cell) killEach() error {
	for _, pid := range c.Processes() {
		fd, err := unix.PidfdOpen(int(pid), 0)
		if errors.Is(err, unix.ESRCH) {
			continue
		}
		if err != nil {
			return err
		}
		if slices.Contains(c.Processes(), pid) {
			err = unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0)
		}
		_ = unix.Close(fd)
		if err != nil && !errors.Is(err, unix.ESRCH) {
			return err
		}
	}
	return nil
}

// Clear removes the cgroups that were made in it. The kernel lets go of one a moment after its last process
// has ended.
func (c *cell) Clear() error {
	nodes, err := c.hierarchy.Walk(c.node.Dir)
	if err != nil {
		return err
	}
	for _, n := range slices.Backward(nodes[1:]) {
		err = errors.Join(err, removeCgroup(n.Dir))
	}
	return err
}

// Close removes it. What still runs in it is ended first.
func (c *cell) Close() error {
	err := c.Kill()
	return errors.Join(err, c.Clear(), removeCgroup(c.node.Dir))
}

func removeCgroup(dir string) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for deadline := time.Now().Add(killTime); ; {
		<-timer.C
		err := os.Remove(dir)
		if err == nil || errors.Is(err, os.ErrNotExist) {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("remove cgroup: %w", err)
		}
		timer.Reset(cellRetry)
	}
}
