package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/plumbline-io/plumbline/cmd/internal/cli"
	"github.com/plumbline-io/plumbline/pkg/agent"
)

func newRelease() *cobra.Command {
	cmd := &cobra.Command{
		Use: "release WORKLOAD", Short: "Let a quarantined workload go on", Args: cli.Names("WORKLOAD"),
		Long: `release lets the processes of a workload go on that a rule with action quarantine has
stopped. Without it they go on when quarantine_limit of the configuration is over, when
enforcement is paused, and when what the agent left is unloaded. 'status' lists them.
It is told as an alert.`,
		Example: "  plumbline-agent release shop.service --reason 'incident 4711 is closed'\n" +
			"  plumbline-agent status -o json | jq -r '.quarantined[].workload'",
	}
	socket, output := socketFlag(cmd), outputFlag(cmd, "text")
	reason := cmd.Flags().String("reason", "somebody asked for it", "why; it is in the alert")
	cmd.ValidArgsFunction = completeQuarantined(socket)
	cmd.RunE = work(func(cmd *cobra.Command, args []string) error {
		if err := agent.NewClient(*socket).Release(cmd.Context(), args[0], *reason); err != nil {
			return err
		}
		if *output == "json" {
			return printJSON(cmd.OutOrStdout(), map[string]string{"workload": args[0], "reason": *reason})
		}
		_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s: goes on\n", cli.Printable(args[0]))
		return err
	})
	return cmd
}

// completeQuarantined offers the workloads that can be released.
func completeQuarantined(socket *string) func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return completeFromStatus(cmd, *socket, func(s agent.Status) (names []string) {
			for _, q := range s.Quarantined {
				names = append(names, q.Workload)
			}
			return names
		})
	}
}

// completeFromStatus offers names that the running agent tells.
func completeFromStatus(cmd *cobra.Command, socket string, names func(agent.Status) []string) ([]string, cobra.ShellCompDirective) {
	s, err := agent.NewClient(socket).Status(cmd.Context())
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	return names(s), cobra.ShellCompDirectiveNoFileComp
}
