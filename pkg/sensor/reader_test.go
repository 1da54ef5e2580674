package sensor

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"

	"github.com/plumbline-io/plumbline/pkg/event"
)

// echo is a sensor that checks nothing: it keeps what it is given.
type echo struct {
	kinds []event.Kind
	fail  error
	got   []byte
}

func (e *echo) Name() string        { return "echo" }
func (e *echo) Kinds() []event.Kind { return e.kinds }
func (e *echo) Status() []Status    { return nil }
func (e *echo) Close() error        { return nil }
func (e *echo) Decode(raw []byte, _ *event.Event) error {
	e.got = raw
	return e.fail
}

const headerBytes = int(unsafe.Sizeof(Header{}))

// recordOf is a record with this header and total bytes.
func recordOf(h Header, total int) []byte {
	raw := make([]byte, max(total, headerBytes))
	*(*Header)(unsafe.Pointer(&raw[0])) = h
	return raw[:total]
}

func TestReaderDecode(t *testing.T) {
	s := &echo{kinds: []event.Kind{event.Exec}}
	h := Header{
		KtimeNs: 1, CgroupID: 2, Tgid: 3, Tid: 4, Workload: 5, RuleID: 6, Kind: uint32(event.Exec), Size: 44,
		Verdict: uint8(event.Deny), Hook: uint8(event.HookLSM),
	}
	var ev event.Event
	// The ring pads records to eight bytes: what is beyond Size is not meant.
	if err := NewDecoder([]Sensor{s}).Decode(recordOf(h, 48), &ev); err != nil {
		t.Fatal(err)
	}
	if ev.Kind != event.Exec || ev.Verdict != event.Deny || ev.Hook != event.HookLSM || ev.Ktime != 1 ||
		ev.CgroupID != 2 || ev.Tgid != 3 || ev.Tid != 4 || ev.Workload != 5 || ev.RuleID != 6 {
		t.Errorf("got %+v", ev)
	}
	if len(s.got) != 44 {
		t.Errorf("the sensor saw %d bytes, want the 44 of the header", len(s.got))
	}
}

// The header's bytes are where bpf/event.h has them.
func TestHeaderLayout(t *testing.T) {
	raw := make([]byte, headerBytes)
	for i := range raw {
		raw[i] = byte(i)
	}
	h := (*Header)(unsafe.Pointer(&raw[0]))
	for name, tc := range map[string]struct{ got, want uint64 }{
		"ktime_ns":  {h.KtimeNs, binary.NativeEndian.Uint64(raw)},
		"cgroup_id": {h.CgroupID, binary.NativeEndian.Uint64(raw[8:])},
		"tgid":      {uint64(h.Tgid), uint64(binary.NativeEndian.Uint32(raw[16:]))},
		"tid":       {uint64(h.Tid), uint64(binary.NativeEndian.Uint32(raw[20:]))},
		"workload":  {uint64(h.Workload), uint64(binary.NativeEndian.Uint32(raw[24:]))},
		"rule_id":   {uint64(h.RuleID), uint64(binary.NativeEndian.Uint32(raw[28:]))},
		"kind":      {uint64(h.Kind), uint64(binary.NativeEndian.Uint32(raw[32:]))},
		"size":      {uint64(h.Size), uint64(binary.NativeEndian.Uint16(raw[36:]))},
		"verdict":   {uint64(h.Verdict), uint64(raw[38])},
		"hook":      {uint64(h.Hook), uint64(raw[39])},
	} {
		if tc.got != tc.want {
			t.Errorf("%s is %#x, want %#x", name, tc.got, tc.want)
		}
	}
	if headerBytes != 40 {
		t.Errorf("the header has %d bytes, want 40", headerBytes)
	}
}

func TestReaderDecodeHostile(t *testing.T) {
	exec := uint32(event.Exec)
	for name, tc := range map[string]struct {
		raw  []byte
		want string
	}{
		"nothing":                 {nil, "0 bytes"},
		"less than a header":      {recordOf(Header{Kind: exec, Size: 40}, headerBytes-1), "39 bytes"},
		"claims more than it has": {recordOf(Header{Kind: exec, Size: 49}, 48), "header says 49 bytes"},
		"claims all there can be": {recordOf(Header{Kind: exec, Size: 0xffff}, 48), "header says 65535 bytes"},
		"no kind":                 {recordOf(Header{Size: 40}, 40), "no sensor for kind 0"},
		"kind of nobody":          {recordOf(Header{Kind: uint32(event.Pause), Size: 40}, 40), "no sensor for kind 6"},
		"kind after the last":     {recordOf(Header{Kind: uint32(event.KindCount), Size: 40}, 40), "no sensor for kind 9"},
		"kind that would wrap":    {recordOf(Header{Kind: 1<<16 | exec, Size: 40}, 40), "no sensor for kind 65538"},
		"largest kind":            {recordOf(Header{Kind: 1<<32 - 1, Size: 40}, 40), "no sensor"},
	} {
		t.Run(name, func(t *testing.T) {
			s := &echo{kinds: []event.Kind{event.Exec}}
			var ev event.Event
			err := NewDecoder([]Sensor{s}).Decode(tc.raw, &ev)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
			if s.got != nil {
				t.Error("the sensor was asked")
			}
		})
	}
}

// The sensor's own refusal comes through.
func TestReaderDecodeRefused(t *testing.T) {
	refusal := errors.New("no")
	s := &echo{kinds: []event.Kind{event.Exec}, fail: refusal}
	var ev event.Event
	if err := NewDecoder([]Sensor{s}).Decode(recordOf(Header{Kind: uint32(event.Exec), Size: 40}, 40), &ev); !errors.Is(err, refusal) {
		t.Errorf("got %v", err)
	}
}

// handshakes is the decoder of handshakes as a sensor: with it, the fuzzer gets beyond the header.
type handshakes struct {
	echo
	decoder *HandshakeDecoder
}

func (h *handshakes) Decode(raw []byte, ev *event.Event) error { return h.decoder.Decode(raw, ev) }

func FuzzReaderDecode(f *testing.F) {
	f.Add([]byte(nil))
	f.Add(recordOf(Header{Kind: uint32(event.Exec), Size: 40}, 40))
	f.Add(recordOf(Header{Kind: uint32(event.Exec)}, 48))
	f.Add(recordOf(Header{Kind: uint32(event.Handshake), Size: 41}, 41))
	whole := record(nil, nil)
	whole = append(recordOf(Header{Kind: uint32(event.Handshake), Size: uint16(len(whole))}, headerBytes), whole[headerBytes:]...)
	f.Add(whole)
	f.Fuzz(func(t *testing.T, raw []byte) {
		e := &echo{kinds: []event.Kind{event.Exec, event.Fork}}
		h := &handshakes{echo{kinds: []event.Kind{event.Handshake}}, NewHandshakeDecoder()}
		var ev event.Event
		before := bytes.Clone(raw)
		err := NewDecoder([]Sensor{e, h}).Decode(raw, &ev)
		if !bytes.Equal(before, raw) {
			t.Fatal("the record was changed")
		}
		if err == nil && (ev.Kind == event.Unspecified || ev.Kind >= event.KindCount) {
			t.Fatalf("accepted kind %d", ev.Kind)
		}
		if len(e.got) > len(raw) {
			t.Fatalf("the sensor was given %d bytes of %d", len(e.got), len(raw))
		}
	})
}

func BenchmarkReaderDecode(b *testing.B) {
	r := NewDecoder([]Sensor{&echo{kinds: []event.Kind{event.Exec}}})
	raw := recordOf(Header{Kind: uint32(event.Exec), Size: 40}, 40)
	var ev event.Event
	b.ReportAllocs()
	for b.Loop() {
		if err := r.Decode(raw, &ev); err != nil {
			b.Fatal(err)
		}
	}
}

// sharedForTest makes the maps alone, which is what the reader and the counters need.
func sharedForTest(t *testing.T) *Shared {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: it makes BPF maps")
	}
	s, err := NewShared(Config{RingBytes: 64 << 10})
	if errors.Is(err, ErrNotSupported) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// send writes one record of up to 64 bytes into the ring, by a program that is run but never attached.
func send(t *testing.T, s *Shared, raw []byte) {
	t.Helper()
	const room = 64
	words := make([]byte, room)
	copy(words, raw)
	var ins asm.Instructions
	for i := 0; i < room; i += 8 {
		ins = append(ins,
			asm.LoadImm(asm.R2, int64(binary.NativeEndian.Uint64(words[i:])), asm.DWord),
			asm.StoreMem(asm.RFP, int16(i-room), asm.R2, asm.DWord))
	}
	const noWakeup = 1 // the reader has to find the record by itself
	ins = append(ins,
		asm.LoadMapPtr(asm.R1, s.Events.FD()),
		asm.Mov.Reg(asm.R2, asm.RFP), asm.Add.Imm(asm.R2, -room),
		asm.Mov.Imm(asm.R3, int32(len(raw))), asm.Mov.Imm(asm.R4, noWakeup),
		asm.FnRingbufOutput.Call(), asm.Return())
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.SocketFilter, Instructions: ins, License: "Dual BSD/GPL"})
	if err != nil {
		t.Fatal(err)
	}
	defer program.Close()
	if got, err := program.Run(&ebpf.RunOptions{Data: make([]byte, 14)}); err != nil || got != 0 {
		t.Fatalf("write into the ring: %d, %v", int32(got), err)
	}
}

// What lies in the ring when the context ends is still handled, and a bad record stops nothing.
func TestReaderRun(t *testing.T) {
	s := sharedForTest(t)
	var bad []error
	r, err := NewReader(s, []Sensor{&echo{kinds: []event.Kind{event.Exec}}}, func(err error) { bad = append(bad, err) })
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for tgid := range uint32(3) {
		send(t, s, recordOf(Header{Tgid: tgid, Kind: uint32(event.Exec), Size: 40}, 40))
		send(t, s, recordOf(Header{Kind: uint32(event.Pause), Size: 40}, 40))
		send(t, s, []byte{1, 2, 3})
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	var order []uint32
	if err := r.Run(ctx, func(ev *event.Event) { order = append(order, ev.Tgid) }); err != nil {
		t.Fatal(err)
	}
	if len(order) != 3 || order[0] != 0 || order[1] != 1 || order[2] != 2 {
		t.Errorf("handled %v, want 0 1 2", order)
	}
	if len(bad) != 6 {
		t.Errorf("%d bad records, want 6: %v", len(bad), bad)
	}
}

// A record that woke nobody is read soon, and Close ends Run.
func TestReaderRunWaits(t *testing.T) {
	s := sharedForTest(t)
	r, err := NewReader(s, []Sensor{&echo{kinds: []event.Kind{event.Exec}}}, func(error) {})
	if err != nil {
		t.Fatal(err)
	}
	seen, ended := make(chan uint32, 1), make(chan error, 1)
	go func() { ended <- r.Run(context.Background(), func(ev *event.Event) { seen <- ev.Tgid }) }()
	send(t, s, recordOf(Header{Tgid: 7, Kind: uint32(event.Exec), Size: 40}, 40))
	select {
	case got := <-seen:
		if got != 7 {
			t.Errorf("got %d", got)
		}
	case <-time.After(10 * time.Second):
		t.Error("the record was not read")
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Error("Close does not end Run")
	}
}

func TestNewReaderWithoutRing(t *testing.T) {
	s := sharedForTest(t)
	if _, err := NewReader(&Shared{Events: s.Workloads}, nil, nil); err == nil || !strings.HasPrefix(err.Error(), "open ring buffer") {
		t.Errorf("got %v", err)
	}
}

// Every fault of the kernel side has its name here.
func TestFaults(t *testing.T) {
	text, err := os.ReadFile("../../bpf/emit.h")
	if err != nil {
		t.Fatal(err)
	}
	want := map[uint32]string{}
	for _, m := range regexp.MustCompile(`FAULT_([A-Z_]+) = (\d+),`).FindAllStringSubmatch(string(text), -1) {
		slot, err := strconv.Atoi(m[2])
		if err != nil {
			t.Fatal(err)
		}
		want[uint32(slot)] = strings.ToLower(m[1])
	}
	got := faults()
	for slot, name := range want {
		if !strings.HasPrefix(got[slot], name) {
			t.Errorf("fault %d is %q, the kernel side says %q", slot, got[slot], name)
		}
		if slot < uint32(event.KindCount) || slot >= lostSlots {
			t.Errorf("fault %d is no slot of its own", slot)
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d faults here, %d in the kernel side", len(got), len(want))
	}
}

func TestLossCounters(t *testing.T) {
	s := sharedForTest(t)
	cpus, err := ebpf.PossibleCPU()
	if err != nil {
		t.Fatal(err)
	}
	perCPU := make([]uint64, cpus)
	for i := range perCPU {
		perCPU[i] = uint64(i + 1)
	}
	for _, slot := range []uint32{uint32(event.Handshake), 17, lostSlots - 1} {
		if err := s.Lost.Put(slot, perCPU); err != nil {
			t.Fatal(err)
		}
	}
	got, err := s.LossCounters()
	if err != nil {
		t.Fatal(err)
	}
	sum := uint64(cpus * (cpus + 1) / 2)
	for name, want := range map[string]uint64{
		"ring_full_handshake": sum, "read_failed": sum, "ring_full_exec": 0, "ring_full_cgroup": 0, "map_full": 0,
	} {
		if n, ok := got[name]; !ok || n != want {
			t.Errorf("%s is %d, %t, want %d", name, n, ok, want)
		}
	}
	if want := int(event.KindCount) - 1 + len(faults()); len(got) != want {
		t.Errorf("%d reasons, want %d", len(got), want)
	}
}
