package main

import (
	"encoding/binary"
	"errors"
	"slices"
)

// The layout of .BTF.ext (Documentation/bpf/btf.rst of Linux, section 3 "ELF File Format Interface"): a header, and parts
// that it names by offset (from its own end) and length. A part is the size of its records, and for each section of
// programs the offset of its name, the number of records, and these. A record begins with the offset of an instruction.
const (
	lengthAt    = 4 // of the header
	functionsAt = 8
	linesAt     = 16
	relocatesAt = 24
	headerBytes = 32
)

var errCut = errors.New("it ends too early")

// beginnings is .BTF.ext without the lines at which no function begins.
func beginnings(ext []byte) ([]byte, error) {
	le := binary.LittleEndian
	if len(ext) < headerBytes || int(le.Uint32(ext[lengthAt:])) < headerBytes {
		return nil, errCut
	}
	header := slices.Clone(ext[:headerBytes])
	le.PutUint32(header[lengthAt:], headerBytes)
	var parts [3][]byte
	for i, at := range []int{functionsAt, linesAt, relocatesAt} {
		from := uint64(le.Uint32(ext[lengthAt:])) + uint64(le.Uint32(ext[at:]))
		to := from + uint64(le.Uint32(ext[at+4:]))
		if to > uint64(len(ext)) {
			return nil, errCut
		}
		parts[i] = ext[from:to]
	}
	functions, err := readPart(parts[0])
	if err != nil {
		return nil, err
	}
	lines, err := readPart(parts[1])
	if err != nil {
		return nil, err
	}
	parts[1] = lines.at(functions).append(nil)
	for i, at := range []int{functionsAt, linesAt, relocatesAt} {
		le.PutUint32(header[at:], uint32(len(header)-headerBytes))
		le.PutUint32(header[at+4:], uint32(len(parts[i])))
		header = append(header, parts[i]...)
	}
	return header, nil
}

// part is one of functions, lines or relocations.
type part struct {
	size     uint32 // of a record
	sections []records
}

// records of a section of programs.
type records struct {
	name uint32
	all  [][]byte
}

func readPart(data []byte) (part, error) {
	le := binary.LittleEndian
	if len(data) < 4 {
		return part{}, errCut
	}
	p := part{size: le.Uint32(data)}
	if p.size < 4 {
		return part{}, errCut
	}
	for data = data[4:]; len(data) > 0; {
		if len(data) < 8 {
			return part{}, errCut
		}
		r, n := records{name: le.Uint32(data)}, le.Uint32(data[4:])
		data = data[8:]
		if uint64(n)*uint64(p.size) > uint64(len(data)) {
			return part{}, errCut
		}
		for ; n > 0; n-- {
			r.all = append(r.all, data[:p.size])
			data = data[p.size:]
		}
		p.sections = append(p.sections, r)
	}
	return p, nil
}

// at is what of p stands at the same instructions as something of other.
func (p part) at(other part) part {
	type place struct{ section, instruction uint32 }
	places := map[place]bool{}
	for _, s := range other.sections {
		for _, r := range s.all {
			places[place{s.name, binary.LittleEndian.Uint32(r)}] = true
		}
	}
	for i, s := range p.sections {
		p.sections[i].all = slices.DeleteFunc(s.all, func(r []byte) bool {
			return !places[place{s.name, binary.LittleEndian.Uint32(r)}]
		})
	}
	return p
}

func (p part) append(to []byte) []byte {
	le := binary.LittleEndian
	to = le.AppendUint32(to, p.size)
	for _, s := range p.sections {
		to = le.AppendUint32(le.AppendUint32(to, s.name), uint32(len(s.all)))
		for _, r := range s.all {
			to = append(to, r...)
		}
	}
	return to
}
