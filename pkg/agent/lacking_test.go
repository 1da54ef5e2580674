package agent

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/plumbline-io/plumbline/pkg/baseline"
	"github.com/plumbline-io/plumbline/pkg/event"
	"github.com/plumbline-io/plumbline/pkg/sensor"
)

// What an earlier version did not learn is audited although the mode is enforce, until somebody promotes the baseline for a
// reason, and the status says so.
func TestLackingIsAudited(t *testing.T) {
	dir := t.TempDir()
	r, maps, shop := learntShop(t, dir)
	if err := r.SetMode(shop.Name, event.Enforce, "test"); err != nil {
		t.Fatal(err)
	}
	if err := r.Save(); err != nil {
		t.Fatal(err)
	}
	if s := maps.states[42]; s.Softened != 0 {
		t.Errorf("of this version: %+v", s)
	}
	makeEarlier(t, dir)

	maps = newEntryMaps(10 * baseline.MaxEntries)
	r = newTestRegistry(t, dir, maps, maps)
	if err := r.Join(42, shop); err != nil {
		t.Fatal(err)
	}
	lacking := event.AllAdditions.Names()
	if s := maps.states[42]; s.Mode != uint32(event.Enforce) || s.Softened != uint32(event.AllAdditions)<<sensor.AddedShift {
		t.Errorf("of an earlier version: %+v", s)
	}
	if w := r.List()[0]; !slices.Equal(w.Lacking, lacking) || len(w.Softened) != 0 {
		t.Errorf("status: %+v", w)
	}
	for _, step := range []struct {
		mode   event.Mode
		reason string
		want   uint32
	}{
		{event.AuditMode, "", uint32(event.AllAdditions) << sensor.AddedShift},
		{event.Enforce, "", uint32(event.AllAdditions) << sensor.AddedShift},
		{event.Enforce, "looked at", 0},
	} {
		if err := r.SetMode(shop.Name, step.mode, step.reason); err != nil {
			t.Fatal(err)
		}
		if s := maps.states[42]; s.Softened != step.want {
			t.Errorf("%s %q: %+v", step.mode, step.reason, s)
		}
	}
	if w := r.List()[0]; len(w.Lacking) != 0 {
		t.Errorf("status: %+v", w)
	}
}

// makeEarlier takes away from all stored baselines what earlier versions did not write.
func makeEarlier(t *testing.T, dir string) {
	t.Helper()
	changed := 0
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		p, err := baseline.Parse(path, text)
		if err != nil {
			return nil // another file
		}
		changed++
		return os.WriteFile(path, p.Canonical(), 0o600)
	})
	if err != nil || changed != 1 {
		t.Fatalf("%d baselines, %v", changed, err)
	}
}
