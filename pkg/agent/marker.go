package agent

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/plumbline-io/plumbline/pkg/enforce"
	"github.com/plumbline-io/plumbline/pkg/workload"
)

const (
	// markQueue is how many processes may wait to be looked at. Those for which there is no room are found by a sweep.
	markQueue = 1024
	// sweepEvery finds what was mounted meanwhile.
	sweepEvery = 10 * time.Second
)

// marker marks, for the strength fanotify, the file systems that the machine and the workloads in scope see. Saw may be
// called from any goroutine; Run does the work.
type marker struct {
	proc  workload.Proc
	pids  func() []uint32 // whose file systems are marked
	mark  func(root *os.File) error
	seen  chan uint32
	log   *slog.Logger
	unset atomic.Uint64 // file systems that could not be marked

	known  map[string]bool // mount namespaces since the last sweep; of Run's goroutine
	warned bool            // the same
}

func newMarker(h *host, mark func(root *os.File) error, log *slog.Logger) *marker {
	return &marker{proc: h.proc, pids: h.Everybody, mark: mark, seen: make(chan uint32, markQueue), log: log}
}

// Saw tells of a process that has executed a program. It never blocks.
func (m *marker) Saw(pid uint32) {
	if m == nil {
		return
	}
	select {
	case m.seen <- pid:
	default:
	}
}

// Run works until ctx ends.
func (m *marker) Run(ctx context.Context) error {
	ticker := time.NewTicker(sweepEvery)
	defer ticker.Stop()
	m.sweep()
	m.log.Info("executions wait for answers", "mount_namespaces", len(m.known))
	for {
		select {
		case <-ctx.Done():
			return nil
		case pid := <-m.seen:
			m.visit(pid)
		case <-ticker.C:
			m.sweep()
		}
	}
}

// sweep looks at all mount namespaces in scope anew.
func (m *marker) sweep() {
	m.known = map[string]bool{}
	for _, pid := range m.pids() {
		m.visit(pid)
	}
}

// visit marks what a process sees, if its mount namespace is new.
func (m *marker) visit(pid uint32) {
	name, err := m.proc.MountNamespace(pid)
	if err != nil || m.known[name] {
		return
	}
	m.known[name] = true
	err = m.proc.FileSystems(pid, func(root *os.File) error {
		err := m.mark(root)
		if err != nil {
			m.unset.Add(1)
		}
		return err
	})
	if err != nil && !errors.Is(err, workload.ErrGone) && !m.warned {
		m.warned = true
		m.log.Warn("mark file systems: what is executed there and unknown is killed", "pid", pid, "error", err)
	}
}

// answerExecutions answers the kernel's questions about executions. That it gave up must not take the agent with it.
func (a *Agent) answerExecutions(ctx context.Context) error {
	var answerers errgroup.Group
	for range enforce.Answerers {
		answerers.Go(func() error { return a.kernel.enforcer.Answer(ctx) })
	}
	if err := answerers.Wait(); err != nil {
		a.cfg.Log.Error("executions are answered no more", "error", err)
	}
	return nil
}
