package gobin

import (
	"encoding/binary"
	"fmt"
)

// module is what we need of runtime.moduledata, the root of the runtime's own tables.
type module struct {
	text, etext   uint64
	types, etypes uint64
	names         uint64 // function names, NUL terminated
	namesEnd      uint64
	table         uint64 // {entry, record} offsets, sorted; records are relative to it
	functions     uint64 // entries of table, without the last, which only marks the end
}

// Offsets in runtime.moduledata, the same in Go 1.20 to 1.27, checked against DWARF of each. The
// field after types was inserted in Go 1.27, so what follows is found by its value.
const (
	moduleTable   = 128
	moduleMaxPC   = 168 // then text, etext
	moduleTypes   = 296
	moduleTail    = 304
	moduleTailLen = 5 // words to look at for etypes
)

// maxCandidates bounds how often a hostile file can make us search for the module of a false table.
const maxCandidates = 16

// readModule finds the function table by its header and the module data that points to both. Never
// by section names, which differ between link modes and may be gone.
func (f *File) readModule() error {
	quantum := byte(1)
	if f.machine == machineARM64 {
		quantum = 4
	}
	// The header: 4 bytes magic, two zeros, the instruction quantum, the pointer size. The magic's
	// last byte differs between releases: 0xf1 since Go 1.20.
	pattern := []byte{0xf1, 0xff, 0xff, 0xff, 0, 0, quantum, 8}
	candidates, found := 0, false
	for _, s := range f.segments {
		if s.executable() && len(f.segments) > 1 {
			continue
		}
		var failed error
		err := f.find(s.va, s.va+s.size, pattern, func(va uint64) bool {
			if va%8 != 0 {
				return true
			}
			candidates++
			found, failed = f.tryTable(va)
			return !found && failed == nil && candidates < maxCandidates
		})
		if err != nil {
			return err
		}
		if failed != nil {
			return failed
		}
		if found {
			return nil
		}
	}
	return fmt.Errorf("%w: no function table of Go 1.20 or later; the file is older, packed or obfuscated", ErrUnsupported)
}

// tryTable reads the header at va and the module data that belongs to it.
func (f *File) tryTable(va uint64) (bool, error) {
	var h [9]uint64 // magic, functions, files, text, then offsets: names, units, files, pcs, table
	if err := f.words(va, h[:]); err != nil {
		return false, nil
	}
	size := f.fileSize
	if h[1] == 0 || h[1] > size/8 || h[4] > size || h[5] > size || h[5] <= h[4] || h[8] > size {
		return false, nil
	}
	m := module{functions: h[1], names: va + h[4], namesEnd: va + h[5], table: va + h[8]}
	at, err := f.findModule(va, m.names)
	if err != nil || at == 0 {
		return false, err
	}
	return true, f.parseModule(at, m)
}

// findModule returns the address at which two words hold the addresses of the header and of the
// names, which is the begin of the module data; 0 if there is none.
func (f *File) findModule(header, names uint64) (uint64, error) {
	for i, r := range f.relocations {
		if r.value == header && i+1 < len(f.relocations) && f.relocations[i+1] == (relocation{r.va + 8, names}) {
			return r.va, nil
		}
	}
	pattern := binary.LittleEndian.AppendUint64(nil, header)
	pattern = binary.LittleEndian.AppendUint64(pattern, names)
	var at uint64
	for _, s := range f.segments {
		if !s.writable() {
			continue
		}
		err := f.find(s.va, s.va+s.size, pattern, func(va uint64) bool {
			if va%8 == 0 {
				at = va
			}
			return at == 0
		})
		if err != nil || at != 0 {
			return at, err
		}
	}
	return 0, nil
}

func (f *File) parseModule(at uint64, m module) error {
	var table [2]uint64
	var text [3]uint64
	var types [1]uint64
	var tail [moduleTailLen]uint64
	for _, part := range []struct {
		offset uint64
		to     []uint64
	}{{moduleTable, table[:]}, {moduleMaxPC, text[:]}, {moduleTypes, types[:]}, {moduleTail, tail[:]}} {
		if err := f.words(at+part.offset, part.to); err != nil {
			return fmt.Errorf("%w: module data: %w", ErrUnsupported, err)
		}
	}
	if table != [2]uint64{m.table, m.functions + 1} {
		return fmt.Errorf("%w: its module data and its function table disagree", ErrUnsupported)
	}
	// The text's address comes from here and not from the table's header, where Go 1.26 has zero.
	m.text, m.etext, m.types = text[1], text[2], types[0]
	if err := f.checkText(m, text[0]); err != nil {
		return err
	}
	s, err := f.segmentOf(m.types, 1)
	if err != nil {
		return fmt.Errorf("%w: type descriptors: %w", ErrUnsupported, err)
	}
	for _, v := range tail {
		if v > m.types && v <= s.va+s.size {
			m.etypes = v
			f.module = m
			return nil
		}
	}
	return fmt.Errorf("%w: no end of the type descriptors", ErrUnsupported)
}

// checkText compares the end of the last function by the table with the end by the module data. They
// differ if the linker split the text, and then offsets from its begin would be wrong.
func (f *File) checkText(m module, maxPC uint64) error {
	var end [4]byte
	n, err := f.readSome(m.table+8*m.functions, end[:])
	if err != nil || n < len(end) {
		return fmt.Errorf("%w: its function table has no end", ErrUnsupported)
	}
	if last := m.text + uint64(binary.LittleEndian.Uint32(end[:])); m.text > 1<<63 || last != maxPC || last > m.etext {
		return fmt.Errorf("%w: text from %#x to %#x, functions to %#x", ErrUnsupported, m.text, m.etext, last)
	}
	return nil
}
