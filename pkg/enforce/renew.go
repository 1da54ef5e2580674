package enforce

import (
	"errors"
	"fmt"
	"sync"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"

	"github.com/plumbline-io/plumbline/pkg/sensor"
)

// renewed are the links that took the place of others, by the indices of these. Safe for concurrent use.
type renewed struct {
	mu    sync.Mutex
	links map[int]link.Link
}

// Renew attaches the hooks of the network to a cgroup of the scope that was made anew: they went with the former one of
// its name, as all hooks of cgroups do. They are pinned where the former ones were; nil: nowhere.
func (e *Enforcer) Renew(dir string, pins *sensor.Pins) error {
	e.renewed.mu.Lock()
	defer e.renewed.mu.Unlock()
	var errs []error
	for i, l := range e.links {
		if l.to.Path == dir {
			errs = append(errs, e.renew(i, pins))
		}
	}
	return errors.Join(errs...)
}

func (e *Enforcer) renew(i int, pins *sensor.Pins) error {
	l := e.links[i]
	former, again := e.renewed.links[i]
	if !again {
		former = l.link
	}
	info, err := former.Info()
	if err != nil {
		return fmt.Errorf("renew %s: %w", l.program, err)
	}
	program, err := ebpf.NewProgramFromID(info.Program)
	if err != nil {
		return fmt.Errorf("renew %s: %w", l.program, err)
	}
	defer program.Close()
	next, err := attachCgroup(program, l.to)
	if err != nil {
		return fmt.Errorf("renew %s: %w", l.program, err)
	}
	if pins != nil {
		if err := errors.Join(former.Unpin(), pins.Pin(l.pinName(i), next)); err != nil {
			return errors.Join(fmt.Errorf("renew %s: %w", l.program, err), next.Close())
		}
	}
	if e.renewed.links == nil {
		e.renewed.links = map[int]link.Link{}
	}
	e.renewed.links[i] = next
	if again {
		return former.Close() // that of the beginning is closed with the rest
	}
	return nil
}

// pinName of the link at an index.
func (l attached) pinName(i int) string { return fmt.Sprintf("link_enforce_%s_%d", l.program, i) }

func (r *renewed) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	var errs []error
	for _, l := range r.links {
		errs = append(errs, l.Close())
	}
	r.links = nil
	return errors.Join(errs...)
}
