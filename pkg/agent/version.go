package agent

import (
	"runtime/debug"
	"time"

	"github.com/plumbline-io/plumbline/pkg/baseline"
)

// versionOf is how much of a digest people use.
func versionOf(digest string) string { return digest[:12] }

// versioning is how long one question for versions may take: a node may have thousands of baselines.
const versioning = time.Second

// Versions tells the versions of the workloads' baselines, as they were saved last. That of one that was not saved yet
// since the agent started is computed without the lock, which every event needs; what there is no time for is left to
// the next question.
func (r *registry) Versions() map[string]string {
	all := map[string]string{}
	computed := false
	for begin := time.Now(); time.Since(begin) < versioning; computed = true {
		m, profile := r.unversioned(all)
		if m == nil {
			break
		}
		version := versionOf(profile.Digest())
		r.mu.Lock()
		if m.version == "" {
			m.version = version
		}
		r.mu.Unlock()
	}
	if computed {
		debug.FreeOSMemory() // the text of a baseline takes many times its memory
	}
	return all
}

// unversioned fills in what is known, and returns a workload of which it is not, with a copy of its baseline.
func (r *registry) unversioned(known map[string]string) (*member, *baseline.Profile) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	for name, m := range r.byName {
		if m.version == "" {
			return m, m.profile.Clone()
		}
		known[name] = m.version
	}
	return nil, nil
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
