package agent

import (
	"path/filepath"
	"strings"
	"testing"
)

// Two agents that have nothing in common but their state directory would overwrite what the other keeps there.
func TestOneAgentForAStateDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	first, second := &Agent{cfg: Config{StateDir: dir}}, &Agent{cfg: Config{StateDir: dir}}
	if err := first.lockState(); err != nil {
		t.Fatal(err)
	}
	err := second.lockState()
	if err == nil || !strings.Contains(err.Error(), "lock state directory "+dir+": in use by another agent") || !IsInUse(err) {
		t.Errorf("got %v", err)
	}
	if err := first.stateLock.Close(); err != nil {
		t.Fatal(err)
	}
	if err := second.lockState(); err != nil {
		t.Errorf("after the first has ended: %v", err)
	}
	if err := second.Close(); err != nil {
		t.Error(err)
	}
}
