package agent

import (
	"strings"

	"github.com/plumbline-io/plumbline/pkg/detect"
)

// shortID is how many digits of a container's id are enough to know it by; its workload is named so.
const shortID = 12

// Container finds the workload of a container by its id or the first digits of it. False: nobody we know,
// or more than one. Whoever may make cgroups may give one the name of another's container, but only below
// its own: the workload that is nobody else's part wins.
func (r *registry) Container(id string) (detect.Subject, bool) {
	if len(id) < shortID {
		return detect.Subject{}, false
	}
	r.mu.RLock()
	defer r.mu.RUnlock()
	if m, ok := r.byName[id[:shortID]]; ok && strings.HasPrefix(m.subject.ContainerID, id) {
		return m.subject, true
	}
	var found *member
	for _, m := range r.byName {
		if !strings.HasPrefix(m.subject.ContainerID, id) {
			continue
		}
		if found != nil {
			return detect.Subject{}, false
		}
		found = m
	}
	if found == nil {
		return detect.Subject{}, false
	}
	return found.subject, true
}
