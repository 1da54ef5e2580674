package agent

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/plumbline-io/plumbline/pkg/alert"
	"github.com/plumbline-io/plumbline/pkg/detect"
	"github.com/plumbline-io/plumbline/pkg/event"
)

// toldLate is a kernel in which a program is learnt while the mode changes.
type toldLate struct {
	*entryMaps
	asked int
}

func (l *toldLate) Untold(generations map[uint32]uint32, known func(event.Key) bool) ([]event.Key, error) {
	all, err := l.entryMaps.Untold(generations, known)
	if l.asked++; l.asked > 1 {
		all = append(all, program("/bin/late"))
	}
	return all, err
}

// A mode that somebody writes into a baseline's file, past the conditions of a promotion, is in force, and told with the file's name;
// one that promote has given, whatever the kernel told late, is not.
func TestModeWrittenByHand(t *testing.T) {
	shop := detect.Subject{Name: "shop.service", Kind: "unit"}
	for name, tc := range map[string]struct {
		runs  int
		by    func(r *registry, maps *entryMaps) error // who promotes it; nil: a hand
		to    event.Mode
		wants string // to be told; empty: nothing
	}{
		"by hand":       {runs: 1, to: event.Enforce, wants: "1 of 2 runs seen"},
		"to audit":      {runs: 1, to: event.AuditMode, wants: "1 of 2 runs seen"},
		"ready":         {runs: 2, to: event.Enforce},
		"nothing":       {runs: 0, to: event.Enforce, wants: "no executables"},
		"learn":         {runs: 1, to: event.Learn},
		"with a reason": {runs: 1, to: event.Enforce, by: func(r *registry, _ *entryMaps) error { return r.SetMode(shop.Name, event.Enforce, "test") }},
		"told late": {runs: 2, to: event.Enforce, by: func(r *registry, maps *entryMaps) error {
			r.Enforcer = &toldLate{entryMaps: maps}
			return r.SetMode(shop.Name, event.Enforce, "")
		}},
	} {
		t.Run(name, func(t *testing.T) {
			must := func(err error) {
				t.Helper()
				if err != nil {
					t.Fatal(err)
				}
			}
			dir, maps := t.TempDir(), newEntryMaps(10)
			r := newTestRegistry(t, dir, maps, maps)
			for range max(tc.runs, 1) {
				must(r.Join(42, shop))
				if tc.runs > 0 {
					learnPrograms(r, 1, "/bin/shop")
				}
				must(r.Leave(42))
			}
			if tc.by != nil {
				must(tc.by(r, maps))
			}
			must(r.Save())
			file := filepath.Join(dir, "shop.service.yaml")
			if name == "told late" && !strings.Contains(string(mustRead(t, file)), "/bin/late") {
				t.Fatal("nothing was told late")
			}
			if tc.by == nil {
				text := mustRead(t, file)
				must(os.WriteFile(file, bytes.Replace(text, []byte("\nmode: learn\n"), []byte("\nmode: "+tc.to.String()+"\n"), 1), 0o600))
			}

			maps = newEntryMaps(10)
			r = newTestRegistry(t, dir, maps, maps)
			out := &lines{}
			log := slog.New(slog.DiscardHandler)
			a := &Agent{cfg: Config{Node: "n1", Log: log}, sink: &sink{file: out, log: log}, store: &baselineStore{dir}}
			r.ByHand = a.tellByHand
			must(r.Join(42, shop))
			if s := maps.states[42]; s.Mode != uint32(tc.to) {
				t.Errorf("kernel: %+v", s)
			}
			w := r.List()[0]
			if tc.wants == "" {
				if out.Len() != 0 || w.ByHand != "" {
					t.Errorf("told %s, status %q", out, w.ByHand)
				}
				return
			}
			told, err := alert.Parse(out.Bytes())
			if err != nil || told.Rule != byHandRule || told.Source != detect.InternalSource || told.Fields["plumbline.file"] != file ||
				told.Detail.Mode != tc.to.String() || !strings.Contains(told.Output, file) || !strings.Contains(told.Output, tc.wants) {
				t.Errorf("told: %v, %+v", err, told)
			}
			if !strings.Contains(w.ByHand, tc.wants) {
				t.Errorf("status: %+v", w)
			}
			must(r.SetMode(shop.Name, event.Off, ""))
			if w := r.List()[0]; w.ByHand != "" {
				t.Errorf("somebody has decided: %+v", w)
			}
		})
	}
}
