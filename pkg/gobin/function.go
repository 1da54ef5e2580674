package gobin

import (
	"encoding/binary"
	"fmt"
)

// maxName is the longest function name that can be asked for.
const maxName = 512

// Functions looks names up in the function table. Names that are not there are not in the result:
// the function is not linked, or is inlined everywhere.
func (f *File) Functions(names ...string) (map[string]Function, error) {
	offsets, err := f.nameOffsets(names)
	if err != nil {
		return nil, err
	}
	found := make(map[string]Function, len(names))
	table, records := f.window(), f.window()
	for i := uint64(0); i < f.module.functions && len(found) < len(offsets); i++ {
		entry, err := table.at(f.module.table+8*i, 16) // its own pair and the next one's
		if err != nil {
			return nil, fmt.Errorf("%w: function table: %w", ErrUnsupported, err)
		}
		le := binary.LittleEndian
		begin, record, end := le.Uint32(entry), le.Uint32(entry[4:]), le.Uint32(entry[8:])
		name, err := records.at(f.module.table+uint64(record)+4, 4)
		if err != nil {
			return nil, fmt.Errorf("%w: function %d: %w", ErrUnsupported, i, err)
		}
		wanted, ok := offsets[le.Uint32(name)]
		if !ok {
			continue
		}
		if found[wanted], err = f.function(wanted, begin, end); err != nil {
			return nil, err
		}
	}
	return found, nil
}

// nameOffsets finds the names' places in the table of names.
func (f *File) nameOffsets(names []string) (map[uint32]string, error) {
	offsets := make(map[uint32]string, len(names))
	for _, name := range names {
		if name == "" || len(name) > maxName {
			return nil, fmt.Errorf("find function: a name of %d bytes", len(name))
		}
		pattern := append(append([]byte{0}, name...), 0)
		err := f.find(f.module.names, f.module.namesEnd, pattern, func(va uint64) bool {
			offsets[uint32(va+1-f.module.names)] = name
			return false
		})
		if err != nil {
			return nil, fmt.Errorf("%w: function names: %w", ErrUnsupported, err)
		}
	}
	return offsets, nil
}

// maxCode is far above the largest function we look at (9 KiB).
const maxCode = 1 << 20

func (f *File) function(name string, begin, end uint32) (Function, error) {
	fn := Function{Name: name, Address: f.module.text + uint64(begin), Size: uint64(end) - uint64(begin)}
	if end <= begin || fn.Size > maxCode || fn.Address+fn.Size > f.module.etext {
		return Function{}, fmt.Errorf("%w: %s from %#x to %#x", ErrUnsupported, name, begin, end)
	}
	s, err := f.segmentOf(fn.Address, fn.Size)
	if err != nil {
		return Function{}, fmt.Errorf("%w: %s: %w", ErrUnsupported, name, err)
	}
	if !s.executable() {
		return Function{}, fmt.Errorf("%w: %s is not in executable memory", ErrUnsupported, name)
	}
	fn.Offset = fn.Address - s.va + s.offset
	return fn, nil
}

func (f *File) code(fn Function) ([]byte, error) {
	if fn.Size == 0 || fn.Size > maxCode {
		return nil, fmt.Errorf("read code of %s: %d bytes", fn.Name, fn.Size)
	}
	code := make([]byte, fn.Size)
	if n, err := f.readSome(fn.Address, code); err != nil {
		return nil, fmt.Errorf("read code of %s: %w", fn.Name, err)
	} else if n < len(code) {
		return nil, fmt.Errorf("read code of %s: it ends after %d of %d bytes", fn.Name, n, len(code))
	}
	return code, nil
}
