package main

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"path/filepath"
	"testing"
)

// objects are the committed ones.
func objects(t *testing.T) []string {
	t.Helper()
	var all []string
	for _, pattern := range []string{"../../pkg/*/bpf_*_bpfel.o", "../../pkg/*/*/bpf_*_bpfel.o"} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, found...)
	}
	if len(all) == 0 {
		t.Fatal("there are no objects")
	}
	return all
}

// One line for each function stands in them, so that no object was made without bpf/strip.
func TestObjects(t *testing.T) {
	for _, object := range objects(t) {
		ext, err := read(object)
		if err != nil {
			t.Fatal(err)
		}
		short, err := beginnings(ext)
		if err != nil || !bytes.Equal(short, ext) {
			t.Errorf("%s: %d bytes of %s would be %d, %v", object, len(ext), section, len(short), err)
		}
		f, err := elf.Open(object)
		if err != nil {
			t.Fatal(err)
		}
		if f.Section(".rel"+section) != nil {
			t.Errorf("%s has relocations of %s", object, section)
		}
		f.Close()
	}
}

// ext makes a .BTF.ext of one section's functions and lines, and of relocations that nobody looks into.
func ext(functions, lines []uint32, relocations string) []byte {
	le := binary.LittleEndian
	records := func(size int, at []uint32) []byte {
		out := le.AppendUint32(nil, uint32(size))
		out = le.AppendUint32(le.AppendUint32(out, 7), uint32(len(at)))
		for _, offset := range at {
			out = append(le.AppendUint32(out, offset), bytes.Repeat([]byte{byte(offset)}, size-4)...)
		}
		return out
	}
	parts := [][]byte{records(8, functions), records(16, lines), []byte(relocations)}
	out := le.AppendUint32([]byte{0x9f, 0xeb, 1, 0}, headerBytes)
	at := 0
	for _, p := range parts {
		out = le.AppendUint32(le.AppendUint32(out, uint32(at)), uint32(len(p)))
		at += len(p)
	}
	return append(out, bytes.Join(parts, nil)...)
}

func TestBeginnings(t *testing.T) {
	got, err := beginnings(ext([]uint32{0, 48}, []uint32{0, 8, 16, 48, 56}, "rest"))
	if err != nil || !bytes.Equal(got, ext([]uint32{0, 48}, []uint32{0, 48}, "rest")) {
		t.Errorf("got %x, %v", got, err)
	}
}

func FuzzBeginnings(f *testing.F) {
	f.Add(ext([]uint32{0, 48}, []uint32{0, 8, 16, 48, 56}, "rest"))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		short, err := beginnings(data)
		if err != nil {
			return
		}
		if again, err := beginnings(short); err != nil || !bytes.Equal(again, short) {
			t.Errorf("once %x, twice %x, %v", short, again, err)
		}
	})
}
