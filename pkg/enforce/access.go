package enforce

import (
	"fmt"
	"net/netip"
	"unsafe"

	"github.com/plumbline-io/plumbline/pkg/dns"
	"github.com/plumbline-io/plumbline/pkg/event"
	"github.com/plumbline-io/plumbline/pkg/sensor"
)

// Name in status and metrics.
func (e *Enforcer) Name() string { return "enforce" }

// Kinds that Decode understands. Checks of executions have the layout of an exec, and are the process
// sensor's.
func (e *Enforcer) Kinds() []event.Kind { return []event.Kind{event.Access} }

// Decode fills ev from a record.
func (e *Enforcer) Decode(raw []byte, ev *event.Event) error { return decodeAccess(raw, ev) }

// accessHead is struct access_event up to the path at its end: a record may end there, and Go may not
// point beyond it.
type accessHead struct {
	Header      sensor.Header
	StartTicks  uint64
	Inode       uint64
	Inheritable uint64
	Permitted   uint64
	Effective   uint64
	Device      uint32
	Value       uint32
	Repeated    uint32
	PathLen     uint16
	Operation   uint8
	PathFacts   uint8
	Address     [16]uint8
	Local       [16]uint8
	Comm        [16]byte
	Detail      uint32
	SaidLen     uint16
	Flags       uint16
	Call        bpfDupCall
	LocalPort   uint32
}

// A difference from the generated layout does not compile.
var (
	_ = [1]struct{}{}[unsafe.Sizeof(accessHead{})-unsafe.Offsetof(bpfAccessEvent{}.Path)]
	_ = [1]struct{}{}[unsafe.Offsetof(accessHead{}.StartTicks)-unsafe.Offsetof(bpfAccessEvent{}.StartTicks)]
	_ = [1]struct{}{}[unsafe.Offsetof(accessHead{}.Inheritable)-unsafe.Offsetof(bpfAccessEvent{}.Capabilities)]
	_ = [1]struct{}{}[unsafe.Offsetof(accessHead{}.Repeated)-unsafe.Offsetof(bpfAccessEvent{}.Repeated)]
	_ = [1]struct{}{}[unsafe.Offsetof(accessHead{}.PathFacts)-unsafe.Offsetof(bpfAccessEvent{}.PathFacts)]
	_ = [1]struct{}{}[unsafe.Offsetof(accessHead{}.Comm)-unsafe.Offsetof(bpfAccessEvent{}.Comm)]
	_ = [1]struct{}{}[unsafe.Offsetof(accessHead{}.Flags)-unsafe.Offsetof(bpfAccessEvent{}.Flags)]
	_ = [1]struct{}{}[unsafe.Offsetof(accessHead{}.LocalPort)-unsafe.Offsetof(bpfAccessEvent{}.LocalPort)]
)

// Flags of path_facts, detail and flags; bpf2go does not carry macros.
const (
	pathTruncated = 1
	pathUnlinked  = 2
	pathDetached  = 4
	detailTold    = 1 << 31

	accessKnown     = 1
	accessSetUp     = 2
	accessOtherName = 4
	accessRenames   = 8
	accessReplaces  = 16
	accessAncestor  = 32
	accessHost      = 64
)

func decodeAccess(raw []byte, ev *event.Event) error {
	const fixed = unsafe.Sizeof(accessHead{})
	if uintptr(len(raw)) < fixed {
		return fmt.Errorf("decode access: %d bytes, want at least %d", len(raw), fixed)
	}
	r := (*accessHead)(unsafe.Pointer(unsafe.SliceData(raw)))
	end := fixed + uintptr(r.PathLen)
	if end+uintptr(r.SaidLen) > uintptr(len(raw)) {
		return fmt.Errorf("decode access: texts of %d and %d bytes end beyond the record of %d", r.PathLen, r.SaidLen, len(raw))
	}
	op := event.Operation(r.Operation)
	a := event.AccessInfo{
		Start: r.StartTicks, Inode: r.Inode, Device: r.Device, Repeated: r.Repeated,
		Partial: r.PathFacts&pathTruncated != 0, Unlinked: r.PathFacts&pathUnlinked != 0, Detached: r.PathFacts&pathDetached != 0,
		Known: r.Flags&accessKnown != 0, SetUp: r.Flags&accessSetUp != 0, Renames: r.Flags&accessRenames != 0, Replaces: r.Flags&accessReplaces != 0,
		ByAncestor: r.Flags&accessAncestor != 0, HostNamespace: r.Flags&accessHost != 0,
		Capabilities: event.Capabilities{Permitted: r.Permitted, Effective: r.Effective, Inheritable: r.Inheritable, Known: true},
	}
	switch {
	case op.OnPath():
		a.Key = event.Key{Op: op, Path: unsafe.String(unsafe.SliceData(raw[fixed:]), int(r.PathLen))}
	case op.OnAddress() || op.OnNumber():
		a.Key = factOf(op, r.Value, r.Address, 128)
	default:
		return fmt.Errorf("decode access: unknown operation %d", r.Operation)
	}
	switch {
	case op == event.OpAccept:
		a.Local, a.ClientPort = netip.AddrFrom16(r.Local).Unmap(), uint16(r.Detail)
	case op == event.OpDup:
		addDescriptor(&a, r)
	case op == event.OpDNSQuery:
		a.Question, _ = dns.Read(raw[fixed : end+uintptr(r.SaidLen)])
	case op == event.OpTCPBegin && r.Detail <= uint32(event.BeginsPlaintext):
		a.Begins = event.Beginning(r.Detail)
	case r.Detail&detailTold != 0:
		addDetail(&a, op, r.Detail&^detailTold)
	}
	said := &a.Said
	if r.Flags&accessOtherName != 0 {
		said = &a.Reached
	}
	if r.SaidLen > 0 && op != event.OpDNSQuery {
		*said = unsafe.String(unsafe.SliceData(raw[end:]), int(r.SaidLen))
	}
	comm := raw[unsafe.Offsetof(r.Comm):][:len(r.Comm)]
	for n, c := range comm {
		if c == 0 {
			comm = comm[:n]
			break
		}
	}
	a.Comm = unsafe.String(unsafe.SliceData(comm), len(comm))
	ev.Access = a
	return nil
}

func addDetail(a *event.AccessInfo, op event.Operation, detail uint32) {
	switch op {
	case event.OpRead, event.OpWrite:
		a.Detailed, a.OpenFlags = true, detail
	case event.OpCreate:
		a.Detailed, a.Mode = true, detail
	case event.OpAttributes:
		a.Detailed, a.Mode = true, detail&0o7777 // the type that chmod(2) is called with does not count
	}
}

func addDescriptor(a *event.AccessInfo, r *accessHead) {
	a.Descriptor = r.Detail
	switch r.Call {
	case bpfDupCallCALL_DUP:
		a.Call = "dup"
	case bpfDupCallCALL_DUP2:
		a.Call = "dup2"
	case bpfDupCallCALL_DUP3:
		a.Call = "dup3"
	}
	if a.Protocol == 0 {
		a.Address = netip.Prefix{} // a Unix socket has none
		return
	}
	a.Local, a.LocalPort = netip.AddrFrom16(r.Local).Unmap(), uint16(r.LocalPort)
}
