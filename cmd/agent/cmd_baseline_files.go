package main

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/plumbline-io/plumbline/cmd/internal/cli"
	"github.com/plumbline-io/plumbline/pkg/baseline"
	"github.com/plumbline-io/plumbline/pkg/event"
)

func newDiff() *cobra.Command {
	cmd := &cobra.Command{
		Use: "diff OLD NEW", Short: "Tell what one baseline lists and another does not", Args: cli.Names("OLD", "NEW"),
		Long: `diff compares two baselines: + is what only NEW lists, - what only OLD lists, ! what is
said of a whole dimension or the mode. How often things were seen is not compared.

Exit codes: 0 they are the same, 1 they differ, 2 wrong usage or a file that cannot be read.`,
		Example: `  plumbline-agent baseline diff payments.baseline.yaml new.yaml
  plumbline-agent baseline show nginx.service | plumbline-agent baseline diff nginx.yaml -`,
	}
	formats := []string{"text", "json"}
	output := formatFlag(cmd, formats...)
	cmd.RunE = atWork(func(cmd *cobra.Command, args []string) error {
		if err := checkFormat(*output, formats...); err != nil {
			return err
		}
		both, err := readProfiles(cmd, args)
		if err != nil {
			return err
		}
		return printDelta(cmd.OutOrStdout(), both[0], both[1], *output)
	})
	return cmd
}

// readProfiles reads files; what is wrong with them is wrong usage.
func readProfiles(cmd *cobra.Command, files []string) ([]*baseline.Profile, error) {
	var all []*baseline.Profile
	for _, f := range files {
		p, err := readProfile(cmd, f)
		if err != nil {
			return nil, usageError{err}
		}
		all = append(all, p)
	}
	return all, nil
}

func printDelta(w io.Writer, old, new *baseline.Profile, format string) error {
	d := baseline.Diff(old, new)
	var err error
	if format == "json" {
		err = printJSON(w, struct {
			Added    []string  `json:"added"`
			Removed  []string  `json:"removed"`
			Held     []string  `json:"held"`     // dimensions that only the new one holds
			Released []string  `json:"released"` // dimensions that only the old one holds
			Mode     [2]string `json:"mode"`     // of the old one, of the new one
		}{keyList(d.Added), keyList(d.Removed), dimensionList(d.Held), dimensionList(d.Released), [2]string{old.Mode().String(), new.Mode().String()}})
	} else {
		var b strings.Builder
		for _, name := range dimensionList(d.Released) {
			fmt.Fprintf(&b, "! %s is not held any more: all is allowed there\n", name)
		}
		for _, name := range dimensionList(d.Held) {
			fmt.Fprintf(&b, "! %s is held now\n", name)
		}
		if old.Mode() != new.Mode() {
			fmt.Fprintf(&b, "! mode: %s became %s\n", old.Mode(), new.Mode())
		}
		for _, k := range d.Removed {
			fmt.Fprintf(&b, "- %s: %s\n", k.Op.Dimension(), cli.Printable(k.String()))
		}
		for _, k := range d.Added {
			fmt.Fprintf(&b, "+ %s: %s\n", k.Op.Dimension(), cli.Printable(k.String()))
		}
		_, err = io.WriteString(w, cli.PrintableLines(b.String()))
	}
	if err == nil && (!d.Empty() || old.Mode() != new.Mode()) {
		err = errFindings
	}
	return err
}

// outFlag is -o of a verb that makes a baseline.
func outFlag(cmd *cobra.Command) *string {
	out := cmd.Flags().StringP("output", "o", "-", "`FILE` to write; - is standard output")
	_ = cmd.MarkFlagFilename("output", "yaml", "yml")
	return out
}

func newMerge() *cobra.Command {
	cmd := &cobra.Command{
		Use: "merge FILE... -o OUT", Short: "Make one baseline of several of the same workload",
		Long: `merge adds up what several recordings of the same workload did, of other runs, replicas
or nodes: all entries, and the runs of all. They must hold the same dimensions and not
be promoted.`,
		Example: `  plumbline-agent baseline merge run1.yaml run2.yaml -o payments.baseline.yaml`,
		Args:    cli.AtLeast("FILE..."),
	}
	out := outFlag(cmd)
	cmd.RunE = atWork(func(cmd *cobra.Command, args []string) error {
		all, err := readProfiles(cmd, args)
		if err != nil {
			return err
		}
		for i, p := range all[1:] {
			if err := all[0].Merge(p); err != nil {
				return fmt.Errorf("%s: %w", args[i+1], err)
			}
		}
		return writeProfile(cmd, *out, all[0])
	})
	return cmd
}

func newGeneralise() *cobra.Command {
	cmd := &cobra.Command{
		Use: "generalise FILE [-o OUT | -w]", Short: "Replace names that differ from run to run by patterns", Args: cli.Names("FILE"),
		Long: `generalise widens entries whose names cannot be meant to be the same in the next run:
process ids, temporary and random names, ephemeral ports. Each widening is told on
standard error with its reason. Executables and libraries stay as they are.`,
		Example: `  plumbline-agent baseline generalise payments.baseline.yaml -w
  plumbline-agent baseline show nginx.service | plumbline-agent baseline generalise - -o nginx.yaml`,
	}
	out := outFlag(cmd)
	inPlace := cmd.Flags().BoolP("write", "w", false, "replace FILE itself")
	cmd.RunE = atWork(func(cmd *cobra.Command, args []string) error {
		file := *out
		if *inPlace {
			file = args[0]
		}
		switch {
		case *inPlace && cmd.Flags().Changed("output"):
			return usageError{errors.New("read --write: it excludes --output")}
		case *inPlace && file == "-":
			return usageError{errors.New("read --write: standard input cannot be replaced")}
		}
		p, err := readProfile(cmd, args[0])
		if err != nil {
			return usageError{err}
		}
		if p.Frozen() || p.Mode() != event.Learn {
			return fmt.Errorf("generalise baseline of %q: it is promoted or frozen: it has been reviewed as it is", p.Workload())
		}
		for _, w := range p.Generalise() {
			fmt.Fprintln(cmd.ErrOrStderr(), cli.PrintableLines(w.String()))
		}
		return writeProfile(cmd, file, p)
	})
	return cmd
}
