// Package spool keeps alerts on disk until the control plane has stored them. It survives a killed
// process and torn writes, is bounded in bytes, and counts whatever it cannot keep: when full, the
// least severe and then the oldest alerts go first, and a severe alert never gives way to a milder
// one. It must never make the caller of Append wait for the disk, and never give one ID to two
// alerts.
//
//	sp, err := spool.Open("/var/lib/plumbline/spool", spool.Config{Node: "n1"})
//	go sp.Run(ctx)
//	id, err := sp.Append(a)
//	id, line, err := sp.Next(ctx) // the sender's side
//	sp.Ack(id)
package spool

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/plumbline-io/plumbline/pkg/alert"
)

// ErrFull means that an alert was not accepted: more is waiting to be written than Config.MaxPending.
var ErrFull = errors.New("spool is full")

// ErrLocked means that another process has the spool open.
var ErrLocked = errors.New("spool is in use by another process")

// lanes is the number of severities; each has its own segments.
const lanes = 8

// Config of a Spool. Only Node must be set.
type Config struct {
	Node         string        // the node part of every alert's ID
	MaxBytes     int64         // on disk; 0: 64 MiB
	SegmentBytes int64         // what is evicted at once; 0: MaxBytes/64, within 64 KiB and 1 MiB
	MaxPending   int           // bytes in memory that the disk has not taken; 0: 4 MiB
	SyncEvery    time.Duration // fdatasync at most so long after a write; 0: 100 ms; negative: never
	Logger       *slog.Logger  // nil: none
}

func (c *Config) setDefaults() error {
	if c.Node == "" {
		return errors.New("open spool: no node name")
	}
	if c.MaxBytes <= 0 {
		c.MaxBytes = 64 << 20
	}
	if c.SegmentBytes <= 0 {
		c.SegmentBytes = min(max(c.MaxBytes/64, 64<<10), 1<<20)
	}
	if c.MaxPending <= 0 {
		c.MaxPending = 4 << 20
	}
	if c.SyncEvery == 0 {
		c.SyncEvery = 100 * time.Millisecond
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return nil
}

// Stats counts since Open, except Records, Bytes and Pending, which are what the spool holds now.
type Stats struct {
	Epoch       string `json:"epoch"`
	Appended    uint64 `json:"appended"`
	Acked       uint64 `json:"acked"`
	Refused     uint64 `json:"refused"`      // never accepted: too much waited for the disk, or not encodable
	Evicted     uint64 `json:"evicted"`      // accepted, then lost to the bound on bytes
	Torn        uint64 `json:"torn"`         // segments with a damaged or unfinished end
	WriteErrors uint64 `json:"write_errors"` // the disk refused; the alerts are kept in memory instead
	Records     int    `json:"records"`
	Bytes       int64  `json:"bytes"`
	Pending     int    `json:"pending_bytes"` // appended and not yet written
}

// Lost is how many alerts the spool could not keep.
func (s Stats) Lost() uint64 { return s.Refused + s.Evicted }

type pendingAlert struct {
	seq      uint64
	severity uint8
	data     []byte
}

// place is where a record is kept.
type place struct {
	segment *segment
	index   int
}

// Spool is safe for concurrent use, except Close.
type Spool struct {
	dir  string
	cfg  Config
	lock *os.File

	wake chan struct{} // to the writer: pending is not empty; capacity 1
	tidy chan struct{} // to the keeper: something to sync, remove or note; capacity 1
	more chan struct{} // to Next: there may be a record to hand out; capacity 1

	mu       sync.Mutex
	epoch    uint64
	nextSeq  uint64
	nextSeg  uint64
	pending  []pendingAlert
	waiting  int // bytes of pending
	lanes    [lanes][]*segment
	inflight map[alert.ID]place
	retries  []place
	garbage  []*segment
	bytes    int64 // of all segments, pending not counted
	memory   int64 // of the segments in memory
	moved    bool  // acks since the cursor was written
	failing  bool  // the disk refused the last write
	stats    Stats
}

// Append gives a its ID and keeps it. It does not wait for the disk. An error means that the alert
// is lost, and counted in Stats.Refused.
func (s *Spool) Append(a alert.Alert) (alert.ID, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a.Detail.ID = alert.ID{Node: s.cfg.Node, Epoch: epochText(s.epoch), Seq: s.nextSeq}
	data, err := json.Marshal(a)
	switch {
	case err != nil:
		s.stats.Refused++
		return alert.ID{}, fmt.Errorf("append alert %q: %w", a.Rule, err)
	case len(data) > MaxAlert:
		s.stats.Refused++
		return alert.ID{}, fmt.Errorf("append alert %q: %d bytes, at most %d", a.Rule, len(data), MaxAlert)
	case s.waiting+len(data) > s.cfg.MaxPending:
		s.stats.Refused++
		return alert.ID{}, fmt.Errorf("append alert %q: %w", a.Rule, ErrFull)
	}
	s.nextSeq++
	s.stats.Appended++
	lane := uint8(min(a.Severity, lanes-1))
	s.pending = append(s.pending, pendingAlert{seq: a.Detail.ID.Seq, severity: lane, data: data})
	s.waiting += len(data)
	signal(s.wake)
	return a.Detail.ID, nil
}

// Next waits for an alert that is on disk and was not handed out yet, the most severe first, and
// within a severity in order. Each must be answered with Ack or Retry.
func (s *Spool) Next(ctx context.Context) (alert.ID, []byte, error) {
	for {
		h, ok := s.take()
		if !ok {
			select {
			case <-ctx.Done():
				return alert.ID{}, nil, ctx.Err()
			case <-s.more:
				continue
			}
		}
		data, err := h.read()
		if err != nil {
			s.spoiled(h.id, err)
			continue
		}
		signal(s.more) // another caller of Next may wait while there is more
		return h.id, data, nil
	}
}

func (s *Spool) take() (handout, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.retries) > 0 {
		p := s.retries[0]
		s.retries = s.retries[1:]
		if p.segment.evicted { // counted when it was evicted
			continue
		}
		return s.handOut(p), true
	}
	for _, lane := range s.lanes {
		for _, g := range lane {
			for g.next < len(g.records) {
				g.next++
				if !g.records[g.next-1].acked {
					return s.handOut(place{g, g.next - 1}), true
				}
			}
		}
	}
	return handout{}, false
}

func (s *Spool) handOut(p place) handout {
	g, r := p.segment, p.segment.records[p.index]
	h := handout{id: g.id(s.cfg.Node, r), file: g.file, mem: g.mem, off: int64(r.off), size: int(r.size)}
	s.inflight[h.id] = p
	return h
}

// spoiled gives up a record that cannot be read back.
func (s *Spool) spoiled(id alert.ID, err error) {
	s.mu.Lock()
	p := s.inflight[id]
	s.stats.Evicted++
	s.finish(id, p)
	evicted := p.segment.evicted
	s.mu.Unlock()
	if !evicted { // else it went away under the reader, as intended
		s.cfg.Logger.Error("alert lost", "reason", "read spool", "alert", id.String(), "error", err)
	}
}

// Ack says that the alert is stored for good. An unknown id is ignored.
func (s *Spool) Ack(id alert.ID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p, ok := s.inflight[id]; ok {
		s.stats.Acked++
		s.finish(id, p)
	}
}

func (s *Spool) finish(id alert.ID, p place) {
	delete(s.inflight, id)
	if p.segment.evicted {
		return
	}
	p.segment.records[p.index].acked = true
	p.segment.acked++
	s.moved = true
	if p.segment.done() {
		s.detach(p.segment)
	}
	signal(s.tidy)
}

// Retry hands the alert out again. An unknown id is ignored.
func (s *Spool) Retry(id alert.ID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, ok := s.inflight[id]
	if !ok {
		return
	}
	delete(s.inflight, id)
	if p.segment.evicted {
		s.stats.Evicted++
		return
	}
	s.retries = append(s.retries, p)
	signal(s.more)
}

// Stats returns the counters.
func (s *Spool) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.stats
	st.Epoch = epochText(s.epoch)
	st.Bytes, st.Pending = s.bytes, s.waiting
	st.Records = len(s.pending)
	for _, lane := range s.lanes {
		for _, g := range lane {
			st.Records += len(g.records) - g.acked
		}
	}
	return st
}

// detach takes a segment out of its lane and leaves its file to the writer.
func (s *Spool) detach(g *segment) {
	lane := s.lanes[g.severity]
	for i := range lane {
		if lane[i] == g {
			s.lanes[g.severity] = append(lane[:i:i], lane[i+1:]...)
			break
		}
	}
	s.bytes -= g.size
	if g.file == nil {
		s.memory -= g.size
	}
	s.garbage = append(s.garbage, g)
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

func epochText(epoch uint64) string { return fmt.Sprintf("%016x", epoch) }

func (s *Spool) path(name string) string { return filepath.Join(s.dir, name) }
