package agent

import (
	"errors"
	"fmt"
	"maps"
	"strings"

	"github.com/plumbline-io/plumbline/pkg/detect"
	"github.com/plumbline-io/plumbline/pkg/response"
	"github.com/plumbline-io/plumbline/pkg/workload"
)

// standing is what decides whether there are responses in a workload. Without a name nobody knows it.
type standing struct {
	detect.Subject
	guarded, protected bool
}

// standing of a workload. The agent's own and the root cgroup are guarded whatever the configuration names.
func (r *registry) standing(id uint32) standing {
	r.mu.RLock()
	defer r.mu.RUnlock()
	m := r.member(id)
	if m == nil {
		return standing{}
	}
	never := m.subject.Name == r.Own || m.subject.Kind == string(workload.Host)
	return standing{m.subject, never || r.isGuarded(m.subject.Name), r.isProtected(m)}
}

// cgroupsOf lists the cgroups of a workload.
func (r *registry) cgroupsOf(id uint32) map[uint64]bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if m := r.member(id); m != nil {
		return maps.Clone(m.cgroups)
	}
	return nil
}

// targetAmong finds the cgroups that are a workload's tops, and refuses those that hold others too.
func targetAmong(nodes []cgroup, h *workload.Hierarchy, members map[uint64]bool, name string) (response.Target, error) {
	t := response.Target{Hierarchy: h}
	tops := map[string]bool{}
	for _, n := range nodes {
		if w := h.Resolve(n.Path); members[n.ID] && w.Name == name {
			t.Workload = w
			tops[w.Cgroup] = true
		}
	}
	if len(tops) == 0 {
		return t, errors.New("it has no cgroup any more")
	}
	for _, n := range nodes {
		if tops[n.Path] {
			t.Tops = append(t.Tops, n)
		}
		for top := range tops {
			if !strings.HasPrefix(n.Path, strings.TrimSuffix(top, "/")+"/") {
				continue
			}
			if w := h.Resolve(n.Path); w.Name != name {
				return t, fmt.Errorf("its cgroup %s holds another workload too: %s", top, w.Name)
			}
		}
	}
	if len(t.Tops) != len(tops) {
		return t, errors.New("a part of it is not in scope")
	}
	return t, nil
}
