package agent

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/plumbline-io/plumbline/pkg/baseline"
	"github.com/plumbline-io/plumbline/pkg/detect"
	"github.com/plumbline-io/plumbline/pkg/event"
	"github.com/plumbline-io/plumbline/pkg/sensor"
	"github.com/plumbline-io/plumbline/pkg/workload"
)

// expecting keeps what is expected.
type expecting struct {
	noKernel
	paths map[string]sensor.WorkloadState
}

func (e expecting) ExpectWorkload(path string, s sensor.WorkloadState) error {
	e.paths[path] = s
	return nil
}

// Units that were promoted, or in which rules deny, and that do not run are expected where they ran, or where systemd would
// put them; others are not, and neither is what lies elsewhere or is not theirs.
func TestExpectUnits(t *testing.T) {
	dir := t.TempDir()
	store, err := openBaselineStore(dir)
	if err != nil {
		t.Fatal(err)
	}
	ran := map[string][]string{}
	for _, b := range []struct {
		name, kind string
		mode       event.Mode
		cgroups    []string
	}{
		{"web.service", "unit", event.Enforce, []string{"/shops.slice/web.service", "/user.slice/mail.service", "/elsewhere/web.service"}},
		{"usual.service", "unit", event.AuditMode, nil},
		{"a-b@c.service", "unit", event.Enforce, nil},
		{"learning.service", "unit", event.Learn, []string{"/system.slice/learning.service"}},
		{"off.service", "unit", event.Off, []string{"/system.slice/off.service"}},
		{"pay-1.service", "unit", event.Learn, []string{"/pay.slice/pay-1.service"}},
		{"sshd.service", "unit", event.Learn, []string{"/system.slice/sshd.service"}},
		{"0123456789ab", "container", event.Enforce, nil},
		{"running.service", "unit", event.Enforce, []string{"/system.slice/running.service", "/other.slice/running.service"}},
	} {
		p := baseline.New(b.name, b.kind, event.AllDimensions)
		p.Add(event.Key{Op: event.OpExec, Path: "/bin/x"}, false, time.Unix(1_800_000_000, 0))
		if b.cgroups != nil {
			ran[b.name] = b.cgroups
		}
		if b.mode == event.Off {
			p.Demote(event.Off)
		} else if err := p.Promote(b.mode, "test"); b.mode != event.Learn && err != nil {
			t.Fatal(err)
		}
		if _, err := store.Save(b.name, p); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "damaged.service.yaml"), []byte("apiVersion: [\nworkloadKind: unit\nmode: enforce\n"), 0o600); err != nil {
		t.Fatal(err)
	}

	state := t.TempDir()
	if err := (stateFile[map[string][]string]{filepath.Join(state, "places.json")}).Save(ran); err != nil {
		t.Fatal(err)
	}
	places, err := openPlaces(state, store.Has)
	if err != nil {
		t.Fatal(err)
	}
	kernel := expecting{paths: map[string]sensor.WorkloadState{}}
	r := newTestRegistry(t, dir, kernel, keptKeys{})
	r.Protect = []string{"pay-*", "sshd.service", "never-ran.service"}
	if err := r.Find(7, detect.Subject{Name: "running.service", Kind: "unit", Cgroup: "/system.slice/running.service"}); err != nil {
		t.Fatal(err)
	}
	resolver := workload.NewResolver()
	at := func(path string) (detect.Subject, bool) {
		w := resolver.Resolve(path)
		return detect.Subject{Name: w.Name, Kind: string(w.Kind), Cgroup: w.Cgroup}, !strings.HasPrefix(path, "/elsewhere/")
	}
	units, err := store.Units()
	names, leftOut := r.expectable(units)
	if leftOut != 0 {
		t.Errorf("%d are left out", leftOut)
	}
	for _, name := range names {
		err = errors.Join(err, r.Expect(name, places.Of(name), at))
	}
	if err != nil {
		t.Fatal(err)
	}
	want := []string{`/pay.slice/pay-1.service`, `/shops.slice/web.service`, `/system.slice/running.service`, `/system.slice/system-a\x2db.slice/a-b@c.service`, `/system.slice/usual.service`}
	if got := slices.Sorted(maps.Keys(kernel.paths)); !slices.Equal(got, want) {
		t.Errorf("expected are %q, want %q", got, want)
	}
	if pay := kernel.paths["/pay.slice/pay-1.service"]; pay.Mode != uint32(event.Learn) || pay.Flags != sensor.Protected {
		t.Errorf("%+v", pay)
	}
	web := kernel.paths["/shops.slice/web.service"]
	if web.Mode != uint32(event.Enforce) || web.Flags != sensor.Protected || web.Held != uint32(event.AllDimensions) {
		t.Errorf("%+v", web)
	}

	// It is one and the same when it starts, and what its mode is by then.
	if err := r.SetMode("web.service", event.AuditMode, ""); err != nil {
		t.Fatal(err)
	}
	if got := kernel.paths["/shops.slice/web.service"]; got.ID != web.ID || got.Mode != uint32(event.AuditMode) {
		t.Errorf("after its mode was set: %+v", got)
	}
	if err := r.Join(8, detect.Subject{Name: "web.service", Kind: "unit", Cgroup: "/new.slice/web.service"}); err != nil {
		t.Fatal(err)
	}
	if id := r.IDOf(8); id != web.ID {
		t.Errorf("it is workload %d, was expected as %d", id, web.ID)
	}
	if err := places.Save(r); err != nil {
		t.Fatal(err)
	}
	if places, err = openPlaces(state, store.Has); err != nil || !slices.Contains(places.Of("web.service"), "/new.slice/web.service") {
		t.Errorf("the next agent would not know of its new place: %q, %v", places.Of("web.service"), err)
	}
}

// Of units in which rules deny and that are held to nothing, those that ran last are expected, and the promoted ones
// before them, however many there are.
func TestExpectableUnits(t *testing.T) {
	r := newTestRegistry(t, t.TempDir(), noKernel{}, keptKeys{})
	r.Protect = []string{"in@*"}
	var units []storedUnit
	for i := range maxUnheld + 20 {
		units = append(units, storedUnit{fmt.Sprintf("in@%d.service", i), event.Learn, time.Unix(int64(i), 0)})
	}
	for i := range maxUnheld { // those that run need no place
		name := fmt.Sprintf("in@running-%d.service", i)
		if err := r.Find(uint64(i+1), detect.Subject{Name: name, Kind: "unit", Cgroup: "/system.slice/" + name}); err != nil {
			t.Fatal(err)
		}
		units = append(units, storedUnit{name, event.Learn, time.Unix(1_000_000, 0)})
	}
	units = append(units, storedUnit{"web.service", event.Enforce, time.Unix(0, 0)}, storedUnit{"in@old.service", event.AuditMode, time.Unix(0, 0)}, storedUnit{"other.service", event.Learn, time.Unix(9, 0)})
	names, leftOut := r.expectable(units)
	if leftOut != 20 || len(names) != maxUnheld+2 || !slices.Equal(names[:3], []string{"web.service", "in@old.service", fmt.Sprintf("in@%d.service", maxUnheld+19)}) {
		t.Errorf("%d are left out, expected are %d: %q...", leftOut, len(names), names[:3])
	}
	if slices.Contains(names, "in@19.service") || slices.Contains(names, "other.service") {
		t.Error("one that ran long ago, or in which no rule denies, is expected")
	}
}

func FuzzBaselineHead(f *testing.F) {
	f.Add([]byte("apiVersion: plumbline.io/v1\nkind: Baseline\nworkload: \"a: b\\n\"\nworkloadKind: unit\nmode: enforce\nexec: []\n"))
	f.Add([]byte("a: &a [*a]\nmode: &b\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		file := filepath.Join(t.TempDir(), "f.yaml")
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
		_, _, _ = readHead(file)
	})
}
