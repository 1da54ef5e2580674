package gobin

import (
	"encoding/binary"
	"fmt"
	"reflect"
)

// Struct is the memory layout of a struct type.
type Struct struct {
	Size   uint64            // bytes
	Fields map[string]uint64 // name -> offset in bytes
}

// Offsets in a struct's type descriptor (internal/abi.StructType), the same in Go 1.20 to 1.27.
const (
	typeFlags    = 20
	typeKind     = 23
	typeName     = 40 // offset of the name from the module's types
	typePackage  = 48 // address of the package path; then the slice of fields
	typeBytes    = 80
	fieldBytes   = 24 // name, type, offset
	extraStar    = 2  // flag: the name begins with a star that is not part of it
	kindMask     = 31
	maxTypeName  = 255
	maxFields    = 512
	maxSameNames = 32
)

// Struct finds a struct type by its descriptor. The linker keeps one for every type that is allocated
// on the heap, also in stripped files. An exported struct with exported fields only has no package
// path in it and is not found.
func (f *File) Struct(pkg, name string) (Struct, error) {
	last := pkg
	for i := len(pkg) - 1; i >= 0; i-- {
		if pkg[i] == '/' {
			last = pkg[i+1:]
			break
		}
	}
	places, err := f.typeNames("*" + last + "." + name)
	if err != nil {
		return Struct{}, err
	}
	descriptors, err := f.structsNamed(places)
	if err != nil {
		return Struct{}, err
	}
	for _, va := range descriptors {
		if s, err := f.structAt(va, pkg); err == nil {
			return s, nil
		}
	}
	return Struct{}, fmt.Errorf("%w: no type descriptor of %s.%s", ErrUnsupported, pkg, name)
}

// typeNames finds the offsets at which name is stored: a byte of flags, the length, the text.
func (f *File) typeNames(name string) (map[uint32]bool, error) {
	if len(name) > maxTypeName {
		return nil, fmt.Errorf("find type: a name of %d bytes", len(name))
	}
	pattern := append(binary.AppendUvarint(nil, uint64(len(name))), name...)
	places := map[uint32]bool{}
	err := f.find(f.module.types, f.module.etypes, pattern, func(va uint64) bool {
		places[uint32(va-1-f.module.types)] = true
		return len(places) < maxSameNames
	})
	if err != nil {
		return nil, fmt.Errorf("%w: type names: %w", ErrUnsupported, err)
	}
	return places, nil
}

// structsNamed finds the descriptors of structs that use one of the names. Descriptors have no
// index, but they are aligned.
func (f *File) structsNamed(places map[uint32]bool) ([]uint64, error) {
	var found []uint64
	if len(places) == 0 {
		return nil, nil
	}
	types := f.window()
	for va := f.module.types; va+typeBytes <= f.module.etypes && len(found) < maxSameNames; va += 8 {
		d, err := types.at(va, typeBytes)
		if err != nil {
			return nil, fmt.Errorf("%w: type descriptors: %w", ErrUnsupported, err)
		}
		if reflect.Kind(d[typeKind]&kindMask) == reflect.Struct && d[typeFlags]&extraStar != 0 &&
			places[binary.LittleEndian.Uint32(d[typeName:])] {
			found = append(found, va)
		}
	}
	return found, nil
}

func (f *File) structAt(va uint64, pkg string) (Struct, error) {
	var size [1]uint64
	var tail [4]uint64 // package path, then address, length and capacity of the fields
	if err := f.words(va, size[:]); err != nil {
		return Struct{}, err
	}
	if err := f.words(va+typePackage, tail[:]); err != nil {
		return Struct{}, err
	}
	if path, err := f.typeText(tail[0]); err != nil || path != pkg {
		return Struct{}, fmt.Errorf("type at %#x is of package %q: %w", va, path, err)
	}
	if tail[2] != tail[3] || tail[2] > maxFields {
		return Struct{}, fmt.Errorf("type at %#x has %d fields", va, tail[2])
	}
	s := Struct{Size: size[0], Fields: make(map[string]uint64, tail[2])}
	for i := range tail[2] {
		var field [fieldBytes / 8]uint64
		if err := f.words(tail[1]+i*fieldBytes, field[:]); err != nil {
			return Struct{}, err
		}
		name, err := f.typeText(field[0])
		if err != nil {
			return Struct{}, err
		}
		if name == "" || field[2] > s.Size {
			return Struct{}, fmt.Errorf("type at %#x: field %q at %d of %d", va, name, field[2], s.Size)
		}
		s.Fields[name] = field[2]
	}
	return s, nil
}

// typeText reads a name: a byte of flags, the length, the text.
func (f *File) typeText(va uint64) (string, error) {
	var b [1 + 2 + maxTypeName]byte
	n, err := f.readSome(va, b[:])
	if err != nil {
		return "", err
	}
	length, used := binary.Uvarint(b[1:n])
	if used <= 0 || used > 2 || length > uint64(n-1-used) {
		return "", fmt.Errorf("no name at %#x", va)
	}
	return string(b[1+used:][:length]), nil
}
