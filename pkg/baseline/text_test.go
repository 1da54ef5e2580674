package baseline

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/plumbline-io/plumbline/pkg/event"
)

func profileOf(entries int) *Profile {
	p := New("w", "cgroup", event.AllDimensions)
	for i := range entries {
		op := []event.Operation{event.OpExec, event.OpLibrary, event.OpRead, event.OpUnixConnect}[i%4]
		p.Add(event.Key{Op: op, Path: fmt.Sprintf("/srv/%05d: \"it's\" #%d", i, i)}, i%3 == 0, time.Unix(int64(i), 0))
	}
	return p
}

// A document that is written in parts is the one that is written at once, and it is read again.
func TestMarshalInParts(t *testing.T) {
	for _, entries := range []int{0, 1, 255, 256, 257, 1024, 1025, 3000} {
		p := profileOf(entries)
		d := p.canonical(p.Keys())
		if got, want := p.Canonical(), encode(d); !bytes.Equal(got, want) {
			t.Errorf("%d entries: got\n%s\nwant\n%s", entries, got, want)
		}
		text, digest := p.MarshalDigest()
		if digest != p.Digest() {
			t.Errorf("%d entries: the digest is %s, want %s", entries, digest, p.Digest())
		}
		again, err := Parse("p.yaml", text)
		if err != nil {
			t.Fatalf("%d entries: %v", entries, err)
		}
		if got := again.Marshal(); !bytes.Equal(got, text) {
			t.Errorf("%d entries: read and written again it differs", entries)
		}
	}
}

// The largest profile is written whenever something about it changes: the agent may have little memory.
func BenchmarkMarshal(b *testing.B) {
	p := profileOf(MaxEntries)
	b.ReportAllocs()
	for b.Loop() {
		p.Marshal()
	}
}
