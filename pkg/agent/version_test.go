package agent

import (
	"testing"

	"github.com/plumbline-io/plumbline/pkg/detect"
	"github.com/plumbline-io/plumbline/pkg/event"
)

// A baseline's version is that of its canonical form at this moment, in every mode.
func TestVersions(t *testing.T) {
	maps := newEntryMaps(100)
	r := newTestRegistry(t, t.TempDir(), maps, maps)
	for cgroup, name := range map[uint64]string{42: "shop.service", 43: "bank.service"} {
		if err := r.Join(cgroup, detect.Subject{Name: name, Kind: "unit"}); err != nil {
			t.Fatal(err)
		}
	}
	seen := map[string]bool{}
	check := func(what string) {
		t.Helper()
		versions := r.Versions()
		for name, m := range r.byName {
			if want := m.profile.Digest()[:12]; versions[name] != want {
				t.Errorf("%s: version of %s is %q, want %q", what, name, versions[name], want)
			}
		}
		if shop := versions["shop.service"]; seen[shop] {
			t.Errorf("%s: the version is still %s", what, shop)
		} else {
			seen[shop] = true
		}
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
}
