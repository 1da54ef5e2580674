package enforce

import (
	"encoding/binary"
	"net/netip"
	"strings"
	"testing"
	"unsafe"

	"github.com/plumbline-io/plumbline/pkg/event"
)

// accessRecord is a record of bpf/operation.h as the kernel writes it.
func accessRecord(op event.Operation, detail uint32, path, said string) []byte {
	var layout accessHead
	b := make([]byte, unsafe.Sizeof(layout))
	le := binary.LittleEndian
	le.PutUint64(b[unsafe.Offsetof(layout.Effective):], 2)
	le.PutUint32(b[unsafe.Offsetof(layout.Detail):], detail)
	le.PutUint16(b[unsafe.Offsetof(layout.PathLen):], uint16(len(path)))
	le.PutUint16(b[unsafe.Offsetof(layout.SaidLen):], uint16(len(said)))
	b[unsafe.Offsetof(layout.Operation)] = byte(op)
	copy(b[unsafe.Offsetof(layout.Comm):], "sh")
	return append(append(b, path...), said...)
}

func TestDecodeAccess(t *testing.T) {
	for name, tc := range map[string]struct {
		op         event.Operation
		detail     uint32
		said       string
		detailed   bool
		flags, mod uint32
	}{
		"open":     {event.OpRead, detailTold | 0o1000, "../x", true, 0o1000, 0},
		"truncate": {event.OpWrite, 0o1000, "", false, 0, 0}, // to tell two reports of one call from two calls
		"link":     {event.OpCreate, detailTold | 0o120777, "/y", true, 0, 0o120777},
		"chmod":    {event.OpAttributes, detailTold | 0o104755, "", true, 0, 0o4755},
		"chown":    {event.OpAttributes, 0, "", false, 0, 0},
		"library":  {event.OpLibrary, detailTold | 2, "", false, 0, 0},
	} {
		var ev event.Event
		if err := decodeAccess(accessRecord(tc.op, tc.detail, "/x", tc.said), &ev); err != nil {
			t.Fatal(err)
		}
		a := ev.Access
		if a.Path != "/x" || a.Comm != "sh" || a.Said != tc.said || a.Detailed != tc.detailed || a.OpenFlags != tc.flags || a.Mode != tc.mod {
			t.Errorf("%s: %+v", name, a)
		}
		if a.Capabilities != (event.Capabilities{Effective: 2, Known: true}) {
			t.Errorf("%s: %+v", name, a.Capabilities)
		}
	}
}

// Why a rule denied what it does not say.
func TestDecodeWhyDenied(t *testing.T) {
	for flags, want := range map[uint16]event.AccessInfo{
		accessOtherName:                 {Reached: "/mnt/x"},
		accessRenames:                   {Said: "/mnt/x", Renames: true},
		accessOtherName | accessRenames: {Reached: "/mnt/x", Renames: true},
		accessReplaces:                  {Said: "/mnt/x", Replaces: true},
	} {
		raw := accessRecord(event.OpRead, 0, "/x", "/mnt/x")
		binary.LittleEndian.PutUint16(raw[unsafe.Offsetof(accessHead{}.Flags):], flags)
		var ev event.Event
		if err := decodeAccess(raw, &ev); err != nil {
			t.Fatal(err)
		}
		got := ev.Access
		if got.Path != "/x" || got.Said != want.Said || got.Reached != want.Reached || got.Renames != want.Renames || got.Replaces != want.Replaces {
			t.Errorf("%d: %+v", flags, got)
		}
	}
}

func TestDecodeAccessFlags(t *testing.T) {
	for _, flags := range []uint16{0, accessKnown, accessSetUp, accessKnown | accessSetUp} {
		var layout accessHead
		record, ev := accessRecord(event.OpMount, 0, "/proc", ""), event.Event{}
		binary.LittleEndian.PutUint16(record[unsafe.Offsetof(layout.Flags):], flags)
		if err := decodeAccess(record, &ev); err != nil || ev.Access.Known != (flags&accessKnown != 0) || ev.Access.SetUp != (flags&accessSetUp != 0) {
			t.Errorf("%d: %+v, %v", flags, ev.Access, err)
		}
	}
}

func FuzzDecodeAccess(f *testing.F) {
	f.Add(accessRecord(event.OpRead, detailTold, "/etc/x", "x"))
	f.Add(accessRecord(event.OpConnect, 0, "", ""))
	f.Add(accessRecord(event.OpTCPBegin, 3, "", ""))
	f.Add(accessRecord(event.OpDNSQuery, 0, "\x00\x07\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x01x", "\x00\x00\x01\x00\x01"))
	f.Add(accessRecord(event.OpCreate, 0, "/x", "")[:100])
	f.Fuzz(func(t *testing.T, raw []byte) {
		var ev event.Event
		if err := decodeAccess(raw, &ev); err != nil {
			return
		}
		if a := ev.Access; len(a.Path)+len(a.Said) > len(raw) || a.Op == event.OpUnspecified || a.Op >= event.OpCount {
			t.Errorf("%+v", a)
		}
	})
}

// A descriptor of a socket has its number, the call, and both ends; that of a Unix socket no end.
func TestDecodeDup(t *testing.T) {
	var layout accessHead
	raw := accessRecord(event.OpDup, 2, "", "")
	binary.LittleEndian.PutUint32(raw[unsafe.Offsetof(layout.Value):], uint32(event.ProtocolTCP)<<16|443)
	binary.LittleEndian.PutUint32(raw[unsafe.Offsetof(layout.Call):], uint32(bpfDupCallCALL_DUP3))
	binary.LittleEndian.PutUint32(raw[unsafe.Offsetof(layout.LocalPort):], 40_000)
	theirs, ours := netip.MustParseAddr("::ffff:192.0.2.9").As16(), netip.MustParseAddr("::ffff:10.0.0.1").As16()
	copy(raw[unsafe.Offsetof(layout.Address):], theirs[:])
	copy(raw[unsafe.Offsetof(layout.Local):], ours[:])
	var ev event.Event
	if err := decodeAccess(raw, &ev); err != nil {
		t.Fatal(err)
	}
	a := &ev.Access
	if a.Key.String() != "dup tcp 192.0.2.9 port 443" || a.Local.String() != "10.0.0.1" || a.LocalPort != 40_000 || a.Call != "dup3" || a.Descriptor != 2 || a.Detailed {
		t.Errorf("%+v", a)
	}
	binary.LittleEndian.PutUint32(raw[unsafe.Offsetof(layout.Value):], 0)
	if err := decodeAccess(raw, &ev); err != nil || a.Key != (event.Key{Op: event.OpDup}) || a.Local.IsValid() || a.Call != "dup3" || a.Descriptor != 2 {
		t.Errorf("%+v, %v", a, err)
	}
}

// The message to a name server stands in place of both texts, however long it is.
func TestDecodeQuestion(t *testing.T) {
	name := strings.Repeat(strings.Repeat("a", 63)+".", 3) + strings.Repeat("b", 61)
	message := []byte{0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0}
	for label := range strings.SplitSeq(name, ".") {
		message = append(append(message, byte(len(label))), label...)
	}
	message = append(message, 0, 0, 16, 0, 1)
	for _, first := range []int{len(message), 255, 12, 0} {
		raw := accessRecord(event.OpDNSQuery, 4711, string(message[:first]), string(message[first:]))
		var ev event.Event
		if err := decodeAccess(raw, &ev); err != nil {
			t.Fatal(err)
		}
		a := &ev.Access
		if a.Question.Name != name || a.Question.Type != 16 || a.Question.Labels != 4 || a.Said != "" || a.Path != "" || a.Detailed {
			t.Errorf("%d: %+v", first, a)
		}
	}
	var ev event.Event
	if err := decodeAccess(accessRecord(event.OpDNSQuery, 0, "no query", ""), &ev); err != nil || ev.Access.Question.Name != "" {
		t.Errorf("%+v, %v", ev.Access, err)
	}
}

// What a connection begins with stands in place of the detail, and is nothing else.
func TestDecodeBeginning(t *testing.T) {
	for detail, want := range map[uint32]string{1: "tls", 2: "upgrade", 3: "plaintext", 0: "", 4: "", 256 + 3: ""} {
		var ev event.Event
		if err := decodeAccess(accessRecord(event.OpTCPBegin, detail, "", ""), &ev); err != nil {
			t.Fatal(err)
		}
		if a := &ev.Access; a.Begins.String() != want || a.Detailed || a.Path != "" || a.Said != "" {
			t.Errorf("%d: %+v", detail, a)
		}
	}
}

// A connection that was taken has an end of each side.
func TestDecodeAccept(t *testing.T) {
	var layout accessHead
	raw := accessRecord(event.OpAccept, 40_000, "", "")
	binary.LittleEndian.PutUint32(raw[unsafe.Offsetof(layout.Value):], uint32(event.ProtocolTCP)<<16|443)
	client, server := netip.MustParseAddr("::ffff:192.0.2.9").As16(), netip.MustParseAddr("2001:db8::1").As16()
	copy(raw[unsafe.Offsetof(layout.Address):], client[:])
	copy(raw[unsafe.Offsetof(layout.Local):], server[:])
	var ev event.Event
	if err := decodeAccess(raw, &ev); err != nil {
		t.Fatal(err)
	}
	a := &ev.Access
	if a.String() != "accept tcp 192.0.2.9 port 443" || a.Local.String() != "2001:db8::1" || a.ClientPort != 40_000 || a.Detailed {
		t.Errorf("%+v", a)
	}
}
