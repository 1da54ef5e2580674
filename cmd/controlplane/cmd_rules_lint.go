package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode"

	"github.com/spf13/cobra"

	"github.com/plumbline-io/plumbline/cmd/internal/cli"
	"github.com/plumbline-io/plumbline/pkg/event"
	"github.com/plumbline-io/plumbline/pkg/rule"
)

func newRulesLint() *cobra.Command {
	var builtIn, strict, verbose bool
	var output string
	cmd := &cobra.Command{
		Use:   "lint FILE|DIR...",
		Short: "Check rule files",
		Long: `Check rule files as the agent would load them, and show every problem in its place. An error leaves
out what it is about; a warning does not, or for a good reason. A rule with action deny or kill whose
condition the kernel cannot decide is an error at each part of it that the kernel knows nothing about.

A warning names each field that is not supplied, each evt.type that no event has, and each key that has no
effect, with the reason. With -v and in JSON, rules, macros and lists are listed: where they are, what
they are, and whether a rule is on, or anything refers to the others. A rule that is left out is not.

Exit codes: 0 fine; 1 warnings, with --strict; 2 errors, or a file cannot be read.`,
		Example: `  plumbline rules lint falco_rules.yaml my_rules.yaml
  plumbline rules lint --builtin --strict /etc/plumbline/rules
  plumbline rules lint -o sarif rules/ > rules.sarif`,
		ValidArgsFunction: yamlFiles,
		RunE: workOn(func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 && !builtIn {
				return hinted{usageError{errors.New("read rules: no file is named")}, "name files or directories, or check ours with --builtin"}
			}
			f, err := gatherRules(args, builtIn)
			if err != nil {
				return err
			}
			l := newLint(f.Rules)
			l.verbose = verbose
			if err := l.print(cmd.OutOrStdout(), output); err != nil {
				return err
			}
			return l.verdict(strict)
		}),
	}
	builtInFlag(cmd, &builtIn)
	outputFlag(cmd, &output, "text", "json", "sarif")
	cmd.Flags().BoolVarP(&verbose, "verbose", "v", false, "list rules, macros and lists too")
	cmd.Flags().BoolVar(&strict, "strict", false, "exit with 1 if there are warnings")
	return cmd
}

// lint is what was found; its JSON form is the output.
type lint struct {
	Files    int       `json:"files"`
	Rules    int       `json:"rules"`
	Macros   int       `json:"macros"`
	Lists    int       `json:"lists"`
	LeftOut  int       `json:"left_out"` // rules
	Errors   int       `json:"errors"`
	Warnings int       `json:"warnings"`
	Problems []finding `json:"problems"`
	Defined  []defined `json:"defined"` // rules, then macros, then lists, in load order

	files   []rule.File
	verbose bool
}

// defined is a rule, a macro or a list.
type defined struct {
	Kind   string `json:"kind"`
	Name   string `json:"name"`
	File   string `json:"file"`
	Line   int    `json:"line"`
	Column int    `json:"column"`
	Text   string `json:"text"` // the condition, or the items
	Used   bool   `json:"used"` // a rule: it is on
}

func definedIn(c *catalogue) []defined {
	all := []defined{}
	for _, r := range c.rules() {
		if r.File != builtInDrift {
			all = append(all, defined{"rule", r.Name, r.File, r.Line, r.Column, onOneLine(r.Condition()), r.Enabled})
		}
	}
	for _, m := range c.set.Macros() {
		all = append(all, defined{"macro", m.Name, m.File, m.Line, m.Column, onOneLine(m.Condition), m.Used})
	}
	for _, l := range c.set.Lists() {
		all = append(all, defined{"list", l.Name, l.File, l.Line, l.Column, strings.Join(l.Items, ", "), l.Used})
	}
	return all
}

func onOneLine(text string) string { return strings.Join(strings.Fields(text), " ") }

// finding is one problem.
type finding struct {
	ID       string `json:"id"`
	File     string `json:"file"`
	Line     int    `json:"line"`
	Column   int    `json:"column"`
	Severity string `json:"severity"`
	Rule     string `json:"rule,omitempty"`
	Message  string `json:"message"`
}

func newLint(files []rule.File) *lint {
	c := newCatalogue(files)
	l := &lint{
		Files: len(files), Rules: len(c.all.Rules()) + len(c.set.LeftOut()), Macros: len(c.set.Macros()), Lists: len(c.set.Lists()),
		LeftOut: len(c.set.LeftOut()), Problems: []finding{}, Defined: definedIn(c), files: files,
	}
	for d := range event.DimSyscalls {
		if c.set.Drift(d).File != builtInDrift {
			l.Rules++ // its words are changed
		}
	}
	for _, p := range c.problems {
		f := finding{ID: p.ID, File: p.File, Line: p.Line, Column: p.Column, Severity: p.Severity(), Rule: p.Rule, Message: p.Message}
		if p.Warning {
			l.Warnings++
		} else {
			l.Errors++
		}
		l.Problems = append(l.Problems, f)
	}
	order := map[string]int{}
	for i, f := range files {
		order[f.Name] = i
	}
	slices.SortStableFunc(l.Problems, func(a, b finding) int {
		if d := order[a.File] - order[b.File]; d != 0 {
			return d
		}
		if a.Line != b.Line {
			return a.Line - b.Line
		}
		return a.Column - b.Column
	})
	return l
}

func (l *lint) print(out io.Writer, output string) error {
	switch output {
	case "json":
		return json.NewEncoder(out).Encode(l)
	case "sarif":
		return writeSARIF(out, l.Problems)
	}
	var b strings.Builder
	colour := isTerminal(out)
	for _, f := range l.Problems {
		f.text(&b, colour)
		b.WriteString(l.excerpt(f, colour))
	}
	if l.verbose {
		l.listDefined(&b)
	}
	fmt.Fprintf(&b, "%s, %s, %s in %s: %s, %s", count(l.Rules, "rule"), count(l.Macros, "macro"), count(l.Lists, "list"),
		count(l.Files, "file"), count(l.Errors, "error"), count(l.Warnings, "warning"))
	if l.LeftOut > 0 {
		fmt.Fprintf(&b, "; %s left out", count(l.LeftOut, "rule"))
	}
	b.WriteByte('\n')
	_, err := io.WriteString(out, b.String())
	return err
}

// listDefined writes a line for each rule, macro and list.
func (l *lint) listDefined(b *strings.Builder) {
	for _, d := range l.Defined {
		unused := ""
		switch {
		case d.Used:
		case d.Kind == "rule":
			unused = " (switched off)"
		default:
			unused = " (not used)"
		}
		fmt.Fprintf(b, "%s:%d:%d: %s %s%s: %s\n", cli.Printable(d.File), d.Line, d.Column, d.Kind, cli.Printable(d.Name), unused, cli.Printable(d.Text))
	}
}

func (f finding) text(b *strings.Builder, colour bool) {
	code := yellow
	if f.Severity == "error" {
		code = red
	}
	fmt.Fprintf(b, "%s: %s: ", paint(colour, bold, fmt.Sprintf("%s:%d:%d", cli.Printable(f.File), f.Line, f.Column)), paint(colour, code, f.Severity))
	if f.Rule != "" {
		fmt.Fprintf(b, "rule %q: ", f.Rule)
	}
	b.WriteString(cli.Printable(f.Message) + "\n")
}

// excerpt is the line of a problem and a caret below the place, "" if it is blank. Of a long line it is
// what stands around.
func (l *lint) excerpt(f finding, colour bool) string {
	const before, width = 60, 100
	line := []rune(lineOf(l.files, f.File, f.Line))
	at := min(f.Column-1, len(line))
	if from := at - before; from > 0 && len(line) > width {
		line, at = append([]rune("..."), line[from:]...), before+3
	}
	if len(line) > width {
		line = append(line[:width:width], []rune("...")...)
	}
	for i, r := range line {
		if !unicode.IsPrint(r) { // tabs too: the caret has to stand below
			line[i] = ' '
		}
	}
	text := strings.TrimRight(string(line), " ")
	if text == "" {
		return ""
	}
	return "    " + text + "\n    " + strings.Repeat(" ", at) + paint(colour, green, "^") + "\n"
}

func lineOf(files []rule.File, name string, line int) string {
	for _, f := range files {
		if f.Name != name {
			continue
		}
		rest := string(f.Data)
		for range line - 1 {
			_, rest, _ = strings.Cut(rest, "\n")
		}
		text, _, _ := strings.Cut(rest, "\n")
		return text
	}
	return ""
}

func (l *lint) verdict(strict bool) error {
	switch {
	case l.Errors > 0:
		return fault{fmt.Errorf("lint rules: %s", count(l.Errors, "error")), exitUsage}
	case l.Warnings > 0 && strict:
		return fault{fmt.Errorf("lint rules: %s", count(l.Warnings, "warning")), exitFailed}
	}
	return nil
}
