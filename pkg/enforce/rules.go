package enforce

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"slices"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/plumbline-io/plumbline/pkg/event"
	"github.com/plumbline-io/plumbline/pkg/rule"
)

// Rules says what of a ruleset is in force in the kernel.
type Rules struct {
	Generation uint32            // counts what LoadRules has put in force
	Operations []event.Operation // that some rule asks about
	Blind      []event.Operation // those of them that this kernel has no hook for
	Entries    int
}

// loadedRules is what the kernel's tables hold for rules.
type loadedRules struct {
	Rules
	denied   uint64    // operations that they deny, each 1 << operation
	now      []place   // entries
	retired  [][]place // of generations that are no longer asked for
	question uint32    // bytes of the shortest one to a name server that they want
}

// LoadRules puts in force what rules want of the kernel: which operations it tells of although the baseline
// knows them, and which it denies. One write switches from the earlier rules to these; if there is an
// error, the earlier ones stay in force.
func (e *Enforcer) LoadRules(set *rule.Ruleset) (Rules, error) {
	e.rulesMu.Lock()
	defer e.rulesMu.Unlock()
	w, err := compileWishes(set)
	if err != nil {
		return e.rules.Rules, err
	}
	next := Rules{Entries: len(w.paths) + len(w.above) + len(w.prefixes) + len(w.suffixes) + len(w.facts)}
	if next.Generation, err = nextGeneration(e.rules.Generation); err != nil {
		return e.rules.Rules, err
	}
	e.late.want(w.ops)
	defer func() { e.late.keep(bitsOf(e.rules.Operations)) }()
	for ops := w.ops; ops != 0; ops &= ops - 1 {
		op := event.Operation(bits.TrailingZeros64(ops))
		next.Operations = append(next.Operations, op)
		if !e.sees(op) {
			next.Blind = append(next.Blind, op)
		}
	}
	if len(e.rules.retired) >= maxRetired {
		if err := e.retire(); err != nil {
			return e.rules.Rules, err
		}
	}
	written, err := e.writeWishes(w, next.Generation)
	if err != nil && len(e.rules.retired) > 0 { // for want of room, perhaps
		if err = errors.Join(deleteAll(written), e.retire()); err == nil {
			written, err = e.writeWishes(w, next.Generation)
		}
	}
	if err == nil {
		err = e.ask(w, next.Generation)
	}
	if err != nil {
		return e.rules.Rules, fmt.Errorf("write rules to the kernel: %w", errors.Join(err, deleteAll(written)))
	}
	e.rules = loadedRules{
		Rules: next, denied: w.denied, now: written, retired: append(e.rules.retired, e.rules.now), question: w.leastQuestion(),
	}
	return next, nil
}

// ask switches to rules that are written. Which operations they deny matters only where nothing else can be found out about
// one: those of the earlier rules may stay among them. Meanwhile those questions to name servers are told that either the
// earlier rules or these want; that of too many is no mistake.
func (e *Enforcer) ask(w *wishes, generation uint32) error {
	least := w.leastQuestion()
	if err := errors.Join(e.denying.Set(e.rules.denied|w.denied), e.leastQuestion.Set(min(least, e.rules.question))); err != nil {
		return err
	}
	if err := e.asking.Set(uint64(generation)<<ruleOperations | w.asking()); err != nil {
		return err
	}
	_ = e.denying.Set(w.denied)
	_ = e.leastQuestion.Set(least)
	return nil
}

// ruleOperations is RULE_OPERATIONS of bpf/wish.h; what is left of the kernel's word numbers the generations.
const (
	ruleOperations = 40
	maxGeneration  = 1<<(64-ruleOperations) - 1
)

// nextGeneration of rules. No number comes twice: an entry of a baseline that nobody has used meanwhile would take what it
// remembers of the earlier one for what is wished now.
func nextGeneration(now uint32) (uint32, error) {
	if now >= maxGeneration {
		return 0, fmt.Errorf("write rules to the kernel: they have changed %d times since the agent started: restart it", now)
	}
	return now + 1, nil
}

// bitsOf some operations, each 1 << operation.
func bitsOf(list []event.Operation) uint64 {
	var ops uint64
	for _, op := range list {
		ops |= 1 << op
	}
	return ops
}

// maxRetired is how many generations of rules are deleted together: to know that no program looks there any more
// takes a grace period of the kernel.
const maxRetired = 8

// retire deletes the generations that are no longer asked for. A program may have begun before the switch, and
// be preempted: it must not find nothing.
func (e *Enforcer) retire() error {
	if err := e.grace.Wait(); err != nil {
		return err
	}
	if err := deleteAll(slices.Concat(e.rules.retired...)); err != nil {
		return fmt.Errorf("remove earlier rules: %w", err)
	}
	e.rules.retired = nil
	return nil
}

// sees says whether an operation has a hook with this strength and kernel.
func (e *Enforcer) sees(op event.Operation) bool {
	hook := ""
	switch op {
	case event.OpAccept, event.OpDup, event.OpDNSQuery, event.OpTCPBegin:
		return e.late.sees(op)
	case event.OpUserns:
		hook = "userns_create"
	case event.OpExecAsRoot, event.OpExecAsUser, event.OpExecAsGroup, event.OpExecWithCapabilities:
		if !e.stops(op) {
			return false
		}
	case event.OpIOUring, event.OpUserfault:
		hook = "inode_init_security_anon"
	case event.OpKeyctl:
		hook = "key_alloc"
	}
	return e.covered.Has(op.Dimension()) && slices.ContainsFunc(e.links, func(l attached) bool { return strings.HasSuffix(l.program, hook) })
}

// Cannot says what a rule that stops something asks for in vain with this strength and kernel; "" if there
// is nothing.
func (e *Enforcer) Cannot(r *rule.Rule) string {
	var unseen, alive []string
	for _, i := range r.Plan() {
		switch op := operationOf(&i); {
		case op == event.OpUnspecified:
		case !e.sees(op):
			unseen = append(unseen, op.String())
		case r.Action == rule.Kill && op.OnAddress() && op != event.OpListen && e.byCgroup():
			alive = append(alive, op.String())
		}
	}
	var all []string
	if unseen != nil {
		all = append(all, fmt.Sprintf("stop %s: there is no hook for it with strength %s", strings.Join(unseen, ", "), e.strength))
	}
	if alive != nil {
		all = append(all, fmt.Sprintf("kill at %s: the hooks of the network only deny", strings.Join(alive, ", ")))
	}
	return strings.Join(all, "; ")
}

// byCgroup says whether the hooks of the network are those of cgroups.
func (e *Enforcer) byCgroup() bool {
	return slices.ContainsFunc(e.links, func(l attached) bool { return strings.HasPrefix(l.program, "cgroup_") })
}

// Rules says what is in force.
func (e *Enforcer) Rules() Rules {
	e.rulesMu.Lock()
	defer e.rulesMu.Unlock()
	return e.rules.Rules
}

func deleteAll(entries []place) error {
	var errs []error
	for _, at := range entries {
		if err := at.in.Delete(at.key); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// writeWishes returns what it has written, also if there is an error.
func (e *Enforcer) writeWishes(w *wishes, generation uint32) ([]place, error) {
	var written []place
	var errs []error
	write := func(in *ebpf.Map, key, value any) {
		if err := in.Put(key, value); err != nil {
			errs = append(errs, err)
			return
		}
		written = append(written, place{in, key})
	}
	for n := range w.named() {
		write(e.maps.RuleDenials, &bpfDenialsKey{Generation: generation, Index: n}, w.denials.value(n))
	}
	for name, bits := range w.denials.names {
		key := &bpfNameKey{Generation: generation, Trait: bpfTrait(name.trait)}
		put(key.Text[:], name.name)
		write(e.maps.RuleNames, key, bits)
	}
	for _, texts := range []map[textWish]bpfWish{w.paths, w.above} {
		for k, wish := range texts {
			key := &bpfPathKey{Generation: generation, Operation: bpfOperation(k.op)}
			put(key.Path[:], k.text)
			write(e.maps.RulePaths, key, wish)
		}
	}
	for k, wish := range w.prefixes {
		key := &bpfPathPattern{Prefixlen: pathHead + 8*uint32(len(k.text)), Generation: generation, Operation: bpfOperation(k.op)}
		put(key.Path[:], k.text)
		write(e.maps.RulePrefixes, key, wish)
	}
	for k, wish := range w.suffixes {
		key := &bpfSuffix{Prefixlen: suffixHead + 8*uint32(len(k.text)), Generation: generation, Operation: bpfOperation(k.op)}
		put(key.Bytes[:], k.text)
		write(e.maps.RuleSuffixes, key, wish)
	}
	for k, wish := range w.facts {
		write(e.maps.RuleFacts, k.key(generation), wish)
	}
	return written, errors.Join(errs...)
}

// suffixHead is the bits of a suffix's key before its text.
const suffixHead = 2 * 32

// numberHead is the bits of a number's key before it.
const numberHead = 3 * 32

func (f factWish) key(generation uint32) *bpfAddressPattern {
	key := &bpfAddressPattern{Generation: generation, Operation: bpfOperation(f.op)}
	if f.op.OnNumber() {
		key.Prefixlen = numberHead + uint32(f.bits)
		key.Value = binary.NativeEndian.Uint32(binary.BigEndian.AppendUint32(nil, f.value))
		return key
	}
	key.Prefixlen, key.Value, key.Address = addressHead+uint32(f.bits), f.value, f.address
	return key
}
