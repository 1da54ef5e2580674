package enforce

import (
	"strings"
	"testing"

	"github.com/plumbline-io/plumbline/pkg/event"
)

// What is read for a rung has all that it attaches, what rules have attached later, and nothing of the rungs beside it.
func TestReadObject(t *testing.T) {
	for _, r := range []rung{{strength: LSM}, {strength: FmodRet}, {strength: Fanotify}, {strength: Signal}, {strength: Cgroup}} {
		spec, err := readObject(r.strength)
		if err != nil {
			t.Fatal(err)
		}
		for _, h := range wanted(r, Config{Dimensions: event.AllDimensions, Cgroups: []string{"/"}}) {
			if spec.Programs[h.program] == nil {
				t.Errorf("%s: no program %s", r.strength, h.program)
			}
		}
		for _, h := range lateHooks() {
			if spec.Programs[h.program] == nil {
				t.Errorf("%s: no program %s", r.strength, h.program)
			}
		}
		for name, program := range spec.Programs {
			if r.strength != LSM && strings.HasPrefix(program.SectionName, "lsm") || r.strength != FmodRet && strings.HasPrefix(program.SectionName, "fmod_ret") {
				t.Errorf("%s: program %s of %s", r.strength, name, program.SectionName)
			}
		}
	}
	if got, err := readObject(Auto); err != nil || got.Programs[acceptProgram] == nil || len(got.Maps) == 0 {
		t.Errorf("of no rung: %v, %v", got, err)
	}
}
