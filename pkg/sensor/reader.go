package sensor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"
	"unsafe"

	"github.com/cilium/ebpf/ringbuf"

	"github.com/plumbline-io/plumbline/pkg/event"
)

// Header is struct event_header of bpf/event.h. pkg/sensor/process asserts that it has the layout
// generated from there.
type Header struct {
	KtimeNs  uint64
	CgroupID uint64
	Tgid     uint32
	Tid      uint32
	Workload uint32
	RuleID   uint32
	Kind     uint32
	Size     uint16
	Verdict  uint8
	Hook     uint8
}

// Decoder lets each record be decoded by the sensor of its kind. It has one goroutine.
type Decoder struct {
	sensors [event.KindCount]Sensor
}

// NewDecoder knows the kinds of these sensors. Where two decode the same kind, the first one does.
func NewDecoder(sensors []Sensor) *Decoder {
	d := &Decoder{}
	for _, s := range sensors {
		for _, k := range s.Kinds() {
			if d.sensors[k] == nil {
				d.sensors[k] = s
			}
		}
	}
	return d
}

// Reader drains the ring buffer. It has one goroutine: the caller of Run.
type Reader struct {
	ring    *ringbuf.Reader
	poll    time.Duration
	decoder *Decoder
	bad     func(error)
}

// NewReader reads shared's ring buffer and lets each record be decoded by the sensor of its kind.
// bad is told of records that no sensor can decode; they are skipped.
func NewReader(shared *Shared, sensors []Sensor, bad func(error)) (*Reader, error) {
	ring, err := ringbuf.NewReader(shared.Events)
	if err != nil {
		return nil, fmt.Errorf("open ring buffer: %w", err)
	}
	return &Reader{ring: ring, poll: shared.Poll, decoder: NewDecoder(sensors), bad: bad}, nil
}

// Run reads until ctx ends, then drains what is in the ring and returns nil. handle must not keep
// the event or its strings.
func (r *Reader) Run(ctx context.Context, handle func(*event.Event)) error {
	stop := context.AfterFunc(ctx, func() { r.ring.Flush() })
	defer stop()
	var (
		record ringbuf.Record
		ev     event.Event
	)
	poll := func() { r.ring.SetDeadline(time.Now().Add(r.poll)) }
	poll()
	for {
		err := r.ring.ReadInto(&record)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, ringbuf.ErrFlushed): // the ring is empty
			if ctx.Err() != nil {
				return nil
			}
			poll()
			continue
		case errors.Is(err, ringbuf.ErrClosed):
			return nil
		case err != nil:
			return fmt.Errorf("read ring buffer: %w", err)
		}
		if err := r.decoder.Decode(record.RawSample, &ev); err != nil {
			r.bad(err)
			continue
		}
		handle(&ev)
	}
}

// Drain reads what is in the ring now.
func (r *Reader) Drain(handle func(*event.Event)) error {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return r.Run(ctx, handle)
}

// denyTwice is VERDICT_DENY_TWICE of bpf/event.h: by a rule, and by what the baseline says.
const denyTwice = 3

// Decode fills ev from one record. It does not allocate; ev's strings alias raw.
func (d *Decoder) Decode(raw []byte, ev *event.Event) error {
	if len(raw) < int(unsafe.Sizeof(Header{})) {
		return fmt.Errorf("decode event: %d bytes, want at least %d", len(raw), unsafe.Sizeof(Header{}))
	}
	h := (*Header)(unsafe.Pointer(unsafe.SliceData(raw)))
	if int(h.Size) > len(raw) {
		return fmt.Errorf("decode event: header says %d bytes, the record has %d", h.Size, len(raw))
	}
	if h.Kind == 0 || h.Kind >= uint32(event.KindCount) || d.sensors[h.Kind] == nil {
		return fmt.Errorf("decode event: no sensor for kind %d", h.Kind)
	}
	ev.Kind, ev.Verdict, ev.Hook = event.Kind(h.Kind), event.Verdict(h.Verdict), event.Hook(h.Hook)
	ev.Ktime, ev.CgroupID, ev.Tgid, ev.Tid = h.KtimeNs, h.CgroupID, h.Tgid, h.Tid
	ev.Workload, ev.RuleID = h.Workload, h.RuleID
	if ev.Deviates = h.Verdict == denyTwice; ev.Deviates {
		ev.Verdict = event.Deny
	}
	return d.sensors[h.Kind].Decode(raw[:h.Size], ev)
}

// Close releases the ring buffer; Run returns.
func (r *Reader) Close() error { return r.ring.Close() }
