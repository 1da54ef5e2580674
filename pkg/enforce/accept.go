package enforce

import (
	"errors"
	"fmt"
	"sync"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"

	"github.com/plumbline-io/plumbline/pkg/sensor"
)

const (
	acceptProgram  = "accept_sock_graft"
	acceptHook     = "fentry/" + acceptFunction
	acceptFunction = "security_sock_graft"
)

// acceptWatch is the program that sees connections being taken: loaded and attached while a rule asks, and else not there.
type acceptWatch struct {
	shared *sensor.Shared
	maps   map[string]*ebpf.Map // that it uses

	mu     sync.Mutex
	wanted bool
	link   link.Link // nil: not attached
	err    error     // why it is not, though it is wanted
}

// take keeps what the program will use.
func (w *acceptWatch) take(shared *sensor.Shared, collection *ebpf.Collection, uses map[string]bool) error {
	w.shared, w.maps = shared, map[string]*ebpf.Map{}
	for name := range uses {
		clone, err := collection.Maps[name].Clone()
		if err != nil {
			return fmt.Errorf("keep map %s: %w", name, err)
		}
		w.maps[name] = clone
	}
	return nil
}

// set attaches it or takes it away.
func (w *acceptWatch) set(on bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.wanted = on
	switch {
	case !on && w.link != nil:
		w.err, w.link = w.link.Close(), nil
	case !on:
		w.err = nil
	case w.link == nil:
		w.link, w.err = w.attach()
	}
}

func (w *acceptWatch) attach() (link.Link, error) {
	if w.shared == nil {
		return nil, sensor.ErrNotSupported
	}
	spec, err := loadBpf()
	if err != nil {
		return nil, fmt.Errorf("read enforce object: %w", err)
	}
	program, err := w.shared.LoadLate(spec.Programs[acceptProgram], w.maps)
	if err != nil {
		return nil, err
	}
	l, err := link.AttachTracing(link.TracingOptions{Program: program})
	if err != nil {
		err = fmt.Errorf("attach %s: %w", acceptHook, err)
	}
	return l, errors.Join(err, program.Close()) // the link holds it
}

// sees says whether connections are seen.
func (w *acceptWatch) sees() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.link != nil
}

// status tells of the hook while it is wanted.
func (w *acceptWatch) status() []sensor.Status {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.wanted {
		return nil
	}
	s := sensor.Status{Sensor: "enforce", Hook: acceptHook, Supported: w.link != nil}
	if w.err != nil {
		s.Reason = reason(w.err)
	}
	return []sensor.Status{s}
}

func (w *acceptWatch) Close() error {
	w.set(false)
	errs := []error{w.err}
	for _, m := range w.maps {
		errs = append(errs, m.Close())
	}
	return errors.Join(errs...)
}
