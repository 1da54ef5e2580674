package gobin

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"io"
	"slices"
)

const (
	machineAMD64 = elf.EM_X86_64
	machineARM64 = elf.EM_AARCH64
)

const (
	maxSegments    = 64
	maxDynamic     = 1 << 12 // bytes: 256 entries
	maxRelocations = 1 << 20 // 16 MiB; a 20 MB position independent executable has 80,000
)

// image is the executable as the kernel maps it: only the program headers count, since section
// headers may be stripped or lie.
type image struct {
	r           io.ReaderAt
	fileSize    uint64
	machine     elf.Machine
	segments    []segment
	dynamic     segment
	relocations []relocation // sorted by address
}

// segment is the part of the file that is mapped at va.
type segment struct {
	va, offset, size uint64
	flags            elf.ProgFlag
}

func (s segment) executable() bool { return s.flags&elf.PF_X != 0 }
func (s segment) writable() bool   { return s.flags&elf.PF_W != 0 }

func (s segment) contains(va, n uint64) bool {
	return va >= s.va && va-s.va <= s.size && n <= s.size-(va-s.va)
}

// relocation is a word that the loader fills in: in position independent files these are all
// pointers in data.
type relocation struct{ va, value uint64 }

func (m *image) readHeaders() error {
	if m.fileSize > maxFile {
		return fmt.Errorf("%w: %d bytes are more than %d", ErrUnsupported, m.fileSize, maxFile)
	}
	var h [64]byte
	if _, err := m.r.ReadAt(h[:], 0); err != nil {
		return fmt.Errorf("%w: too short for an ELF header", ErrNotGo)
	}
	le := binary.LittleEndian
	m.machine = elf.Machine(le.Uint16(h[18:]))
	if string(h[:6]) != "\x7fELF\x02\x01" || m.machine != machineAMD64 && m.machine != machineARM64 {
		return fmt.Errorf("%w: no ELF file of amd64 or arm64", ErrNotGo)
	}
	offset, size, count := le.Uint64(h[32:]), le.Uint16(h[54:]), le.Uint16(h[56:])
	if size != 56 || count == 0 || count > maxSegments || offset > m.fileSize {
		return fmt.Errorf("%w: program headers of %d bytes, %d times at %#x", ErrNotGo, size, count, offset)
	}
	table := make([]byte, int(size)*int(count))
	if _, err := m.r.ReadAt(table, int64(offset)); err != nil {
		return fmt.Errorf("%w: program headers end beyond the file", ErrNotGo)
	}
	return m.parseSegments(table)
}

func (m *image) parseSegments(table []byte) error {
	var mapped uint64
	le := binary.LittleEndian
	for ; len(table) >= 56; table = table[56:] {
		s := segment{
			flags:  elf.ProgFlag(le.Uint32(table[4:])),
			offset: le.Uint64(table[8:]), va: le.Uint64(table[16:]), size: le.Uint64(table[32:]),
		}
		kind := elf.ProgType(le.Uint32(table))
		if kind != elf.PT_LOAD && kind != elf.PT_DYNAMIC || s.size == 0 {
			continue
		}
		// Halves of the address space bound every later sum.
		if s.va > 1<<63 || s.offset > m.fileSize || s.size > m.fileSize-s.offset {
			return fmt.Errorf("%w: a segment of %#x bytes at %#x ends beyond the file", ErrNotGo, s.size, s.offset)
		}
		if kind == elf.PT_DYNAMIC {
			m.dynamic = s
			continue
		}
		m.segments = append(m.segments, s)
		// Overlapping segments would multiply the work.
		if mapped += s.size; mapped > m.fileSize {
			return fmt.Errorf("%w: its segments overlap", ErrNotGo)
		}
	}
	return nil
}

// readRelocations collects the RELATIVE relocations. Those in the newer RELR form need nothing: they
// keep the value in place.
func (m *image) readRelocations() error {
	if m.dynamic.size == 0 {
		return nil
	}
	dynamic := make([]byte, min(m.dynamic.size, maxDynamic))
	if _, err := m.r.ReadAt(dynamic, int64(m.dynamic.offset)); err != nil {
		return fmt.Errorf("read dynamic section: %w", err)
	}
	var va, size uint64
	for le := binary.LittleEndian; len(dynamic) >= 16; dynamic = dynamic[16:] {
		switch elf.DynTag(le.Uint64(dynamic)) {
		case elf.DT_RELA:
			va = le.Uint64(dynamic[8:])
		case elf.DT_RELASZ:
			size = le.Uint64(dynamic[8:])
		}
	}
	if va == 0 || size == 0 {
		return nil
	}
	if size/relaBytes > maxRelocations {
		return fmt.Errorf("%w: %d relocations are more than %d", ErrUnsupported, size/relaBytes, maxRelocations)
	}
	return m.parseRelocations(va, size/relaBytes)
}

const relaBytes = 24

func (m *image) parseRelocations(va, count uint64) error {
	want := uint64(elf.R_X86_64_RELATIVE)
	if m.machine == machineARM64 {
		want = uint64(elf.R_AARCH64_RELATIVE)
	}
	table := m.window()
	for i := range count {
		b, err := table.at(va+i*relaBytes, relaBytes)
		if err != nil {
			return fmt.Errorf("%w: relocations: %w", ErrUnsupported, err)
		}
		if le := binary.LittleEndian; le.Uint64(b[8:]) == want {
			m.relocations = append(m.relocations, relocation{le.Uint64(b), le.Uint64(b[16:])})
		}
	}
	slices.SortFunc(m.relocations, func(a, b relocation) int {
		if a.va < b.va {
			return -1
		} else if a.va > b.va {
			return 1
		}
		return 0
	})
	return nil
}

// segmentOf is the segment that holds n bytes at va.
func (m *image) segmentOf(va, n uint64) (segment, error) {
	for _, s := range m.segments {
		if s.contains(va, n) {
			return s, nil
		}
	}
	return segment{}, fmt.Errorf("no %d bytes are mapped at %#x", n, va)
}

// readSome fills b from va up to the end of the segment and says how much it could.
func (m *image) readSome(va uint64, b []byte) (int, error) {
	s, err := m.segmentOf(va, 1)
	if err != nil {
		return 0, err
	}
	n := min(uint64(len(b)), s.size-(va-s.va))
	if _, err := m.r.ReadAt(b[:n], int64(s.offset+va-s.va)); err != nil {
		return 0, fmt.Errorf("read at %#x: %w", va, err)
	}
	return int(n), nil
}

// words fills out with the 8-byte words at va, as they are after relocation.
func (m *image) words(va uint64, out []uint64) error {
	b := make([]byte, 8*len(out))
	n, err := m.readSome(va, b)
	if err != nil {
		return err
	}
	if n < len(b) {
		return fmt.Errorf("no %d bytes are mapped at %#x", len(b), va)
	}
	for i := range out {
		at := va + 8*uint64(i)
		out[i] = binary.LittleEndian.Uint64(b[8*i:])
		k, found := slices.BinarySearchFunc(m.relocations, at, func(r relocation, va uint64) int {
			if r.va < va {
				return -1
			} else if r.va > va {
				return 1
			}
			return 0
		})
		if found {
			out[i] = m.relocations[k].value
		}
	}
	return nil
}

// windowBytes is how much of the file is in memory at a time, for each table that is walked.
const windowBytes = 256 << 10

// window reads small pieces at rising addresses with few system calls.
type window struct {
	m    *image
	base uint64
	buf  []byte
}

func (m *image) window() *window { return &window{m: m} }

// at returns the n bytes at va; they are valid until the next call.
func (w *window) at(va uint64, n int) ([]byte, error) {
	if va >= w.base && va-w.base <= uint64(len(w.buf)) && uint64(n) <= uint64(len(w.buf))-(va-w.base) {
		return w.buf[va-w.base:][:n], nil
	}
	if w.buf == nil {
		w.buf = make([]byte, windowBytes)
	}
	w.buf = w.buf[:cap(w.buf)]
	got, err := w.m.readSome(va, w.buf)
	w.base, w.buf = va, w.buf[:got]
	if err != nil {
		return nil, err
	}
	if got < n {
		return nil, fmt.Errorf("no %d bytes are mapped at %#x", n, va)
	}
	return w.buf[:n], nil
}

// find calls visit for each place of pattern in [from, to) until visit returns false. The range must
// lie in one segment; it is cut at the segment's end.
func (m *image) find(from, to uint64, pattern []byte, visit func(va uint64) bool) error {
	buf := make([]byte, min(windowBytes, to-from))
	for from+uint64(len(pattern)) <= to {
		n, err := m.readSome(from, buf[:min(uint64(len(buf)), to-from)])
		if err != nil {
			return err
		}
		if n < len(pattern) {
			return nil
		}
		for off := 0; ; off++ {
			i := bytes.Index(buf[off:n], pattern)
			if i < 0 {
				break
			}
			off += i
			if !visit(from + uint64(off)) {
				return nil
			}
		}
		from += uint64(n - len(pattern) + 1)
	}
	return nil
}
