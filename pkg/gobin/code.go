package gobin

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/arch/x86/x86asm"
)

// arm64Return is RET through the link register, the only form that Go's compiler writes.
const arm64Return = 0xd65f03c0

// Returns lists the file offsets of all RET instructions of a function. Probes go there because
// return probes change the return address, which Go's runtime finds when it walks or moves a stack
// and then crashes.
func (f *File) Returns(fn Function) ([]uint64, error) {
	code, err := f.code(fn)
	if err != nil {
		return nil, err
	}
	var rets []uint64
	if f.machine == machineARM64 {
		for i := 0; i+4 <= len(code); i += 4 {
			if binary.LittleEndian.Uint32(code[i:]) == arm64Return {
				rets = append(rets, fn.Offset+uint64(i))
			}
		}
	} else {
		for i := 0; i < len(code); {
			in, err := x86asm.Decode(code[i:], 64)
			if err != nil {
				// What is not understood may hide a RET: better no probe than a missed end.
				return nil, fmt.Errorf("%w: decode %s at +%#x: %w", ErrUnsupported, fn.Name, i, err)
			}
			if in.Op == x86asm.RET {
				rets = append(rets, fn.Offset+uint64(i))
			}
			i += in.Len
		}
	}
	if len(rets) == 0 {
		return nil, fmt.Errorf("%w: %s never returns", ErrUnsupported, fn.Name)
	}
	return rets, nil
}

// Body returns the file offset of the first instruction after the stack check, PUSH RBP, where all
// registers still hold the arguments: the kernel emulates a push, which costs a twentieth of stepping
// over the check's first instruction, and a call that has to grow its stack passes only once. Where
// the code does not begin in that way, and on arm64, it is the function's first instruction.
func (f *File) Body(fn Function) (uint64, error) {
	const instructions, longest = 8, 15
	if f.machine == machineARM64 {
		return fn.Offset, nil
	}
	head := fn
	head.Size = min(fn.Size, instructions*longest)
	code, err := f.code(head)
	if err != nil {
		return 0, err
	}
	for i, n := 0, 0; i < len(code) && n < instructions; n++ {
		in, err := x86asm.Decode(code[i:], 64)
		if err != nil {
			break
		}
		switch in.Op {
		case x86asm.PUSH:
			if in.Args[0] == x86asm.RBP {
				return fn.Offset + uint64(i), nil
			}
			return fn.Offset, nil
		case x86asm.LEA, x86asm.CMP, x86asm.JBE, x86asm.JB, x86asm.NOP:
		case x86asm.MOV, x86asm.SUB, x86asm.XCHG:
			// The stack check of large frames computes in scratch registers.
			if !scratch(in.Args[0]) {
				return fn.Offset, nil
			}
		default:
			return fn.Offset, nil
		}
		i += in.Len
	}
	return fn.Offset, nil
}

// scratch says that a register carries no argument in Go's calling convention.
func scratch(a x86asm.Arg) bool {
	return a == x86asm.R12 || a == x86asm.R13
}
