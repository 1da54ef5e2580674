package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/plumbline-io/plumbline/cmd/internal/cli"
	"github.com/plumbline-io/plumbline/pkg/detect"
	"github.com/plumbline-io/plumbline/pkg/rule"
	"github.com/plumbline-io/plumbline/pkg/rulefile"
)

func newRulesTest() *cobra.Command {
	var builtIn bool
	var output, only string
	cmd := &cobra.Command{
		Use:   "test FILE|DIR...",
		Short: "Run the tests beside rule files",
		Long: `Run the tests of rules. Tests of x.yaml stand in x_test.yaml beside it: events, and the rules that raise
alerts, by name alone or with what is said. A test has one event, or several steps, each so long after the one before, and
repeated as often as it says:

  - test: a scan of ports
    steps:
      - event: access
        access: {op: connect, protocol: tcp, address: 10.0.0.7, port: 1}
        repeat: {times: 50, every: 100ms, vary: [port]}   # or address, path
      - event: access
        access: {op: connect, protocol: tcp, address: 192.0.2.7, port: 443}
        names: {api.example.org: [192.0.2.7]}             # for fd.sip.name
        env: {LD_PRELOAD: /tmp/x.so}                      # for proc.env
      - event: exec
        after: 5m
        exec: {path: /usr/bin/nmap, comm: nmap}
    alerts:
      - Network scan
      - rule: Network scanner started     # and what its first alert says, as far as it is given
        output: Network scanner started (command=/usr/bin/nmap)
        severity: notice
        fields: {proc.cmdline: /usr/bin/nmap, container.name: null}   # null: it has no value

All rules and all tests that are named are loaded together; a directory stands
for those below it, and a file for itself and the one beside it. Rules that are switched off are tested
as well.

The coverage says for every rule how many tests match it, and how many ask it and do not match.

Exit codes: 0 all passed; 1 a test failed; 2 a file cannot be read, or a rule is wrong.`,
		Example: `  plumbline rules test /etc/plumbline/rules
  plumbline rules test --run 'busybox|applet' rules/execution.yaml
  plumbline rules test -o junit rules/ > junit.xml`,
		ValidArgsFunction: yamlFiles,
		RunE: workOn(func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 && !builtIn {
				return hinted{usageError{errors.New("read rules: no file is named")}, "name files or directories, or test ours with --builtin"}
			}
			t, err := newTrials(args, builtIn, only)
			if err != nil {
				return err
			}
			if err := refused(cmd.ErrOrStderr(), t.problems); err != nil {
				return err
			}
			t.run()
			if err := t.print(cmd.OutOrStdout(), output); err != nil {
				return err
			}
			if t.Failed > 0 {
				return fault{fmt.Errorf("test rules: %s failed", count(t.Failed, "test")), exitFailed}
			}
			return nil
		}),
	}
	builtInFlag(cmd, &builtIn)
	outputFlag(cmd, &output, "text", "json", "junit")
	cmd.Flags().StringVar(&only, "run", "", "only tests whose name matches this regular expression; without coverage")
	return cmd
}

// trials are the tests of rules and what came out; the JSON form is an output.
type trials struct {
	Tests    []trialResult  `json:"tests"`
	Passed   int            `json:"passed"`
	Failed   int            `json:"failed"`
	Coverage []ruleCoverage `json:"coverage,omitempty"`

	tests    []rule.Test
	set      *rule.Ruleset
	problems []rule.Problem
	partial  bool // only some of the tests
}

type trialResult struct {
	Name    string   `json:"name"`
	File    string   `json:"file"`
	Line    int      `json:"line"`
	OK      bool     `json:"ok"`
	Want    []string `json:"want"`
	Got     []string `json:"got"`
	Message string   `json:"message,omitempty"`
}

type ruleCoverage struct {
	Rule    string `json:"rule"`
	File    string `json:"file"`
	Line    int    `json:"line"`
	Matches int    `json:"matches"`
	Misses  int    `json:"misses"`
}

func newTrials(paths []string, builtIn bool, only string) (*trials, error) {
	wanted, err := regexp.Compile(only)
	if err != nil {
		return nil, usageError{fmt.Errorf("read --run: %w", err)}
	}
	f, err := gatherRules(withNeighbours(paths), builtIn)
	if err != nil {
		return nil, err
	}
	c := newCatalogue(f.Rules)
	t := &trials{Tests: []trialResult{}, set: c.all, problems: c.problems, partial: only != ""}
	for _, file := range f.Tests {
		more, err := rule.ParseTests(file)
		if err != nil {
			return nil, usageError{fmt.Errorf("read tests: %w", err)}
		}
		t.tests = append(t.tests, slices.DeleteFunc(more, func(test rule.Test) bool { return !wanted.MatchString(test.Name) })...)
	}
	switch {
	case len(f.Tests) == 0:
		return nil, hinted{usageError{errors.New("read tests: there are none")}, "the tests of x.yaml stand in x_test.yaml beside it"}
	case len(t.tests) == 0 && t.partial:
		return nil, usageError{fmt.Errorf("read --run: no test has a name like %q", only)}
	}
	return t, nil
}

// withNeighbours adds to a rule file its tests, and to tests their rules.
func withNeighbours(paths []string) []string {
	var all []string
	for _, path := range paths {
		all = append(all, path)
		neighbour := strings.TrimSuffix(path, rulefile.Suffix) + rulefile.TestSuffix
		if base, ok := strings.CutSuffix(path, rulefile.TestSuffix); ok {
			neighbour = base + rulefile.Suffix
		}
		if info, err := os.Stat(neighbour); err == nil && info.Mode().IsRegular() {
			all = append(all, neighbour)
		}
	}
	return all
}

func (t *trials) run() {
	matches, misses := map[string]int{}, map[string]int{}
	for i := range t.tests {
		test := &t.tests[i]
		got := detect.Try(t.set, test)
		r := trialResult{
			Name: test.Name, File: test.File, Line: test.Line, OK: true,
			Want: test.Names(), Got: append([]string{}, got.Raised...),
		}
		if err := got.Check(test); err != nil {
			r.OK, r.Message = false, err.Error()
			t.Failed++
		} else {
			t.Passed++
		}
		t.Tests = append(t.Tests, r)
		for _, rule := range t.set.Rules() {
			switch {
			case slices.Contains(got.Raised, rule.Name):
				matches[rule.Name]++
			case slices.Contains(got.Asked, rule.Name):
				misses[rule.Name]++
			}
		}
	}
	if t.partial {
		return
	}
	for _, r := range t.set.Rules() {
		t.Coverage = append(t.Coverage, ruleCoverage{r.Name, r.File, r.Line, matches[r.Name], misses[r.Name]})
	}
}

func (t *trials) print(out io.Writer, output string) error {
	switch output {
	case "json":
		return json.NewEncoder(out).Encode(t)
	case "junit":
		return writeJUnit(out, t.Tests)
	}
	colour := isTerminal(out)
	for _, r := range t.Tests {
		if r.OK {
			continue
		}
		if _, err := fmt.Fprintf(out, "%s %s\n", paint(colour, red, "FAIL"), cli.Printable(r.Message)); err != nil {
			return err
		}
	}
	if err := t.printCoverage(out); err != nil {
		return err
	}
	verdict := paint(colour, green, "ok")
	if t.Failed > 0 {
		verdict = paint(colour, red, "FAILED")
	}
	_, err := fmt.Fprintf(out, "%s: %s, %d failed\n", verdict, count(len(t.Tests), "test"), t.Failed)
	return err
}

func (t *trials) printCoverage(out io.Writer) error {
	if t.partial {
		return nil
	}
	var rows [][]string
	var untested []string
	for _, c := range t.Coverage {
		rows = append(rows, []string{c.Rule, strconv.Itoa(c.Matches), strconv.Itoa(c.Misses), fmt.Sprintf("%s:%d", c.File, c.Line)})
		if c.Matches == 0 {
			untested = append(untested, cli.Printable(c.Rule))
		}
	}
	if err := newTable(out, "RULE", "MATCH", "NO MATCH", "DEFINED").print(rows); err != nil {
		return err
	}
	if len(untested) == 0 {
		return nil
	}
	_, err := fmt.Fprintf(out, "no test matches: %s\n", strings.Join(untested, ", "))
	return err
}
