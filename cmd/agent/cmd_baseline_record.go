package main

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/plumbline-io/plumbline/cmd/internal/cli"
	"github.com/plumbline-io/plumbline/pkg/agent"
	"github.com/plumbline-io/plumbline/pkg/event"
)

// recordFlags are what record and verify have in common: how the command is run and observed.
type recordFlags struct {
	scope, btf string
	linger     time.Duration
}

func (f *recordFlags) register(cmd *cobra.Command) {
	fs := cmd.Flags()
	fs.StringVar(&f.scope, "scope", "", "make the command's cgroup below this version 2 cgroup `DIR` (default: the mount)")
	fs.StringVar(&f.btf, "btf", "", "`FILE` with the kernel's types, for kernels that do not bring them")
	fs.DurationVar(&f.linger, "linger", 0, "end what the command leaves running after this `DURATION`, 0 or more (default: wait for it)")
	_ = cmd.MarkFlagDirname("scope")
	fs.SetInterspersed(false) // what follows the command is the command's
}

// config checks the flags and the command; what is wrong is a usageError.
func (f *recordFlags) config(cmd *cobra.Command, args []string) (agent.RecordConfig, error) {
	c := agent.RecordConfig{
		Command: args, Scope: strings.TrimRight(f.scope, "/"), BTF: f.btf, Linger: -1,
		Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
	}
	if cmd.Flags().Changed("linger") {
		c.Linger = f.linger
	}
	if f.linger < 0 {
		return c, usageError{fmt.Errorf("read --linger: %s is negative", f.linger)}
	}
	if _, err := exec.LookPath(args[0]); err != nil {
		return c, usageError{fmt.Errorf("find command: %w", err)}
	}
	if term.IsTerminal(int(os.Stderr.Fd())) {
		c.Tell = func(text string) { fmt.Fprintln(cmd.ErrOrStderr(), "plumbline-agent:", cli.PrintableLines(text)) }
	}
	return c, nil
}

func someArgs(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return usageError{errors.New("read arguments: no command: put it behind --")}
	}
	return nil
}

func newRecord() *cobra.Command {
	var f recordFlags
	cmd := &cobra.Command{
		Use: "record --workload NAME -o FILE [flags] -- CMD [ARG...]", Short: "Run a command and write what it does as a baseline", Args: someArgs,
		Long: `record runs a command in a cgroup of its own and observes it, and nothing else, from
its first instruction until it and all that it leaves running has ended. What it did
becomes a baseline: canonical YAML, in which the same behaviour gives the same bytes
(but for the part "observed"). Needs root; an agent need not run.

Names that differ from run to run (process ids, temporary files, ephemeral ports) are
generalised, unless --exact; each widening is told. A dimension that this kernel does
not let us observe is told with the reason, and left out: a missing section is neither
learnt nor enforced.

With --syscalls the names of all system calls are recorded too. They are compared by
verify and diff, become a filter for container runtimes with baseline seccomp, and are
not enforced by us. Which ones a program makes varies with time and chance more than
what it does: record several runs (--runs).

Exit codes: 0 recorded; 1 failed; 2 wrong usage. If the command fails its exit code is
ours (128 and the signal, if one ended it), and no file is written.`,
		Example: `  plumbline-agent baseline record --workload payments -o payments.baseline.yaml -- ./itest.sh
  plumbline-agent baseline record --workload nginx.service --runs 3 --linger 10s -o nginx.yaml -- ./exercise.sh
  plumbline-agent baseline record --workload payments --syscalls --runs 3 -o payments.yaml -- ./itest.sh
  plumbline-agent baseline record --workload job --dimensions exec,network -o - -- /usr/local/bin/job --once`,
	}
	fs := cmd.Flags()
	f.register(cmd)
	workload := fs.String("workload", "", "`NAME` of the workload (required)")
	kind := fs.String("kind", "", "unit, container, cgroup or host (default: by the name)")
	file := fs.StringP("output", "o", "", "`FILE` to write; - is standard output, and the command's goes to standard error (required)")
	runs := fs.Int("runs", 1, "run the command so many times, 1 or more; each counts as a run of the workload")
	dims := fs.StringSlice("dimensions", nil, "only these: "+strings.Join(dimensionList(event.AllDimensions), ", "))
	calls := fs.Bool("syscalls", false, "record system calls too; they are never enforced")
	exact := fs.Bool("exact", false, "keep every name as it was, do not generalise")
	keep := fs.Bool("keep-failed", false, "write the file although the command failed")
	_ = cmd.RegisterFlagCompletionFunc("dimensions", cobra.FixedCompletions(dimensionList(event.AllDimensions), cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.RegisterFlagCompletionFunc("kind", cobra.FixedCompletions([]string{"unit", "container", "cgroup", "host"}, cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.MarkFlagFilename("output", "yaml", "yml")
	cmd.RunE = atWork(func(cmd *cobra.Command, args []string) error {
		c, err := f.config(cmd, args)
		if err == nil {
			err = recordWhat(&c, *workload, *kind, *dims)
		}
		if *calls {
			c.Dimensions = c.Dimensions.With(event.DimSyscalls)
		}
		switch {
		case err != nil:
			return err
		case *file == "":
			return usageError{errors.New("read --output: name the file to write, - is standard output")}
		case *runs < 1:
			return usageError{fmt.Errorf("read --runs: %d is less than 1", *runs)}
		case *file == "-":
			c.Stdout = os.Stderr
		}
		c.Runs, c.Exact = *runs, *exact
		return record(cmd, c, *file, *keep)
	})
	return cmd
}

// recordWhat fills in whose baseline of what is wanted.
func recordWhat(c *agent.RecordConfig, workload, kind string, dims []string) error {
	if workload == "" {
		return usageError{errors.New("read --workload: whose baseline is it?")}
	}
	c.Workload, c.Kind, c.Dimensions = workload, kind, event.AllDimensions
	switch {
	case slices.Contains([]string{"unit", "container", "cgroup", "host"}, kind):
	case kind != "":
		return usageError{fmt.Errorf("read --kind: unknown kind %q: want unit, container, cgroup or host", kind)}
	case strings.HasPrefix(workload, "/"):
		c.Kind = "cgroup"
	case strings.HasSuffix(workload, ".service") || strings.HasSuffix(workload, ".scope"):
		c.Kind = "unit"
	default:
		c.Kind = "container"
	}
	if len(dims) == 0 {
		return nil
	}
	c.Dimensions = 0
	for _, name := range dims {
		d, err := event.ParseDimension(name)
		if err != nil {
			return usageError{fmt.Errorf("read --dimensions: %w", err)}
		}
		c.Dimensions = c.Dimensions.With(d)
	}
	return nil
}

func record(cmd *cobra.Command, c agent.RecordConfig, file string, keepFailed bool) error {
	p, out, err := agent.Record(cmd.Context(), c)
	if err != nil {
		return err
	}
	w := cmd.ErrOrStderr()
	tellRecorded(w, out)
	for _, widened := range out.Widened {
		fmt.Fprintln(w, "generalised:", cli.PrintableLines(widened.String()))
	}
	if out.Exit != 0 && !keepFailed {
		return exitError{out.Exit, fmt.Errorf("record %q: the command ended with exit code %d; nothing was written (--keep-failed writes it)", c.Workload, out.Exit)}
	}
	if err := writeProfile(cmd, file, p); err != nil {
		return err
	}
	fmt.Fprintf(w, "recorded: %d entries, %d runs, dimensions %s\n", p.Len(), p.Runs(), strings.Join(dimensionList(p.Held()), ", "))
	if out.Exit != 0 {
		return exitError{out.Exit, fmt.Errorf("record %q: the command ended with exit code %d; what it did until then was written", c.Workload, out.Exit)}
	}
	return nil
}

// tellRecorded tells what a reader of the result has to know about its making.
func tellRecorded(w io.Writer, out agent.RecordOutcome) {
	for _, m := range out.Missing {
		fmt.Fprintf(w, "not recorded: %s: %s\n", m.Dimension, m.Reason)
	}
	if out.Killed > 0 {
		fmt.Fprintf(w, "ended: %d processes that the command had left running\n", out.Killed)
	}
	if out.Nameless > 0 {
		fmt.Fprintf(w, "left out: %d operations on files that a baseline cannot name (deleted, anonymous, or with too long a path)\n", out.Nameless)
	}
	for _, name := range slices.Sorted(maps.Keys(out.Lost)) {
		fmt.Fprintf(w, "lost: %s %d\n", name, out.Lost[name])
	}
}
