package enforce

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"os"
	"runtime"
	"testing"
)

// program is the head of an ELF file with these program headers.
func program(class elf.Class, kind elf.Type, machine elf.Machine, headers ...elf.ProgType) []byte {
	var out bytes.Buffer
	ident := [elf.EI_NIDENT]byte{elf.EI_CLASS: byte(class), elf.EI_DATA: byte(elf.ELFDATA2LSB), elf.EI_VERSION: 1}
	copy(ident[:], elf.ELFMAG)
	write := func(v any) { _ = binary.Write(&out, binary.LittleEndian, v) }
	if class == elf.ELFCLASS64 {
		write(elf.Header64{Ident: ident, Type: uint16(kind), Machine: uint16(machine), Phoff: 64, Phentsize: 56, Phnum: uint16(len(headers))})
	} else {
		write(elf.Header32{Ident: ident, Type: uint16(kind), Machine: uint16(machine), Phoff: 52, Phentsize: 32, Phnum: uint16(len(headers))})
	}
	for _, h := range headers {
		if class == elf.ELFCLASS64 {
			write(elf.Prog64{Type: uint32(h)})
		} else {
			write(elf.Prog32{Type: uint32(h)})
		}
	}
	return out.Bytes()
}

func TestIsImage(t *testing.T) {
	native, other, narrow := elf.EM_X86_64, elf.EM_AARCH64, elf.EM_386
	if runtime.GOARCH == "arm64" {
		native, other, narrow = elf.EM_AARCH64, elf.EM_X86_64, elf.EM_ARM
	}
	dynamic := program(elf.ELFCLASS64, elf.ET_DYN, native, elf.PT_PHDR, elf.PT_INTERP, elf.PT_LOAD)
	loader := program(elf.ELFCLASS64, elf.ET_DYN, native, elf.PT_LOAD, elf.PT_DYNAMIC)
	cut := bytes.Clone(dynamic[:64+56])
	far := bytes.Clone(dynamic)
	binary.LittleEndian.PutUint64(far[32:], 1<<63)
	big := bytes.Clone(dynamic)
	big[elf.EI_DATA] = byte(elf.ELFDATA2MSB)
	for name, tc := range map[string]struct {
		head         []byte
		named, image bool
	}{
		"program":                     {dynamic, true, true},
		"interpreter of a script":     {dynamic, false, true},
		"loader":                      {loader, false, false},
		"loader that is executed":     {loader, true, true},
		"static program":              {program(elf.ELFCLASS64, elf.ET_EXEC, native, elf.PT_LOAD), true, true},
		"static interpreter":          {program(elf.ELFCLASS64, elf.ET_EXEC, native, elf.PT_LOAD), false, true},
		"narrow program":              {program(elf.ELFCLASS32, elf.ET_DYN, narrow, elf.PT_PHDR, elf.PT_INTERP), false, true},
		"narrow loader":               {program(elf.ELFCLASS32, elf.ET_DYN, narrow, elf.PT_LOAD), false, false},
		"of another machine":          {program(elf.ELFCLASS64, elf.ET_EXEC, other), true, false},
		"object file":                 {program(elf.ELFCLASS64, elf.ET_REL, native), true, false},
		"core":                        {program(elf.ELFCLASS64, elf.ET_CORE, native), true, false},
		"another byte order":          {big, true, false},
		"another class":               {program(elf.Class(7), elf.ET_EXEC, native), true, false},
		"script":                      {[]byte("#!/bin/sh\n"), true, false},
		"nothing":                     {nil, true, false},
		"begin of a header":           {dynamic[:elf.EI_NIDENT], true, false},
		"headers beyond what is read": {cut, false, false},
		"headers nowhere":             {far, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := isImage(tc.head, tc.named); got != tc.image {
				t.Errorf("got %t", got)
			}
		})
	}
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	if !isImage(self[:imageHead], false) {
		t.Error("this program is none")
	}
}

func FuzzIsImage(f *testing.F) {
	f.Add(program(elf.ELFCLASS64, elf.ET_DYN, elf.EM_X86_64, elf.PT_PHDR, elf.PT_INTERP), true)
	f.Add(program(elf.ELFCLASS32, elf.ET_DYN, elf.EM_386, elf.PT_LOAD), false)
	f.Fuzz(func(t *testing.T, head []byte, named bool) {
		if isImage(head, false) && !isImage(head, true) {
			t.Error("an image, unless somebody names it")
		}
		if isImage(head, named) && !bytes.HasPrefix(head, []byte(elf.ELFMAG)) {
			t.Error("an image that is no ELF file")
		}
	})
}
