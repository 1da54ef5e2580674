package accessor

// a64Memory interprets loads and stores of general registers.
func a64Memory(m *machine, pc uint64, i a64) error {
	if i.bit(26) {
		return errA64 // vector registers
	}
	switch {
	case i.field(29, 27) == 0b011 && i.field(25, 24) == 0: // ldr of a literal
		if i.field(31, 30) > 1 {
			return errA64
		}
		size := 4 << i.field(31, 30)
		v, err := m.load(number(pc+uint64(i.signed(23, 5))*4), size)
		if err != nil {
			return err
		}
		m.setZR(i.rd(), v, 8)
		return nil
	case i.field(29, 27) == 0b101:
		return m.pair(i)
	case i.field(29, 27) == 0b111:
		return m.single(i)
	}
	return errA64
}

// single interprets ldr, str and their kin.
func (m *machine) single(i a64) error {
	size := 1 << i.field(31, 30)
	base := m.regs[i.rn()]
	at, back := base, base
	switch {
	case i.bit(24):
		at = m.add(base, number(uint64(i.field(21, 10))*uint64(size)))
	case i.bit(21) && i.field(11, 10) == 2:
		shift := uint32(0)
		if i.bit(12) {
			shift = i.field(31, 30)
		}
		at = m.add(base, m.extended(i.rm(), i.field(15, 13), shift))
	case i.bit(21):
		return errA64
	default:
		moved := m.add(base, number(uint64(i.signed(20, 12))))
		switch i.field(11, 10) {
		case 0: // unscaled
			at = moved
		case 1:
			back = moved
		case 3:
			at, back = moved, moved
		default:
			return errA64
		}
	}
	m.regs[i.rn()] = back
	switch i.field(23, 22) {
	case 0:
		m.store(at, m.zr(i.rd(), size), size)
		return nil
	case 1:
		return m.loadTo(i.rd(), at, size, false)
	default:
		if size == 8 {
			return nil // prefetch
		}
		return m.loadTo(i.rd(), at, size, true)
	}
}

func (m *machine) loadTo(r int, at value, size int, signed bool) error {
	v, err := m.load(at, size)
	if err != nil {
		return err
	}
	if signed && v.sym == nil {
		v = number(uint64(signExtend(v.num, size)))
	}
	m.setZR(r, v, 8)
	return nil
}

// pair interprets ldp and stp.
func (m *machine) pair(i a64) error {
	size := 4
	switch i.field(31, 30) {
	case 0:
	case 2:
		size = 8
	default:
		return errA64
	}
	base := m.regs[i.rn()]
	moved := m.add(base, number(uint64(i.signed(21, 15))*uint64(size)))
	at, back := base, base
	switch i.field(24, 23) {
	case 1:
		back = moved
	case 2, 0:
		at = moved
	case 3:
		at, back = moved, moved
	}
	m.regs[i.rn()] = back
	registers := [2]int{i.rd(), int(i.field(14, 10))}
	for n, r := range registers {
		cell := m.add(at, number(uint64(n*size)))
		if !i.bit(22) {
			m.store(cell, m.zr(r, size), size)
			continue
		}
		if err := m.loadTo(r, cell, size, false); err != nil {
			return err
		}
	}
	return nil
}

// compareIf covers ccmp; ccmn is not known.
func (m *machine) compareIf(i a64) error {
	if !i.bit(30) {
		return errA64
	}
	yes, err := m.flags.holds(i.field(15, 12))
	if err != nil {
		return err
	}
	size := i.size()
	if yes {
		b := number(uint64(i.rm()))
		if !i.bit(11) {
			b = m.zr(i.rm(), size)
		}
		m.compare(m.zr(i.rn(), size), b, size)
		return nil
	}
	n, z, c, v := i.bit(3), i.bit(2), i.bit(1), i.bit(0)
	m.flags = flags{equal: z, below: !c, less: n != v, negated: n}
	return nil
}
