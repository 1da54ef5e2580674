package accessor

import (
	"encoding/binary"
	"errors"
	"math/bits"
)

var errA64 = errors.New("instruction is not known")

const (
	regSP = 31 // as an address; elsewhere number 31 reads as zero
)

// The AAPCS64 calling convention: x0 to x3; x0.
func arm64() *cpu {
	return &cpu{args: [maxArgs]int{0, 1, 2, 3}, result: 0, stack: regSP, step: stepARM64}
}

// a64 is one instruction; its methods cut fields out of it.
type a64 uint32

func (i a64) field(high, low int) uint32 { return uint32(i) << (31 - high) >> (31 - high + low) }
func (i a64) bit(n int) bool             { return i>>n&1 != 0 }
func (i a64) rd() int                    { return int(i.field(4, 0)) }
func (i a64) rn() int                    { return int(i.field(9, 5)) }
func (i a64) rm() int                    { return int(i.field(20, 16)) }

// signed is a field in two's complement.
func (i a64) signed(high, low int) int64 {
	return int64(int32(uint32(i)<<(31-high)) >> (31 - high + low))
}

// size of the operation in bytes, by the sf bit.
func (i a64) size() int {
	if i.bit(31) {
		return 8
	}
	return 4
}

func stepARM64(m *machine, pc uint64, code []byte) (flow, error) {
	if len(code) < 4 {
		return flow{}, errA64
	}
	i := a64(binary.LittleEndian.Uint32(code))
	switch i.field(28, 25) {
	case 0b1010, 0b1011:
		return stepA64Branch(m, pc, i)
	case 0b1000, 0b1001:
		return flow{next: pc + 4}, a64Immediate(m, pc, i)
	case 0b0101, 0b1101:
		return flow{next: pc + 4}, a64Register(m, i)
	case 0b0100, 0b0110, 0b1100, 0b1110:
		return flow{next: pc + 4}, a64Memory(m, pc, i)
	}
	return flow{}, errA64
}

// read a register in which number 31 is zero.
func (m *machine) zr(r, size int) value {
	if r == regSP {
		return number(0)
	}
	return m.narrow(m.regs[r], size)
}

// setZR writes a register in which number 31 discards.
func (m *machine) setZR(r int, v value, size int) {
	if r != regSP {
		m.regs[r] = m.narrow(v, size)
	}
}

// holds evaluates a condition code.
func (f flags) holds(cond uint32) (bool, error) {
	var yes bool
	switch cond >> 1 {
	case 0:
		yes = f.equal
	case 1:
		yes = !f.below
	case 2:
		yes = f.negated
	case 4:
		yes = !f.below && !f.equal
	case 5:
		yes = !f.less
	case 6:
		yes = !f.less && !f.equal
	case 7:
		return true, nil
	default:
		return false, errA64
	}
	return yes != (cond&1 != 0), nil
}

func stepA64Branch(m *machine, pc uint64, i a64) (flow, error) {
	next := pc + 4
	jump := func(taken bool, distance int64) (flow, error) {
		if taken {
			return flow{next: pc + uint64(distance)*4}, nil
		}
		return flow{next: next}, nil
	}
	switch {
	case i>>12 == 0xd5032: // hints: nop, bti, paciasp, autiasp
		return flow{next: next}, nil
	case i.field(30, 26) == 0b00101:
		target := pc + uint64(i.signed(25, 0))*4
		if i.bit(31) {
			return flow{what: call, next: next, target: target}, nil
		}
		return flow{next: target}, nil
	case i.field(31, 24) == 0b01010100 && !i.bit(4):
		taken, err := m.flags.holds(i.field(3, 0))
		if err != nil {
			return flow{}, err
		}
		return jump(taken, i.signed(23, 5))
	case i.field(30, 25) == 0b011010: // cbz, cbnz
		zero := m.plain(m.zr(i.rd(), i.size()))&mask(i.size()) == 0
		return jump(zero != i.bit(24), i.signed(23, 5))
	case i.field(30, 25) == 0b011011: // tbz, tbnz
		bit := i.field(31, 31)<<5 | i.field(23, 19)
		zero := m.plain(m.zr(i.rd(), 8))>>bit&1 == 0
		return jump(zero != i.bit(24), i.signed(18, 5))
	case i.field(31, 25) == 0b1101011:
		switch i.field(23, 21) {
		case 0:
			return flow{what: leaveAway}, nil
		case 1:
			return flow{what: callAway, next: next}, nil
		case 2:
			return flow{what: leave}, nil
		}
	}
	return flow{}, errA64
}

func a64Immediate(m *machine, pc uint64, i a64) error {
	size := i.size()
	switch i.field(28, 23) {
	case 0b100000, 0b100001: // adr, adrp
		offset := i.signed(23, 5)<<2 | int64(i.field(30, 29))
		if i.bit(31) {
			m.setZR(i.rd(), number(pc&^0xfff+uint64(offset)<<12), 8)
		} else {
			m.setZR(i.rd(), number(pc+uint64(offset)), 8)
		}
	case 0b100010: // add, sub
		n := number(uint64(i.field(21, 10)))
		if i.bit(22) {
			n.num <<= 12
		}
		m.addSub(i, m.narrow(m.regs[i.rn()], size), n, !i.bit(29))
	case 0b100100: // and, orr, eor, ands
		n, ok := bitmask(i.bit(22), i.field(15, 10), i.field(21, 16), size)
		if !ok {
			return errA64
		}
		m.logical(i, m.zr(i.rn(), size), number(n), i.field(30, 29) != 3)
	case 0b100101:
		return m.moveWide(i)
	case 0b100110:
		return m.bitfield(i)
	default:
		return errA64
	}
	return nil
}

// addSub writes the stack pointer if sp is set and the destination is register 31.
func (m *machine) addSub(i a64, a, b value, sp bool) {
	size := i.size()
	v := m.add(a, b)
	if i.bit(30) {
		v = m.sub(a, b)
	}
	if i.bit(29) {
		if i.bit(30) {
			m.compare(a, b, size)
		} else {
			m.test(m.plain(v), size)
		}
	}
	if i.rd() != regSP || sp {
		m.regs[i.rd()] = m.narrow(v, size)
	}
}

func (m *machine) logical(i a64, a, b value, sp bool) {
	size := i.size()
	var v value
	p, q := m.plain(a), m.plain(b)
	switch i.field(30, 29) {
	case 1:
		v = number(p | q)
		switch {
		case a.sym == nil && a.num == 0:
			v = b // mov
		case b.sym == nil && b.num == 0:
			v = a
		}
	case 2:
		v = number(p ^ q)
	default:
		v = number(p & q)
	}
	if i.field(30, 29) == 3 {
		m.test(m.plain(v), size)
	}
	if i.rd() != regSP || sp {
		m.regs[i.rd()] = m.narrow(v, size)
	}
}

func (m *machine) moveWide(i a64) error {
	size, shift := i.size(), 16*i.field(22, 21)
	n := uint64(i.field(20, 5)) << shift
	switch i.field(30, 29) {
	case 0:
		n = ^n
	case 2:
	case 3:
		n |= m.plain(m.zr(i.rd(), size)) &^ (0xffff << shift)
	default:
		return errA64
	}
	m.setZR(i.rd(), number(n), size)
	return nil
}

// bitfield covers the shifts and extensions; inserts are not known.
func (m *machine) bitfield(i a64) error {
	size := i.size()
	width := uint32(8 * size)
	r, s := i.field(21, 16), i.field(15, 10)
	if r >= width || s >= width || i.field(30, 29) == 1 || i.field(30, 29) == 3 {
		return errA64
	}
	signed := i.field(30, 29) == 0
	v := m.zr(i.rn(), size)
	if r == 0 && s%8 == 7 && v.sym != nil && v.sym.size <= int(s+1)/8 {
		m.setZR(i.rd(), v, size) // an extension of something short keeps what it is
		return nil
	}
	n := m.plain(v) & mask(size)
	if s >= r {
		n = extend(n>>r, s-r+1, signed)
	} else {
		n = extend(n, s+1, signed) << (width - r)
	}
	m.setZR(i.rd(), number(n), size)
	return nil
}

// extend keeps the low bits of n.
func extend(n uint64, width uint32, signed bool) uint64 {
	if width >= 64 {
		return n
	}
	n <<= 64 - width
	if signed {
		return uint64(int64(n) >> (64 - width))
	}
	return n >> (64 - width)
}

// bitmask decodes the immediate of a logical instruction.
func bitmask(n bool, imms, immr uint32, size int) (uint64, bool) {
	pattern := ^imms & 0x3f
	if n {
		pattern |= 0x40
	}
	length := bits.Len32(pattern) - 1
	if length < 1 || (n && size == 4) {
		return 0, false
	}
	width := uint32(1) << length
	s, r := imms&(width-1), immr&(width-1)
	if s == width-1 {
		return 0, false
	}
	element := uint64(1)<<(s+1) - 1
	if r != 0 {
		element = element>>r | element<<(width-r)
	}
	element = extend(element, width, false)
	for ; width < 64; width *= 2 {
		element |= element << width
	}
	return element & mask(size), true
}

func a64Register(m *machine, i a64) error {
	size := i.size()
	switch {
	case i.field(28, 24) == 0b01010:
		b, err := m.shifted(i)
		if err != nil {
			return err
		}
		if i.bit(21) {
			b = number(^m.plain(b) & mask(size))
		}
		m.logical(i, m.zr(i.rn(), size), b, false)
	case i.field(28, 24) == 0b01011 && !i.bit(21):
		b, err := m.shifted(i)
		if err != nil {
			return err
		}
		m.addSub(i, m.zr(i.rn(), size), b, false)
	case i.field(28, 24) == 0b01011:
		m.addSub(i, m.narrow(m.regs[i.rn()], size), m.extended(i.rm(), i.field(15, 13), i.field(12, 10)), !i.bit(29))
	case i.field(28, 21) == 0b11010100 && !i.bit(29):
		return m.selectA64(i)
	case i.field(28, 21) == 0b11010010 && i.bit(29):
		return m.compareIf(i)
	default:
		return errA64
	}
	return nil
}

// shifted is the second operand of a register instruction.
func (m *machine) shifted(i a64) (value, error) {
	size, amount := i.size(), i.field(15, 10)
	v := m.zr(i.rm(), size)
	if amount == 0 {
		return v, nil
	}
	n := m.plain(v) & mask(size)
	switch i.field(23, 22) {
	case 0:
		return number(n << amount), nil
	case 1:
		return number(n >> amount), nil
	case 2:
		return number(uint64(signExtend(n, size) >> amount)), nil
	}
	return value{}, errA64
}

// extended is a register widened and shifted, as in addresses.
func (m *machine) extended(r int, option, shift uint32) value {
	size := 1 << (option & 3)
	v := m.zr(r, 8)
	if size == 8 && shift == 0 {
		return v
	}
	n := m.plain(v) & mask(size)
	if option&4 != 0 {
		n = uint64(signExtend(n, size))
	}
	return number(n << shift)
}

// selectA64 covers csel, csinc, csinv and csneg.
func (m *machine) selectA64(i a64) error {
	size := i.size()
	yes, err := m.flags.holds(i.field(15, 12))
	if err != nil {
		return err
	}
	if yes {
		m.setZR(i.rd(), m.zr(i.rn(), size), size)
		return nil
	}
	v := m.zr(i.rm(), size)
	switch {
	case i.bit(30) && i.bit(10):
		v = number(-m.plain(v))
	case i.bit(30):
		v = number(^m.plain(v))
	case i.bit(10):
		v = m.add(v, number(1))
	}
	m.setZR(i.rd(), v, size)
	return nil
}
