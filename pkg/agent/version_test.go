package agent

import (
	"testing"

	"github.com/plumbline-io/plumbline/pkg/detect"
	"github.com/plumbline-io/plumbline/pkg/event"
)

// A baseline's version is that of its canonical form as it was saved last, in every mode, also of one that was read.
func TestVersions(t *testing.T) {
	dir, maps := t.TempDir(), newEntryMaps(100)
	r := newTestRegistry(t, dir, maps, maps)
	for cgroup, name := range map[uint64]string{42: "shop.service", 43: "bank.service"} {
		if err := r.Join(cgroup, detect.Subject{Name: name, Kind: "unit"}); err != nil {
			t.Fatal(err)
		}
	}
	seen := map[string]bool{}
	check := func(what string) {
		t.Helper()
		if err := r.Save(); err != nil {
			t.Fatal(err)
		}
		versions := r.Versions()
		for name, m := range r.byName {
			if want := m.profile.Digest()[:12]; versions[name] != want {
				t.Errorf("%s: version of %s is %q, want %q", what, name, versions[name], want)
			}
		}
		if shop := versions["shop.service"]; seen[shop] {
			t.Errorf("%s: the version is still %s", what, shop)
		}
		seen[versions["shop.service"]] = true
	}
	check("empty")
	learnPrograms(r, r.IDOf(42), "/bin/a")
	check("learnt")
	if err := r.SetMode("shop.service", event.Enforce, "test"); err != nil {
		t.Fatal(err)
	}
	check("promoted")
	if _, _, err := r.Allow("shop.service", program("/bin/b"), r.Now()); err != nil {
		t.Fatal(err)
	}
	check("one more allowed")
	before := r.Versions()["shop.service"]
	r = newTestRegistry(t, dir, maps, maps)
	if err := r.Find(42, detect.Subject{Name: "shop.service", Kind: "unit"}); err != nil {
		t.Fatal(err)
	}
	if after := r.Versions()["shop.service"]; after != before {
		t.Errorf("after a restart: %q, want %q", after, before)
	}
}
