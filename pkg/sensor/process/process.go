// Package process is the sensor for the life of processes: fork, exec, exit, and the cgroups they
// live in. It must never decide anything.
//
//	p, err := process.Open(shared)
//	defer p.Close()
package process

import (
	"errors"
	"fmt"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"

	"github.com/plumbline-io/plumbline/pkg/event"
	"github.com/plumbline-io/plumbline/pkg/sensor"
)

//go:generate go tool bpf2go -cc clang-19 -strip ../../../bpf/strip -target amd64,arm64 -no-global-types -type exec_event -type fork_event -type exit_event -type cgroup_event -type event_kind -type event_header bpf ../../../bpf/process.bpf.c -- -I../../../bpf -O2 -g -Wall -Werror

// pkg/event repeats the kernel's enum; a difference does not compile.
var (
	_ = [1]struct{}{}[event.Fork-event.Kind(bpfEventKindEVENT_FORK)]
	_ = [1]struct{}{}[event.Exec-event.Kind(bpfEventKindEVENT_EXEC)]
	_ = [1]struct{}{}[event.Exit-event.Kind(bpfEventKindEVENT_EXIT)]
	_ = [1]struct{}{}[event.ExecCheck-event.Kind(bpfEventKindEVENT_EXEC_CHECK)]
	_ = [1]struct{}{}[event.Handshake-event.Kind(bpfEventKindEVENT_HANDSHAKE)]
	_ = [1]struct{}{}[event.Pause-event.Kind(bpfEventKindEVENT_PAUSE)]
	_ = [1]struct{}{}[event.Cgroup-event.Kind(bpfEventKindEVENT_CGROUP)]
	_ = [1]struct{}{}[event.KindCount-event.Kind(bpfEventKindEVENT_KIND_MAX)]
)

// The same for the header that pkg/sensor reads.
var (
	_ = [1]struct{}{}[unsafe.Sizeof(sensor.Header{})-unsafe.Sizeof(bpfEventHeader{})]
	_ = [1]struct{}{}[unsafe.Offsetof(sensor.Header{}.Workload)-unsafe.Offsetof(bpfEventHeader{}.Workload)]
	_ = [1]struct{}{}[unsafe.Offsetof(sensor.Header{}.Kind)-unsafe.Offsetof(bpfEventHeader{}.Kind)]
	_ = [1]struct{}{}[unsafe.Offsetof(sensor.Header{}.Size)-unsafe.Offsetof(bpfEventHeader{}.Size)]
	_ = [1]struct{}{}[unsafe.Offsetof(sensor.Header{}.Hook)-unsafe.Offsetof(bpfEventHeader{}.Hook)]
)

// Sensor reports processes. Decode is not safe for concurrent use; the rest is.
type Sensor struct {
	objects bpfObjects
	links   []link.Link
	status  []sensor.Status
}

// Open loads and attaches the programs. They are tp_btf programs: Linux 5.5 with BTF.
func Open(shared *sensor.Shared) (*Sensor, error) {
	spec, err := loadBpf()
	if err != nil {
		return nil, fmt.Errorf("read process object: %w", err)
	}
	s := &Sensor{}
	if err := shared.Load(spec, &s.objects); err != nil {
		return nil, fmt.Errorf("process: %w", err)
	}
	// cgroup_mkdir first: no cgroup made from now on escapes inheritance.
	for _, p := range []struct {
		hook    string
		program *ebpf.Program
	}{
		{"tp_btf/cgroup_mkdir", s.objects.ProcessCgroupMkdir},
		{"tp_btf/cgroup_rmdir", s.objects.ProcessCgroupRmdir},
		{"tp_btf/sched_process_fork", s.objects.ProcessFork},
		{"tp_btf/sched_process_exec", s.objects.ProcessExec},
		{"tp_btf/sched_process_exit", s.objects.ProcessExit},
	} {
		l, err := link.AttachTracing(link.TracingOptions{Program: p.program})
		if err != nil {
			return nil, errors.Join(fmt.Errorf("attach %s: %w", p.hook, err), s.Close())
		}
		s.links = append(s.links, l)
		s.status = append(s.status, sensor.Status{Sensor: s.Name(), Hook: p.hook, Supported: true})
	}
	return s, nil
}

// Name of the sensor in status and metrics.
func (s *Sensor) Name() string { return "process" }

// Kinds the sensor decodes. ExecCheck records come from pkg/enforce's programs and have the layout
// of an exec.
func (s *Sensor) Kinds() []event.Kind {
	return []event.Kind{event.Fork, event.Exec, event.Exit, event.ExecCheck, event.Cgroup}
}

// Status lists the hooks.
func (s *Sensor) Status() []sensor.Status { return s.status }

// Pin keeps the hooks that let new cgroups join their parent's workload, while no agent runs. They are
// the first two of Open's list.
func (s *Sensor) Pin(pins *sensor.Pins) error {
	return errors.Join(pins.Pin("link_process_cgroup_mkdir", s.links[0]), pins.Pin("link_process_cgroup_rmdir", s.links[1]))
}

// Close lets go of the hooks. Those that are not pinned are taken out of the kernel.
func (s *Sensor) Close() error {
	var errs []error
	for _, l := range s.links {
		errs = append(errs, l.Close())
	}
	return errors.Join(append(errs, s.objects.Close())...)
}

// Decode fills ev from a record.
func (s *Sensor) Decode(raw []byte, ev *event.Event) error { return decode(raw, ev) }

func decode(raw []byte, ev *event.Event) error {
	switch ev.Kind {
	case event.Fork:
		r, err := view[bpfForkEvent](raw)
		if err != nil {
			return err
		}
		ev.Fork = event.ForkInfo{Child: r.Child, ChildVPID: r.ChildVpid, ChildStart: r.ChildStartTicks}
	case event.Exec, event.ExecCheck:
		return decodeExec(raw, ev)
	case event.Exit:
		r, err := view[bpfExitEvent](raw)
		if err != nil {
			return err
		}
		ev.Exit = event.ExitInfo{
			Start: r.StartTicks, Started: r.StartedNs, Code: r.ExitCode >> 8 & 0xff, Signal: r.ExitCode & 0x7f, Main: r.FromOutside != 0,
		}
		if ev.Exit.Signal != 0 {
			ev.Exit.Code = -1
		}
	case event.Cgroup:
		return decodeCgroup(raw, ev)
	default:
		return fmt.Errorf("decode process event: unexpected kind %s", ev.Kind)
	}
	return nil
}

// execHead is struct exec_event, and cgroupHead struct cgroup_event, up to the text of variable length
// at their end: a record may end there, and Go may not point beyond it.
type execHead struct {
	Header         sensor.Header
	StartTicks     uint64
	NamespaceTicks uint64
	Inode          uint64
	ChangedNs      uint64
	ModifiedNs     uint64
	Inheritable    uint64
	Permitted      uint64
	Effective      uint64
	Device         uint32
	Ppid           uint32
	UID            uint32
	Vpid           uint32
	Session        uint32
	Group          uint32
	Tty            uint32
	PathLen        uint16
	FilenameLen    uint16
	CwdLen         uint16
	ArgsLen        uint16
	PathFacts      uint8
	Flags          uint8
	Repeated       uint16
	Comm           [16]byte
	Path           [256]byte
	Filename       [256]byte
	Cwd            [256]byte
}

type cgroupHead struct {
	Header  sensor.Header
	ID      uint64
	Removed uint32
	PathLen uint32
}

// A difference from the generated layout does not compile.
var (
	_ = [1]struct{}{}[unsafe.Sizeof(execHead{})-unsafe.Offsetof(bpfExecEvent{}.Args)]
	_ = [1]struct{}{}[unsafe.Offsetof(execHead{}.StartTicks)-unsafe.Offsetof(bpfExecEvent{}.StartTicks)]
	_ = [1]struct{}{}[unsafe.Offsetof(execHead{}.ChangedNs)-unsafe.Offsetof(bpfExecEvent{}.ChangedNs)]
	_ = [1]struct{}{}[unsafe.Offsetof(execHead{}.Inheritable)-unsafe.Offsetof(bpfExecEvent{}.Capabilities)]
	_ = [1]struct{}{}[unsafe.Offsetof(execHead{}.Vpid)-unsafe.Offsetof(bpfExecEvent{}.Vpid)]
	_ = [1]struct{}{}[unsafe.Offsetof(execHead{}.Tty)-unsafe.Offsetof(bpfExecEvent{}.Tty)]
	_ = [1]struct{}{}[unsafe.Offsetof(execHead{}.PathLen)-unsafe.Offsetof(bpfExecEvent{}.PathLen)]
	_ = [1]struct{}{}[unsafe.Offsetof(execHead{}.Flags)-unsafe.Offsetof(bpfExecEvent{}.Flags)]
	_ = [1]struct{}{}[unsafe.Offsetof(execHead{}.Comm)-unsafe.Offsetof(bpfExecEvent{}.Comm)]
	_ = [1]struct{}{}[unsafe.Offsetof(execHead{}.Cwd)-unsafe.Offsetof(bpfExecEvent{}.Cwd)]
	_ = [1]struct{}{}[unsafe.Sizeof(cgroupHead{})-unsafe.Offsetof(bpfCgroupEvent{}.Path)]
	_ = [1]struct{}{}[unsafe.Offsetof(cgroupHead{}.PathLen)-unsafe.Offsetof(bpfCgroupEvent{}.PathLen)]
)

func decodeCgroup(raw []byte, ev *event.Event) error {
	fixed := unsafe.Sizeof(cgroupHead{})
	r, err := view[cgroupHead](raw)
	if err != nil {
		return err
	}
	path, err := text(raw, fixed, uintptr(r.PathLen))
	if err != nil {
		return err
	}
	ev.Cgroup = event.CgroupInfo{ID: r.ID, Path: path, Removed: r.Removed != 0}
	return nil
}

func decodeExec(raw []byte, ev *event.Event) error {
	var layout execHead
	fixed := unsafe.Sizeof(layout)
	r, err := view[execHead](raw)
	if err != nil {
		return err
	}
	var errs [4]error
	x := event.ExecInfo{
		PPID: r.Ppid, Start: r.StartTicks, UID: r.UID, Inode: r.Inode, Device: r.Device, Changed: r.ChangedNs, Modified: r.ModifiedNs,
		Truncated: r.PathFacts&pathTruncated != 0 || r.Flags&argsTruncated != 0,
		Partial:   r.PathFacts&pathTruncated != 0,
		Unlinked:  r.PathFacts&pathUnlinked != 0,
		Detached:  r.PathFacts&pathDetached != 0,
		Script:    r.Flags&script != 0,
		Upper:     r.Flags&upper != 0,
		OtherName: r.Flags&otherName != 0,
		StdioInet: r.Flags&socket != 0,
		Repeated:  r.Repeated,

		CwdDetached: r.Flags&cwdDetached != 0,

		Membership:   event.Membership{VPID: r.Vpid, Session: r.Session, Group: r.Group, TTY: r.Tty, Namespace: r.NamespaceTicks},
		Capabilities: event.Capabilities{Permitted: r.Permitted, Effective: r.Effective, Inheritable: r.Inheritable, Known: true},
	}
	x.Path, errs[0] = text(r.Path[:], 0, uintptr(r.PathLen))
	x.Filename, errs[1] = text(r.Filename[:], 0, uintptr(r.FilenameLen))
	x.Cwd, errs[2] = text(r.Cwd[:], 0, uintptr(r.CwdLen))
	x.Args, errs[3] = text(raw, fixed, uintptr(r.ArgsLen))
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	joinArgs(raw[fixed : fixed+uintptr(r.ArgsLen)])
	if n := len(x.Args); n > 0 && x.Args[n-1] == ' ' {
		x.Args = x.Args[:n-1] // the last argument's NUL
	}
	x.Comm = cString(raw[unsafe.Offsetof(layout.Comm):][:len(layout.Comm)])
	ev.Exec = x
	return nil
}

// Flags of struct exec_event; bpf2go does not carry macros.
const (
	pathTruncated = 1
	pathUnlinked  = 2
	pathDetached  = 4
	argsTruncated = 1
	script        = 2
	upper         = 4
	socket        = 8
	otherName     = 16
	cwdDetached   = 32
)

// view reads the begin of raw as a T without copying.
func view[T any](raw []byte) (*T, error) {
	var t T
	if uintptr(len(raw)) < unsafe.Sizeof(t) {
		return nil, fmt.Errorf("decode process event: %d bytes, want at least %d", len(raw), unsafe.Sizeof(t))
	}
	return (*T)(unsafe.Pointer(unsafe.SliceData(raw))), nil
}

// text is the string of n bytes at off; it aliases raw, a record or a field of one.
func text(raw []byte, off, n uintptr) (string, error) {
	if off+n > uintptr(len(raw)) {
		return "", fmt.Errorf("decode process event: text of %d bytes at %d ends beyond %d", n, off, len(raw))
	}
	return unsafe.String(unsafe.SliceData(raw[off:]), int(n)), nil
}

// joinArgs turns the NULs between arguments into spaces, in place: the record is ours until the next
// one is read.
func joinArgs(args []byte) {
	for i, b := range args {
		if b == 0 {
			args[i] = ' '
		}
	}
}

func cString(b []byte) string {
	for i, c := range b {
		if c == 0 {
			return unsafe.String(unsafe.SliceData(b), i)
		}
	}
	return unsafe.String(unsafe.SliceData(b), len(b))
}
