package main

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/plumbline-io/plumbline/cmd/internal/cli"
	"github.com/plumbline-io/plumbline/pkg/rule"
	"github.com/plumbline-io/plumbline/pkg/rulefile"
	"github.com/plumbline-io/plumbline/pkg/wholefile"
)

func newRulesFmt() *cobra.Command {
	var check, write bool
	cmd := &cobra.Command{
		Use:   "fmt FILE|DIR...",
		Short: "Lay out rule files",
		Long: `Lay out rule files and their tests in one form: the keys of an item in one order, conditions folded before
"and" and "or", lists filled, one kind of indentation. Comments stay with what they are about, and the
rules mean the same. The result is printed; a file name of - is the standard input.

Exit codes: 0 fine; 1 files differ, with --check; 2 a file cannot be read or laid out.`,
		Example: `  plumbline rules fmt -w /etc/plumbline/rules
  plumbline rules fmt --check rules/
  plumbline rules fmt - < my_rules.yaml`,
		Args:              cli.AtLeast("FILE|DIR..."),
		ValidArgsFunction: yamlFiles,
		RunE: workOn(func(cmd *cobra.Command, args []string) error {
			files, err := filesToLayOut(cmd, args, write)
			if err != nil {
				return err
			}
			return runRulesFmt(cmd, files, check, write)
		}),
	}
	cmd.Flags().BoolVar(&check, "check", false, "only list the files that differ, and exit with 1 if there are any")
	cmd.Flags().BoolVarP(&write, "write", "w", false, "write the files, and print nothing")
	cmd.MarkFlagsMutuallyExclusive("check", "write")
	return cmd
}

func filesToLayOut(cmd *cobra.Command, args []string, write bool) ([]rule.File, error) {
	var f rulefile.Files
	for _, path := range args {
		if path != "-" {
			if err := addFiles(&f, path); err != nil {
				return nil, err
			}
			continue
		}
		if write {
			return nil, usageError{errors.New("read rules: the standard input cannot be written")}
		}
		if err := f.AddReader(cmd.InOrStdin(), "-"); err != nil {
			return nil, usageError{err}
		}
	}
	return append(f.Rules, f.Tests...), nil
}

func runRulesFmt(cmd *cobra.Command, files []rule.File, check, write bool) error {
	wrong, different := 0, 0
	for _, f := range files {
		out, err := reformat(f.Data)
		if err != nil {
			wrong++
			cmd.PrintErrln(layoutMistake(f.Name, err))
			continue
		}
		same := bytes.Equal(out, f.Data)
		switch {
		case check && !same:
			different++
			_, err = fmt.Fprintln(cmd.OutOrStdout(), cli.Printable(f.Name))
		case write && !same:
			err = wholefile.Rewrite(f.Name, out)
		case !check && !write:
			_, err = cmd.OutOrStdout().Write(out)
		}
		if err != nil {
			return err
		}
	}
	switch {
	case wrong > 0:
		return fault{fmt.Errorf("lay out rules: %s left as it was", count(wrong, "file")), exitUsage}
	case different > 0:
		return hinted{fault{fmt.Errorf("lay out rules: %s would change", count(different, "file")), exitFailed}, "'plumbline rules fmt -w' writes them"}
	}
	return nil
}

// layoutMistake begins with the place: file:line if the error knows the line.
func layoutMistake(name string, err error) string {
	message := strings.TrimPrefix(err.Error(), "yaml: ")
	if rest, ok := strings.CutPrefix(message, "line "); ok {
		if line, what, ok := strings.Cut(rest, ": "); ok {
			return cli.Printable(name + ":" + line + ": " + what)
		}
	}
	return cli.Printable(name + ": " + message)
}
