package agent

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/plumbline-io/plumbline/pkg/detect"
	"github.com/plumbline-io/plumbline/pkg/event"
	"github.com/plumbline-io/plumbline/pkg/workload"
)

// expectUnits lets the kernel know the units that were promoted, or in which rules deny, and that do not run: by the
// paths of their cgroups they are held from their first process on, whenever they start.
func (a *Agent) expectUnits() error {
	units, err := a.store.Units(a.registry.isExpected)
	for _, name := range units {
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

// isExpected says whether a unit with a stored baseline has to be held from its first process on. Of the others there may be
// thousands: those that have another name each time.
func (r *registry) isExpected(name string, mode event.Mode) bool {
	return mode == event.AuditMode || mode == event.Enforce || matches(r.Protect, name) && !r.isGuarded(name)
}

// Expect admits a unit that has a baseline, at the paths where it ran before; none: where systemd puts it if nothing else
// is configured. at names the workload of a path, and says whether it is in scope. What fails keeps none of the other paths
// from being expected.
func (r *registry) Expect(name string, paths []string, at func(path string) (detect.Subject, bool)) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.byName[name] != nil {
		return nil // it runs
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

// Units lists the units that have a baseline, and are wanted.
func (s *baselineStore) Units(wanted func(name string, mode event.Mode) bool) ([]string, error) {
	files, err := filepath.Glob(filepath.Join(s.dir, "*"+fileSuffix))
	if err != nil {
		return nil, fmt.Errorf("list baselines: %w", err)
	}
	var names []string
	for _, file := range files {
		head, err := readHead(file)
		if err != nil {
			continue // gone meanwhile, or damaged, which is told when the workload starts
		}
		if mode, err := event.ParseMode(head.Mode); err == nil && head.Kind == string(workload.Unit) && wanted(head.Workload, mode) {
			names = append(names, head.Workload)
		}
	}
	return names, nil
}

// baselineHead is what a stored baseline begins with.
type baselineHead struct {
	Workload string `yaml:"workload"`
	Kind     string `yaml:"workloadKind"`
	Mode     string `yaml:"mode"`
}

// readHead reads no more of a file than that: to parse all of every baseline would take seconds.
func readHead(file string) (head baselineHead, err error) {
	f, err := os.Open(file)
	if err != nil {
		return head, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, headBytes))
	if err != nil {
		return head, err
	}
	const last = "\nmode: "
	at := bytes.Index(text, []byte(last))
	if at < 0 {
		return head, errors.New("it has no mode")
	}
	end := bytes.IndexByte(text[at+1:], '\n')
	if end < 0 {
		return head, errors.New("its mode has no end")
	}
	err = yaml.Unmarshal(text[:at+1+end], &head)
	return head, err
}
