package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/plumbline-io/plumbline/cmd/internal/cli"
	"github.com/plumbline-io/plumbline/pkg/agent"
	"github.com/plumbline-io/plumbline/pkg/baseline"
)

func newAllow() *cobra.Command {
	cmd := &cobra.Command{
		Use: "allow WORKLOAD KEY", Short: "Add one entry to a workload's baseline, whatever its mode", Args: cli.Names("WORKLOAD", "KEY"),
		Long: `allow adds one entry to the baseline that the running agent holds the workload to. It
takes effect at once, and nothing else changes: enforcement goes on. KEY is as alerts
and ` + "`plumbline-agent explain`" + ` show it: the path of an executable, or an operation and
what it is on; a path that ends in /** stands for all that is below. Log and alerts
("Baseline changed") keep the reason.`,
		Example: `  plumbline-agent baseline allow nginx.service /usr/bin/gzip --reason "ticket OPS-12"
  plumbline-agent baseline allow nginx.service 'connect tcp 10.0.0.7 port 5432' --reason "new database"
  plumbline-agent baseline allow nginx.service 'write /var/log/nginx/**' --reason "log rotation"`,
	}
	socket := socketFlag(cmd)
	reason := cmd.Flags().String("reason", "", "why; log and alerts keep the `TEXT` (required)")
	cmd.ValidArgsFunction = completeWorkloads(socket)
	cmd.RunE = atWork(func(cmd *cobra.Command, args []string) error {
		if *reason == "" {
			return usageError{errors.New("read --reason: say why the entry is added")}
		}
		k, err := baseline.ParseKey(args[1])
		if err != nil {
			return usageError{err}
		}
		added, err := agent.NewClient(*socket).Allow(cmd.Context(), args[0], k, *reason)
		if err != nil {
			return err
		}
		what := "added"
		if !added {
			what = "was allowed already"
		}
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: %s: %s\n", args[0], k, what)
		return err
	})
	return cmd
}
