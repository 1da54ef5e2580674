// Package syscalls names the system calls of Linux: what a number is on an architecture, and the other way
// round. It is a table and nothing else; it must never make a call that it names.
//
//	c := syscalls.ByNumber("amd64", false, 257)
//	fmt.Println(c) // openat
package syscalls

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Call is a system call, the same on every architecture. Names are for keeping: values are of this version
// alone. A call whose number has no name in the table is its number.
type Call uint32

// Numbers are below this: what is above is no call of any architecture that we build for, but x32's.
const Numbers = 512

const (
	compatBit  = 1       // of a Call: made by a 32-bit program
	unnamed    = 1 << 16 // of a Call: the rest is a number
	compatText = " (32-bit)"
)

// row is a name and its numbers. -1: the architecture has no such call.
type row struct {
	name        string
	amd64, i386 int16
	arm64, arm  int16
}

// of is the number on an architecture, -1 if there is none.
func (r *row) of(arch string, compat bool) int16 {
	switch {
	case arch == "amd64" && !compat:
		return r.amd64
	case arch == "amd64":
		return r.i386
	case arch == "arm64" && !compat:
		return r.arm64
	case arch == "arm64":
		return r.arm
	}
	return -1
}

func compatOf(compat bool) Call {
	if compat {
		return compatBit
	}
	return 0
}

// ByNumber is the call with a number on an architecture (Go's name of it). compat: of its 32-bit programs,
// whose numbers are others.
func ByNumber(arch string, compat bool, number uint16) Call {
	i := slices.IndexFunc(table[:], func(r row) bool { return r.of(arch, compat) == int16(number) })
	if i < 0 {
		return unnamed | Call(number)<<1 | compatOf(compat)
	}
	return Call(i)<<1 | compatOf(compat)
}

// Compat says whether it was made by a 32-bit program.
func (c Call) Compat() bool { return c&compatBit != 0 }

// row in the table; nil: it has no name.
func (c Call) row() *row {
	if i := int(c >> 1); c < unnamed && i < len(table) {
		return &table[i]
	}
	return nil
}

// Name of the call, as libseccomp and strace have it; false: it has a number only.
func (c Call) Name() (string, bool) {
	if r := c.row(); r != nil {
		return r.name, true
	}
	return "", false
}

// Number on an architecture; false: it has no such call, or the number is of another one.
func (c Call) Number(arch string) (uint16, bool) {
	if r := c.row(); r != nil {
		n := r.of(arch, c.Compat())
		return uint16(n), n >= 0
	}
	return 0, false
}

// Append writes what String returns.
func (c Call) Append(dst []byte) []byte {
	if r := c.row(); r != nil {
		dst = append(dst, r.name...)
	} else {
		dst = strconv.AppendUint(dst, uint64(c&^unnamed>>1), 10)
	}
	if c.Compat() {
		dst = append(dst, compatText...)
	}
	return dst
}

// String is the name, or the number of what has none; "(32-bit)" follows that of a 32-bit program.
func (c Call) String() string { return string(c.Append(nil)) }

// Parse reads what String writes.
func Parse(text string) (Call, error) {
	name, compat := strings.CutSuffix(text, compatText)
	i, named := slices.BinarySearchFunc(table[:], name, func(r row, name string) int { return strings.Compare(r.name, name) })
	if named {
		return Call(i)<<1 | compatOf(compat), nil
	}
	n, err := strconv.ParseUint(name, 10, 16)
	if err != nil || n >= Numbers {
		return 0, fmt.Errorf("unknown system call %.60q", text)
	}
	return unnamed | Call(n)<<1 | compatOf(compat), nil
}
