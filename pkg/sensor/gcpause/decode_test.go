package gcpause

import (
	"errors"
	"testing"
	"unsafe"

	"github.com/plumbline-io/plumbline/pkg/event"
	"github.com/plumbline-io/plumbline/pkg/gobin"
	"github.com/plumbline-io/plumbline/pkg/sensor"
)

func record(p bpfPauseEvent) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(&p)), unsafe.Sizeof(p))
}

func TestDecode(t *testing.T) {
	raw := record(bpfPauseEvent{TotalNs: 1500, StoppingNs: 400, Reason: 2, Gc: 1})
	var ev event.Event
	if err := decode(raw, &ev); err != nil {
		t.Fatal(err)
	}
	if want := (event.PauseInfo{Reason: 2, GC: true, Stopping: 400, Total: 1500}); ev.Pause != want {
		t.Errorf("got %+v, want %+v", ev.Pause, want)
	}
	for n := range raw {
		if err := decode(raw[:n], &ev); err == nil {
			t.Errorf("a record of %d bytes is decoded", n)
		}
	}
}

func TestFormOf(t *testing.T) {
	for minor, want := range map[int]form{0: formStopped, 20: formBare, 21: formReason, 22: formBegun, 23: formStopped, 27: formStopped, 99: formStopped} {
		if got, err := formOf(gobin.Version{Minor: minor}); got != want || err != nil {
			t.Errorf("Go 1.%d: %d, %v, want %d", minor, got, err, want)
		}
	}
	if _, err := formOf(gobin.Version{Minor: 19, Text: "go1.19.13"}); !errors.Is(err, sensor.ErrNotSupported) {
		t.Errorf("Go 1.19: %v", err)
	}
}

func BenchmarkDecode(b *testing.B) {
	raw := record(bpfPauseEvent{TotalNs: 1500})
	var ev event.Event
	b.ReportAllocs()
	for b.Loop() {
		if err := decode(raw, &ev); err != nil {
			b.Fatal(err)
		}
	}
}
