package enforce

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"runtime"
	"slices"
)

// isImage says, by how a file begins, whether a process would become this program. Of the files that execve opens on
// its way, only the last one becomes the process's image, and only that is an execution to a baseline that the hook behind
// fanotify has learnt: not a script, but its interpreter; not what binfmt_misc hands to another program, but that one;
// and not the loader of a dynamic program, which the kernel opens after it.
//
// named: the caller of execve said this file, so that it is no loader. Where it cannot be told, the answer is no.
func isImage(head []byte, named bool) bool {
	if !bytes.HasPrefix(head, []byte(elf.ELFMAG)) || len(head) < elf.EI_NIDENT || elf.Data(head[elf.EI_DATA]) != elf.ELFDATA2LSB {
		return false
	}
	var form elfForm
	switch elf.Class(head[elf.EI_CLASS]) {
	case elf.ELFCLASS64:
		form = elfForm{header: 64, phoff: 32, wide: true, phentsize: 54}
	case elf.ELFCLASS32:
		form = elfForm{header: 52, phoff: 28, phentsize: 42}
	default:
		return false
	}
	if len(head) < form.header || !slices.Contains(machines(), elf.Machine(binary.LittleEndian.Uint16(head[18:]))) {
		return false
	}
	switch elf.Type(binary.LittleEndian.Uint16(head[16:])) {
	case elf.ET_EXEC:
		return true
	case elf.ET_DYN:
		return named || form.hasInterpreter(head)
	}
	return false
}

// machines are those whose programs this kernel may execute by itself.
func machines() []elf.Machine {
	if runtime.GOARCH == "arm64" {
		return []elf.Machine{elf.EM_AARCH64, elf.EM_ARM}
	}
	return []elf.Machine{elf.EM_X86_64, elf.EM_386}
}

// elfForm says where a class of ELF files has the fields of its header.
type elfForm struct {
	header    int
	phoff     int
	wide      bool // phoff has 8 bytes
	phentsize int  // behind it stands phnum
}

// hasInterpreter says whether there is a program header PT_INTERP in the head of a file. A loader has none.
func (f elfForm) hasInterpreter(head []byte) bool {
	at := uint64(binary.LittleEndian.Uint32(head[f.phoff:]))
	if f.wide {
		at = binary.LittleEndian.Uint64(head[f.phoff:])
	}
	size := uint64(binary.LittleEndian.Uint16(head[f.phentsize:]))
	for range binary.LittleEndian.Uint16(head[f.phentsize+2:]) {
		if at > uint64(len(head))-4 {
			return false
		}
		if elf.ProgType(binary.LittleEndian.Uint32(head[at:])) == elf.PT_INTERP {
			return true
		}
		at += size
	}
	return false
}
