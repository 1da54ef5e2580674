package enforce

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"github.com/cilium/ebpf"
)

// readObject reads what a rung needs of the object. To read programs that another rung would attach, one for each hook, takes
// as long again.
func readObject(strength Strength) (*ebpf.CollectionSpec, error) {
	object := slices.Clone(_BpfBytes)
	f, err := elf.NewFile(bytes.NewReader(object))
	if err != nil {
		return nil, fmt.Errorf("read enforce object: %w", err)
	}
	for i, s := range f.Sections {
		if ofOtherRung(strength, s.Name) {
			hideSection(object, i)
		}
	}
	spec, err := ebpf.LoadCollectionSpecFromReader(bytes.NewReader(object))
	if err != nil {
		return nil, fmt.Errorf("read enforce object: %w", err)
	}
	return spec, nil
}

// ofOtherRung says whether a section of programs is of a rung above or below.
func ofOtherRung(strength Strength, section string) bool {
	return strings.HasPrefix(section, "lsm/") && strength != LSM || strings.HasPrefix(section, "fmod_ret/") && strength != FmodRet
}

// hideSection makes a section of a 64-bit ELF file one without contents: its type is 4 bytes into its header (elf(5), Elf64_Shdr).
func hideSection(object []byte, index int) {
	const tableAt, sizeAt, typeAt = 0x28, 0x3a, 4 // of Elf64_Ehdr: e_shoff, e_shentsize; of Elf64_Shdr: sh_type
	le := binary.LittleEndian
	header := le.Uint64(object[tableAt:]) + uint64(index)*uint64(le.Uint16(object[sizeAt:]))
	le.PutUint32(object[header+typeAt:], uint32(elf.SHT_NULL))
}
