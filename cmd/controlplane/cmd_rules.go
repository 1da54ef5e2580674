package main

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/plumbline-io/plumbline/cmd/internal/cli"
	"github.com/plumbline-io/plumbline/pkg/rule"
)

func newRules() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "rules",
		Short: "Check, test, explain, replay and lay out rule files",
		Long: `Work on rule files, without a control plane and without an agent. Rules are in Falco's form.

A directory stands for every *.yaml below it, in the order of their names, but for tests (*_test.yaml)
and what is hidden. Files are loaded together, in the order in which they are named: later ones may use
the macros and lists of earlier ones, and replace their rules.

A rule may have keys that Falco does not know:

  action: deny               # alert; deny: the call returns EPERM; kill: its process is killed too;
                             # quarantine, drain, restart, evict: of the whole workload, after the alert
  mode: enforce              # of all but alert: audit alerts, enforce does it; off: the rule is disabled
  attack: [T1059.004]        # techniques of MITRE ATT&CK
  window: {count: 50, within: 10s, by: [proc.exepath], distinct: [fd.sip, fd.sport]}

Without them a rule alerts, and its mode is audit. Deny and kill with mode enforce stop what the rule
matches in protected workloads: those in mode enforce, and those that "protect" in the agent's
configuration names. In others the alert says what would have been stopped. The kernel has to decide
the whole condition: lint names each part that it cannot, and explain says where what is decided.

The other actions are taken by the agent, in the same workloads, if mode is enforce and "responses: on"
stands in its configuration: quarantine stops all processes until somebody releases them or the time is
over; drain asks the workload to end (systemd unit, pod by eviction, else SIGTERM to the main process);
restart lets it be started anew; evict takes a pod from the node, against its disruption budget too. One
in ten minutes for a workload; the alert says what became of it.

With a window it raises an alert when so many matches (2 to 10000) of one workload fall within a time
(24h at most), counted for each combination of the values of by. With distinct, different values are counted
(2 to 1000). Then it is silent for that time; %window.count in its output is how many there were.

Rules of source internal are asked about the alerts of other rules, not about what the agent tells of itself:
alert.rule, alert.severity, alert.tags, alert.attack, and alert.family, the first tag. 'rules fields' lists what
rules can ask for.`,
		Example: `  plumbline rules lint --strict /etc/plumbline/rules
  plumbline rules test /etc/plumbline/rules
  plumbline rules explain 'Web server spawns shell'`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newRulesLint(), newRulesTest(), newRulesList(), newRulesFields(), newRulesExplain(), newRulesEval(), newRulesFmt())
	return cmd
}

// fault is what a command found wrong once it had done its work.
type fault struct {
	error
	code int
}

func (e fault) Unwrap() error { return e.error }

// hinted is an error with advice.
type hinted struct {
	error
	hint string
}

func (e hinted) Unwrap() error { return e.error }

// workOn is work for commands with arguments.
func workOn(do func(*cobra.Command, []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		return work(func(cmd *cobra.Command) error { return do(cmd, args) })(cmd, nil)
	}
}

// outputFlag adds -o, with the first format as the default.
func outputFlag(cmd *cobra.Command, output *string, formats ...string) {
	cmd.Flags().StringVarP(output, "output", "o", formats[0], strings.Join(formats, ", "))
	// It fails only for a flag that does not exist.
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(formats, cobra.ShellCompDirectiveNoFileComp))
	do := cmd.RunE
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if !slices.Contains(formats, *output) {
			return workError{usageError{fmt.Errorf("read --output: %q is none of %s", *output, strings.Join(formats, ", "))}}
		}
		return do(cmd, args)
	}
}

func builtInFlag(cmd *cobra.Command, builtIn *bool) {
	cmd.Flags().BoolVar(builtIn, "builtin", false, "load the built-in rules first, as the agent does")
}

// yamlFiles completes the names of rule files.
func yamlFiles(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return []string{"yaml"}, cobra.ShellCompDirectiveFilterFileExt
}

// count writes a number with the right form of its noun.
func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// paint colours a text where that is wanted.
func paint(colour bool, code, text string) string {
	if !colour {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

const (
	red    = "31"
	yellow = "33"
	green  = "32"
	bold   = "1"
)

// refused prints the errors in rules, and sums them up. Warnings are for lint.
func refused(out io.Writer, problems []rule.Problem) error {
	n := 0
	for _, p := range problems {
		if p.Warning {
			continue
		}
		n++
		if _, err := fmt.Fprintf(out, "%s\n", cli.Printable(p.Error())); err != nil {
			return err
		}
	}
	if n == 0 {
		return nil
	}
	return hinted{fault{errors.New(count(n, "error") + " in the rules; what they are about is left out"), exitUsage}, "'plumbline rules lint' shows them in their places"}
}
