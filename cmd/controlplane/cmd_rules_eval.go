package main

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/plumbline-io/plumbline/cmd/internal/cli"
	"github.com/plumbline-io/plumbline/pkg/alert"
	"github.com/plumbline-io/plumbline/pkg/detect"
	"github.com/plumbline-io/plumbline/pkg/rule"
)

func newRulesEval() *cobra.Command {
	var builtIn bool
	var output, from, matching string
	var names []string
	cmd := &cobra.Command{
		Use:   "eval -f EVENTS [FILE|DIR...]",
		Short: "Replay recorded events against rules",
		Long: `Replay events that were recorded with 'plumbline-agent events -o json', and print the alerts that the
rules of the files, or the built-in ones, raise: every one, where the agent tells equal ones once in a
while. Windows count in the recording's own time. Counts are printed to stderr.

Exit codes: 0 fine; 2 a file cannot be read, or a line or a rule is wrong: the others are used.`,
		Example: `  plumbline-agent events -o json > events.jsonl
  plumbline rules eval -f events.jsonl
  plumbline rules eval -f events.jsonl --builtin my_rules.yaml -o json | jq .rule
  zcat events.jsonl.gz | plumbline rules eval -f -`,
		ValidArgsFunction: yamlFiles,
		RunE: workOn(func(cmd *cobra.Command, args []string) error {
			if from == "" {
				return hinted{usageError{errors.New("read --events: no recording is named")}, "name the file with -f, or - for the standard input"}
			}
			m, err := rule.ParseMatching(matching)
			if err != nil {
				return usageError{fmt.Errorf("read --rule-matching: %w", err)}
			}
			known, err := parseNames(names)
			if err != nil {
				return usageError{fmt.Errorf("read --name: %w", err)}
			}
			f, err := gatherRules(args, builtIn)
			if err != nil {
				return err
			}
			in := cmd.InOrStdin()
			if from != "-" {
				file, err := os.Open(from)
				if err != nil {
					return usageError{fmt.Errorf("read --events: %w", err)}
				}
				defer file.Close()
				in = file
			}
			set, problems := rule.Load(f.Rules...)
			ofRules := refused(cmd.ErrOrStderr(), problems)
			r := newReplay(cmd, detect.Config{Ruleset: set, Matching: m, Names: known}, from, output == "json")
			if err := r.run(in); err != nil {
				return err
			}
			return cmp.Or(r.summary(), ofRules)
		}),
	}
	builtInFlag(cmd, &builtIn)
	outputFlag(cmd, &output, "text", "json")
	cmd.Flags().StringVar(&matching, "rule-matching", "all", "all or first: how many rules may raise an alert for one event (Falco's default is first)")
	cli.Choice(cmd, "rule-matching", "all", "first")
	cmd.Flags().StringArrayVar(&names, "name", nil, "NAME=ADDRESS[,ADDRESS...]: what a name in the rules stands for (fd.sip.name); no name server is asked; can be repeated")
	cmd.Flags().StringVarP(&from, "events", "f", "", "the recording: a file of JSON lines, - for the standard input")
	_ = cmd.RegisterFlagCompletionFunc("events", cobra.FixedCompletions([]string{"jsonl", "json"}, cobra.ShellCompDirectiveFilterFileExt))
	return cmd
}

// parseNames reads what names stand for, as NAME=ADDRESS[,ADDRESS...] each.
func parseNames(texts []string) (*rule.NameTable, error) {
	names := map[string][]string{}
	for _, text := range texts {
		name, addresses, ok := strings.Cut(text, "=")
		if !ok {
			return nil, fmt.Errorf("%.60q has no addresses: want NAME=ADDRESS[,ADDRESS...]", text)
		}
		names[name] = append(names[name], strings.Split(addresses, ",")...)
	}
	return rule.ParseNames(names)
}

// replay asks rules about recorded events, in their order.
type replay struct {
	detector    *detect.Detector
	out, err    io.Writer
	name        string
	json        bool
	events      int
	wrong       int
	missed      uint64
	alerts      []alert.Alert // scratch
	alertCounts map[string]int
}

func newReplay(cmd *cobra.Command, cfg detect.Config, name string, asJSON bool) *replay {
	// The recording has no time but the wall clock's.
	cfg.Wall = func(ktime uint64) time.Time { return time.Unix(0, int64(ktime)) }
	return &replay{
		detector: detect.New(cfg), out: cmd.OutOrStdout(), err: cmd.ErrOrStderr(),
		name: name, json: asJSON, alertCounts: map[string]int{},
	}
}

// run reads lines until the end. What is wrong with one of them does not end it.
func (r *replay) run(in io.Reader) error {
	lines := bufio.NewReaderSize(in, rule.MaxEventBytes+2)
	out := bufio.NewWriter(r.out)
	for n := 1; ; n++ {
		line, err := lines.ReadSlice('\n')
		long := errors.Is(err, bufio.ErrBufferFull)
		for errors.Is(err, bufio.ErrBufferFull) { // what is left of it
			_, err = lines.ReadSlice('\n')
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return usageError{fmt.Errorf("read --events: %w", err)}
		}
		mistake := errors.New("read event: the line is too long")
		if !long {
			mistake = r.line(bytes.TrimSpace(line), out)
		}
		if mistake != nil {
			r.wrong++
			fmt.Fprintf(r.err, "%s:%d: %s\n", cli.Printable(r.name), n, cli.Printable(mistake.Error()))
		}
		if err != nil {
			return out.Flush()
		}
	}
}

func (r *replay) line(line []byte, out io.Writer) error {
	if len(line) == 0 {
		return nil
	}
	ev, w, at, err := rule.ParseEvent(line)
	var gap rule.Gap
	switch {
	case errors.As(err, &gap):
		r.missed += gap.Missed
		return nil
	case err != nil:
		return err
	}
	r.events++
	ev.Ktime = uint64(at.UnixNano())
	who := &detect.Subject{Name: w.Name, Kind: w.Kind, ContainerID: w.ContainerID, SPIFFEID: w.SPIFFEID}
	r.alerts = r.detector.Observe(ev, who, r.alerts[:0])
	for _, a := range r.alerts {
		a.Detail.Mode, a.Detail.KernelTime = "", 0 // not recorded
		r.alertCounts[a.Rule]++
		if err := r.print(a, out); err != nil {
			return err
		}
	}
	return nil
}

func (r *replay) print(a alert.Alert, out io.Writer) error {
	if r.json {
		return json.NewEncoder(out).Encode(a)
	}
	_, err := fmt.Fprintln(out, cli.Printable(a.Output))
	return err
}

// summary counts what happened; the error is about lines that were wrong.
func (r *replay) summary() error {
	total := 0
	for _, name := range slices.Sorted(maps.Keys(r.alertCounts)) {
		total += r.alertCounts[name]
		fmt.Fprintf(r.err, "%7d  %s\n", r.alertCounts[name], cli.Printable(name))
	}
	fmt.Fprintf(r.err, "%s, %s\n", count(r.events, "event"), count(total, "alert"))
	if r.missed > 0 {
		fmt.Fprintf(r.err, "the recording has gaps: %d events were missed\n", r.missed)
	}
	if r.wrong > 0 {
		return fault{fmt.Errorf("replay events: %s could not be read", count(r.wrong, "line")), exitUsage}
	}
	return nil
}
