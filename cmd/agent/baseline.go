package main

import (
	"fmt"
	"slices"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"

	"github.com/plumbline-io/plumbline/cmd/internal/cli"
	"github.com/plumbline-io/plumbline/pkg/agent"
	"github.com/plumbline-io/plumbline/pkg/event"
)

func modes() []string { return []string{"off", "learn", "audit", "enforce"} }

func newBaseline() *cobra.Command {
	cmd := &cobra.Command{
		Use: "baseline", Short: "Record, compare and promote what workloads do",
		Long: `A baseline is what a workload has been seen to do: a YAML file, or what the running
agent has learnt. record, verify, diff, merge, generalise and seccomp work on files and
need no running agent; show, promote and allow ask it. They take a container's id, or
the name of the baseline that it has in common with others, also while none runs.`,
	}
	cmd.AddCommand(newRecord(), newVerify(), newDiff(), newMerge(), newGeneralise(), newSeccomp(), newShow(), newPromote(), newAllow())
	return cmd
}

func newShow() *cobra.Command {
	cmd := &cobra.Command{
		Use: "show WORKLOAD", Short: "Print a workload's baseline as YAML", Args: cli.Names("WORKLOAD"),
		Example: "  plumbline-agent baseline show nginx.service\n  plumbline-agent baseline show nginx.service -o json | jq .exec",
	}
	socket, output := socketFlag(cmd), outputFlag(cmd, "yaml")
	cmd.ValidArgsFunction = completeWorkloads(socket)
	cmd.RunE = work(func(cmd *cobra.Command, args []string) error {
		text, err := agent.NewClient(*socket).Baseline(cmd.Context(), args[0])
		if err != nil {
			return err
		}
		if *output == "json" {
			var fields map[string]any
			if err := yaml.Unmarshal(text, &fields); err != nil {
				return fmt.Errorf("read baseline of %q: %w", args[0], err)
			}
			return printJSON(cmd.OutOrStdout(), fields)
		}
		_, err = cmd.OutOrStdout().Write(text)
		return err
	})
	return cmd
}

func newPromote() *cobra.Command {
	cmd := &cobra.Command{
		Use: "promote WORKLOAD", Short: "Hold a workload to its baseline", Args: cli.Names("WORKLOAD"),
		Long: `promote ends learning and holds the workload to its baseline, in all dimensions that
it has. With --mode audit, what is outside of it is only reported, with enforce it is
denied. A baseline that was not learnt over two runs, that something new came into in
the last one, or with partial entries (found running, their start not seen) is refused,
unless --force says why it will do. To see runs from their start, start the workload
anew: systemctl restart. 'mode set' is the way back.

Containers of one namespace, name and image have one baseline. WORKLOAD is then the
id of one of them, or the baseline's name as status shows it: it is promoted for all.`,
		Example: `  plumbline-agent baseline promote nginx.service --mode audit
  plumbline-agent baseline promote nginx.service --mode enforce --force "ticket OPS-12"`,
	}
	mode := cmd.Flags().String("mode", "enforce", "audit or enforce")
	cli.Choice(cmd, "mode", "audit", "enforce")
	set := modeSetter(cmd)
	cmd.RunE = work(func(cmd *cobra.Command, args []string) error {
		if *mode != "audit" && *mode != "enforce" {
			return usageError{fmt.Errorf("read --mode: a baseline is promoted to audit or enforce, not to %q", *mode)}
		}
		return set(args[0], *mode)
	})
	return cmd
}

func newMode() *cobra.Command {
	cmd := &cobra.Command{
		Use: "mode", Short: "Change how a workload is held to its baseline",
		Example: "  plumbline-agent mode set nginx.service learn",
	}
	set := &cobra.Command{
		Use: "set WORKLOAD off|learn|audit|enforce", Short: "Set a workload's mode", Args: cli.Names("WORKLOAD", "MODE"),
		Long: `set puts a workload into another mode, at once. off lets it go. learn keeps the baseline
and goes on with it. audit reports what is outside of the baseline, and enforce denies
it: from learn and off under the conditions of 'baseline promote', else under none.
enforce again lets dimensions be enforced anew that had stepped down to audit.`,
		Example: `  plumbline-agent mode set nginx.service learn
  plumbline-agent mode set nginx.service enforce`,
	}
	setMode := modeSetter(set)
	set.RunE = work(func(_ *cobra.Command, args []string) error { return setMode(args[0], args[1]) })
	cmd.AddCommand(set)
	return cmd
}

// modeSetter gives a verb the flags of a change of mode, and returns what makes the change.
func modeSetter(cmd *cobra.Command) func(workload, mode string) error {
	socket, output := socketFlag(cmd), outputFlag(cmd, "table")
	force := cmd.Flags().String("force", "", "promote although the baseline is not complete; the `REASON` is kept in it")
	cmd.ValidArgsFunction = completeWorkloads(socket)
	return func(workload, mode string) error {
		m, err := event.ParseMode(mode)
		if err != nil {
			return usageError{err}
		}
		done, err := agent.NewClient(*socket).SetMode(cmd.Context(), workload, m, *force)
		if err != nil {
			return err
		}
		if *output == "json" {
			return printJSON(cmd.OutOrStdout(), done)
		}
		text := fmt.Sprintf("%s: %s", cli.Printable(workload), m)
		if done.Baseline != "" {
			text += fmt.Sprintf(" (baseline %s: %s)", cli.Printable(done.Baseline), containers(done.Containers))
		}
		_, err = fmt.Fprintln(cmd.OutOrStdout(), text)
		return err
	}
}

// containers counts those that have a baseline in words.
func containers(n int) string {
	switch n {
	case 0:
		return "no container has it now"
	case 1:
		return "1 container"
	}
	return fmt.Sprintf("%d containers", n)
}

// completeWorkloads offers the names that the running agent knows, and then the modes if the verb takes
// one.
func completeWorkloads(socket *string) func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if len(args) == 1 && cmd.Name() == "set" {
			return modes(), cobra.ShellCompDirectiveNoFileComp
		}
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return completeFromStatus(cmd, *socket, func(s agent.Status) (names []string) {
			for _, w := range s.Workloads {
				names = append(names, w.Name)
				if w.Baseline != "" && !slices.Contains(names, w.Baseline) {
					names = append(names, w.Baseline)
				}
			}
			return names
		})
	}
}
