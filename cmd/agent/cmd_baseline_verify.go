package main

import (
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/plumbline-io/plumbline/cmd/internal/cli"
	"github.com/plumbline-io/plumbline/cmd/internal/junit"
	"github.com/plumbline-io/plumbline/pkg/agent"
	"github.com/plumbline-io/plumbline/pkg/baseline"
	"github.com/plumbline-io/plumbline/pkg/event"
)

// The exit codes of verify. 2 says what it says in CI, so that wrong usage needs another one; 64 is EX_USAGE
// of sysexits.h.
const (
	exitNewBehaviour     = 2
	exitCoverageTooSmall = 3
	exitVerifyUsage      = 64
)

func newVerify() *cobra.Command {
	var f recordFlags
	formats := []string{"text", "json", "junit"}
	cmd := &cobra.Command{
		Use: "verify --against FILE [flags] -- CMD [ARG...]", Short: "Run a command and compare what it does with a baseline",
		Long: `verify runs a command as record does, and tells what it does that the baseline does not
allow, each with the process that did it first. Nothing is denied and nothing is
written. The command's standard output goes to standard error; ours has the result.

Exit codes: 0 nothing is new; 1 failed: the command did, or it could not be observed;
2 new behaviour, files without a name among it; 3 nothing is new, but that says little:
the baseline has seen too few runs, or is partial, or holds what could not be observed
here, or something was lost or had to be ended.
Wrong usage or a file that cannot be read is 64 (EX_USAGE) here, and not 2 as for all
other verbs: a script must be able to tell a typing error from new behaviour.`,
		Example: `  plumbline-agent baseline verify --against payments.baseline.yaml -- ./itest.sh
  plumbline-agent baseline verify --against payments.baseline.yaml --min-runs 3 -o junit -- ./itest.sh > verify.xml`,
		Args: func(cmd *cobra.Command, args []string) error { return verifyUsage(someArgs(cmd, args)) },
	}
	cmd.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return verifyUsage(usageError{fmt.Errorf("read flags of %s: %w", cmd.Name(), err)})
	})
	f.register(cmd)
	against := cmd.Flags().String("against", "", "baseline `FILE`; - is standard input (required)")
	minRuns := cmd.Flags().Int("min-runs", 1, "runs that the baseline must have seen, so that \"nothing new\" says something")
	output := formatFlag(cmd, formats...)
	_ = cmd.MarkFlagFilename("against", "yaml", "yml")
	cmd.RunE = atWork(func(cmd *cobra.Command, args []string) error {
		c, err := f.config(cmd, args)
		if err == nil {
			err = checkFormat(*output, formats...)
		}
		if err == nil && *against == "" {
			err = usageError{fmt.Errorf("read --against: which baseline?")}
		}
		if err != nil {
			return verifyUsage(err)
		}
		p, err := readProfile(cmd, *against)
		if err != nil {
			return verifyUsage(err)
		}
		if p.Held() == 0 {
			return verifyUsage(usageError{fmt.Errorf("read %s: it holds nothing that could be compared", *against)})
		}
		c.Workload, c.Kind, c.Dimensions, c.Exact, c.Stdout = p.Workload(), p.Kind(), p.Held(), true, os.Stderr
		seen, out, err := agent.Record(cmd.Context(), c)
		if err != nil {
			return err
		}
		tellRecorded(cmd.ErrOrStderr(), out)
		return verdict(cmd.OutOrStdout(), verification{*against, baseline.Verify(p, seen, *minRuns), out, p}, *output)
	})
	return cmd
}

func verifyUsage(err error) error {
	if err == nil {
		return nil
	}
	return exitError{exitVerifyUsage, err}
}

// verification is what came out, and what it was compared with.
type verification struct {
	file    string
	report  baseline.Report
	out     agent.RecordOutcome
	against *baseline.Profile
}

// verdict prints the result and ends with its exit code.
func verdict(w io.Writer, v verification, format string) error {
	write := v.text
	switch format {
	case "json":
		write = v.json
	case "junit":
		write = v.junit
	}
	if err := write(w); err != nil {
		return err
	}
	switch {
	case v.out.Exit != 0:
		return fmt.Errorf("verify %q: the command ended with exit code %d", v.against.Workload(), v.out.Exit)
	case v.result() == baseline.NewBehaviour:
		return exitError{code: exitNewBehaviour}
	case v.result() == baseline.CoverageTooSmall:
		return exitError{code: exitCoverageTooSmall}
	}
	return nil
}

// result counts what no profile can hold too: a file without a name is denied where the baseline is enforced,
// and what was lost or cut short was not compared.
func (v verification) result() baseline.Result {
	switch {
	case v.out.Nameless > 0:
		return baseline.NewBehaviour
	case v.report.Result == baseline.Same && (v.out.Killed > 0 || len(v.out.Lost) > 0):
		return baseline.CoverageTooSmall
	}
	return v.report.Result
}

// nameless says what is new and has no key.
func (v verification) nameless() []string {
	if v.out.Nameless == 0 {
		return nil
	}
	return []string{fmt.Sprintf("%d operations on files that no baseline can name (deleted, anonymous, or with too long a path)", v.out.Nameless)}
}

// by tells who did a thing first: the process, then its ancestors.
func by(d agent.Deed, known bool) string {
	if !known {
		return "a process that is not known any more"
	}
	who := "the command itself"
	if d.Path != "" {
		who = d.Path
	}
	if d.Args != "" {
		who = fmt.Sprintf("%s (%s)", who, d.Args)
	}
	return strings.Join(append([]string{fmt.Sprintf("%s, pid %d", who, d.PID)}, d.Lineage...), " < ")
}

// small says why nothing new does not mean much.
func (v verification) small() []string {
	var why []string
	r := v.report
	if r.Runs < r.MinRuns {
		why = append(why, fmt.Sprintf("the baseline has seen %d runs of %d", r.Runs, r.MinRuns))
	}
	if r.Partial > 0 {
		why = append(why, fmt.Sprintf("%d entries of the baseline are partial: their process was running already", r.Partial))
	}
	if v.out.Killed > 0 {
		why = append(why, fmt.Sprintf("%d processes that the command left running were ended", v.out.Killed))
	}
	for _, reason := range slices.Sorted(maps.Keys(v.out.Lost)) {
		why = append(why, fmt.Sprintf("lost: %s %d", reason, v.out.Lost[reason]))
	}
	for _, m := range v.out.Missing {
		why = append(why, fmt.Sprintf("%s cannot be observed here: %s", m.Dimension, m.Reason))
	}
	return why
}

func (v verification) text(w io.Writer) error {
	var b strings.Builder
	r := v.report
	switch v.result() {
	case baseline.NewBehaviour:
		fmt.Fprintf(&b, "new behaviour: %d operations that the baseline of %s does not allow\n", len(r.New)+v.out.Nameless, v.against.Workload())
		for _, k := range r.New {
			deed, known := v.out.First[k]
			fmt.Fprintf(&b, "  %s: %s\n    first by %s\n", k.Op.Dimension(), cli.Printable(k.String()), cli.Printable(by(deed, known)))
		}
		for _, text := range v.nameless() {
			fmt.Fprintln(&b, " ", text)
		}
	case baseline.CoverageTooSmall:
		fmt.Fprintf(&b, "coverage too small: nothing is new to the baseline of %s, but\n", v.against.Workload())
	default:
		fmt.Fprintf(&b, "same: nothing is new to the baseline of %s (%d entries, %d runs)\n", v.against.Workload(), v.against.Len(), r.Runs)
	}
	for _, why := range v.small() {
		fmt.Fprintln(&b, " ", why)
	}
	_, err := io.WriteString(w, cli.PrintableLines(b.String()))
	return err
}

func resultName(r baseline.Result) string {
	return [...]string{"same", "new_behaviour", "coverage_too_small"}[r]
}

func (v verification) json(w io.Writer) error {
	type news struct {
		Key       string      `json:"key"`
		Dimension string      `json:"dimension"`
		First     *agent.Deed `json:"first,omitempty"`
	}
	found := make([]news, 0, len(v.report.New))
	for _, k := range v.report.New {
		n := news{Key: k.String(), Dimension: k.Op.Dimension().String()}
		if d, known := v.out.First[k]; known {
			n.First = &d
		}
		found = append(found, n)
	}
	return printJSON(w, struct {
		Result   string   `json:"result"`
		Workload string   `json:"workload"`
		New      []news   `json:"new"`
		Runs     int      `json:"runs"`
		MinRuns  int      `json:"min_runs"`
		Partial  int      `json:"partial"`
		Nameless int      `json:"nameless"`
		Unseen   []string `json:"unseen"`
		Why      []string `json:"coverage,omitempty"`
		Exit     int      `json:"command_exit"`
	}{
		resultName(v.result()), v.against.Workload(), found, v.report.Runs, v.report.MinRuns, v.report.Partial, v.out.Nameless,
		dimensionList(v.report.Unseen), v.small(), v.out.Exit,
	})
}

// junit makes a case of the command, of each dimension that the baseline holds, and of the coverage.
func (v verification) junit(w io.Writer) error {
	s := junit.Suite{Name: "plumbline-agent baseline verify " + v.against.Workload()}
	add := func(name, message string, lines []string) {
		c := junit.Case{Name: name, Class: v.against.Workload(), File: v.file}
		if len(lines) > 0 {
			c.Failure = &junit.Failure{Message: message, Text: strings.Join(lines, "\n")}
		}
		s.Add(c)
	}
	var failed []string
	if v.out.Exit != 0 {
		failed = []string{fmt.Sprintf("exit code %d", v.out.Exit)}
	}
	add("command", "the command failed", failed)
	var news [event.DimCount][]string
	for _, k := range v.report.New {
		deed, known := v.out.First[k]
		d := k.Op.Dimension()
		news[d] = append(news[d], fmt.Sprintf("%s, first by %s", k, by(deed, known)))
	}
	for d := range event.DimCount {
		if v.against.Held().Has(d) {
			add(d.String(), "new behaviour", news[d])
		}
	}
	add("files without a name", "new behaviour", v.nameless())
	add("coverage", "coverage too small", v.small())
	return junit.Write(w, s)
}
