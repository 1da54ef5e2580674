package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/plumbline-io/plumbline/pkg/agent"
)

func newPause() *cobra.Command {
	cmd := &cobra.Command{
		Use: "pause", Short: "Stop all enforcement at once, for a time", Args: cobra.NoArgs,
		Long: `pause is the break-glass switch: from now on nothing is denied on this node, and what
would be is audited; what is quarantined goes on. The kernel ends the pause by itself,
also without the agent, and an agent that is started anew meanwhile goes on with it.
It is told as an alert, with the --reason, which has to be given. The file that
break_glass names in the configuration does the same while it is there, for an hour from
its modification time on; one from the future is not obeyed. Without an agent,
'plumbline-agent unload' ends enforcement.`,
		Example: "  plumbline-agent pause --for 10m --reason 'incident 4711'\n  plumbline-agent resume --reason 'it was not us'",
	}
	length := cmd.Flags().Duration("for", 10*time.Minute, "`DURATION` of the pause, more than 0 and at most 1h")
	return pausing(cmd, func() (time.Duration, error) {
		if *length <= 0 || *length > time.Hour {
			return 0, usageError{fmt.Errorf("read --for: %s is not more than nothing and at most an hour", *length)}
		}
		return *length, nil
	})
}

func newResume() *cobra.Command {
	cmd := &cobra.Command{
		Use: "resume", Short: "End a pause of enforcement", Args: cobra.NoArgs,
		Long: `resume ends a pause before its time. It is told as an alert, with the --reason, which
has to be given. It is refused while the break-glass file asks for a pause: remove that.`,
		Example: "  plumbline-agent resume --reason 'it was not us'",
	}
	return pausing(cmd, func() (time.Duration, error) { return 0, nil })
}

// pausing gives a verb what both have in common.
func pausing(cmd *cobra.Command, length func() (time.Duration, error)) *cobra.Command {
	socket, reason := socketFlag(cmd), cmd.Flags().String("reason", "", "why; the alert keeps the `TEXT` (required)")
	cmd.RunE = work(func(cmd *cobra.Command, _ []string) error {
		d, err := length()
		if err != nil {
			return err
		}
		if *reason == "" {
			return usageError{errors.New("read --reason: it has to be given")}
		}
		if err := agent.NewClient(*socket).Pause(cmd.Context(), d, *reason); err != nil {
			return err
		}
		if d == 0 {
			fmt.Fprintln(cmd.OutOrStdout(), "enforcement goes on")
			return nil
		}
		fmt.Fprintf(cmd.OutOrStdout(), "nothing is denied until %s\n", time.Now().Add(d).Format(time.TimeOnly))
		return nil
	})
	return cmd
}
