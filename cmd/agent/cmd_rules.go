package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/plumbline-io/plumbline/cmd/internal/cli"
	"github.com/plumbline-io/plumbline/pkg/agent"
)

func newRules() *cobra.Command {
	cmd := &cobra.Command{
		Use: "rules", Short: "Reload the rules of the running agent",
		Example: "  plumbline-agent rules reload",
	}
	cmd.AddCommand(newRulesReload())
	return cmd
}

func newRulesReload() *cobra.Command {
	cmd := &cobra.Command{
		Use: "reload", Short: "Let the running agent read its rules again", Args: cobra.NoArgs,
		Long: `reload lets the agent read its rule files again, as it does by itself when they change and at SIGHUP.
The new rules replace the old ones at once, for every event from the next one on. If anything in
the files is wrong, the rules in force stay.

Exit codes: 0 the rules of the files are in force; 1 they are wrong, or no agent answers; 2 wrong usage.`,
		Example: "  plumbline-agent rules reload\n  plumbline-agent rules reload -o json | jq .problems",
	}
	socket, output := socketFlag(cmd), outputFlag(cmd, "text")
	cmd.RunE = work(func(cmd *cobra.Command, _ []string) error {
		s, err := agent.NewClient(*socket).ReloadRules(cmd.Context())
		switch {
		case err != nil:
			return err
		case *output == "json":
			err = printJSON(cmd.OutOrStdout(), s)
		default:
			printRules(cmd.OutOrStdout(), s)
		}
		if err == nil && len(s.Problems) > 0 {
			err = errFindings
		}
		return err
	})
	return cmd
}

// printRules tells which rules are in force, what is wrong with their files, what the kernel does of them, and
// which of them stop something.
func printRules(w io.Writer, s agent.RulesStatus) {
	fmt.Fprintf(w, "rules: %d in force since %s, %d switched off; reloaded %d times, refused %d times\n",
		s.Rules, s.Loaded.Local().Format(time.DateTime), s.Disabled, s.Reloads, s.Refused)
	if s.Unwatched != "" {
		fmt.Fprintln(w, "rules: changes of the files are not noticed:", cli.Printable(s.Unwatched))
	}
	for _, p := range s.Problems {
		fmt.Fprintln(w, "rules: wrong:", cli.Printable(p))
	}
	fmt.Fprintf(w, "rules: the kernel has generation %d of them, %d entries\n", s.Kernel.Generation, s.Kernel.Entries)
	if s.Kernel.Problem != "" {
		fmt.Fprintln(w, "rules: none is in force in the kernel:", cli.Printable(s.Kernel.Problem))
	}
	if len(s.Kernel.Blind) > 0 {
		fmt.Fprintln(w, "rules: asked about and not seen by this kernel:", strings.Join(s.Kernel.Blind, ", "))
	}
	if n := s.Names; n != nil {
		text := fmt.Sprintf("%d of %d have addresses", n.Known, n.Wanted)
		if n.Off {
			text = fmt.Sprintf("%d are not asked for: name_interval is 0", n.Wanted)
		} else if n.LastError != "" {
			text += "; " + cli.Printable(n.LastError)
		}
		fmt.Fprintln(w, "rules: names of hosts:", text)
	}
	for _, r := range s.Stopping {
		cannot := ""
		if r.Cannot != "" {
			cannot = "; cannot " + r.Cannot
		}
		fmt.Fprintf(w, "rules: %s (mode %s): %s%s\n", r.Action, r.Mode, cli.Printable(r.Name), cannot)
	}
	for _, r := range s.Responding {
		fmt.Fprintf(w, "rules: %s (mode %s): %s\n", r.Action, r.Mode, cli.Printable(r.Name))
	}
}
