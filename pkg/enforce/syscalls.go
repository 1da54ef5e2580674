package enforce

import (
	"errors"
	"fmt"
	"runtime"
	"sync"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"

	"github.com/plumbline-io/plumbline/pkg/event"
	"github.com/plumbline-io/plumbline/pkg/syscalls"
)

const syscallProgram = "learn_sys_enter"

// syscallWatch is the program that sees system calls, attached or not.
type syscallWatch struct {
	mu      sync.Mutex
	program *ebpf.Program // nil: not wanted, or not supported
	link    link.Link     // nil: not attached
}

func (w *syscallWatch) take(collection *ebpf.Collection) (err error) {
	p := collection.Programs[syscallProgram]
	if p == nil {
		return nil
	}
	if w.program, err = p.Clone(); err != nil {
		return fmt.Errorf("keep program of system calls: %w", err)
	}
	return nil
}

func (w *syscallWatch) set(on bool) (err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.program == nil || on == (w.link != nil):
		return nil
	case on:
		w.link, err = link.AttachTracing(link.TracingOptions{Program: w.program})
	default:
		err, w.link = w.link.Close(), nil
	}
	if err != nil {
		return fmt.Errorf("watch system calls: %w", err)
	}
	return nil
}

func (w *syscallWatch) Close() error {
	err := w.set(false)
	if w.program != nil {
		err = errors.Join(err, w.program.Close())
	}
	return err
}

// WatchSyscalls attaches or detaches the hook of system calls. While it is attached, each call of the machine
// takes longer, and workloads in learn mode that hold event.DimSyscalls tell each of theirs once. Nothing
// happens where the hook is not wanted or not supported: see Covered. It is never pinned.
func (e *Enforcer) WatchSyscalls(on bool) error { return e.syscalls.set(on) }

// syscallValue is the value of a Key for what the kernel side says of a call, as bpf/operation.h has it.
func syscallValue(value uint32) uint32 {
	return uint32(syscalls.ByNumber(runtime.GOARCH, value>>16 != 0, uint16(value)))
}

// isHeld says whether the kernel compares with a key at all.
func isHeld(k event.Key) bool { return k.Op != event.OpSyscall }
