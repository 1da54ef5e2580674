package agent

import (
	"encoding/json"
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
)

func anyUnit(string) bool { return true }

// Where a unit ran is kept once it was promoted, beside its baseline and not in it: an earlier agent has to read that.
func TestPlacesOfPromotedUnits(t *testing.T) {
	dir, state := t.TempDir(), t.TempDir()
	r := newTestRegistry(t, dir, expecting{paths: map[string]sensor.WorkloadState{}}, keptKeys{})
	for i, cgroup := range []string{"/shops.slice/web.service", "/other.slice/web.service", "/user.slice/session-1.scope"} {
		name := filepath.Base(cgroup)
		if err := r.Join(uint64(7+i), detect.Subject{Name: name, Kind: "unit", Cgroup: cgroup}); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.Join(10, detect.Subject{Name: "0123456789ab", Kind: "container", Cgroup: "/x"}); err != nil {
		t.Fatal(err)
	}
	p, err := openPlaces(state, anyUnit)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Save(r); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(p.file.name); err == nil {
		t.Error("nobody was promoted, and there is a file")
	}
	learnPrograms(r, 1, "/bin/web")
	if err := r.SetMode("web.service", event.Enforce, "test"); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(r.Save(), p.Save(r)); err != nil {
		t.Fatal(err)
	}
	next, err := openPlaces(state, func(unit string) bool { return unit != "web.service" })
	if err != nil || len(next.known) != 0 {
		t.Errorf("its baseline is gone: %v, %v", next.known, err)
	}
	want := map[string][]string{"web.service": {"/other.slice/web.service", "/shops.slice/web.service"}}
	if next, err = openPlaces(state, anyUnit); err != nil || !maps.EqualFunc(next.known, want, slices.Equal) {
		t.Errorf("%v, %v", next.known, err)
	}
	text, err := os.ReadFile(r.Store.(*baselineStore).file("web.service"))
	if err != nil || strings.Contains(string(text), ".slice") {
		t.Errorf("%v\n%s", err, text)
	}
	// The file is written only if something is new.
	if err := os.Remove(p.file.name); err != nil {
		t.Fatal(err)
	}
	if err := p.Save(r); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(p.file.name); err == nil {
		t.Error("nothing was new, and it was written")
	}
}

// What cannot be read is told, and begun anew; there is a bound for paths, and what is beyond it is counted.
func TestPlacesBounds(t *testing.T) {
	for _, text := range []string{"{", "[]", `{"a":"b"}`, `{"a":[1]}`} {
		state := t.TempDir()
		if err := os.WriteFile(filepath.Join(state, "places.json"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		p, err := openPlaces(state, anyUnit)
		if err == nil || len(p.known) != 0 {
			t.Errorf("%s: %v, %v", text, p.known, err)
		}
		p.note("web.service", []string{"/a.slice/web.service"})
		if err := p.Save(newRegistry(registryConfig{})); err != nil {
			t.Fatal(err)
		}
		if p, err = openPlaces(state, anyUnit); err != nil || len(p.known) != 1 {
			t.Errorf("after %s: %v, %v", text, p.known, err)
		}
	}
	p, err := openPlaces(t.TempDir(), anyUnit)
	if err != nil {
		t.Fatal(err)
	}
	var paths []string
	for i := range maxPaths + 3 {
		paths = append(paths, fmt.Sprintf("/%d.slice/a.service", i), "")
	}
	if n := p.note("long.service", []string{strings.Repeat("x", maxPlaceBytes), strings.Repeat("y", maxPlaceBytes+1)}); n != 1 {
		t.Errorf("%d of two long paths left out", n)
	}
	for i := range 200 {
		n, want := p.note(fmt.Sprintf("%d.service", i), paths), uint64(3)
		if i == 127 {
			want = 4 // of all there is one already
		} else if i > 127 {
			want = maxPaths + 3
		}
		if n != want {
			t.Fatalf("unit %d: %d left out, want %d", i, n, want)
		}
	}
	if p.count != maxPlaces {
		t.Errorf("%d paths", p.count)
	}
}

func FuzzPlaces(f *testing.F) {
	f.Add([]byte(`{"web.service":["/system.slice/web.service",""],"b":null}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		state := t.TempDir()
		if err := os.WriteFile(filepath.Join(state, "places.json"), text, 0o600); err != nil {
			t.Fatal(err)
		}
		p, err := openPlaces(state, anyUnit)
		if p == nil || err == nil != (json.Unmarshal(text, &map[string][]string{}) == nil) || p.count > maxPlaces {
			t.Errorf("%+v, %v", p, err)
		}
	})
}

// mute refuses to watch system calls.
type mute struct{ keptKeys }

func (mute) WatchSyscalls(bool) error { return errors.New("not now") }

// A unit of which something failed when it was admitted is expected all the same, at each of its places.
func TestExpectGoesOn(t *testing.T) {
	kernel := expecting{paths: map[string]sensor.WorkloadState{}}
	r := newTestRegistry(t, t.TempDir(), kernel, mute{keptKeys{}})
	p := baseline.New("web.service", "unit", event.AllDimensions)
	p.Add(event.Key{Op: event.OpExec, Path: "/bin/x"}, false, time.Unix(1_800_000_000, 0))
	if err := p.Promote(event.Enforce, "test"); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Store.Save("web.service", p); err != nil {
		t.Fatal(err)
	}
	err := r.Expect("web.service", []string{"/a.slice/web.service", "/b.slice/web.service"}, func(path string) (detect.Subject, bool) {
		return detect.Subject{Name: "web.service", Kind: "unit", Cgroup: path}, true
	})
	if err == nil || len(kernel.paths) != 2 {
		t.Errorf("%v, expected are %v", err, kernel.paths)
	}
}
