package baseline

import "slices"

// Bounds of the paths of cgroups that a profile remembers.
const (
	maxCgroups     = 64
	maxCgroupBytes = 255 // of one
)

// NoteCgroup takes note of the path of a cgroup that the workload ran in, and says whether that is new. What there is no
// room for is not remembered.
func (p *Profile) NoteCgroup(path string) bool {
	if path == "" || len(path) > maxCgroupBytes || len(p.cgroups) >= maxCgroups || slices.Contains(p.cgroups, path) {
		return false
	}
	p.cgroups = append(slices.Clip(p.cgroups), path) // clones share what there was
	return true
}

// Cgroups are the paths of the cgroups that the workload ran in, on this node or, with a baseline that came from there,
// another one. The caller must not change them.
func (p *Profile) Cgroups() []string { return p.cgroups }
