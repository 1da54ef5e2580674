// Package gcpause is the sensor for the stop-the-world pauses of Go programs: those of the garbage
// collector and all others. It must never count a pause twice or guess how long one was: durations
// are the runtime's own readings from Go 1.22 on.
//
//	s, err := gcpause.Open(shared)
//	defer s.Close()
//	mine, err := s.Follow(img)
package gcpause

import (
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync/atomic"
	"unsafe"

	"github.com/cilium/ebpf"

	"github.com/plumbline-io/plumbline/pkg/event"
	"github.com/plumbline-io/plumbline/pkg/gobin"
	"github.com/plumbline-io/plumbline/pkg/sensor"
)

//go:generate go tool bpf2go -cc clang-19 -strip ../../../bpf/strip -target amd64,arm64 -no-global-types -type pause_event -type pause_state bpf ../../../bpf/gcpause.bpf.c -- -I../../../bpf -O2 -g -Wall -Werror

// Sensor reports pauses. Decode is for one goroutine; the rest is safe for concurrent use.
type Sensor struct {
	shared  *sensor.Shared
	objects bpfObjects
	follows *sensor.Follows[*facts]
	refused atomic.Pointer[string] // why the latest Go program could not be observed
	ended   sensor.Ended           // of Forget's goroutine
}

// Open loads the programs. They attach to what Follow is told of. Linux 5.10.
func Open(shared *sensor.Shared) (*Sensor, error) {
	spec, err := loadBpf()
	if err != nil {
		return nil, fmt.Errorf("read gcpause object: %w", err)
	}
	s := &Sensor{shared: shared}
	if err := shared.Load(spec, &s.objects); err != nil {
		return nil, fmt.Errorf("gcpause: %w", err)
	}
	s.follows = sensor.NewFollows(sensor.FollowConfig[*facts]{
		PerProcess: shared.PerProcess, Analyse: analyse, Attach: s.attach,
	})
	return s, nil
}

// Name of the sensor in status and metrics.
func (s *Sensor) Name() string { return "gcpause" }

// Kinds the sensor decodes.
func (s *Sensor) Kinds() []event.Kind { return []event.Kind{event.Pause} }

// Decode fills ev from a record. It does not allocate.
func (s *Sensor) Decode(raw []byte, ev *event.Event) error { return decode(raw, ev) }

func decode(raw []byte, ev *event.Event) error {
	if len(raw) < int(unsafe.Sizeof(bpfPauseEvent{})) {
		return fmt.Errorf("decode pause: %d bytes, want %d", len(raw), unsafe.Sizeof(bpfPauseEvent{}))
	}
	r := (*bpfPauseEvent)(unsafe.Pointer(unsafe.SliceData(raw)))
	ev.Pause = event.PauseInfo{Reason: r.Reason, GC: r.Gc != 0, Stopping: r.StoppingNs, Total: r.TotalNs}
	return nil
}

// Status has one line: the probes come and go with the programs that run.
func (s *Sensor) Status() []sensor.Status {
	processes, attachments := s.follows.Following()
	reason := fmt.Sprintf("%d processes through %d attachments", processes, attachments)
	if why := s.refused.Load(); why != nil {
		reason += "; latest refusal: " + *why
	}
	return []sensor.Status{{Sensor: s.Name(), Hook: "uprobe/go_stop_the_world", Supported: true, Reason: reason}}
}

// Wants every executable: Go programs have no common name.
func (s *Sensor) Wants(_ string, isExecutable bool) bool { return isExecutable }

// Follow attaches to a Go program. See sensor.Follower.
func (s *Sensor) Follow(img sensor.Image) (bool, error) {
	mine, err := s.follows.Follow(img)
	if err != nil {
		why := fmt.Sprintf("%s: %v", img.Name, err)
		s.refused.Store(&why)
	}
	return mine, err
}

// Forget drops a process that has exited, with the pause it was in.
func (s *Sensor) Forget(pid uint32) {
	if s.follows.Forget(pid) {
		_ = s.objects.PausesActive.Delete(pid) // normally there is none
		return
	}
	if s.shared.PerProcess || !s.ended.Add(pid) { // no probe was in it, or there is time
		return
	}
	sensor.Sweep(&s.ended, s.objects.PausesActive, func(owner uint32) uint32 { return owner })
	s.ended.Clear()
}

// Close detaches and unloads.
func (s *Sensor) Close() error {
	return errors.Join(s.follows.Close(), s.objects.Close())
}

// facts are the places of the probes, as file offsets, and what the begin is told.
type facts struct {
	form       form
	begin, end []uint64
}

// form is how the runtime hands over what is known about a pause.
type form int

const (
	formStopped form = iota // startTheWorldWithSema is told reason, begin and stop: Go 1.23
	formBegun               // reason and begin: Go 1.22
	formReason              // stopTheWorldWithSema is told the reason: Go 1.21
	formBare                // nothing: Go 1.20
)

// forms of the releases. The oldest is the first whose tables we have checked; unreleased versions
// count as the newest.
func formOf(v gobin.Version) (form, error) {
	switch {
	case v.Minor == 0 || v.Minor >= 23:
		return formStopped, nil
	case v.Minor == 22:
		return formBegun, nil
	case v.Minor == 21:
		return formReason, nil
	case v.Minor == 20:
		return formBare, nil
	}
	return 0, fmt.Errorf("%w: %s is older than Go 1.20", sensor.ErrNotSupported, v.Text)
}

const (
	stopTheWorld  = "runtime.stopTheWorldWithSema"
	startTheWorld = "runtime.startTheWorldWithSema"
)

func analyse(img sensor.Image) (*facts, bool, error) {
	f, err := gobin.Open(img.File)
	if errors.Is(err, gobin.ErrNotGo) {
		return nil, false, nil
	}
	if err == nil {
		defer f.Close()
		var found *facts
		if found, err = find(f); err == nil {
			return found, true, nil
		}
	}
	if errors.Is(err, gobin.ErrUnsupported) {
		err = fmt.Errorf("%w: %w", sensor.ErrNotSupported, err)
	}
	return nil, false, err
}

func find(f *gobin.File) (*facts, error) {
	how, err := formOf(f.Version())
	if err != nil {
		return nil, err
	}
	if f.Arch() != runtime.GOARCH {
		return nil, fmt.Errorf("%w: the program is for %s", sensor.ErrNotSupported, f.Arch())
	}
	fns, err := f.Functions(stopTheWorld, startTheWorld)
	if err != nil {
		return nil, err
	}
	begin := fns[startTheWorld]
	if how == formReason || how == formBare {
		begin = fns[stopTheWorld]
	}
	if begin.Size == 0 || fns[startTheWorld].Size == 0 {
		return nil, fmt.Errorf("%w: %s has no function %s", sensor.ErrNotSupported, f.Version().Text, startTheWorld)
	}
	found := &facts{form: how}
	body, err := f.Body(begin)
	if err != nil {
		return nil, err
	}
	found.begin = []uint64{body}
	if found.end, err = f.Returns(fns[startTheWorld]); err != nil {
		return nil, err
	}
	return found, nil
}

func (s *Sensor) attach(img sensor.Image, pid uint32, f *facts) (io.Closer, error) {
	begin := map[form]*ebpf.Program{
		formStopped: s.objects.GcpauseStart,
		formBegun:   s.objects.GcpauseStart122,
		formReason:  s.objects.GcpauseStop121,
		formBare:    s.objects.GcpauseStop120,
	}[f.form]
	return s.shared.AttachUprobes(img.File, pid, []sensor.Uprobe{
		{Program: s.objects.GcpauseEnd, Offsets: f.end},
		{Program: begin, Offsets: f.begin},
	})
}
