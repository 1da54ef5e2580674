package enforce

import (
	"slices"
	"strings"
	"testing"

	"github.com/plumbline-io/plumbline/pkg/event"
)

// What users are told of an operation's hooks is what is attached for it, and all of that.
func TestHooksOfOperations(t *testing.T) {
	var attached, told []string
	for _, h := range lateHooks() {
		attached = append(attached, h.name)
	}
	for _, h := range securityHooks() {
		attached = append(attached, h.lsm)
	}
	for _, h := range cgroupHooks() {
		attached = append(attached, h.section)
	}
	for op := event.OpExec; op < event.OpCount; op++ {
		hooks := op.Hooks()
		if len(hooks) == 0 && op != event.OpSyscall {
			t.Errorf("%s has no hooks", op)
		}
		for _, h := range hooks {
			if !slices.Contains(attached, h) {
				t.Errorf("%s: there is no hook %s", op, h)
			}
		}
		told = append(told, hooks...)
	}
	// These ask no baseline: they keep what is known about inodes up to date, stand in for those of cgroups, or keep
	// containers from the agent.
	helping := []string{"inode_rename", "inode_link", "socket_connect", "bpf_map", "bpf_prog"}
	for _, h := range attached {
		if !slices.Contains(told, h) && !slices.Contains(helping, h) {
			t.Errorf("%s is of no operation", h)
		}
	}
	if !slices.ContainsFunc(told, func(h string) bool { return strings.HasPrefix(h, "cgroup/") }) {
		t.Error("no hooks of cgroups")
	}
}
