package agent

import (
	"cmp"
	"errors"
	"os"
	"testing"
	"time"

	"github.com/plumbline-io/plumbline/pkg/baseline"
	"github.com/plumbline-io/plumbline/pkg/detect"
	"github.com/plumbline-io/plumbline/pkg/event"
)

// A container that has ended is forgotten after a while, with its entries in the kernel, and known from its
// file when it comes back. Units stay.
func TestEndedContainersAreForgotten(t *testing.T) {
	maps, now := newEntryMaps(100), time.Unix(1_800_000_000, 0)
	r := newTestRegistry(t, t.TempDir(), maps, maps)
	r.Now = func() time.Time { return now }
	names := func() (list []string) {
		t.Helper()
		if err := r.Forget(); err != nil {
			t.Fatal(err)
		}
		for _, w := range r.List() {
			list = append(list, w.Name)
		}
		return list
	}
	box, shop := detect.Subject{Name: "0123456789ab", Kind: "container"}, detect.Subject{Name: "shop.service", Kind: "unit"}
	if err := errors.Join(r.Join(42, shop), r.Join(43, box), r.Join(44, box)); err != nil {
		t.Fatal(err)
	}
	for cgroup, path := range map[uint64]string{42: "/bin/shop", 43: "/bin/box"} {
		if err := r.Seen(cgroup, path, now); err != nil {
			t.Fatal(err)
		}
	}
	old := r.IDOf(43)
	if err := errors.Join(r.Leave(42), r.Leave(43)); err != nil {
		t.Fatal(err)
	}
	if now = now.Add(2 * forgetAfter); len(names()) != 2 {
		t.Errorf("with a cgroup left: %v", names())
	}
	if err := r.Leave(44); err != nil {
		t.Fatal(err)
	}
	if now = now.Add(forgetAfter - time.Second); len(names()) != 2 {
		t.Errorf("too early: %v", names())
	}
	if _, known := r.Subject(old); !known {
		t.Error("the last events have nobody")
	}
	if err := errors.Join(r.Join(45, box), r.Leave(45)); err != nil {
		t.Fatal(err)
	}
	if now = now.Add(2 * time.Second); len(names()) != 2 {
		t.Errorf("it was back meanwhile: %v", names())
	}
	if now = now.Add(forgetAfter); len(names()) != 1 || names()[0] != shop.Name {
		t.Errorf("in the end: %v", names())
	}
	if _, known := r.Subject(old); known || r.Knows(box.Name) || maps.used() != 1 {
		t.Errorf("still known: %t, %t, %v", known, r.Knows(box.Name), maps.entries)
	}
	if err := r.Join(46, box); err != nil {
		t.Fatal(err)
	}
	if id := r.IDOf(46); id == old || !maps.allows(46, program("/bin/box")) || maps.states[46].ID != id {
		t.Errorf("back as %d, was %d: %v", id, old, maps.entries)
	}
}

// Only what was learnt of containers long ago is deleted, and nothing that somebody has decided.
func TestExpire(t *testing.T) {
	now := time.Now()
	for name, tc := range map[string]struct {
		name    string // "w" if empty
		kind    string
		mode    event.Mode
		age     time.Duration
		needed  bool
		damaged bool
		want    int
	}{
		"learnt":       {kind: "container", mode: event.Learn, age: 2 * expireAfter, want: 1},
		"off":          {kind: "container", mode: event.Off, age: 2 * expireAfter, want: 1},
		"common, off":  {name: "shop/web@web:1", kind: "container", mode: event.Off, age: 2 * expireAfter},
		"common":       {name: "shop/web@web:1", kind: "container", mode: event.Learn, age: 2 * expireAfter, want: 1},
		"lately":       {kind: "container", mode: event.Learn, age: expireAfter / 2},
		"needed":       {kind: "container", mode: event.Learn, age: 2 * expireAfter, needed: true},
		"audited":      {kind: "container", mode: event.AuditMode, age: 2 * expireAfter},
		"enforced":     {kind: "container", mode: event.Enforce, age: 2 * expireAfter},
		"damaged":      {kind: "container", mode: event.Learn, age: 2 * expireAfter, damaged: true},
		"unit":         {kind: "unit", mode: event.Learn, age: 2 * expireAfter},
		"another kind": {kind: "cgroup", mode: event.Learn, age: 2 * expireAfter},
	} {
		t.Run(name, func(t *testing.T) {
			store, err := openBaselineStore(t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			name := cmp.Or(tc.name, "w")
			p := baseline.New(name, tc.kind, event.AllDimensions)
			p.Add(program("/bin/a"), false, now)
			if tc.mode == event.Learn || tc.mode == event.Off {
				p.Demote(tc.mode)
			} else if err := p.Promote(tc.mode, "test"); err != nil {
				t.Fatal(err)
			}
			if _, err := store.Save(name, p); err != nil {
				t.Fatal(err)
			}
			file := store.file(name)
			if tc.damaged {
				if err := os.WriteFile(file, append(mustRead(t, file), "damage: 1\n"...), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.Chtimes(file, now.Add(-tc.age), now.Add(-tc.age)); err != nil {
				t.Fatal(err)
			}
			n, err := store.Expire(now.Add(-expireAfter), func(string) bool { return tc.needed })
			if err != nil || n != tc.want {
				t.Errorf("%d expired, want %d: %v", n, tc.want, err)
			}
			if _, err := os.Stat(file); errors.Is(err, os.ErrNotExist) != (tc.want == 1) {
				t.Errorf("the file: %v", err)
			}
			if !tc.needed {
				return
			}
			// It is as old as if it had run until now.
			if n, err := store.Expire(now.Add(-expireAfter), func(string) bool { return false }); err != nil || n != 0 {
				t.Errorf("%d expired that ran a moment ago: %v", n, err)
			}
		})
	}
}
