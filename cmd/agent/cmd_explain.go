package main

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/plumbline-io/plumbline/cmd/internal/cli"
	"github.com/plumbline-io/plumbline/pkg/agent"
	"github.com/plumbline-io/plumbline/pkg/alert"
	"github.com/plumbline-io/plumbline/pkg/baseline"
)

func newExplain() *cobra.Command {
	cmd := &cobra.Command{
		Use: "explain ALERT", Short: "Say why there is an alert, and what would allow it", Args: cli.Names("ALERT"),
		Long: `explain tells which rule or baseline entry decided, at which hook and in which mode,
whether the baseline holds the operation now, which entries come nearest, and the exact
command and YAML that would add it.

ALERT is a file with one alert as JSON, or - for standard input: a line as ` + "`run --alerts`" + `
writes it and ` + "`plumbline alerts -o json`" + ` prints it. With --alerts, it is the ID or the
fingerprint of an alert in that file of JSON lines. The baseline is the running agent's,
unless --against names a file.`,
		Example: `  tail -1 alerts.json | plumbline-agent explain -
  plumbline-agent explain --alerts alerts.json node1.6f1d2c.42
  plumbline-agent explain alert.json --against nginx.yaml -o json`,
	}
	formats := []string{"text", "json"}
	socket, output := socketFlag(cmd), formatFlag(cmd, formats...)
	alerts := cmd.Flags().String("alerts", "", "look the alert up by its ID in this `FILE` of JSON lines")
	against := cmd.Flags().String("against", "", "baseline `FILE` to ask instead of the running agent")
	_ = cmd.MarkFlagFilename("alerts")
	_ = cmd.MarkFlagFilename("against", "yaml", "yml")
	cmd.RunE = atWork(func(cmd *cobra.Command, args []string) error {
		if err := checkFormat(*output, formats...); err != nil {
			return err
		}
		a, err := findAlert(cmd, *alerts, args[0])
		if err != nil {
			return usageError{err}
		}
		x := agent.ExplainAlert(a)
		if agent.IsDrift(a) {
			if err := explainAgainst(cmd, &x, *against, *socket); err != nil {
				return err
			}
		}
		if *output == "json" {
			return printJSON(cmd.OutOrStdout(), x)
		}
		return printExplanation(cmd.OutOrStdout(), x)
	})
	return cmd
}

// findAlert takes the alert from where the user says it is.
func findAlert(cmd *cobra.Command, alerts, name string) (alert.Alert, error) {
	switch {
	case alerts == "" && name == "-":
		return agent.ReadAlert("standard input", cmd.InOrStdin())
	case alerts == "-":
		return agent.FindAlert("standard input", cmd.InOrStdin(), name)
	}
	file := alerts
	if file == "" {
		file = name
	}
	f, err := os.Open(file)
	if err != nil {
		return alert.Alert{}, fmt.Errorf("read alert: %w", err)
	}
	defer f.Close()
	if alerts == "" {
		return agent.ReadAlert(file, f)
	}
	return agent.FindAlert(file, f, name)
}

// explainAgainst asks the baseline. That no agent answers leaves the rest of the explanation.
func explainAgainst(cmd *cobra.Command, x *agent.AlertExplanation, file, socket string) error {
	var p *baseline.Profile
	from := "the running agent"
	var err error
	if file != "" {
		from = file
		if p, err = readProfile(cmd, file); err != nil {
			return usageError{err}
		}
	} else {
		var yaml []byte
		if yaml, err = agent.NewClient(socket).Baseline(cmd.Context(), cmp.Or(x.Common, x.Workload)); err == nil {
			p, err = baseline.Parse(from, yaml)
		}
		if err != nil {
			x.Unknown = err.Error() + "; --against names a file instead"
			return nil
		}
	}
	if err := x.Against(from, p); err != nil {
		x.Unknown = err.Error()
	}
	return nil
}

func printExplanation(w io.Writer, x agent.AlertExplanation) error {
	var b strings.Builder
	line := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "%-10s%s\n", name, cli.Printable(fmt.Sprintf(format, args...)))
	}
	what := x.Rule
	if x.Key != "" {
		what += ": " + x.Key
	}
	line("alert", "%s, verdict %s at %s", what, x.Verdict, x.Hook)
	if x.ID != "" {
		line("id", "%s", x.ID)
	}
	line("when", "%s on %s", x.Time.Format(time.RFC3339), x.Node)
	common := ""
	if x.Common != "" {
		common = ", baseline " + x.Common
	}
	line("workload", "%s, mode %s%s", x.Workload, x.Mode, common)
	if x.PID != 0 {
		who := []string{fmt.Sprintf("pid %d", x.PID)}
		if x.Process != nil {
			who[0] += fmt.Sprintf(" (%v)", x.Process)
		}
		line("process", "%s", strings.Join(append(who, x.Lineage...), " < "))
	}
	line("decided", "by %s", x.Decided)
	if len(x.Also) > 0 {
		line("also", "%s", strings.Join(x.Also, ", "))
	}
	if x.Unknown != "" {
		line("baseline", "%s", x.Unknown)
	}
	if x.Baseline != nil {
		explainBaseline(&b, line, x.Baseline)
	}
	_, err := io.WriteString(w, cli.PrintableLines(b.String()))
	return err
}

func explainBaseline(b *strings.Builder, line func(name, format string, args ...any), v *agent.BaselineVerdict) {
	switch {
	case v.Allowed && !v.Held:
		line("now", "allowed: the baseline of %s does not speak about this dimension", v.From)
	case v.Allowed:
		line("now", "allowed by the entry %s (%s)", v.By, v.From)
	default:
		line("now", "not allowed by the baseline (%s)", v.From)
		for _, n := range v.Nearest {
			line("nearest", "%s: %s", n.Key, n.Why)
		}
		line("add it", "%s", v.Command)
		b.WriteString("or write into the baseline:\n")
		for l := range strings.Lines(v.YAML) {
			b.WriteString("    " + l)
		}
	}
}
