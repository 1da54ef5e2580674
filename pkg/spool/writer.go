package spool

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"
)

// Run writes what Append accepted, until ctx ends and everything accepted is written. Syncing has a
// goroutine of its own, so that a slow disk does not hold up an alert that is already in the page
// cache and thus survives the death of the process.
func (s *Spool) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	wg.Go(func() { s.write(ctx) })
	wg.Go(func() { s.keep(ctx) })
	wg.Wait()
	return nil
}

func (s *Spool) write(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			s.flush()
			return
		case <-s.wake:
			s.flush()
		}
	}
}

// keep syncs, removes finished segments and notes the cursor, at most once per SyncEvery.
func (s *Spool) keep(ctx context.Context) {
	every := s.cfg.SyncEvery
	if every < 0 {
		every = 100 * time.Millisecond
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.tidy:
		}
		timer := time.NewTimer(every)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
		s.sweep()
	}
}

func (s *Spool) sweep() {
	s.sync()
	s.collect()
	if err := s.saveCursor(); err != nil {
		s.cfg.Logger.Warn("spool cursor not written", "error", err)
	}
}

// flush writes all pending alerts, lane by lane.
func (s *Spool) flush() {
	s.mu.Lock()
	batch := s.pending
	s.pending = nil
	s.mu.Unlock()
	for lane := range uint8(lanes) {
		s.writeLane(lane, batch)
	}
}

func (s *Spool) writeLane(lane uint8, batch []pendingAlert) {
	var frames []byte
	var records []record
	for _, p := range batch {
		if p.severity != lane {
			continue
		}
		size := frameBytes + len(p.data)
		if len(frames) > 0 && int64(len(frames)+size) > s.cfg.SegmentBytes {
			s.commit(lane, frames, records)
			frames, records = nil, nil
		}
		records = append(records, record{seq: p.seq, off: int32(len(frames)), size: int32(size)})
		frames = appendFrame(frames, p.seq, p.data)
	}
	if len(frames) > 0 {
		s.commit(lane, frames, records)
	}
}

// commit puts frames into the lane's open segment, or into memory if the disk refuses: a full disk
// must not silence the agent while the control plane can still be reached.
func (s *Spool) commit(lane uint8, frames []byte, records []record) {
	g, err := s.openFor(lane, int64(len(frames)))
	if g == nil && err == nil {
		s.reject(records, frames)
		return
	}
	if err == nil {
		_, err = g.file.WriteAt(frames, g.size)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.noteHealth(err)
	if err != nil {
		if g != nil {
			g.sealed = true // its end may be torn
			if g.done() {
				s.detach(g)
			}
		}
		if g = s.memorySegment(lane, frames); g == nil {
			s.drop(records, frames)
			return
		}
	}
	base := int32(g.size)
	for _, r := range records {
		r.off += base
		g.records = append(g.records, r)
	}
	g.size += int64(len(frames))
	s.bytes += int64(len(frames))
	s.waiting -= payload(records, frames)
	g.dirty = g.file != nil
	signal(s.more)
	signal(s.tidy)
}

func payload(records []record, frames []byte) int { return len(frames) - frameBytes*len(records) }

// openFor returns the file segment that takes n more bytes; nil without an error means that nothing
// milder is left to evict.
func (s *Spool) openFor(lane uint8, n int64) (*segment, error) {
	s.mu.Lock()
	if !s.makeRoom(lane, n+headerBytes, false) {
		s.mu.Unlock()
		return nil, nil
	}
	var g *segment
	if have := s.lanes[lane]; len(have) > 0 && !have[len(have)-1].sealed {
		g = have[len(have)-1]
	}
	if g != nil && g.size+n > s.cfg.SegmentBytes {
		g.sealed = true
		if g.done() {
			s.detach(g)
		}
		g = nil
	}
	number, epoch := s.nextSeg, s.epoch
	s.mu.Unlock()
	s.collect() // evicted files go before new bytes come
	if g != nil {
		return g, nil
	}
	g, err := createSegment(s.dir, number, epoch, lane)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.nextSeg++
	if err != nil {
		return nil, err
	}
	s.bytes += g.size
	s.lanes[lane] = append(s.lanes[lane], g)
	return g, nil
}

// memorySegment is the place for frames that the disk refused; nil if memory is full of alerts at
// least as severe.
func (s *Spool) memorySegment(lane uint8, frames []byte) *segment {
	if !s.makeRoom(lane, int64(len(frames)), true) {
		return nil
	}
	g := &segment{number: s.nextSeg, epoch: s.epoch, severity: lane, mem: frames, sealed: true}
	s.nextSeg++
	s.memory += int64(len(frames))
	s.lanes[lane] = append(s.lanes[lane], g)
	return g
}

func (s *Spool) noteHealth(err error) {
	if err != nil {
		s.stats.WriteErrors++
	}
	if failing := err != nil; failing != s.failing {
		s.failing = failing
		if failing {
			s.cfg.Logger.Error("spool keeps alerts in memory", "error", err)
		} else {
			s.cfg.Logger.Info("spool writes to disk again")
		}
	}
}

func (s *Spool) reject(records []record, frames []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.drop(records, frames)
}

func (s *Spool) drop(records []record, frames []byte) {
	s.stats.Evicted += uint64(len(records))
	s.waiting -= payload(records, frames)
}

// makeRoom evicts until n more bytes fit, on disk or in memory. It never evicts what is more severe
// than lane.
func (s *Spool) makeRoom(lane uint8, n int64, inMemory bool) bool {
	for s.bytes+n > s.cfg.MaxBytes || inMemory && s.memory+n > int64(s.cfg.MaxPending) {
		g := s.victim(lane, inMemory && s.bytes+n <= s.cfg.MaxBytes)
		if g == nil {
			return false
		}
		s.evict(g)
	}
	return true
}

func (s *Spool) victim(lane uint8, inMemory bool) *segment {
	for l := lanes - 1; l >= int(lane); l-- {
		for _, g := range s.lanes[l] {
			if !inMemory || g.file == nil {
				return g
			}
		}
	}
	return nil
}

// evict counts as lost what was not handed out; what is in flight may yet be stored, and is counted
// when it is retried.
func (s *Spool) evict(g *segment) {
	flying := 0
	for _, p := range s.inflight {
		if p.segment == g {
			flying++
		}
	}
	lost := len(g.records) - g.acked - flying
	s.stats.Evicted += uint64(lost)
	g.sealed, g.evicted = true, true
	s.detach(g)
}

// sync makes what was written durable against a power cut.
func (s *Spool) sync() {
	if s.cfg.SyncEvery < 0 {
		return
	}
	s.mu.Lock()
	var dirty []*os.File
	for _, lane := range s.lanes {
		for _, g := range lane {
			if g.dirty {
				dirty = append(dirty, g.file)
				g.dirty = false
			}
		}
	}
	s.mu.Unlock()
	for _, f := range dirty {
		if err := f.Sync(); err != nil && !errors.Is(err, os.ErrClosed) {
			s.cfg.Logger.Error("spool not synced", "error", err)
		}
	}
}

// collect removes the files of segments that are no longer needed.
func (s *Spool) collect() {
	s.mu.Lock()
	garbage := s.garbage
	s.garbage = nil
	s.mu.Unlock()
	for _, g := range garbage {
		if err := g.remove(s.dir); err != nil {
			s.cfg.Logger.Warn("spool segment not removed", "error", fmt.Errorf("remove segment: %w", err))
		}
	}
}
