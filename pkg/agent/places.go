package agent

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"

	"github.com/plumbline-io/plumbline/pkg/workload"
)

// Bounds of what is remembered of where units ran.
const (
	maxPlaces     = 8192 // of all units; the kernel expects fewer
	maxPlaceBytes = 255  // of one
)

// places remembers for the next agent where the units ran that it has to expect. That is no part of their baselines, because
// an earlier version of the agent, which somebody may go back to, refuses a baseline with a field that it does not know.
type places struct {
	file    stateFile[map[string][]string] // paths of cgroups, by the unit's name
	known   map[string][]string
	count   int // of known paths
	changed bool
	leftOut atomic.Uint64 // of the paths that there are now, those that there is no room for
}

// openPlaces reads what earlier agents have kept of units that are wanted yet. If that cannot be read, it is as if there were
// nothing.
func openPlaces(stateDir string, wanted func(unit string) bool) (*places, error) {
	p := &places{file: stateFile[map[string][]string]{filepath.Join(stateDir, "places.json")}, known: map[string][]string{}}
	stored, err := p.file.Load()
	for _, unit := range slices.Sorted(maps.Keys(stored)) {
		if wanted(unit) {
			p.note(unit, stored[unit])
		}
	}
	p.changed = false
	return p, err
}

// Of a unit: the paths of the cgroups in which it ran. The caller must not change them.
func (p *places) Of(unit string) []string { return p.known[unit] }

// note says how many paths there was no room for.
func (p *places) note(unit string, paths []string) (leftOut uint64) {
	for _, path := range paths {
		switch {
		case path == "" || slices.Contains(p.known[unit], path):
		case len(path) > maxPlaceBytes, len(p.known[unit]) >= maxPaths, p.count >= maxPlaces:
			leftOut++
		default:
			p.known[unit] = append(p.known[unit], path)
			p.count++
			p.changed = true
		}
	}
	return leftOut
}

// Save writes the file if units ran elsewhere, or others have to be expected. Not safe for concurrent use.
func (p *places) Save(r *registry) error {
	var leftOut uint64
	for unit, paths := range r.places() {
		leftOut += p.note(unit, paths)
	}
	p.leftOut.Store(leftOut)
	if !p.changed {
		return nil
	}
	err := p.file.Save(p.known)
	p.changed = err != nil
	return err
}

// places lists the units that the next agent has to expect, and where.
func (r *registry) places() map[string][]string {
	r.mu.RLock()
	defer r.mu.RUnlock()
	all := map[string][]string{}
	for name, m := range r.byName {
		if m.subject.Kind == string(workload.Unit) && r.isExpected(name, m.subject.Mode) {
			all[name] = slices.Sorted(maps.Keys(m.paths))
		}
	}
	return all
}

func (a *Agent) openPlaces() (err error) {
	if a.places, err = openPlaces(a.cfg.StateDir, a.store.Has); err != nil {
		a.cfg.Log.Error("read where units ran: they are expected where systemd puts them, until they have run again", "error", err)
	}
	return nil
}

// Has says whether there is a baseline of a workload.
func (s *baselineStore) Has(workload string) bool {
	_, err := os.Lstat(s.file(workload))
	return err == nil
}
