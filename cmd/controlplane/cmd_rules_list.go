package main

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/plumbline-io/plumbline/pkg/rule"
)

// builtInDrift is where the drift rule says that it was defined, if no file changes its words.
const builtInDrift = "built-in"

func newRulesList() *cobra.Command {
	var builtIn bool
	var output string
	cmd := &cobra.Command{
		Use:   "list [FILE|DIR...]",
		Short: "List rules",
		Long: `List the rules of files, or the built-in ones. Rules that are switched off (enabled: false) are listed
too. ACTION is what a rule asks for; with another one than alert, MODE says whether that is done (enforce) or
only told (audit). With -o json every rule is one object a line.

Exit codes: 0 fine; 2 a file cannot be read, or a rule is wrong: the others are listed.`,
		Example: `  plumbline rules list
  plumbline rules list --builtin /etc/plumbline/rules
  plumbline rules list -o json | jq -r 'select(.tags | index("T1059.004")) | .name'
  plumbline rules list -o json /etc/plumbline/rules | jq -r 'select(.enabled and .action != "alert") | .name'`,
		ValidArgsFunction: yamlFiles,
		RunE: workOn(func(cmd *cobra.Command, args []string) error {
			f, err := gatherRules(args, builtIn)
			if err != nil {
				return err
			}
			return runRulesList(cmd, newCatalogue(f.Rules), builtIn || len(args) == 0, output)
		}),
	}
	builtInFlag(cmd, &builtIn)
	outputFlag(cmd, &output, "table", "json")
	return cmd
}

// listedRule is the JSON form of a rule in a list.
type listedRule struct {
	Name        string   `json:"name"`
	Description string   `json:"desc"`
	Source      string   `json:"source"`
	Severity    string   `json:"severity"`
	Tags        []string `json:"tags"`
	Enabled     bool     `json:"enabled"`
	Action      string   `json:"action"`
	Mode        string   `json:"mode"`
	File        string   `json:"file"`
	Line        int      `json:"line"`
}

func listing(r *rule.Rule) listedRule {
	return listedRule{
		Name: r.Name, Description: r.Desc, Source: r.Source, Severity: r.Severity.String(), Tags: append([]string{}, r.Tags...),
		Enabled: r.Enabled, Action: r.Action.String(), Mode: r.Mode.String(), File: r.File, Line: r.Line,
	}
}

func runRulesList(cmd *cobra.Command, c *catalogue, builtIn bool, output string) error {
	enc := json.NewEncoder(cmd.OutOrStdout())
	var rows [][]string
	for _, r := range c.rules() {
		if r.File == builtInDrift && !builtIn {
			continue
		}
		l := listing(r)
		if output == "json" {
			if err := enc.Encode(l); err != nil {
				return err
			}
			continue
		}
		on := "on"
		if !l.Enabled {
			on = "off"
		}
		mode := l.Mode
		if r.Action == rule.Alert {
			mode = "" // it changes nothing
		}
		rows = append(rows, []string{l.Name, l.Source, l.Severity, on, l.Action, mode, strings.Join(l.Tags, ","), fmt.Sprintf("%s:%d", l.File, l.Line)})
	}
	if output != "json" {
		if err := newTable(cmd.OutOrStdout(), "NAME", "SOURCE", "SEVERITY", "STATE", "ACTION", "MODE", "TAGS", "DEFINED").print(rows); err != nil {
			return err
		}
	}
	return refused(cmd.ErrOrStderr(), c.problems)
}
