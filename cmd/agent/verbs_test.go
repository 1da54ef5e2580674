package main

import (
	"strings"
	"testing"

	"github.com/plumbline-io/plumbline/pkg/agent"
)

// Below the table stands what is not held as the mode says, and why.
func TestStatusNotes(t *testing.T) {
	for want, w := range map[string]agent.WorkloadStatus{
		"shop: its baseline has no room, or no name, for all that was done, and can only be audited: file, network": {Full: []string{"file", "network"}},
		"shop: its mode stands in its baseline's file, and promote would have refused it: 0 of 2 runs seen":         {ByHand: "0 of 2 runs seen"},
	} {
		var out strings.Builder
		w.Name = "shop"
		if err := printWorkloads(&out, agent.Status{Workloads: []agent.WorkloadStatus{w}}); err != nil || !strings.Contains(out.String(), "\n"+want+"\n") {
			t.Errorf("%v, %q is not in\n%s", err, want, &out)
		}
	}
}
