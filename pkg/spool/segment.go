package spool

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/plumbline-io/plumbline/pkg/alert"
)

// record is one alert in a segment.
type record struct {
	seq   uint64
	off   int32
	size  int32 // of the frame
	acked bool
}

// segment is a run of alerts of one severity and one epoch, in a file, or in memory while the disk
// refuses. Its fields belong to Spool.mu; the bytes that file and mem
// hold never change once a record says where they are.
type segment struct {
	number   uint64
	epoch    uint64
	severity uint8
	file     *os.File // nil: in memory
	mem      []byte
	size     int64
	records  []record
	next     int // first record that was not handed out yet
	acked    int
	sealed   bool
	evicted  bool
	dirty    bool // written and not synced
}

func (g *segment) name() string { return fmt.Sprintf("%016x-%d.seg", g.number, g.severity) }

func parseName(name string) (number uint64, ok bool) {
	var severity int
	n, err := fmt.Sscanf(name, "%016x-%d.seg", &number, &severity)
	return number, n == 2 && err == nil && filepath.Ext(name) == ".seg"
}

func createSegment(dir string, number, epoch uint64, severity uint8) (*segment, error) {
	g := &segment{number: number, epoch: epoch, severity: severity}
	f, err := os.OpenFile(filepath.Join(dir, g.name()), os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("create segment: %w", err)
	}
	g.file = f
	if _, err := f.Write(appendHeader(nil, epoch, severity)); err != nil {
		return nil, errors.Join(fmt.Errorf("write segment header: %w", err), g.remove(dir))
	}
	g.size = headerBytes
	return g, nil
}

// openSegment reads the frames of a segment that an earlier run wrote. It is sealed: nothing is
// ever appended to a file that may end in a torn write.
func openSegment(dir, name string, acked func(epoch uint64) int) (g *segment, torn bool, err error) {
	path := filepath.Join(dir, name)
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, false, fmt.Errorf("read segment: %w", err)
	}
	g = &segment{sealed: true, size: int64(len(b))}
	g.number, _ = parseName(name)
	g.epoch, g.severity, torn, err = scan(b, func(seq uint64, off, size int) {
		g.records = append(g.records, record{seq: seq, off: int32(off), size: int32(size)})
	})
	if err != nil {
		return nil, true, err
	}
	for i := range min(acked(g.epoch), len(g.records)) {
		g.records[i].acked = true
		g.acked++
		g.next++
	}
	if g.file, err = os.Open(path); err != nil {
		return nil, torn, fmt.Errorf("open segment: %w", err)
	}
	return g, torn, nil
}

// handout is what it takes to read one record without Spool.mu.
type handout struct {
	id   alert.ID
	file *os.File
	mem  []byte // instead of file
	off  int64
	size int
}

// read returns a copy of the record's data, checked again.
func (h handout) read() ([]byte, error) {
	frame := make([]byte, h.size)
	if h.file == nil {
		copy(frame, h.mem[h.off:])
	} else if _, err := h.file.ReadAt(frame, h.off); err != nil {
		return nil, fmt.Errorf("read segment: %w", err)
	}
	_, data, err := parseFrame(frame)
	return data, err
}

func (g *segment) id(node string, r record) alert.ID {
	return alert.ID{Node: node, Epoch: epochText(g.epoch), Seq: r.seq}
}

// ackedPrefix is how many records from the start need not be sent again.
func (g *segment) ackedPrefix() int {
	for i, r := range g.records {
		if !r.acked {
			return i
		}
	}
	return len(g.records)
}

func (g *segment) done() bool { return g.sealed && g.acked == len(g.records) }

func (g *segment) remove(dir string) error {
	if g.file == nil {
		return nil
	}
	return errors.Join(g.file.Close(), os.Remove(filepath.Join(dir, g.name())))
}
