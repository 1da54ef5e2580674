package baseline

import (
	"errors"
	"strings"
	"testing"

	"github.com/plumbline-io/plumbline/pkg/event"
)

// What somebody allows is allowed whatever the mode, and survives the text form.
func TestAllow(t *testing.T) {
	held := execOnly.With(event.DimFile)
	for name, tc := range map[string]struct {
		key   event.Key
		added bool
		len   int
		err   string
	}{
		"new":               {binary("/bin/b"), true, 3, ""},
		"pattern":           {event.Key{Op: event.OpRead, Path: "/srv/**"}, true, 2, ""}, // and takes in /srv/x
		"listed":            {binary("/bin/a"), false, 2, ""},
		"relative":          {binary("bin/b"), false, 2, "is no absolute path"},
		"not held":          {event.Key{Op: event.OpListen, Protocol: event.ProtocolTCP, Port: 80}, false, 2, "dimension is not held: network"},
		"no such operation": {event.Key{Op: event.OpCount}, false, 2, "unknown operation"},
	} {
		t.Run(name, func(t *testing.T) {
			for _, mode := range []event.Mode{event.Learn, event.AuditMode, event.Enforce} {
				p := New("w", "unit", held)
				p.Add(binary("/bin/a"), false, noon)
				p.Add(event.Key{Op: event.OpRead, Path: "/srv/x"}, false, noon)
				if mode != event.Learn {
					if err := p.Promote(mode, "test"); err != nil {
						t.Fatal(err)
					}
				}
				added, err := p.Allow(tc.key, noon)
				if added != tc.added || (err == nil) != (tc.err == "") || err != nil && !strings.Contains(err.Error(), tc.err) {
					t.Errorf("%s: added %v, error %v", mode, added, err)
				}
				if p.Len() != tc.len || p.Mode() != mode || added && !p.Allows(tc.key) {
					t.Errorf("%s: %s", mode, p.Canonical())
				}
				again, err := Parse("x", p.Marshal())
				if err != nil || again.Digest() != p.Digest() {
					t.Errorf("%s: parsed again: %v", mode, err)
				}
			}
		})
	}
	p := New("w", "unit", execOnly)
	if _, err := p.Allow(event.Key{Op: event.OpRead, Path: "/x"}, noon); !errors.Is(err, ErrNotHeld) {
		t.Errorf("got %v", err)
	}
}

func TestAllowWhenFull(t *testing.T) {
	p := New("w", "unit", execOnly)
	p.bytes = MaxBytes
	if added, err := p.Allow(binary("/bin/a"), noon); added || err == nil || !strings.Contains(err.Error(), "is full") {
		t.Errorf("%v, %v", added, err)
	}
}

// The kernel's count is taken where it is the larger one, for patterns too.
func TestCountAtLeast(t *testing.T) {
	p := New("w", "unit", execOnly.With(event.DimFile))
	p.Add(binary("/bin/a"), false, noon)
	if _, err := p.Allow(event.Key{Op: event.OpRead, Path: "/srv/**"}, noon); err != nil {
		t.Fatal(err)
	}
	p.CountAtLeast(binary("/bin/a"), 7)
	p.CountAtLeast(binary("/bin/a"), 3)
	p.CountAtLeast(event.Key{Op: event.OpRead, Path: "/srv/x"}, 5)
	p.CountAtLeast(binary("/bin/none"), 9)
	text := string(p.Marshal())
	for _, want := range []string{"key: /bin/a\n      count: 7\n", "key: read /srv/**\n      count: 5\n"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	if strings.Contains(text, "none") {
		t.Error(text)
	}
}
