// Package gotls is the sensor for the TLS handshakes of programs that use Go's crypto/tls, stripped
// or not. It must never read what travels in a connection, nor keys; it reads what was negotiated and
// the peer's certificate.
//
//	s, err := gotls.Open(shared)
//	defer s.Close()
//	mine, err := s.Follow(img)
package gotls

import (
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"sync/atomic"
	"unsafe"

	"github.com/plumbline-io/plumbline/pkg/event"
	"github.com/plumbline-io/plumbline/pkg/gobin"
	"github.com/plumbline-io/plumbline/pkg/sensor"
)

//go:generate go tool bpf2go -cc clang-19 -strip ../../../bpf/strip -target amd64,arm64 -no-global-types -type handshake_event -type conn_layout -type executable_key -type frame_key -type conn_key -type conn_state bpf ../../../bpf/gotls.bpf.c -- -I../../../bpf -O2 -g -Wall -Werror

// pkg/sensor decodes the records of all TLS sensors; a difference in layout does not compile.
var (
	_ = [1]struct{}{}[unsafe.Sizeof(sensor.Handshake{})-unsafe.Offsetof(bpfHandshakeEvent{}.Cert)]
	_ = [1]struct{}{}[unsafe.Offsetof(sensor.Handshake{}.Version)-unsafe.Offsetof(bpfHandshakeEvent{}.Version)]
	_ = [1]struct{}{}[unsafe.Offsetof(sensor.Handshake{}.VerifyResult)-unsafe.Offsetof(bpfHandshakeEvent{}.VerifyResult)]
	_ = [1]struct{}{}[unsafe.Offsetof(sensor.Handshake{}.Library)-unsafe.Offsetof(bpfHandshakeEvent{}.Library)]
	_ = [1]struct{}{}[unsafe.Offsetof(sensor.Handshake{}.Calls)-unsafe.Offsetof(bpfHandshakeEvent{}.Calls)]
	_ = [1]struct{}{}[unsafe.Offsetof(sensor.Handshake{}.ALPN)-unsafe.Offsetof(bpfHandshakeEvent{}.Alpn)]
)

// Sensor reports handshakes. Decode is for one goroutine; the rest is safe for concurrent use.
type Sensor struct {
	shared  *sensor.Shared
	objects bpfObjects
	follows *sensor.Follows[*facts]
	decoder *sensor.HandshakeDecoder
	refused atomic.Pointer[string] // why the latest Go program with TLS could not be observed
	ended   sensor.Ended           // of Forget's goroutine
}

// Open loads the programs. They attach to what Follow is told of. Linux 5.10.
func Open(shared *sensor.Shared) (*Sensor, error) {
	spec, err := loadBpf()
	if err != nil {
		return nil, fmt.Errorf("read gotls object: %w", err)
	}
	s := &Sensor{shared: shared, decoder: sensor.NewHandshakeDecoder()}
	if err := shared.Load(spec, &s.objects); err != nil {
		return nil, fmt.Errorf("gotls: %w", err)
	}
	s.follows = sensor.NewFollows(sensor.FollowConfig[*facts]{
		PerProcess: shared.PerProcess, Analyse: s.analyse, Attach: s.attach,
	})
	return s, nil
}

// Name of the sensor in status and metrics.
func (s *Sensor) Name() string { return "gotls" }

// Kinds the sensor decodes, also for other TLS sensors.
func (s *Sensor) Kinds() []event.Kind { return []event.Kind{event.Handshake} }

// Decode fills ev from a record.
func (s *Sensor) Decode(raw []byte, ev *event.Event) error { return s.decoder.Decode(raw, ev) }

// Status has one line: the probes come and go with the programs that run.
func (s *Sensor) Status() []sensor.Status {
	processes, attachments := s.follows.Following()
	reason := fmt.Sprintf("%d processes through %d attachments", processes, attachments)
	if why := s.refused.Load(); why != nil {
		reason += "; latest refusal: " + *why
	}
	return []sensor.Status{{Sensor: s.Name(), Hook: "uprobe/crypto_tls", Supported: true, Reason: reason}}
}

// Wants every executable: Go programs have no common name.
func (s *Sensor) Wants(_ string, isExecutable bool) bool { return isExecutable }

// Follow attaches to a Go program that has crypto/tls. See sensor.Follower.
func (s *Sensor) Follow(img sensor.Image) (bool, error) {
	mine, err := s.follows.Follow(img)
	if err != nil {
		why := fmt.Sprintf("%s: %v", img.Name, err)
		s.refused.Store(&why)
	}
	return mine, err
}

// Forget drops a process that has exited, with what it left in flight.
func (s *Sensor) Forget(pid uint32) {
	followed := s.follows.Forget(pid)
	if !followed && s.shared.PerProcess {
		return // no probe was in it
	}
	if full := s.ended.Add(pid); !followed && !full {
		return
	}
	sensor.Sweep(&s.ended, s.objects.FramesActive, func(k bpfFrameKey) uint32 { return k.Tgid })
	sensor.Sweep(&s.ended, s.objects.HandshakesActive, func(k bpfConnKey) uint32 { return k.Tgid })
	s.ended.Clear()
}

// Close detaches and unloads.
func (s *Sensor) Close() error {
	return errors.Join(s.follows.Close(), s.objects.Close())
}

func (s *Sensor) attach(img sensor.Image, pid uint32, f *facts) (io.Closer, error) {
	key := bpfExecutableKey{Inode: img.Key.Inode, Size: uint64(img.Key.Size)}
	if err := s.objects.ConnLayouts.Put(key, f.layout); err != nil {
		return nil, fmt.Errorf("write layout of %s: %w", img.Name, err)
	}
	probes := []sensor.Uprobe{
		// The ends first: a begin without an end would stay in flight.
		{Program: s.objects.GotlsEnd, Offsets: f.ends},
		{Program: s.objects.GotlsServerChain, Offsets: f.serverChain},
		{Program: s.objects.GotlsClientChain, Offsets: f.clientChain},
		{Program: s.objects.GotlsAlert, Offsets: f.alert},
		{Program: s.objects.GotlsClientBegin, Offsets: f.client},
		{Program: s.objects.GotlsServerBegin, Offsets: f.server},
	}
	probes = slices.DeleteFunc(probes, func(p sensor.Uprobe) bool { return len(p.Offsets) == 0 })
	return s.shared.AttachUprobes(img.File, pid, probes)
}

// analyse finds the places and offsets in a file.
func (s *Sensor) analyse(img sensor.Image) (*facts, bool, error) {
	f, err := gobin.Open(img.File)
	if errors.Is(err, gobin.ErrNotGo) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, supportError(err)
	}
	defer f.Close()
	found, err := find(f)
	if err != nil {
		return nil, false, supportError(err)
	}
	return found, found != nil, nil
}

// supportError makes what gobin cannot read a state instead of a failure.
func supportError(err error) error {
	if errors.Is(err, gobin.ErrUnsupported) {
		return fmt.Errorf("%w: %w", sensor.ErrNotSupported, err)
	}
	return err
}

func sameMachine(f *gobin.File) bool { return f.Arch() == runtime.GOARCH }
