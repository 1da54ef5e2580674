package accessor

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/arch/x86/x86asm"
)

const (
	endbr64       = 0xfa1e0ff3
	rsp           = 4
	rbp           = 5
	stackGuard    = 0x5afe // what %fs:0x28 reads as
	maxInstrBytes = 16
)

// The System V calling convention: rdi, rsi, rdx, rcx; rax.
func amd64() *cpu {
	return &cpu{args: [maxArgs]int{7, 6, 2, 1}, result: 0, stack: rsp, step: stepAMD64}
}

// x86Reg is the number and size in bytes of a general register.
func x86Reg(r x86asm.Reg) (index, size int, ok bool) {
	switch {
	case r >= x86asm.RAX && r <= x86asm.R15:
		return int(r - x86asm.RAX), 8, true
	case r >= x86asm.EAX && r <= x86asm.R15L:
		return int(r - x86asm.EAX), 4, true
	case r >= x86asm.AX && r <= x86asm.R15W:
		return int(r - x86asm.AX), 2, true
	case r >= x86asm.AL && r <= x86asm.BL:
		return int(r - x86asm.AL), 1, true
	case r >= x86asm.SPB && r <= x86asm.R15B:
		return int(r-x86asm.SPB) + rsp, 1, true
	}
	return 0, 0, false
}

// x86 is one instruction in its place.
type x86 struct {
	m    *machine
	inst x86asm.Inst
	next uint64
	size int // of the operation in bytes
}

func stepAMD64(m *machine, pc uint64, code []byte) (flow, error) {
	if len(code) >= 4 && binary.LittleEndian.Uint32(code) == endbr64 {
		return flow{next: pc + 4}, nil
	}
	inst, err := x86asm.Decode(code[:min(len(code), maxInstrBytes)], 64)
	if err != nil {
		return flow{}, err
	}
	x := &x86{m: m, inst: inst, next: pc + uint64(inst.Len)}
	x.size = x.operandSize()
	if f, ok, err := x.branch(); ok || err != nil {
		return f, err
	}
	if err := x.execute(); err != nil {
		return flow{}, err
	}
	return flow{next: x.next}, nil
}

func (x *x86) operandSize() int {
	if r, ok := x.inst.Args[0].(x86asm.Reg); ok {
		if _, size, ok := x86Reg(r); ok {
			return size
		}
	}
	if x.inst.MemBytes != 0 {
		return x.inst.MemBytes
	}
	return x.inst.DataSize / 8
}

// branch handles what may leave the straight line.
func (x *x86) branch() (flow, bool, error) {
	rel, direct := x.inst.Args[0].(x86asm.Rel)
	target := x.next + uint64(int64(rel))
	switch x.inst.Op {
	case x86asm.RET:
		return flow{what: leave}, true, nil
	case x86asm.JMP:
		if !direct {
			return flow{what: leaveAway}, true, nil
		}
		return flow{next: target}, true, nil
	case x86asm.CALL:
		if !direct {
			return flow{what: callAway, next: x.next}, true, nil
		}
		return flow{what: call, next: x.next, target: target}, true, nil
	}
	if !direct {
		return flow{}, false, nil
	}
	taken, ok := x.condition()
	if !ok {
		return flow{}, true, fmt.Errorf("branch %v is not known", x.inst)
	}
	if taken {
		return flow{next: target}, true, nil
	}
	return flow{next: x.next}, true, nil
}

// condition of a jump, conditional move or set.
func (x *x86) condition() (taken, ok bool) {
	f := x.m.flags
	switch x.inst.Op {
	case x86asm.JE, x86asm.CMOVE, x86asm.SETE:
		return f.equal, true
	case x86asm.JNE, x86asm.CMOVNE, x86asm.SETNE:
		return !f.equal, true
	case x86asm.JB, x86asm.CMOVB, x86asm.SETB:
		return f.below, true
	case x86asm.JAE, x86asm.CMOVAE, x86asm.SETAE:
		return !f.below, true
	case x86asm.JBE, x86asm.CMOVBE, x86asm.SETBE:
		return f.below || f.equal, true
	case x86asm.JA, x86asm.CMOVA, x86asm.SETA:
		return !f.below && !f.equal, true
	case x86asm.JS, x86asm.CMOVS, x86asm.SETS:
		return f.negated, true
	case x86asm.JNS, x86asm.CMOVNS, x86asm.SETNS:
		return !f.negated, true
	case x86asm.JL, x86asm.CMOVL, x86asm.SETL:
		return f.less, true
	case x86asm.JGE, x86asm.CMOVGE, x86asm.SETGE:
		return !f.less, true
	case x86asm.JLE, x86asm.CMOVLE, x86asm.SETLE:
		return f.less || f.equal, true
	case x86asm.JG, x86asm.CMOVG, x86asm.SETG:
		return !f.less && !f.equal, true
	}
	return false, false
}

func (x *x86) execute() error {
	switch x.inst.Op {
	case x86asm.NOP, x86asm.PREFETCHT0, x86asm.PREFETCHNTA:
		return nil
	case x86asm.MOV, x86asm.MOVZX:
		return x.copy(false)
	case x86asm.MOVSXD, x86asm.MOVSX:
		return x.copy(true)
	case x86asm.LEA:
		mem, ok := x.inst.Args[1].(x86asm.Mem)
		if !ok {
			return fmt.Errorf("lea without memory")
		}
		at, err := x.address(mem)
		if err != nil {
			return err
		}
		return x.put(x.inst.Args[0], at, x.size)
	case x86asm.PUSH:
		v, err := x.get(x.inst.Args[0], 8)
		if err != nil {
			return err
		}
		sp := x.m.sub(x.m.regs[rsp], number(8))
		x.m.regs[rsp] = sp
		x.m.store(sp, v, 8)
		return nil
	case x86asm.POP:
		return x.pop(x.inst.Args[0])
	case x86asm.LEAVE:
		x.m.regs[rsp] = x.m.regs[rbp]
		return x.pop(x86asm.RBP)
	}
	return x.compute()
}

func (x *x86) pop(to x86asm.Arg) error {
	v, err := x.m.load(x.m.regs[rsp], 8)
	if err != nil {
		return err
	}
	x.m.regs[rsp] = x.m.add(x.m.regs[rsp], number(8))
	return x.put(to, v, 8)
}

func (x *x86) copy(signed bool) error {
	size := x.size
	if r, ok := x.inst.Args[1].(x86asm.Reg); ok {
		if _, n, ok := x86Reg(r); ok {
			size = n
		}
	} else if x.inst.MemBytes != 0 {
		size = x.inst.MemBytes
	}
	v, err := x.get(x.inst.Args[1], size)
	if err != nil {
		return err
	}
	if signed && v.sym == nil {
		v = number(uint64(signExtend(v.num, size)))
	}
	return x.put(x.inst.Args[0], v, x.size)
}

// compute handles two-operand arithmetic, conditional moves and sets.
func (x *x86) compute() error {
	if taken, ok := x.condition(); ok {
		return x.conditional(taken)
	}
	a, err := x.get(x.inst.Args[0], x.size)
	if err != nil {
		return err
	}
	var b value
	if x.inst.Args[1] != nil {
		if b, err = x.get(x.inst.Args[1], x.size); err != nil {
			return err
		}
	}
	m := x.m
	p, q := m.plain(a), m.plain(b)
	var v value
	switch x.inst.Op {
	case x86asm.CMP:
		m.compare(a, b, x.size)
		return nil
	case x86asm.TEST:
		m.test(p&q, x.size)
		return nil
	case x86asm.SUB:
		m.compare(a, b, x.size)
		return x.put(x.inst.Args[0], m.sub(a, b), x.size)
	case x86asm.ADD:
		v = m.add(a, b)
	case x86asm.INC:
		v = m.add(a, number(1))
	case x86asm.DEC:
		v = m.sub(a, number(1))
	case x86asm.AND:
		v = number(p & q)
	case x86asm.OR:
		v = number(p | q)
	case x86asm.XOR:
		v = number(p ^ q)
	case x86asm.NOT:
		v = number(^p)
	case x86asm.NEG:
		v = number(-p)
	case x86asm.SHL:
		v = number(p << (q & 63))
	case x86asm.SHR:
		v = number((p & mask(x.size)) >> (q & 63))
	case x86asm.SAR:
		v = number(uint64(signExtend(p, x.size) >> (q & 63)))
	default:
		return fmt.Errorf("instruction %v is not known", x.inst)
	}
	m.test(m.plain(v), x.size)
	return x.put(x.inst.Args[0], v, x.size)
}

func (x *x86) conditional(taken bool) error {
	if x.inst.Args[1] == nil { // SETcc
		n := number(0)
		if taken {
			n = number(1)
		}
		return x.put(x.inst.Args[0], n, 1)
	}
	from := x.inst.Args[0]
	if taken {
		from = x.inst.Args[1]
	}
	v, err := x.get(from, x.size)
	if err != nil {
		return err
	}
	return x.put(x.inst.Args[0], v, x.size)
}

func (x *x86) address(mem x86asm.Mem) (value, error) {
	at := number(uint64(mem.Disp))
	switch {
	case mem.Base == x86asm.RIP:
		at = number(x.next + uint64(mem.Disp))
	case mem.Base != 0:
		i, size, ok := x86Reg(mem.Base)
		if !ok || size != 8 {
			return value{}, fmt.Errorf("address %v is not known", mem)
		}
		at = x.m.add(x.m.regs[i], at)
	}
	if mem.Index != 0 {
		i, size, ok := x86Reg(mem.Index)
		if !ok || size != 8 {
			return value{}, fmt.Errorf("address %v is not known", mem)
		}
		at = x.m.add(at, number(x.m.plain(x.m.regs[i])*uint64(mem.Scale)))
	}
	return at, nil
}

func (x *x86) get(arg x86asm.Arg, size int) (value, error) {
	switch a := arg.(type) {
	case x86asm.Reg:
		i, n, ok := x86Reg(a)
		if !ok {
			return value{}, fmt.Errorf("register %v is not known", a)
		}
		return x.m.narrow(x.m.regs[i], n), nil
	case x86asm.Imm:
		return number(uint64(a)), nil
	case x86asm.Mem:
		if a.Segment == x86asm.FS {
			return number(stackGuard), nil
		}
		at, err := x.address(a)
		if err != nil {
			return value{}, err
		}
		return x.m.load(at, size)
	}
	return value{}, fmt.Errorf("operand %v is not known", arg)
}

func (x *x86) put(arg x86asm.Arg, v value, size int) error {
	switch a := arg.(type) {
	case x86asm.Reg:
		i, n, ok := x86Reg(a)
		if !ok {
			return fmt.Errorf("register %v is not known", a)
		}
		x.m.regs[i] = x.m.narrow(v, n)
		return nil
	case x86asm.Mem:
		if a.Segment != 0 {
			return fmt.Errorf("write to segment %v", a)
		}
		at, err := x.address(a)
		if err != nil {
			return err
		}
		x.m.store(at, x.m.narrow(v, size), size)
		return nil
	}
	return fmt.Errorf("operand %v is not known", arg)
}
