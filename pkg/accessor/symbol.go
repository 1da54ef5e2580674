package accessor

import (
	"debug/elf"
	"encoding/binary"
	"fmt"
)

const symbolBytes = 24

// Function is the address of an exported function.
func (l *Library) Function(name string) (uint64, error) {
	if len(name) == 0 || len(name) >= maxNameBytes {
		return 0, fmt.Errorf("look up %q: %w", name, ErrNotFound)
	}
	find := l.findGNU
	if _, ok := l.dynamic[elf.DT_GNU_HASH]; !ok {
		find = l.findSysV
	}
	address, err := find(name)
	if err != nil {
		return 0, fmt.Errorf("look up %s: %w", name, err)
	}
	return address, nil
}

func (l *Library) findGNU(name string) (uint64, error) {
	table := l.dynamic[elf.DT_GNU_HASH]
	var head [4]uint32 // buckets, first symbol, bloom words, bloom shift
	for i := range head {
		word, err := l.word32(table + uint64(4*i))
		if err != nil {
			return 0, err
		}
		head[i] = word
	}
	if head[0] == 0 {
		return 0, ErrNotFound
	}
	hash := uint32(5381)
	for i := range len(name) {
		hash = hash*33 + uint32(name[i])
	}
	buckets := table + 16 + 8*uint64(head[2])
	chains := buckets + 4*uint64(head[0])
	index, err := l.word32(buckets + 4*uint64(hash%head[0]))
	if err != nil {
		return 0, err
	}
	if index < head[1] {
		return 0, ErrNotFound
	}
	for range maxChain {
		link, err := l.word32(chains + 4*uint64(index-head[1]))
		if err != nil {
			return 0, err
		}
		if link|1 == hash|1 {
			if address, ok := l.match(index, name); ok {
				return address, nil
			}
		}
		if link&1 != 0 {
			break
		}
		index++
	}
	return 0, ErrNotFound
}

func (l *Library) findSysV(name string) (uint64, error) {
	table, ok := l.dynamic[elf.DT_HASH]
	if !ok {
		return 0, ErrNotFound
	}
	count, err := l.word32(table)
	if err != nil {
		return 0, err
	}
	if count == 0 {
		return 0, ErrNotFound
	}
	hash := uint32(0)
	for i := range len(name) {
		hash = hash<<4 + uint32(name[i])
		hash ^= hash >> 24 & 0xf0
		hash &= 0x0fffffff
	}
	next := table + 8 + 4*uint64(hash%count)
	for range maxChain {
		index, err := l.word32(next)
		if err != nil {
			return 0, err
		}
		if index == 0 {
			break
		}
		if address, ok := l.match(index, name); ok {
			return address, nil
		}
		next = table + 8 + 4*(uint64(count)+uint64(index))
	}
	return 0, ErrNotFound
}

// match says whether the symbol at index is the definition of a function of this name.
func (l *Library) match(index uint32, name string) (uint64, bool) {
	var b [symbolBytes]byte
	if l.read(l.dynamic[elf.DT_SYMTAB]+symbolBytes*uint64(index), b[:]) != nil {
		return 0, false
	}
	var text [maxNameBytes]byte
	at := l.dynamic[elf.DT_STRTAB] + uint64(binary.LittleEndian.Uint32(b[:]))
	if l.read(at, text[:len(name)+1]) != nil || string(text[:len(name)]) != name || text[len(name)] != 0 {
		return 0, false
	}
	function := elf.ST_TYPE(b[4]) == elf.STT_FUNC
	defined := binary.LittleEndian.Uint16(b[6:]) != uint16(elf.SHN_UNDEF)
	return binary.LittleEndian.Uint64(b[8:]), function && defined
}
