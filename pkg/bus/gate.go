package bus

import (
	"context"
	"sync"
)

// gate lets callers through while it is open. Safe for concurrent use.
type gate struct {
	mu   sync.Mutex
	pass chan struct{} // closed while the gate is open
	open bool
}

func newGate() *gate { return &gate{pass: make(chan struct{})} }

func (g *gate) set(open bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case open && !g.open:
		close(g.pass)
	case !open && g.open:
		g.pass = make(chan struct{})
	}
	g.open = open
}

func (g *gate) isOpen() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.open
}

func (g *gate) wait(ctx context.Context) error {
	g.mu.Lock()
	pass := g.pass
	g.mu.Unlock()
	select {
	case <-pass:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
