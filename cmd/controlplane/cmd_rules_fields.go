package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/plumbline-io/plumbline/pkg/rule"
)

func newRulesFields() *cobra.Command {
	var all bool
	var output string
	cmd := &cobra.Command{
		Use:   "fields [PREFIX...]",
		Short: "List the fields that rules can ask for",
		Long: `List the fields that conditions and outputs can name, or those whose names begin so: of what type they
are, in rules of which source they have values, and which values there are, if they are few. What may stand in
brackets is optional. With --all, those of Falco's that are known and never have a value are listed too, with the reason.
With -o json every field is one object a line.

Exit codes: 0 fine; 2 no field has such a name.`,
		Example: `  plumbline rules fields tls.
  plumbline rules fields --all container.
  plumbline rules fields -o json | jq -r 'select(.sources | index("gc")) | .name'`,
		ValidArgsFunction: completeField,
		RunE: workOn(func(cmd *cobra.Command, args []string) error {
			return runRulesFields(cmd, args, all, output)
		}),
	}
	cmd.Flags().BoolVar(&all, "all", false, "list also those that are not supplied")
	outputFlag(cmd, &output, "table", "json")
	return cmd
}

// completeField offers the fields that are supplied.
func completeField(*cobra.Command, []string, string) (names []string, _ cobra.ShellCompDirective) {
	for _, f := range rule.Fields() {
		if f.Supplied {
			names = append(names, f.Name)
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// listedField is the JSON form of a field.
type listedField struct {
	Name     string   `json:"name"`
	Type     string   `json:"type"`
	Argument string   `json:"argument,omitempty"` // what may stand in brackets: index or key
	Sources  []string `json:"sources"`
	Values   []string `json:"values,omitempty"`
	Supplied bool     `json:"supplied"`
	Why      string   `json:"why,omitempty"`
}

func runRulesFields(cmd *cobra.Command, prefixes []string, all bool, output string) error {
	enc := json.NewEncoder(cmd.OutOrStdout())
	var rows [][]string
	known := false
	for _, f := range rule.Fields() {
		if len(prefixes) > 0 && !slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(f.Name, p) }) {
			continue
		}
		known = true
		if !f.Supplied && !all {
			continue
		}
		if output == "json" {
			err := enc.Encode(listedField{f.Name, f.Type, f.Argument, append([]string{}, f.Sources...), f.Values, f.Supplied, f.Why})
			if err != nil {
				return err
			}
			continue
		}
		name, note := f.Name, strings.Join(f.Values, ", ")
		if f.Argument != "" {
			name += "[" + f.Argument + "]"
		}
		if !f.Supplied {
			note = "not supplied: " + f.Why
		}
		rows = append(rows, []string{name, f.Type, strings.Join(f.Sources, ","), note})
	}
	switch {
	case !known:
		return usageError{fmt.Errorf("list fields: none has a name that begins with %.60q", strings.Join(prefixes, " or "))}
	case output == "json":
		return nil
	}
	return newTable(cmd.OutOrStdout(), "FIELD", "TYPE", "SOURCES", "VALUES").print(rows)
}
