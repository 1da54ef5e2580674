package process

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"github.com/plumbline-io/plumbline/pkg/event"
)

// execRecord builds a record as the kernel side sends it.
func execRecord(path, filename, cwd, comm, args string) []byte {
	const fixed = int(unsafe.Sizeof(execHead{}))
	raw := make([]byte, fixed, fixed+len(args))
	h := (*execHead)(unsafe.Pointer(&raw[0]))
	h.PathLen, h.FilenameLen, h.CwdLen = uint16(copy(h.Path[:], path)), uint16(copy(h.Filename[:], filename)), uint16(copy(h.Cwd[:], cwd))
	copy(h.Comm[:], comm)
	h.ArgsLen, h.UID, h.Vpid = uint16(len(args)), 33, 7
	return append(raw, args...)
}

func cgroupRecord(path string) []byte {
	const fixed = int(unsafe.Sizeof(cgroupHead{}))
	raw := make([]byte, fixed, fixed+len(path))
	h := (*cgroupHead)(unsafe.Pointer(&raw[0]))
	h.ID, h.PathLen = 9, uint32(len(path))
	return append(raw, path...)
}

// Arguments are joined by spaces, the last one's NUL is none; a name need not end with a NUL.
func TestDecodeExec(t *testing.T) {
	for name, tc := range map[string]struct{ args, want string }{
		"none": {"", ""}, "one": {"sh\x00", "sh"}, "more": {"sh\x00-c\x00id\x00", "sh -c id"}, "cut": {"sh\x00-c\x00i", "sh -c i"},
		"empty ones": {"sh\x00\x00\x00", "sh  "}, "spaces": {"a b \x00", "a b "},
	} {
		t.Run(name, func(t *testing.T) {
			ev := event.Event{Kind: event.Exec}
			if err := decode(execRecord("/bin/dash", "sh", "/", "sixteen_bytes_ab", tc.args), &ev); err != nil {
				t.Fatal(err)
			}
			x := &ev.Exec
			if x.Args != tc.want || x.Path != "/bin/dash" || x.Filename != "sh" || x.Cwd != "/" || x.Comm != "sixteen_bytes_ab" || x.UID != 33 || x.VPID != 7 {
				t.Errorf("%+v", x)
			}
		})
	}
}

// A record that says more of itself than there is is refused, whichever of its texts it is.
func TestDecodeShort(t *testing.T) {
	whole := execRecord("/bin/dash", "sh", "/", "sh", "sh\x00-c\x00")
	for n := range len(whole) {
		ev := event.Event{Kind: event.ExecCheck}
		if err := decode(slices.Clone(whole[:n]), &ev); err == nil {
			t.Fatalf("%d of %d bytes are enough", n, len(whole))
		}
	}
	for _, change := range []func(*execHead){
		func(h *execHead) { h.PathLen = 257 }, func(h *execHead) { h.FilenameLen = 257 }, func(h *execHead) { h.CwdLen = 257 }, func(h *execHead) { h.ArgsLen = 7 },
	} {
		raw := slices.Clone(whole)
		change((*execHead)(unsafe.Pointer(&raw[0])))
		ev := event.Event{Kind: event.Exec}
		if err := decode(raw, &ev); err == nil {
			t.Errorf("%+v", ev.Exec)
		}
	}
	cgroup := cgroupRecord("/a")
	(*cgroupHead)(unsafe.Pointer(&cgroup[0])).PathLen = 1<<32 - 1
	if err := decode(cgroup, &event.Event{Kind: event.Cgroup}); err == nil {
		t.Error("a path that is longer than the record")
	}
}

// Whatever a record holds, its texts are its own bytes, and nothing is written beside the arguments.
func FuzzDecodeProcess(f *testing.F) {
	for _, kind := range []event.Kind{event.Fork, event.Exec, event.ExecCheck, event.Exit, event.Cgroup, event.Access} {
		f.Add(uint8(kind), execRecord("/bin/dash", "sh", "/", "sh", "sh\x00-c\x00id\x00"))
		f.Add(uint8(kind), cgroupRecord("/system.slice"))
		f.Add(uint8(kind), make([]byte, unsafe.Sizeof(bpfExitEvent{})))
	}
	f.Fuzz(func(t *testing.T, kind uint8, raw []byte) {
		record := append(make([]byte, 0, len(raw)+8), raw...) // aligned, as those of the ring are
		ev := event.Event{Kind: event.Kind(kind)}
		if err := decode(record, &ev); err != nil {
			if !bytes.Equal(record, raw) {
				t.Error("a refused record is changed")
			}
			return
		}
		args := uintptr(len(raw))
		if ev.Kind == event.Exec || ev.Kind == event.ExecCheck {
			args = unsafe.Sizeof(execHead{})
		}
		if !bytes.Equal(record[:args], raw[:args]) {
			t.Error("more than the arguments is changed")
		}
		x := &ev.Exec
		if strings.ContainsRune(x.Args, 0) || len(x.Args) > len(raw) || strings.ContainsRune(x.Comm, 0) || len(x.Comm) > 16 ||
			len(x.Path) > 256 || len(x.Filename) > 256 || len(x.Cwd) > 256 {
			t.Errorf("%+v", x)
		}
		for _, s := range []string{x.Path, x.Filename, x.Cwd, x.Args, x.Comm, ev.Cgroup.Path} {
			if s != "" && !within(record, s) {
				t.Errorf("%q is not of the record", s)
			}
		}
		if ev.Kind == event.Exit && (ev.Exit.Signal != 0) != (ev.Exit.Code == -1) {
			t.Errorf("%+v", ev.Exit)
		}
	})
}

// within says whether a text lies in the memory of a record.
func within(record []byte, s string) bool {
	first, at := uintptr(unsafe.Pointer(unsafe.SliceData(record))), uintptr(unsafe.Pointer(unsafe.StringData(s)))
	return at >= first && at+uintptr(len(s)) <= first+uintptr(len(record))
}
