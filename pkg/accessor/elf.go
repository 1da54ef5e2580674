package accessor

import (
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Limits on what a file may make us read.
const (
	maxSegments    = 128
	maxDynamic     = 1024
	maxNameBytes   = 256
	maxChain       = 1 << 14
	maxRelocations = 1 << 22
	pageBytes      = 4096
	maxPages       = 1024
)

var errNotELF = errors.New("no 64-bit little-endian ELF file for x86-64 or arm64")

type segment struct {
	address, size uint64 // in memory, as far as the file fills it
	offset        uint64
	flags         elf.ProgFlag
}

// Library is an opened shared library, or an executable that exports functions. It reads through
// the dynamic segment only: section headers may be stripped. It is not safe for concurrent use.
type Library struct {
	file     io.ReaderAt
	cpu      *cpu
	machine  elf.Machine
	segments []segment
	dynamic  map[elf.DynTag]uint64
	pages    map[uint64][]byte
}

// Open reads the headers. The file must stay readable for the library's life.
func Open(file io.ReaderAt) (*Library, error) {
	var head [64]byte
	if _, err := file.ReadAt(head[:], 0); err != nil {
		return nil, fmt.Errorf("read ELF header: %w", err)
	}
	if string(head[:4]) != elf.ELFMAG || head[4] != byte(elf.ELFCLASS64) || head[5] != byte(elf.ELFDATA2LSB) {
		return nil, errNotELF
	}
	l := &Library{file: file, pages: map[uint64][]byte{}, dynamic: map[elf.DynTag]uint64{}}
	l.machine = elf.Machine(binary.LittleEndian.Uint16(head[18:]))
	switch l.machine {
	case elf.EM_X86_64:
		l.cpu = amd64()
	case elf.EM_AARCH64:
		l.cpu = arm64()
	default:
		return nil, errNotELF
	}
	offset, entry, count := binary.LittleEndian.Uint64(head[32:]), binary.LittleEndian.Uint16(head[54:]), binary.LittleEndian.Uint16(head[56:])
	if entry != 56 || count > maxSegments || offset > 1<<40 {
		return nil, errNotELF
	}
	return l, l.readSegments(offset, int(count))
}

func (l *Library) readSegments(offset uint64, count int) error {
	table := make([]byte, count*56)
	if _, err := l.file.ReadAt(table, int64(offset)); err != nil {
		return fmt.Errorf("read program headers: %w", err)
	}
	le := binary.LittleEndian
	var dynamic segment
	for ; len(table) > 0; table = table[56:] {
		s := segment{
			flags: elf.ProgFlag(le.Uint32(table[4:])), offset: le.Uint64(table[8:]),
			address: le.Uint64(table[16:]), size: le.Uint64(table[32:]),
		}
		if s.offset > 1<<40 || s.size > 1<<40 || s.address > 1<<48 {
			return errNotELF
		}
		switch elf.ProgType(le.Uint32(table)) {
		case elf.PT_LOAD:
			l.segments = append(l.segments, s)
		case elf.PT_DYNAMIC:
			dynamic = s
		}
	}
	for i := uint64(0); i < min(dynamic.size/16, maxDynamic); i++ {
		var b [16]byte
		if _, err := l.file.ReadAt(b[:], int64(dynamic.offset+16*i)); err != nil {
			return fmt.Errorf("read dynamic segment: %w", err)
		}
		tag := elf.DynTag(le.Uint64(b[:]))
		if tag == elf.DT_NULL {
			break
		}
		l.dynamic[tag] = le.Uint64(b[8:])
	}
	return nil
}

// locate finds the file offset of an address and how many bytes follow it there.
func (l *Library) locate(address uint64) (offset, rest uint64, flags elf.ProgFlag, ok bool) {
	for _, s := range l.segments {
		if address >= s.address && address-s.address < s.size {
			in := address - s.address
			return s.offset + in, s.size - in, s.flags, true
		}
	}
	return 0, 0, 0, false
}

// FileOffset of an address in executable code, as uprobes want it.
func (l *Library) FileOffset(address uint64) (uint64, bool) {
	offset, _, flags, ok := l.locate(address)
	return offset, ok && flags&elf.PF_X != 0
}

// read fills b from an address, through a cache of pages.
func (l *Library) read(address uint64, b []byte) error {
	offset, rest, _, ok := l.locate(address)
	if !ok || rest < uint64(len(b)) {
		return fmt.Errorf("address %#x is not in the file", address)
	}
	for len(b) > 0 {
		page, in := offset/pageBytes, offset%pageBytes
		data, ok := l.pages[page]
		if !ok {
			if len(l.pages) >= maxPages {
				clear(l.pages)
			}
			data = make([]byte, pageBytes)
			n, err := l.file.ReadAt(data, int64(page*pageBytes))
			if err != nil && !errors.Is(err, io.EOF) {
				return fmt.Errorf("read address %#x: %w", address, err)
			}
			data = data[:n]
			l.pages[page] = data
		}
		if in >= uint64(len(data)) {
			return fmt.Errorf("read address %#x: %w", address, io.ErrUnexpectedEOF)
		}
		n := copy(b, data[in:])
		b, offset = b[n:], offset+uint64(n)
	}
	return nil
}

// code is up to 16 bytes of executable code.
func (l *Library) code(address uint64) ([]byte, error) {
	_, rest, flags, ok := l.locate(address)
	if !ok || flags&elf.PF_X == 0 {
		return nil, fmt.Errorf("no code at %#x", address)
	}
	b := make([]byte, min(rest, maxInstrBytes))
	return b, l.read(address, b)
}

// constant reads size bytes that no relocation and no program changes.
func (l *Library) constant(address uint64, size int) (uint64, bool) {
	var b [8]byte
	_, _, flags, ok := l.locate(address)
	if !ok || flags&elf.PF_W != 0 || l.read(address, b[:size]) != nil {
		return 0, false
	}
	return binary.LittleEndian.Uint64(b[:]), true
}

func (l *Library) word32(address uint64) (uint32, error) {
	var b [4]byte
	err := l.read(address, b[:])
	return binary.LittleEndian.Uint32(b[:]), err
}

func (l *Library) word64(address uint64) (uint64, error) {
	var b [8]byte
	err := l.read(address, b[:])
	return binary.LittleEndian.Uint64(b[:]), err
}

// Pointer reads the word that a relocated pointer will hold, relative to the library's base.
func (l *Library) Pointer(address uint64) (uint64, error) {
	relative := uint32(elf.R_X86_64_RELATIVE)
	if l.machine == elf.EM_AARCH64 {
		relative = uint32(elf.R_AARCH64_RELATIVE)
	}
	count := min(l.dynamic[elf.DT_RELASZ]/24, maxRelocations)
	table := l.dynamic[elf.DT_RELA]
	var chunk [24 * 128]byte
	for done := uint64(0); done < count; {
		n := min(count-done, 128)
		if err := l.read(table+24*done, chunk[:24*n]); err != nil {
			return 0, fmt.Errorf("read relocations: %w", err)
		}
		for b := chunk[:24*n]; len(b) > 0; b = b[24:] {
			if binary.LittleEndian.Uint64(b) != address {
				continue
			}
			if binary.LittleEndian.Uint32(b[8:]) != relative {
				return 0, fmt.Errorf("pointer at %#x is bound at run time", address)
			}
			return binary.LittleEndian.Uint64(b[16:]), nil
		}
		done += n
	}
	// No relocation, or a packed one (DT_RELR) whose addend is in place.
	return l.word64(address)
}
