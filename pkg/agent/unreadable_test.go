package agent

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/plumbline-io/plumbline/pkg/alert"
	"github.com/plumbline-io/plumbline/pkg/baseline"
	"github.com/plumbline-io/plumbline/pkg/detect"
	"github.com/plumbline-io/plumbline/pkg/event"
)

// A stored baseline that cannot be read stays as it is, nothing is learnt in its place, and somebody is told;
// who decides to learn anew keeps it under another name.
func TestUnreadableBaseline(t *testing.T) {
	dir, maps := t.TempDir(), newEntryMaps(100)
	shop := detect.Subject{Name: "shop.service", Kind: "unit"}
	r := newTestRegistry(t, dir, maps, maps)
	if err := r.Join(42, shop); err != nil {
		t.Fatal(err)
	}
	learnPrograms(r, 1, "/bin/shop")
	if err := r.SetMode(shop.Name, event.Enforce, "test"); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "shop.service.yaml")
	good, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	bad := append(bytes.Clone(good), "ofAnotherVersion: 1\n"...)
	if err := os.WriteFile(file, bad, 0o600); err != nil {
		t.Fatal(err)
	}

	maps = newEntryMaps(100)
	r = newTestRegistry(t, dir, maps, maps)
	out := &lines{}
	a := &Agent{cfg: Config{Node: "n1"}, sink: &sink{file: out, log: slog.New(slog.DiscardHandler)}}
	r.Unreadable = a.tellUnreadable
	if err := r.Join(42, shop); err != nil {
		t.Fatal(err)
	}
	told, err := alert.Parse(out.Bytes())
	if err != nil || told.Severity != alert.Critical || told.Detail.Workload != shop.Name || told.Rule != UnreadableRule {
		t.Errorf("told: %v, %+v", err, told)
	}
	if s := maps.states[42]; s.Mode != uint32(event.AuditMode) || s.Held != 0 {
		t.Errorf("kernel: %+v", s)
	}
	if w := r.List()[0]; w.Unreadable == "" || w.Mode != "audit" || len(w.Held) != 0 {
		t.Errorf("status: %+v", w)
	}
	learnPrograms(r, 1, "/tmp/evil")
	if err := errors.Join(r.Seen(42, "/tmp/evil", time.Now()), r.Save()); err != nil {
		t.Fatal(err)
	}
	for _, mode := range []event.Mode{event.Enforce, event.AuditMode} {
		if err := r.SetMode(shop.Name, mode, "test"); err == nil || !strings.Contains(err.Error(), `unknown field "ofAnotherVersion": repair it`) {
			t.Errorf("%s: %v", mode, err)
		}
	}
	if _, err := r.Baseline(shop.Name); err == nil {
		t.Error("an empty baseline was shown")
	}
	if now, err := os.ReadFile(file); err != nil || !bytes.Equal(now, bad) {
		t.Errorf("the file was changed: %v\n%s", err, now)
	}

	if err := r.SetMode(shop.Name, event.Learn, ""); err != nil {
		t.Fatal(err)
	}
	if aside, err := os.ReadFile(file + unreadableSuffix); err != nil || !bytes.Equal(aside, bad) {
		t.Errorf("set aside: %v\n%s", err, aside)
	}
	if s, w := maps.states[42], r.List()[0]; s.Mode != uint32(event.Learn) || w.Unreadable != "" || w.Entries != 0 || len(w.Held) == 0 {
		t.Errorf("learnt anew: %+v, %+v", s, w)
	}
	if p, err := baseline.Parse(file, mustRead(t, file)); err != nil || p.Mode() != event.Learn {
		t.Errorf("stored: %v", err)
	}
}

func mustRead(t *testing.T, file string) []byte {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return data
}
