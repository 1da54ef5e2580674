// Package cli holds what the command lines of both programs have in common. It must never decide about
// an exit code: each program documents its own.
//
//	root.AddCommand(newServe(), newAlerts())
//	cli.Strict(root)
package cli

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Strict makes every word that is not understood an error: cobra itself prints its help and succeeds
// when it does not know what is below a command that only has others below it. Call it when all
// commands are added.
func Strict(root *cobra.Command) {
	root.SilenceErrors, root.SilenceUsage = true, true
	root.DisableSuggestions = true // an error is one line
	root.SetFlagErrorFunc(FlagError)
	root.InitDefaultCompletionCmd()
	root.InitDefaultHelpCmd()
	refuse(root)
	if help, rest, err := root.Find([]string{"help"}); err == nil && len(rest) == 0 {
		help.Args = knownTopic
	}
}

func refuse(cmd *cobra.Command) {
	if cmd.HasSubCommands() {
		cmd.Args = noOther
	}
	if !cmd.Runnable() {
		cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	}
	for _, sub := range cmd.Commands() {
		refuse(sub)
	}
}

// noOther refuses what is none of the commands below, and offers what is written like it.
func noOther(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	like := ""
	cmd.SuggestionsMinimumDistance = 2
	if near := cmd.SuggestionsFor(args[0]); len(near) == 1 || len(near) == 2 {
		like = fmt.Sprintf(" (did you mean %s?)", strings.Join(near, " or "))
	}
	return fmt.Errorf("unknown command %q for %q%s", args[0], cmd.CommandPath(), like)
}

func knownTopic(cmd *cobra.Command, args []string) error {
	found, rest, err := cmd.Root().Find(args)
	if err == nil && len(rest) > 0 {
		err = fmt.Errorf("unknown command %q for %q", rest[0], found.CommandPath())
	}
	return err
}

// FlagError says in words what is wrong with a flag, where the library speaks of Go's functions.
func FlagError(_ *cobra.Command, err error) error {
	var value *pflag.InvalidValueError
	if !errors.As(err, &value) {
		return err
	}
	flag := value.GetFlag()
	wanted := map[string]string{
		"int": "a whole number", "bool": "true or false", "duration": "a duration such as 90s or 10m",
	}[flag.Value.Type()]
	switch {
	case wanted == "":
		return err
	case errors.Is(err, strconv.ErrRange):
		return fmt.Errorf("read --%s: %s is too large", flag.Name, value.GetValue())
	}
	return fmt.Errorf("read --%s: %.60q is not %s", flag.Name, value.GetValue(), wanted)
}

// Names wants one argument for each name, and says so in these names.
func Names(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) == len(names) {
			return nil
		}
		return fmt.Errorf("read arguments of %q: want %s, got %d", cmd.CommandPath(), strings.Join(names, " "), len(args))
	}
}

// AtLeast wants one argument or more, and says so in the name that the usage has for the first.
func AtLeast(name string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) > 0 {
			return nil
		}
		return fmt.Errorf("read arguments of %q: want %s, got none", cmd.CommandPath(), name)
	}
}

// Choice lets the shell complete a flag's values.
func Choice(cmd *cobra.Command, flag string, values ...string) {
	_ = cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp))
}

// PrintableLines is Printable of each line of a text.
func PrintableLines(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		line, end := strings.CutSuffix(line, "\n")
		b.WriteString(Printable(line))
		if end {
			b.WriteByte('\n')
		}
	}
	return b.String()
}

// Printable makes text of hostile origin fit for a terminal: what cannot be printed is escaped.
func Printable(s string) string {
	if strings.IndexFunc(s, func(r rune) bool { return !unicode.IsPrint(r) || r == utf8.RuneError }) < 0 {
		return s
	}
	q := strconv.Quote(s)
	return q[1 : len(q)-1]
}
