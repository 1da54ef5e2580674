package accessor

import "fmt"

// symbol is something whose value is not known: an argument, the stack, or what a read through
// another symbol gave.
type symbol struct {
	parent *symbol
	offset int64 // in parent
	size   int   // bytes that were read; 8 may be a pointer
	arg    int   // of the root
	id     uint64
}

// Roots that are no argument.
const (
	argStack  = -1
	argOpaque = -2
)

// value is sym+num, or the number alone.
type value struct {
	sym *symbol
	num uint64
}

func number(n uint64) value { return value{num: n} }

func (v value) path() (Path, bool) {
	if v.sym == nil {
		return Path{}, false
	}
	p := Path{}
	if v.num != 0 || v.sym.parent == nil {
		p.Address = true
		p.Offsets = append(p.Offsets, int64(v.num))
	}
	s := v.sym
	for ; s.parent != nil; s = s.parent {
		p.Offsets = append(p.Offsets, s.offset)
	}
	if s.arg < 0 {
		return Path{}, false
	}
	p.Arg = s.arg
	for i, j := 0, len(p.Offsets)-1; i < j; i, j = i+1, j-1 {
		p.Offsets[i], p.Offsets[j] = p.Offsets[j], p.Offsets[i]
	}
	return p, true
}

// flags as the last comparison left them, in terms of its operands.
type flags struct {
	equal   bool // or: result is zero
	below   bool // unsigned
	less    bool // signed
	negated bool // the result's sign bit
}

type cell struct {
	base   *symbol // nil: offset is an address in the library
	offset int64
	size   int
}

// cpu is what differs between architectures.
type cpu struct {
	args   [maxArgs]int // registers of the first arguments
	result int
	stack  int
	step   func(m *machine, pc uint64, code []byte) (flow, error)
}

// action says how an instruction leaves the straight line.
type action int

const (
	proceed   action = iota
	call             // of target, then next
	callAway         // through a pointer, out of the library
	leave            // return
	leaveAway        // tail call through a pointer
)

// flow is where execution goes after an instruction.
type flow struct {
	what         action
	next, target uint64
}

// foreignResult is what a call out of the library is taken to return: success.
const foreignResult = 1

type machine struct {
	lib     *Library
	cpu     *cpu
	opts    Options
	regs    [32]value
	flags   flags
	memory  map[cell]value
	trace   Trace
	steps   int
	symbols uint64
}

func newMachine(l *Library, opts Options) *machine {
	m := &machine{lib: l, cpu: l.cpu, opts: opts, memory: map[cell]value{}}
	for i := range m.regs {
		m.regs[i] = m.opaque()
	}
	for i, reg := range m.cpu.args {
		if n, ok := opts.Fixed[i]; ok {
			m.regs[reg] = number(n)
			continue
		}
		m.regs[reg] = value{sym: m.symbol(&symbol{arg: i, size: 8})}
	}
	m.regs[m.cpu.stack] = value{sym: m.symbol(&symbol{arg: argStack, size: 8})}
	return m
}

func (m *machine) symbol(s *symbol) *symbol {
	m.symbols++
	s.id = m.symbols
	return s
}

// opaque is a value about which nothing is known but that it differs from all others.
func (m *machine) opaque() value {
	return value{sym: m.symbol(&symbol{arg: argOpaque, size: 8})}
}

// plain is the number that a value counts as in arithmetic: symbols become far apart addresses.
func (m *machine) plain(v value) uint64 {
	switch {
	case v.sym == nil:
		return v.num
	case v.sym.size < 8:
		return m.opts.Int + v.num
	default:
		return v.sym.id<<36 + v.num
	}
}

func (m *machine) add(a, b value) value {
	switch {
	case b.sym == nil:
		return value{a.sym, a.num + b.num}
	case a.sym == nil:
		return value{b.sym, a.num + b.num}
	default:
		return number(m.plain(a) + m.plain(b))
	}
}

func (m *machine) sub(a, b value) value {
	switch {
	case b.sym == nil:
		return value{a.sym, a.num - b.num}
	case a.sym == b.sym:
		return number(a.num - b.num)
	default:
		return number(m.plain(a) - m.plain(b))
	}
}

func mask(size int) uint64 {
	if size <= 0 || size >= 8 {
		return ^uint64(0)
	}
	return 1<<(8*size) - 1
}

func signExtend(n uint64, size int) int64 {
	shift := 64 - 8*min(max(size, 1), 8)
	return int64(n<<shift) >> shift
}

// narrow is what remains of a value in size bytes. A symbol that fits keeps what it is.
func (m *machine) narrow(v value, size int) value {
	if size >= 8 || (v.sym != nil && v.sym.size <= size) {
		return v
	}
	return number(m.plain(v) & mask(size))
}

func (m *machine) compare(a, b value, size int) {
	x, y := m.plain(a)&mask(size), m.plain(b)&mask(size)
	m.flags = flags{
		equal: x == y, below: x < y,
		less:    signExtend(x, size) < signExtend(y, size),
		negated: signExtend(x-y, size) < 0,
	}
}

// test sets the flags of a result that cannot overflow.
func (m *machine) test(n uint64, size int) {
	negative := signExtend(n, size) < 0
	m.flags = flags{equal: n&mask(size) == 0, less: negative, negated: negative}
}

func (m *machine) load(at value, size int) (value, error) {
	if size != 1 && size != 2 && size != 4 && size != 8 {
		return m.opaque(), nil
	}
	c := cell{at.sym, int64(at.num), size}
	if v, ok := m.memory[c]; ok {
		return v, nil
	}
	if m.symbols > maxSymbols {
		return value{}, errBudget
	}
	if at.sym == nil {
		if n, ok := m.lib.constant(at.num, size); ok {
			return number(n), nil
		}
		m.memory[c] = m.opaque() // the same when it is read again: the stack guard
		return m.memory[c], nil
	}
	for _, wider := range []int{2, 4, 8} {
		if v, ok := m.memory[cell{c.base, c.offset, wider}]; ok && wider > size {
			return m.narrow(v, size), nil
		}
	}
	v := value{sym: m.symbol(&symbol{parent: at.sym, offset: int64(at.num), size: size})}
	m.memory[c] = v
	if p, ok := v.path(); ok {
		m.trace.Loads = append(m.trace.Loads, p)
	}
	return v, nil
}

func (m *machine) store(at, v value, size int) {
	c := cell{at.sym, int64(at.num), size}
	for _, other := range []int{1, 2, 4, 8} {
		delete(m.memory, cell{c.base, c.offset, other})
	}
	m.memory[c] = v
	if at.sym == nil {
		return
	}
	to, ok := (value{sym: &symbol{parent: at.sym, offset: int64(at.num)}}).path()
	if ok {
		m.trace.Stores = append(m.trace.Stores, Store{To: to, Value: Value{v}})
	}
}

// run interprets from pc until the function returns.
func (m *machine) run(pc uint64, depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("calls deeper than %d", maxDepth)
	}
	for {
		m.steps++
		if m.steps > maxSteps {
			return errBudget
		}
		code, err := m.lib.code(pc)
		if err != nil {
			return err
		}
		f, err := m.cpu.step(m, pc, code)
		if err != nil {
			return fmt.Errorf("at %#x: %w", pc, err)
		}
		switch f.what {
		case call:
			if err := m.run(f.target, depth+1); err != nil {
				return err
			}
		case callAway:
			m.regs[m.cpu.result] = number(foreignResult)
		case leaveAway:
			m.regs[m.cpu.result] = number(foreignResult)
			return nil
		case leave:
			return nil
		}
		pc = f.next
	}
}
