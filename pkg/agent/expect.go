package agent

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/plumbline-io/plumbline/pkg/detect"
	"github.com/plumbline-io/plumbline/pkg/event"
	"github.com/plumbline-io/plumbline/pkg/workload"
)

// expectUnits lets the kernel know the units that were promoted, or in which rules deny, and that do not run: by the
// paths of their cgroups they are held from their first process on, whenever they start.
func (a *Agent) expectUnits() error {
	units, err := a.store.Units()
	names, leftOut := a.registry.expectable(units)
	a.unitsLeftOut = uint64(leftOut)
	for _, name := range names {
		err = errors.Join(err, a.registry.Expect(name, a.places.Of(name), a.host.SubjectAt))
	}
	if err != nil { // the others are held, and these once they run
		a.cfg.Log.Error("expect units that do not run", "error", err)
	}
	return nil
}

// SubjectAt names the workload of a cgroup that may be made at a path. False: it would not be in scope.
func (h *host) SubjectAt(path string) (detect.Subject, bool) {
	inScope := len(h.scope) == 0
	for _, dir := range h.scope {
		top, err := h.hierarchy.Node(dir)
		inScope = inScope || err == nil && (path == top.Path || strings.HasPrefix(path, strings.TrimSuffix(top.Path, "/")+"/"))
	}
	return h.Subject(path), inScope
}

// isHeld says whether a baseline in this mode holds its workload from its first process on.
func isHeld(mode event.Mode) bool { return mode == event.AuditMode || mode == event.Enforce }

// isExpected says whether that, or a rule that denies, is so of a unit.
func (r *registry) isExpected(name string, mode event.Mode) bool {
	return isHeld(mode) || matches(r.Protect, name) && !r.isGuarded(name)
}

// storedUnit is a unit that has a baseline.
type storedUnit struct {
	name  string
	mode  event.Mode
	saved time.Time
}

// maxUnheld is how many units are expected in which rules deny, and that are held to no baseline: what each of them has
// learnt takes room in the kernel from those that are.
const maxUnheld = 128

// expectable chooses the units that have to be held from their first process on: all that were promoted, and of those in
// which rules deny the ones that ran last. Of both there may be thousands of the others: those that have another name
// each time, such as the instances of a socket's service.
func (r *registry) expectable(units []storedUnit) (names []string, leftOut int) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	var unheld []storedUnit
	for _, u := range units {
		switch {
		case r.byName[u.name] != nil: // it runs
		case isHeld(u.mode):
			names = append(names, u.name)
		case r.isExpected(u.name, u.mode):
			unheld = append(unheld, u)
		}
	}
	slices.SortStableFunc(unheld, func(a, b storedUnit) int { return b.saved.Compare(a.saved) })
	for i, u := range unheld {
		if i == maxUnheld {
			return names, len(unheld) - maxUnheld
		}
		names = append(names, u.name)
	}
	return names, 0
}

// Expect admits a unit that has a baseline, at the paths where it ran before; none: where systemd puts it if nothing else
// is configured. at names the workload of a path, and says whether it is in scope. What fails keeps none of the other paths
// from being expected.
func (r *registry) Expect(name string, paths []string, at func(path string) (detect.Subject, bool)) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.byName[name] != nil {
		return nil
	}
	stored, mode, err := r.Store.Load(name)
	if err != nil || stored == nil {
		return nil // one that cannot be read is told when it starts
	}
	if len(paths) == 0 {
		paths = []string{usualCgroup(name)}
	}
	var m *member
	var errs []error
	for _, path := range paths {
		subject, inScope := at(path)
		if !inScope || subject.Name != name || subject.Kind != string(workload.Unit) {
			continue
		}
		if m == nil {
			m, err = r.enrol(subject, r.open(name, subject, stored, mode, nil)) // it is a member in any case
			errs = append(errs, err)
		}
		errs = append(errs, r.expect(m, subject))
	}
	return errors.Join(errs...)
}

// usualCgroup is where systemd makes the cgroup of a unit, unless a slice is configured for it: systemd.unit(5),
// systemd.special(7). Instances of a template share a slice.
func usualCgroup(unit string) string {
	slice := "/system.slice/"
	if template, _, ok := strings.Cut(unit, "@"); ok {
		slice += "system-" + strings.ReplaceAll(template, "-", `\x2d`) + ".slice/"
	}
	return slice + unit
}

// Units lists the units that have a baseline.
func (s *baselineStore) Units() ([]storedUnit, error) {
	files, err := filepath.Glob(filepath.Join(s.dir, "*"+fileSuffix))
	if err != nil {
		return nil, fmt.Errorf("list baselines: %w", err)
	}
	var units []storedUnit
	for _, file := range files {
		head, saved, err := readHead(file)
		if err != nil {
			continue // gone meanwhile, or damaged, which is told when the workload starts
		}
		if mode, err := event.ParseMode(head.Mode); err == nil && head.Kind == string(workload.Unit) {
			units = append(units, storedUnit{head.Workload, mode, saved})
		}
	}
	return units, nil
}

// baselineHead is what a stored baseline begins with.
type baselineHead struct {
	Workload string `yaml:"workload"`
	Kind     string `yaml:"workloadKind"`
	Mode     string `yaml:"mode"`
}

// readHead reads no more of a file than that: to parse all of every baseline would take seconds.
func readHead(file string) (head baselineHead, saved time.Time, err error) {
	f, err := os.Open(file)
	if err != nil {
		return head, saved, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return head, saved, err
	}
	saved = info.ModTime()
	text, err := io.ReadAll(io.LimitReader(f, headBytes))
	if err != nil {
		return head, saved, err
	}
	const last = "\nmode: "
	at := bytes.Index(text, []byte(last))
	if at < 0 {
		return head, saved, errors.New("it has no mode")
	}
	end := bytes.IndexByte(text[at+1:], '\n')
	if end < 0 {
		return head, saved, errors.New("its mode has no end")
	}
	err = yaml.Unmarshal(text[:at+1+end], &head)
	return head, saved, err
}
