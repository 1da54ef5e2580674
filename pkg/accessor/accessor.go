// Package accessor reads where a C library keeps the fields of its structs out of the library's own
// accessor functions: SSL_version(s) is `return s->version`, so its machine code names the offset.
// The code is interpreted on symbolic arguments, for x86-64 and arm64. It must never execute code of
// the library, never trust the file (every size is bounded and every read checked), and never guess:
// what it does not understand is an error.
//
//	lib, err := accessor.Open(file)
//	trace, err := lib.Eval("SSL_get_current_cipher", accessor.Options{})
//	path, ok := trace.Result.Path() // argument 0, offsets 2328, 760: *(*(s+2328)+760)
package accessor

import (
	"errors"
	"fmt"
	"strings"
)

// ErrNotFound means that the library does not export the symbol.
var ErrNotFound = errors.New("not exported")

// errBudget ends an interpretation that does not come to an end.
var errBudget = errors.New("too many instructions")

// Limits of one evaluation.
const (
	maxSteps   = 2000
	maxDepth   = 8
	maxSymbols = 2000
	maxArgs    = 4
)

// Path says how a value is reached from an argument of the function: each offset in bytes is added
// and the sum dereferenced. Of an Address the last sum is not dereferenced.
type Path struct {
	Arg     int
	Offsets []int64
	Address bool
}

// String writes the path as nested brackets, outermost last.
func (p Path) String() string {
	var b strings.Builder
	last := len(p.Offsets)
	if p.Address {
		last--
	}
	b.WriteString(strings.Repeat("[", max(last, 0)))
	fmt.Fprintf(&b, "arg%d", p.Arg)
	for i, off := range p.Offsets {
		fmt.Fprintf(&b, "%+d", off)
		if i < last {
			b.WriteByte(']')
		}
	}
	return b.String()
}

// Field is the offset of a path that is one dereference of the argument.
func (p Path) Field() (int64, bool) {
	if p.Address || len(p.Offsets) != 1 {
		return 0, false
	}
	return p.Offsets[0], true
}

// Value is what a register or memory cell holds after an evaluation.
type Value struct{ v value }

// Path says where the value was read from; false if it is no argument and was not read through one.
func (v Value) Path() (Path, bool) { return v.v.path() }

// Number is the value if it is a constant of the code, such as an address in the library.
func (v Value) Number() (uint64, bool) { return v.v.num, v.v.sym == nil }

// Store is one write through an argument.
type Store struct {
	To    Path // To.Offsets ends with the offset of the written cell; its Address is false
	Value Value
}

// Trace is what an evaluation saw. After an error it holds what was seen before.
type Trace struct {
	Result Value
	Loads  []Path // reads through arguments, in order, each once
	Stores []Store
}

// Stored is the value last written to this place through an argument.
func (t *Trace) Stored(arg int, offset int64) (Value, bool) {
	for i := len(t.Stores) - 1; i >= 0; i-- {
		to := t.Stores[i].To
		if field, ok := to.Field(); ok && to.Arg == arg && field == offset {
			return t.Stores[i].Value, true
		}
	}
	return Value{}, false
}

// Options of an evaluation. Arguments are distinct symbolic pointers unless fixed here.
type Options struct {
	Fixed map[int]uint64 // argument index (0 to 3) -> constant
	// Int is what unknown integers shorter than a pointer compare as; unknown pointers compare as
	// distinct addresses that are not null.
	Int uint64
}

// Eval interprets an exported function. It takes microseconds to a millisecond.
func (l *Library) Eval(name string, opts Options) (Trace, error) {
	address, err := l.Function(name)
	if err != nil {
		return Trace{}, err
	}
	m := newMachine(l, opts)
	err = m.run(address, 0)
	m.trace.Result = Value{m.regs[m.cpu.result]}
	if err != nil {
		return m.trace, fmt.Errorf("interpret %s: %w", name, err)
	}
	return m.trace, nil
}
