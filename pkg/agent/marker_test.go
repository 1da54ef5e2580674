package agent

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/plumbline-io/plumbline/pkg/workload"
)

// Each file system of a mount namespace is marked, each namespace once until the next sweep, and what fails is counted
// and told once.
func TestMarker(t *testing.T) {
	self := uint32(os.Getpid())
	var (
		marked  atomic.Int64
		failing atomic.Bool
		log     strings.Builder
	)
	m := &marker{
		proc: workload.NewProc(""), pids: func() []uint32 { return []uint32{self, self, 1 << 30} }, seen: make(chan uint32, 1),
		log: slog.New(slog.NewTextHandler(&log, nil)),
		mark: func(*os.File) error {
			marked.Add(1)
			if failing.Load() {
				return errors.New("no")
			}
			return nil
		},
	}
	m.sweep()
	each := marked.Load()
	if each == 0 {
		t.Skip("there is no local file system here")
	}
	if m.visit(self); marked.Load() != each || len(m.known) != 1 {
		t.Errorf("%d marks in %d namespaces, want %d in 1", marked.Load(), len(m.known), each)
	}
	failing.Store(true)
	m.sweep()
	m.sweep()
	if got := int64(m.unset.Load()); got != 2*each || marked.Load() != 3*each {
		t.Errorf("%d of %d marks failed, want %d of %d", got, marked.Load(), 2*each, 3*each)
	}
	if n := strings.Count(log.String(), "mark file systems"); n != 1 {
		t.Errorf("told %d times: %s", n, &log)
	}
	for range 3 { // who is not looked at is found by a sweep
		m.Saw(self)
	}
	ctx, cancel := context.WithCancel(t.Context())
	failing.Store(false)
	done := make(chan error)
	go func() { done <- m.Run(ctx) }()
	waitUntil(t, "the queue to be read", func() bool { return marked.Load() == 4*each && len(m.seen) == 0 })
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	(*marker)(nil).Saw(self)
}
