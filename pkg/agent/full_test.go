package agent

import (
	"bytes"
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/plumbline-io/plumbline/pkg/alert"
	"github.com/plumbline-io/plumbline/pkg/baseline"
	"github.com/plumbline-io/plumbline/pkg/detect"
	"github.com/plumbline-io/plumbline/pkg/event"
)

// toldFull lets a registry tell of full baselines; what it gives lists the dimensions of the alerts since it was asked last.
func toldFull(t *testing.T, r *registry) func() []string {
	t.Helper()
	out := &lines{}
	a := &Agent{cfg: Config{Node: "n1"}, sink: &sink{file: out, log: slog.New(slog.DiscardHandler)}}
	r.Full = a.tellFull
	return func() (told []string) {
		for line := range bytes.Lines(out.Bytes()) {
			got, err := alert.Parse(line)
			if err != nil || got.Rule != fullRule || got.Source != detect.InternalSource || got.Severity != alert.Error {
				t.Errorf("told %s: %v", line, err)
				continue
			}
			told = append(told, fmt.Sprint(got.Detail.Workload, got.Fields["plumbline.dimensions"]))
		}
		out.Reset()
		return told
	}
}

// A baseline that becomes full while it is learnt is told once for each dimension, over restarts of the agent, and again when it
// is learnt anew.
func TestFullBaselineIsTold(t *testing.T) {
	dir, maps := t.TempDir(), newEntryMaps(10)
	shop := detect.Subject{Name: "shop.service", Kind: "unit"}
	r := newTestRegistry(t, dir, maps, maps)
	told := toldFull(t, r)
	cutExec := &event.Event{Kind: event.ExecCheck, Exec: event.ExecInfo{Path: "/bin/very", Partial: true}}
	cutFile := &event.Event{Kind: event.Access, Access: event.AccessInfo{Key: event.Key{Op: event.OpRead, Path: "/srv/very"}, Partial: true}}
	check := func(what string, want ...string) {
		t.Helper()
		if got := told(); !slices.Equal(got, want) {
			t.Errorf("%s: told %q, want %q", what, got, want)
		}
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(r.Join(42, shop))
	learnPrograms(r, 1, "/bin/a")
	check("it has room")
	r.Learn(1, cutExec, time.Now())
	r.Learn(1, cutExec, time.Now())
	check("executables", "shop.service[exec]")
	r.Learn(1, cutFile, time.Now())
	check("files", "shop.service[file]")
	if w := r.List()[0]; !slices.Equal(w.Full, []string{"exec", "file"}) || w.Softened != nil {
		t.Errorf("status: %+v", w)
	}
	must(r.Save())

	r = newTestRegistry(t, dir, maps, maps)
	told = toldFull(t, r)
	must(r.Join(42, shop))
	r.Learn(1, cutFile, time.Now())
	must(r.SetMode(shop.Name, event.AuditMode, "test"))
	check("of the agent before")
	must(r.SetMode(shop.Name, event.Learn, ""))
	if w := r.List()[0]; len(w.Full) != 0 {
		t.Errorf("learnt anew: %+v", w)
	}
	r.Learn(1, cutFile, time.Now())
	check("learnt anew", "shop.service[file]")
}

// Whoever finds no room: a process that ran before the agent, and what the kernel has learnt and not told yet.
func TestFullBaselineIsToldByAll(t *testing.T) {
	for what, fill := range map[string]func(r *registry, maps *entryMaps) error{
		"seen": func(r *registry, _ *entryMaps) error { return r.Seen(42, "/bin/one-more", time.Now()) },
		"promoted": func(r *registry, maps *entryMaps) error {
			if err := maps.Replace(1, maps.states[42].Generation, []event.Key{program("/bin/untold")}); err != nil {
				return err
			}
			return r.SetMode("shop.service", event.Enforce, "test")
		},
	} {
		t.Run(what, func(t *testing.T) {
			maps := newEntryMaps(2 * baseline.MaxEntries)
			r := newTestRegistry(t, t.TempDir(), maps, maps)
			told := toldFull(t, r)
			if err := r.Join(42, detect.Subject{Name: "shop.service", Kind: "unit"}); err != nil {
				t.Fatal(err)
			}
			for i := range baseline.MaxEntries {
				learnPrograms(r, 1, fmt.Sprintf("/opt/%d/run", i))
			}
			if got := told(); len(got) != 0 {
				t.Fatalf("it has room: told %q", got)
			}
			for range 2 {
				if err := fill(r, maps); err != nil {
					t.Fatal(err)
				}
			}
			if got, want := told(), []string{"shop.service[exec]"}; !slices.Equal(got, want) {
				t.Errorf("told %q, want %q", got, want)
			}
		})
	}
}

// A container whose name is looked for is told of under the baseline that it gets, or once nobody looks any more.
func TestFullBaselineOfAContainer(t *testing.T) {
	called := map[string]string{}
	b := newBoxes(t, t.TempDir(), called)
	told := toldFull(t, b.registry)
	cut := &event.Event{Kind: event.ExecCheck, Exec: event.ExecInfo{Path: "/bin/very", Partial: true}}
	b.begin(1, "1")
	b.begin(2, "2")
	b.Learn(b.IDOf(1), cut, b.now)
	b.Learn(b.IDOf(2), cut, b.now)
	if got := told(); len(got) != 0 {
		t.Errorf("whose it is nobody knows: told %q", got)
	}
	b.must(b.Place(box("1").Name, shopWeb))
	if got, want := told(), []string{box("1").Name + "[exec]"}; !slices.Equal(got, want) {
		t.Errorf("told %q, want %q", got, want)
	}
	for range len(seekDelays()) + 1 {
		b.now = b.now.Add(time.Minute)
		b.seekAll()
	}
	if got, want := told(), []string{box("2").Name + "[exec]"}; !slices.Equal(got, want) {
		t.Errorf("told %q, want %q", got, want)
	}
}
