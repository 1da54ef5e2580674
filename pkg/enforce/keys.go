package enforce

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/cilium/ebpf"

	"github.com/plumbline-io/plumbline/pkg/event"
)

// Room for paths, final NULs included. A longer one cannot be in a baseline.
const (
	PathBytes    = 256 // of a path
	PatternBytes = 244 // of a pattern's directory; a longer key does not fit in a trie
)

var errTooLong = errors.New("longer")

// everythingBelow ends the path of a key that stands for all that is in a directory.
const everythingBelow = "/**"

// Entry is one operation of a baseline as the kernel holds it.
type Entry struct {
	Key  event.Key
	Hits uint64 // lookups; what an inode remembers is not counted
}

// found is an entry, and whose it is.
type found struct {
	workload, generation uint32
	entry                Entry
	at                   place
}

// place is a map and the key in it.
type place struct {
	in  *ebpf.Map
	key any
}

// batch is the entries that one update writes. Those of a kind are written by one system call: a profile
// of 10,000 entries would take as many otherwise.
type batch struct {
	paths     []bpfPathKey
	facts     []bpfFactKey
	patterns  []*bpfPathPattern
	addresses []*bpfAddressPattern
}

// add finds where an operation's key belongs.
func (b *batch) add(workload, generation uint32, k event.Key) error {
	switch {
	case k.Op.OnPath() && strings.HasSuffix(k.Path, everythingBelow):
		key, err := pathPattern(workload, generation, k)
		if err != nil {
			return err
		}
		b.patterns = append(b.patterns, key)
	case k.Op.OnPath():
		if len(k.Path) >= PathBytes {
			return fmt.Errorf("make baseline key: path of %d bytes is %w than %d: %.40q", len(k.Path), errTooLong, PathBytes-1, k.Path)
		}
		b.paths = append(b.paths, bpfPathKey{Workload: workload, Generation: generation, Operation: bpfOperation(k.Op)})
		put(b.paths[len(b.paths)-1].Path[:], k.Path)
	case k.Op.OnAddress() && (!k.Address.IsSingleIP() || k.Port == 0):
		b.addresses = append(b.addresses, addressPattern(workload, generation, k))
	case k.Op.OnAddress():
		b.facts = append(b.facts, bpfFactKey{
			Workload: workload, Generation: generation, Operation: bpfOperation(k.Op),
			Value: socketValue(k), Address: mapped(k.Address.Addr()),
		})
	case k.Op.OnNumber():
		b.facts = append(b.facts, bpfFactKey{Workload: workload, Generation: generation, Operation: bpfOperation(k.Op), Value: k.Value})
	default:
		return fmt.Errorf("make baseline key: unknown operation %s", k.Op)
	}
	return nil
}

// put writes a C string into zeroes.
func put(to []int8, s string) {
	for i := range len(s) {
		to[i] = int8(s[i])
	}
}

// Replace writes entries of one generation of a workload's baseline. They count once the workload is
// switched to that generation. System calls are left out: nothing is compared with them. The error is an
// *UnfitError.
func (e *Enforcer) Replace(workload, generation uint32, keys []event.Key) error {
	var b batch
	var unfit UnfitError
	for _, k := range keys {
		if !isHeld(k) {
			continue
		}
		if err := b.add(workload, generation, k); err != nil {
			unfit.note(k.Op, err)
		}
	}
	n, err := writeAll(e.maps.PathEntries, b.paths)
	noteAll(&unfit, b.paths, n, func(k bpfPathKey) bpfOperation { return k.Operation }, err)
	n, err = writeAll(e.maps.FactEntries, b.facts)
	noteAll(&unfit, b.facts, n, func(k bpfFactKey) bpfOperation { return k.Operation }, err)
	for _, key := range b.patterns {
		if err := e.maps.PathPatterns.Put(key, bpfEntry{}); err != nil {
			unfit.note(event.Operation(key.Operation), err)
		}
	}
	for _, key := range b.addresses {
		if err := e.maps.AddressPatterns.Put(key, bpfEntry{}); err != nil {
			unfit.note(event.Operation(key.Operation), err)
		}
	}
	if unfit.Dimensions == 0 {
		return nil
	}
	return &unfit
}

// writeAll says how many it has written. It needs Linux 5.6.
func writeAll[K any](m *ebpf.Map, keys []K) (int, error) {
	if len(keys) == 0 {
		return 0, nil
	}
	return m.BatchUpdate(keys, make([]bpfEntry, len(keys)), nil)
}

// scanned is how many entries one system call reads.
const scanned = 1024

// scan reads all entries of a hash map, many by one system call. It needs Linux 5.6.
func scan[K any](m *ebpf.Map, visit func(key K, hits uint64)) error {
	keys, values := make([]K, scanned), make([]bpfEntry, scanned)
	for cursor := new(ebpf.MapBatchCursor); ; {
		n, err := m.BatchLookup(cursor, keys, values, nil)
		for i := range n {
			visit(keys[i], values[i].Hits)
		}
		if errors.Is(err, ebpf.ErrKeyNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// each calls visit for every entry of these workloads, patterns too, with its place in the maps. It reads all of the maps, which is
// why it is done for many at once.
func (e *Enforcer) each(of map[uint32]uint32, visit func(found)) error {
	var value bpfEntry
	errs := []error{
		scan(e.maps.PathEntries, func(key bpfPathKey, hits uint64) {
			if _, ok := of[key.Workload]; ok {
				named := event.Key{Op: event.Operation(key.Operation), Path: text(key.Path[:])}
				visit(found{key.Workload, key.Generation, Entry{named, hits}, place{e.maps.PathEntries, &key}})
			}
		}),
		scan(e.maps.FactEntries, func(key bpfFactKey, hits uint64) {
			if _, ok := of[key.Workload]; ok {
				named := factOf(event.Operation(key.Operation), key.Value, key.Address, 128)
				visit(found{key.Workload, key.Generation, Entry{named, hits}, place{e.maps.FactEntries, &key}})
			}
		}),
	}
	pattern := bpfPathPattern{}
	it := e.maps.PathPatterns.Iterate()
	for it.Next(&pattern, &value) {
		if _, ok := of[pattern.Workload]; ok {
			copied := pattern
			named := event.Key{Op: event.Operation(copied.Operation), Path: text(copied.Path[:]) + everythingBelow[1:]}
			visit(found{copied.Workload, copied.Generation, Entry{named, value.Hits}, place{e.maps.PathPatterns, &copied}})
		}
	}
	errs = append(errs, it.Err())
	address := bpfAddressPattern{}
	it = e.maps.AddressPatterns.Iterate()
	for it.Next(&address, &value) {
		if _, ok := of[address.Workload]; ok {
			copied := address
			named := factOf(event.Operation(address.Operation), address.Value, address.Address, int(address.Prefixlen)-addressHead)
			visit(found{copied.Workload, copied.Generation, Entry{named, value.Hits}, place{e.maps.AddressPatterns, &copied}})
		}
	}
	if err := errors.Join(append(errs, it.Err())...); err != nil {
		return fmt.Errorf("read baseline entries: %w", err)
	}
	return nil
}

// Entries reads a generation of a workload's baseline, in no order.
func (e *Enforcer) Entries(workload, generation uint32) ([]Entry, error) {
	var entries []Entry
	err := e.each(map[uint32]uint32{workload: generation}, func(f found) {
		if f.generation == generation {
			entries = append(entries, f.entry)
		}
	})
	return entries, err
}

// Untold lists what workloads have under these generations, and is not known.
func (e *Enforcer) Untold(generations map[uint32]uint32, known func(event.Key) bool) ([]event.Key, error) {
	var untold []event.Key
	err := e.each(generations, func(f found) {
		if f.generation == generations[f.workload] && !known(f.entry.Key) {
			untold = append(untold, f.entry.Key)
		}
	})
	return untold, err
}

// Wait returns when every program that ran at its beginning has ended: none goes by what was in force before.
func (e *Enforcer) Wait() error { return e.grace.Wait() }

// Remove deletes every entry of a workload whose generation is not keep. No generation is 0: with that, all
// that is known of the workload goes, its tally too.
func (e *Enforcer) Remove(workload, keep uint32) error {
	if err := e.Keep(map[uint32]uint32{workload: keep}); err != nil || keep != 0 {
		return err
	}
	if err := deleteAll([]place{{e.maps.Tallies, workload}, {e.maps.Mounters, workload}}); err != nil {
		return fmt.Errorf("remove workload %d: %w", workload, err)
	}
	return nil
}

// maxStale bounds what is remembered at once of entries to delete: each is some hundred bytes.
const maxStale = 16384

// Keep deletes every entry of workloads that is not of these generations of theirs.
func (e *Enforcer) Keep(generations map[uint32]uint32) error {
	for waited := false; ; waited = true {
		var stale []place
		err := e.each(generations, func(f found) {
			if f.generation != generations[f.workload] && len(stale) < maxStale {
				stale = append(stale, f.at)
			}
		})
		if err != nil || len(stale) == 0 {
			return err
		}
		if !waited {
			if err := e.grace.Wait(); err != nil {
				return err
			}
		}
		if err := deleteAll(stale); err != nil {
			return fmt.Errorf("remove baseline entries: %w", err)
		}
		if len(stale) < maxStale {
			return nil
		}
	}
}

// The bits of a pattern's key before its path or address, which all have to be equal.
const (
	pathHead    = 3 * 32
	addressHead = 4 * 32
)

func pathPattern(workload, generation uint32, k event.Key) (*bpfPathPattern, error) {
	dir := strings.TrimSuffix(k.Path, everythingBelow) + "/"
	if len(dir) >= PatternBytes {
		return nil, fmt.Errorf("make baseline key: pattern of %d bytes is %w than %d: %.40q", len(dir), errTooLong, PatternBytes-1, k.Path)
	}
	key := &bpfPathPattern{
		Prefixlen: pathHead + 8*uint32(len(dir)), Workload: workload, Generation: generation, Operation: bpfOperation(k.Op),
	}
	put(key.Path[:], dir)
	return key, nil
}

// addressPattern: IPv4 is a part of IPv6 here, ::ffff:0:0/96.
func addressPattern(workload, generation uint32, k event.Key) *bpfAddressPattern {
	key := &bpfAddressPattern{
		Prefixlen: addressHead, Workload: workload, Generation: generation, Operation: bpfOperation(k.Op), Value: socketValue(k),
	}
	if k.Address.IsValid() {
		bits := k.Address.Bits()
		if k.Address.Addr().Is4() {
			bits += 96
		}
		key.Prefixlen += uint32(bits)
		key.Address = mapped(k.Address.Masked().Addr())
	}
	return key
}

func socketValue(k event.Key) uint32 { return uint32(k.Protocol)<<16 | uint32(k.Port) }

func mapped(a netip.Addr) [16]uint8 { return a.As16() }

// factOf is the key of what the kernel writes about an operation that has no path. bits: of the
// address, 128 for a single one.
func factOf(op event.Operation, value uint32, address [16]uint8, bits int) event.Key {
	k := event.Key{Op: op}
	if op == event.OpSyscall {
		k.Value = syscallValue(value)
		return k
	}
	if op.OnNumber() {
		k.Value = value
		return k
	}
	k.Protocol, k.Port = event.Protocol(value>>16), uint16(value)
	a := netip.AddrFrom16(address)
	switch {
	case a.Is4In6() && bits >= 96:
		k.Address = netip.PrefixFrom(a.Unmap(), bits-96)
	case bits > 0:
		k.Address = netip.PrefixFrom(a, bits)
	}
	return k
}

// text is a C string.
func text(chars []int8) string {
	b := make([]byte, 0, len(chars))
	for _, c := range chars {
		if c == 0 {
			break
		}
		b = append(b, byte(c))
	}
	return string(b)
}

// pkg/event repeats the kernel's modes and operations; a difference does not compile.
var (
	_ = [1]struct{}{}[uint32(event.Learn)-uint32(bpfModeMODE_LEARN)]
	_ = [1]struct{}{}[uint32(event.AuditMode)-uint32(bpfModeMODE_AUDIT)]
	_ = [1]struct{}{}[uint32(event.Enforce)-uint32(bpfModeMODE_ENFORCE)]
	_ = [1]struct{}{}[uint32(event.OpExec)-uint32(bpfOperationOP_EXEC)]
	_ = [1]struct{}{}[uint32(event.OpUnixConnect)-uint32(bpfOperationOP_UNIX_CONNECT)]
	_ = [1]struct{}{}[uint32(event.OpConnect)-uint32(bpfOperationOP_CONNECT)]
	_ = [1]struct{}{}[uint32(event.OpSocket)-uint32(bpfOperationOP_SOCKET)]
	_ = [1]struct{}{}[uint32(event.OpPtrace)-uint32(bpfOperationOP_PTRACE)]
	_ = [1]struct{}{}[uint32(event.OpSignal)-uint32(bpfOperationOP_SIGNAL)]
	_ = [1]struct{}{}[uint32(event.OpKeyctl)-uint32(bpfOperationOP_KEYCTL)]
	_ = [1]struct{}{}[uint32(event.OpSyscall)-uint32(bpfOperationOP_SYSCALL)]
	_ = [1]struct{}{}[uint32(event.OpNamespace)-uint32(bpfOperationOP_NAMESPACE)]
	_ = [1]struct{}{}[uint32(event.OpExecAsRoot)-uint32(bpfOperationOP_EXEC_AS_ROOT)]
	_ = [1]struct{}{}[uint32(event.OpAccept)-uint32(bpfOperationOP_ACCEPT)]
	_ = [1]struct{}{}[uint32(event.OpDup)-uint32(bpfOperationOP_DUP)]
	_ = [1]struct{}{}[uint32(event.OpDNSQuery)-uint32(bpfOperationOP_DNS_QUERY)]
	_ = [1]struct{}{}[uint32(event.OpTCPBegin)-uint32(bpfOperationOP_TCP_BEGIN)]
	_ = [1]struct{}{}[uint32(event.OpCount)-uint32(bpfOperationOP_MAX)]
)
