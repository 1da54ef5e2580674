package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/plumbline-io/plumbline/pkg/bus"
	"github.com/plumbline-io/plumbline/pkg/controlplane"
)

func newAgents() *cobra.Command {
	var o clientOptions
	cmd := &cobra.Command{
		Use:   "agents",
		Short: "Show the agents, what works on each and what each lost",
		Long: `Show every agent that was ever heard of. STATE is healthy, late (missed two heartbeats) or lost
(missed ten). MODES counts workloads; in capitals are the enforced ones that are held to less than
their baselines say: PAUSED, STEPPED_DOWN, BLIND (hooks are missing), UNPINNED (ends with the agent),
UNFIT (the kernel has no room for all of it). HOOKS is how many hooks are supported, of how many.
LOST counts events and alerts that the agent could not deliver since it started; MISSING counts gaps
in the alerts that were stored. FALCO counts the alerts that the agent took from the Falco of its node
since it started; ERROR: none can be had, or what came last was refused; -: it takes none. The reasons
for all these, and for each hook, are in -o json.`,
		Example: `  plumbline agents
  plumbline agents -o json | jq '.heartbeat.support[] | select(.supported | not)'`,
		Args: cobra.NoArgs,
		RunE: work(func(cmd *cobra.Command) error { return runAgents(cmd, o) }),
	}
	o.register(cmd)
	return cmd
}

func runAgents(cmd *cobra.Command, o clientOptions) error {
	c, err := o.dial()
	if err != nil {
		return err
	}
	defer c.Close()
	var rows [][]string
	err = c.Request(cmd.Context(), "agents", nil, func(item json.RawMessage) error {
		if o.output == "json" {
			return writeLine(cmd.OutOrStdout(), item)
		}
		var a controlplane.AgentItem
		if err := json.Unmarshal(item, &a); err != nil {
			return fmt.Errorf("read agent: %w", err)
		}
		rows = append(rows, agentRow(a))
		return nil
	})
	if err != nil || o.output == "json" {
		return err
	}
	return newTable(cmd.OutOrStdout(), "NODE", "CLUSTER", "STATE", "LAST SEEN", "VERSION", "KERNEL", "MODES", "HOOKS",
		"LOST", "STORED", "MISSING", "FALCO", "RSS MIB").print(rows)
}

func agentRow(a controlplane.AgentItem) []string {
	hb := a.Heartbeat
	supported, lost := 0, uint64(0)
	for _, s := range hb.Support {
		if s.Supported {
			supported++
		}
	}
	for _, n := range hb.Lost {
		lost += n
	}
	var modes []string
	for _, m := range slices.Sorted(maps.Keys(hb.Modes)) {
		modes = append(modes, fmt.Sprintf("%s=%d", m, hb.Modes[m]))
	}
	for _, reason := range slices.Sorted(maps.Keys(hb.Weakened)) {
		modes = append(modes, fmt.Sprintf("%s=%d", strings.ToUpper(reason), hb.Weakened[reason]))
	}
	return []string{
		hb.Node, hb.Cluster, a.State, a.LastSeen.UTC().Format(time.RFC3339), hb.Version, hb.Kernel,
		strings.Join(modes, " "), fmt.Sprintf("%d/%d", supported, len(hb.Support)),
		strconv.FormatUint(lost, 10), strconv.FormatUint(a.Stored, 10), strconv.FormatUint(a.Missing, 10), falcoOf(hb.Inputs),
		strconv.FormatFloat(float64(hb.RSS)/(1<<20), 'f', 1, 64),
	}
}

// falcoOf says what came of a node's Falco.
func falcoOf(inputs []bus.Input) string {
	if len(inputs) == 0 {
		return "-"
	}
	alerts, state := uint64(0), ""
	for _, i := range inputs {
		alerts += i.Alerts
		if i.LastError != "" {
			state = " ERROR"
		}
	}
	return strconv.FormatUint(alerts, 10) + state
}
