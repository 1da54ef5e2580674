// Package openssl is the sensor for the TLS handshakes of programs that use OpenSSL 3 as a shared
// library. It must never read what travels in a connection, nor keys, and never execute code of the
// library it reads.
//
// A process is seen from the moment it is followed: what a program does in its first milliseconds,
// before that, is not.
//
//	s, err := openssl.Open(shared)
//	defer s.Close()
//	mine, err := s.Follow(img)
package openssl

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/plumbline-io/plumbline/pkg/event"
	"github.com/plumbline-io/plumbline/pkg/sensor"
)

//go:generate go tool bpf2go -cc clang-19 -strip ../../../bpf/strip -target amd64,arm64 -no-global-types -type ssl_layout -type handshake_event -type handshake_key bpf ../../../bpf/openssl.bpf.c -- -I../../../bpf -O2 -g -Wall -Werror

// pkg/sensor decodes the records of all TLS sensors; a difference in layout does not compile.
var (
	_ = [1]struct{}{}[unsafe.Sizeof(sensor.Handshake{})-unsafe.Offsetof(bpfHandshakeEvent{}.Cert)]
	_ = [1]struct{}{}[unsafe.Offsetof(sensor.Handshake{}.Version)-unsafe.Offsetof(bpfHandshakeEvent{}.Version)]
	_ = [1]struct{}{}[unsafe.Offsetof(sensor.Handshake{}.ErrorReason)-unsafe.Offsetof(bpfHandshakeEvent{}.ErrorReason)]
	_ = [1]struct{}{}[unsafe.Offsetof(sensor.Handshake{}.CertIsTBS)-unsafe.Offsetof(bpfHandshakeEvent{}.CertIsTbs)]
)

// maxLayouts bounds the copies of the programs, one for each layout of the library's structs. A machine
// has a few: its own OpenSSL, and those of container images.
const maxLayouts = 32

// Sensor reports handshakes. Decode is for one goroutine; the rest is safe for concurrent use.
type Sensor struct {
	shared  *sensor.Shared
	follows *sensor.Follows[*facts]
	decoder *sensor.HandshakeDecoder
	refused atomic.Pointer[string] // why the latest OpenSSL could not be observed

	mu      sync.Mutex
	halves  map[uint32]pair // processes, by pid
	layouts map[bpfSslLayout]*bpfObjects
}

// pair is the two libraries of one process; they come in any order.
type pair struct{ ssl, crypto *sensor.Image }

// Open says whether the programs can be loaded. They attach to what Follow is told of. Linux 5.10.
func Open(shared *sensor.Shared) (*Sensor, error) {
	s := &Sensor{
		shared: shared, decoder: sensor.NewHandshakeDecoder(),
		halves: map[uint32]pair{}, layouts: map[bpfSslLayout]*bpfObjects{},
	}
	s.follows = sensor.NewFollows(sensor.FollowConfig[*facts]{
		PerProcess: shared.PerProcess, Analyse: s.analyse, Attach: s.attach,
	})
	// A layout of zeros reads nonsense, but is never attached: the verifier's word is what counts.
	if _, err := s.objects(bpfSslLayout{}); err != nil {
		return nil, err
	}
	return s, nil
}

// Name of the sensor in status and metrics.
func (s *Sensor) Name() string { return "openssl" }

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
	return []sensor.Status{{Sensor: s.Name(), Hook: "uprobe/libssl.so.3", Supported: true, Reason: reason}}
}

func isSSL(name string) bool    { return strings.HasPrefix(path.Base(name), "libssl.so.3") }
func isCrypto(name string) bool { return strings.HasPrefix(path.Base(name), "libcrypto.so.3") }

// Wants OpenSSL's two libraries.
func (s *Sensor) Wants(name string, _ bool) bool { return isSSL(name) || isCrypto(name) }

// Follow attaches once it knows both libraries of a process. See sensor.Follower.
func (s *Sensor) Follow(img sensor.Image) (bool, error) {
	s.mu.Lock()
	p := s.halves[img.PID]
	switch {
	case isSSL(img.Name):
		p.ssl = &img
	case isCrypto(img.Name):
		p.crypto = &img
	default:
		s.mu.Unlock()
		return false, nil
	}
	s.halves[img.PID] = p
	s.mu.Unlock()
	if p.ssl == nil || p.crypto == nil {
		return true, nil
	}
	mine, err := s.follows.Follow(*p.ssl)
	if err != nil {
		why := fmt.Sprintf("%s: %v", img.Name, err)
		s.refused.Store(&why)
	}
	return mine, err
}

// Forget drops a process that has exited. What it left in flight goes with the maps' LRU.
func (s *Sensor) Forget(pid uint32) {
	s.mu.Lock()
	delete(s.halves, pid)
	s.mu.Unlock()
	s.follows.Forget(pid)
}

// Close detaches and unloads.
func (s *Sensor) Close() error {
	errs := []error{s.follows.Close()}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, o := range s.layouts {
		errs = append(errs, o.Close())
	}
	return errors.Join(errs...)
}

// objects loads the programs for a layout, once.
func (s *Sensor) objects(layout bpfSslLayout) (*bpfObjects, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if o, ok := s.layouts[layout]; ok {
		return o, nil
	}
	if len(s.layouts) > maxLayouts {
		return nil, fmt.Errorf("load openssl programs: %w: more than %d different builds of OpenSSL", sensor.ErrNotSupported, maxLayouts)
	}
	spec, err := loadBpf()
	if err != nil {
		return nil, fmt.Errorf("read openssl object: %w", err)
	}
	if err := spec.Variables["layout"].Set(layout); err != nil {
		return nil, fmt.Errorf("set layout: %w", err)
	}
	o := &bpfObjects{}
	if err := s.shared.Load(spec, o); err != nil {
		return nil, fmt.Errorf("openssl: %w", err)
	}
	s.layouts[layout] = o
	return o, nil
}

// crypto opens the libcrypto of a process, if it is still the one that was told of.
func (s *Sensor) crypto(pid uint32) (*os.File, error) {
	s.mu.Lock()
	img := s.halves[pid].crypto
	s.mu.Unlock()
	if img == nil {
		return nil, fmt.Errorf("open libcrypto of process %d: it has gone", pid)
	}
	f, err := os.Open(img.File)
	if err != nil {
		return nil, fmt.Errorf("open libcrypto: %w", err)
	}
	info, err := f.Stat()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open libcrypto: %w", err), f.Close())
	}
	if key, ok := sensor.KeyOf(info); !ok || key != img.Key {
		return nil, errors.Join(fmt.Errorf("open libcrypto: process %d maps another file than %s by now", pid, img.Name), f.Close())
	}
	return f, nil
}

func (s *Sensor) analyse(img sensor.Image) (*facts, bool, error) {
	ssl, err := os.Open(img.File)
	if err != nil {
		return nil, false, fmt.Errorf("open libssl: %w", err)
	}
	defer ssl.Close()
	crypto, err := s.crypto(img.PID)
	if err != nil {
		return nil, false, err
	}
	defer crypto.Close()
	f, err := find(ssl, crypto)
	if err != nil {
		return nil, false, fmt.Errorf("%w: %w", sensor.ErrNotSupported, err)
	}
	return f, true, nil
}

// attach attaches to both libraries, or to none.
func (s *Sensor) attach(img sensor.Image, pid uint32, f *facts) (io.Closer, error) {
	o, err := s.objects(f.layout)
	if err != nil {
		return nil, err
	}
	crypto, err := s.crypto(img.PID)
	if err != nil {
		return nil, err
	}
	defer crypto.Close()
	statem := []uint64{f.connect, f.accept}
	ssl, err := s.shared.AttachUprobes(img.File, pid, []sensor.Uprobe{
		// The ends first: a begin without an end would stay in flight.
		{Program: o.OpensslStatemExit, Offsets: statem, Return: true},
		{Program: o.OpensslRelease, Offsets: []uint64{f.free, f.clear}},
		{Program: o.OpensslStatemEnter, Offsets: statem},
	})
	if err != nil {
		return nil, err
	}
	reasons, err := s.shared.AttachUprobes(fmt.Sprintf("/proc/self/fd/%d", crypto.Fd()), pid, []sensor.Uprobe{
		{Program: o.OpensslError, Offsets: []uint64{f.reason}},
	})
	if err != nil {
		return nil, errors.Join(err, ssl.Close())
	}
	return both{ssl, reasons}, nil
}

// both closes two attachments.
type both [2]io.Closer

func (b both) Close() error { return errors.Join(b[0].Close(), b[1].Close()) }
