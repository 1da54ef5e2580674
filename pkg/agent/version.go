package agent

import "github.com/plumbline-io/plumbline/pkg/baseline"

// versionDigits is how much of a digest people use.
const versionDigits = 12

// version of a profile, and how the profile was when it was computed: it only grows, but when a run begins.
type version struct {
	of            *baseline.Profile
	entries, runs int
	digits        string
}

func (v version) isOf(p *baseline.Profile) bool {
	return v.of == p && v.entries == p.Len() && v.runs == p.Runs()
}

// Versions tells the version of every workload's baseline. That of one that has changed is computed without the lock,
// which every event needs: a long one takes a moment.
func (r *registry) Versions() map[string]string {
	all := map[string]string{}
	for {
		m, of, copied := r.unversioned(all)
		if m == nil {
			return all
		}
		v := version{of: of, entries: copied.Len(), runs: copied.Runs(), digits: copied.Digest()[:versionDigits]}
		all[m.subject.Name] = v.digits
		r.mu.Lock()
		m.version = v
		r.mu.Unlock()
	}
}

// unversioned fills in what is known, and returns a workload of which it is not, with its profile and a copy of that.
func (r *registry) unversioned(known map[string]string) (*member, *baseline.Profile, *baseline.Profile) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	for name, m := range r.byName {
		if _, ok := known[name]; ok {
			continue
		}
		if !m.version.isOf(m.profile) {
			return m, m.profile, m.profile.Clone()
		}
		known[name] = m.version.digits
	}
	return nil, nil, nil
}

// DetailedStatus is the status with the versions of the baselines, which nobody counts or graphs.
func (a *Agent) DetailedStatus() (Status, error) {
	s, err := a.Status()
	if err != nil {
		return s, err
	}
	versions := a.registry.Versions()
	for i := range s.Workloads {
		s.Workloads[i].Version = versions[s.Workloads[i].Name]
	}
	return s, nil
}
