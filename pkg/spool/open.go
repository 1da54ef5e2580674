package spool

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sort"
	"strconv"
	"syscall"

	"github.com/plumbline-io/plumbline/pkg/alert"
)

// cursorFile says how many records at the start of each segment are acked. It may lag: what it does
// not cover is sent again, and the receiver knows its ID.
const cursorFile = "cursor.json"

// closedFile exists only while the spool is closed in good order. Without it the sequence number is
// not known for certain (a power cut may have taken the newest frames, after they were sent), so
// that a new epoch begins.
const closedFile = "closed.json"

type closed struct {
	Epoch   uint64 `json:"epoch"`
	Next    uint64 `json:"next"`
	Segment uint64 `json:"segment"`
}

// Open makes dir (0700) if needed and reads what an earlier run left. One process at a time.
func Open(dir string, cfg Config) (*Spool, error) {
	if err := cfg.setDefaults(); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open spool: %w", err)
	}
	s := &Spool{
		dir: dir, cfg: cfg, inflight: make(map[alert.ID]place),
		wake: make(chan struct{}, 1), tidy: make(chan struct{}, 1), more: make(chan struct{}, 1),
	}
	if err := s.takeLock(); err != nil {
		return nil, err
	}
	if err := s.load(); err != nil {
		return nil, errors.Join(fmt.Errorf("open spool %s: %w", dir, err), s.lock.Close())
	}
	return s, nil
}

func (s *Spool) takeLock() error {
	f, err := os.OpenFile(s.path("lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("open spool: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		if errors.Is(err, syscall.EWOULDBLOCK) {
			err = ErrLocked
		}
		return errors.Join(fmt.Errorf("lock spool %s: %w", s.dir, err), f.Close())
	}
	s.lock = f
	return nil
}

func (s *Spool) load() error {
	if err := s.loadSegments(s.loadCursor()); err != nil {
		return err
	}
	var c closed
	if b, err := os.ReadFile(s.path(closedFile)); err == nil && json.Unmarshal(b, &c) == nil && c.Epoch != 0 && c.Next != 0 {
		s.epoch, s.nextSeq, s.nextSeg = c.Epoch, c.Next, max(s.nextSeg, c.Segment)
	} else if s.epoch, err = newEpoch(); err != nil {
		return err
	} else {
		s.nextSeq = 1
	}
	if err := os.Remove(s.path(closedFile)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := syncDir(s.dir); err != nil {
		return err
	}
	s.makeRoom(0, 0, false)
	s.collect()
	signal(s.more)
	return nil
}

func newEpoch() (uint64, error) {
	var b [8]byte
	if _, err := rand.Read(b[:]); err != nil {
		return 0, fmt.Errorf("make epoch: %w", err)
	}
	return binary.LittleEndian.Uint64(b[:]) | 1, nil
}

func (s *Spool) loadSegments(cursor map[string]int) error {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return err
	}
	sort.Slice(entries, func(i, j int) bool { return entries[i].Name() < entries[j].Name() })
	s.nextSeg = 1
	for _, e := range entries {
		number, ok := parseName(e.Name())
		if !ok {
			continue
		}
		s.nextSeg = max(s.nextSeg, number+1)
		if err := s.loadSegment(e.Name(), number, cursor); err != nil {
			return err
		}
	}
	return nil
}

func (s *Spool) loadSegment(name string, number uint64, cursor map[string]int) error {
	g, torn, err := openSegment(s.dir, name, func(epoch uint64) int { return cursor[cursorKey(epoch, number)] })
	if torn {
		s.stats.Torn++
		s.cfg.Logger.Warn("spool segment has a damaged end", "segment", name)
	}
	switch {
	case errors.Is(err, errTorn): // not even a header: nothing to read, now or later
		return os.Remove(s.path(name))
	case err != nil:
		return err
	}
	s.bytes += g.size
	s.lanes[g.severity] = append(s.lanes[g.severity], g)
	if g.done() {
		s.detach(g)
	}
	return nil
}

// cursorKey has the epoch in it, because numbers may come again in a new one.
func cursorKey(epoch, number uint64) string {
	return epochText(epoch) + "." + strconv.FormatUint(number, 16)
}

func (s *Spool) loadCursor() map[string]int {
	cursor := make(map[string]int)
	b, err := os.ReadFile(s.path(cursorFile))
	if err != nil {
		return cursor
	}
	if err := json.Unmarshal(b, &cursor); err != nil {
		s.cfg.Logger.Warn("spool cursor not read, alerts are sent again", "error", err)
		return make(map[string]int)
	}
	return cursor
}

// saveCursor must not be called by two goroutines at once.
func (s *Spool) saveCursor() error {
	s.mu.Lock()
	if !s.moved {
		s.mu.Unlock()
		return nil
	}
	s.moved = false
	cursor := make(map[string]int)
	for _, lane := range s.lanes {
		for _, g := range lane {
			if n := g.ackedPrefix(); n > 0 {
				cursor[cursorKey(g.epoch, g.number)] = n
			}
		}
	}
	s.mu.Unlock()
	return s.replace(cursorFile, cursor, false)
}

// replace writes a small file so that a reader sees the old or the new one.
func (s *Spool) replace(name string, v any, sync bool) error {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	f, err := os.OpenFile(s.path(name+".new"), os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	_, err = f.Write(b)
	if err == nil && sync {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(s.path(name+".new"), s.path(name))
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}

// Close writes what is left and ends the epoch's uncertainty: the next Open goes on with the same
// epoch. Run must have returned; nothing may be called after.
func (s *Spool) Close() error {
	s.flush()
	s.spill()
	s.seal()
	s.sync()
	s.collect()
	s.moved = true
	err := s.saveCursor()
	if err == nil && s.memory == 0 {
		err = s.replace(closedFile, closed{Epoch: s.epoch, Next: s.nextSeq, Segment: s.nextSeg}, true)
	}
	err = errors.Join(err, syncDir(s.dir))
	for _, lane := range s.lanes {
		for _, g := range lane {
			if g.file != nil {
				err = errors.Join(err, g.file.Close())
			}
		}
	}
	if err = errors.Join(err, s.lock.Close()); err != nil {
		return fmt.Errorf("close spool: %w", err)
	}
	return nil
}

// spill moves alerts from memory to the disk, which may have recovered.
func (s *Spool) spill() {
	for _, lane := range s.lanes {
		for _, g := range lane {
			if g.file != nil {
				continue
			}
			if err := s.spillSegment(g); err != nil {
				s.cfg.Logger.Error("alerts lost", "reason", "spool disk", "count", len(g.records)-g.acked, "error", err)
			}
		}
	}
}

func (s *Spool) spillSegment(g *segment) error {
	disk, err := createSegment(s.dir, g.number, g.epoch, g.severity)
	if err != nil {
		return err
	}
	if _, err := disk.file.WriteAt(g.mem, headerBytes); err != nil {
		return errors.Join(err, disk.remove(s.dir))
	}
	g.file, g.dirty = disk.file, true
	s.memory -= g.size
	g.size += headerBytes
	s.bytes += headerBytes
	return nil
}

func (s *Spool) seal() {
	for _, lane := range s.lanes {
		for _, g := range append([]*segment(nil), lane...) {
			g.sealed = true
			if g.done() {
				s.detach(g)
			}
		}
	}
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
