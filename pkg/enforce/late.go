package enforce

import (
	"errors"
	"fmt"
	"runtime"
	"sync"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"

	"github.com/plumbline-io/plumbline/pkg/event"
	"github.com/plumbline-io/plumbline/pkg/sensor"
)

// late are the programs that see what is told for rules only: loaded and attached while a rule asks, and else not there.
type late struct {
	shared *sensor.Shared
	maps   map[string]*ebpf.Map // that they use

	mu    sync.Mutex
	hooks []lateHook
}

// lateHook is one of them.
type lateHook struct {
	name    string // in the status
	program string
	op      event.Operation
	targets []string // the kernel's functions; those behind the first are there for 32-bit programs, where there are such

	wanted bool
	links  []link.Link // none: not attached
	err    error       // why it is not, though it is wanted
}

const (
	acceptProgram  = "accept_sock_graft"
	acceptFunction = "security_sock_graft"
)

func lateHooks() []lateHook {
	return []lateHook{
		{name: "fentry/" + acceptFunction, program: acceptProgram, op: event.OpAccept, targets: []string{acceptFunction}},
		{name: "fentry/udp_sendmsg", program: "dns_udp_sendmsg", op: event.OpDNSQuery, targets: []string{"udp_sendmsg"}},
		{name: "fentry/udpv6_sendmsg", program: "dns_udpv6_sendmsg", op: event.OpDNSQuery, targets: []string{"udpv6_sendmsg"}},
		{name: "fentry/tcp_sendmsg", program: "begin_tcp_sendmsg", op: event.OpTCPBegin, targets: []string{"tcp_sendmsg"}},
		callHook("dup", "dup_exit"), callHook("dup2", "dup2_exit"), callHook("dup3", "dup3_exit"),
	}
}

// callHook is of the end of a system call.
func callHook(call, program string) lateHook {
	h := lateHook{name: "fexit/sys_" + call, program: program, op: event.OpDup}
	prefixes := []string{"__x64_sys_", "__ia32_sys_"}
	if runtime.GOARCH == "arm64" {
		prefixes = []string{"__arm64_sys_"} // 32-bit programs call it too
	}
	for _, p := range prefixes {
		h.targets = append(h.targets, p+call)
	}
	return h
}

// lateMaps names the maps that they use.
func lateMaps(spec *ebpf.CollectionSpec) map[string]bool {
	names := map[string]bool{}
	for _, h := range lateHooks() {
		for name := range sensor.MapsOf(spec.Programs[h.program]) {
			names[name] = true
		}
	}
	return names
}

// take keeps what the programs will use.
func (l *late) take(shared *sensor.Shared, collection *ebpf.Collection, uses map[string]bool) error {
	l.shared, l.maps, l.hooks = shared, map[string]*ebpf.Map{}, lateHooks()
	for name := range uses {
		clone, err := collection.Maps[name].Clone()
		if err != nil {
			return fmt.Errorf("keep map %s: %w", name, err)
		}
		l.maps[name] = clone
	}
	return nil
}

// want attaches the hooks of these operations, each 1 << operation.
func (l *late) want(ops uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range l.hooks {
		h := &l.hooks[i]
		if ops&(1<<h.op) == 0 {
			continue
		}
		h.wanted = true
		if h.links != nil {
			continue
		}
		if h.err = l.attach(h); h.err != nil {
			h.err = errors.Join(h.err, h.detach())
		}
	}
}

// keep takes the hooks of all other operations away.
func (l *late) keep(ops uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range l.hooks {
		if h := &l.hooks[i]; ops&(1<<h.op) == 0 {
			h.wanted, h.err = false, h.detach()
		}
	}
}

func (h *lateHook) detach() error {
	var errs []error
	for _, l := range h.links {
		errs = append(errs, l.Close())
	}
	h.links = nil
	return errors.Join(errs...)
}

func (l *late) attach(h *lateHook) error {
	spec, err := readObject(Auto) // the programs of no rung
	if err != nil {
		return err
	}
	for i, target := range h.targets {
		program := spec.Programs[h.program].Copy()
		program.AttachTo = target
		switch err := l.attachTo(h, program); {
		case err == nil:
		case i > 0 && errors.Is(err, ebpf.ErrNotSupported):
			return nil // a kernel without 32-bit programs
		default:
			return err
		}
	}
	return nil
}

func (l *late) attachTo(h *lateHook, spec *ebpf.ProgramSpec) error {
	program, err := l.shared.LoadLate(spec, l.maps)
	if err != nil {
		return err
	}
	attached, err := link.AttachTracing(link.TracingOptions{Program: program})
	if err != nil {
		return errors.Join(fmt.Errorf("attach %s: %w", spec.AttachTo, err), program.Close())
	}
	h.links = append(h.links, attached)
	return program.Close() // the link holds it
}

// sees says whether an operation has all of its hooks.
func (l *late) sees(op event.Operation) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	sees := false
	for _, h := range l.hooks {
		if h.op != op {
			continue
		}
		if sees = h.links != nil; !sees {
			break
		}
	}
	return sees
}

// status tells of the hooks that are wanted.
func (l *late) status() []sensor.Status {
	l.mu.Lock()
	defer l.mu.Unlock()
	var all []sensor.Status
	for _, h := range l.hooks {
		if !h.wanted {
			continue
		}
		s := sensor.Status{Sensor: "enforce", Hook: h.name, Supported: h.links != nil}
		if h.err != nil {
			s.Reason = reason(h.err)
		}
		all = append(all, s)
	}
	return all
}

func (l *late) Close() error {
	l.keep(0)
	var errs []error
	for _, h := range l.hooks {
		errs = append(errs, h.err)
	}
	for _, m := range l.maps {
		errs = append(errs, m.Close())
	}
	return errors.Join(errs...)
}
