package main

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/plumbline-io/plumbline/cmd/internal/cli"
	"github.com/plumbline-io/plumbline/pkg/event"
	"github.com/plumbline-io/plumbline/pkg/rule"
)

func newRulesExplain() *cobra.Command {
	var builtIn bool
	var output string
	cmd := &cobra.Command{
		Use:   "explain RULE [FILE|DIR...]",
		Short: "Explain one rule, and where it is decided",
		Long: `Explain one rule of the files, or of the built-in ones: what it is for, which events it is asked about,
the macros and lists that its condition is made of, which events leave the kernel for it and at which hooks, what
the kernel denies for it, where each check is decided: in the kernel, there first and in user space again (filter),
since the kernel tests something weaker or not all of the condition, or in user space; and what becomes of what it
matches.

Exit codes: 0 fine; 2 a file cannot be read, or there is no such rule.`,
		Example: `  plumbline rules explain 'Fileless execution'
  plumbline rules explain --builtin 'Shell in the shop' shop.yaml`,
		Args:              cli.AtLeast("RULE"),
		ValidArgsFunction: completeRule,
		RunE: workOn(func(cmd *cobra.Command, args []string) error {
			f, err := gatherRules(args[1:], builtIn)
			if err != nil {
				return err
			}
			x, err := explain(newCatalogue(f.Rules), args[0])
			if err != nil {
				return err
			}
			if output == "json" {
				return json.NewEncoder(cmd.OutOrStdout()).Encode(x)
			}
			return x.print(cmd.OutOrStdout())
		}),
	}
	builtInFlag(cmd, &builtIn)
	outputFlag(cmd, &output, "text", "json")
	return cmd
}

// completeRule offers the built-in rules, then files.
func completeRule(cmd *cobra.Command, args []string, toComplete string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return yamlFiles(cmd, args, toComplete)
	}
	return completeRuleName(cmd, nil, toComplete)
}

// completeRuleName offers the built-in rules.
func completeRuleName(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	f, err := gather(nil, true)
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	var names []string
	for _, r := range newCatalogue(f.Rules).rules() {
		names = append(names, cobra.CompletionWithDesc(r.Name, r.Desc))
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// explanation is what is known of a rule; its JSON form is an output.
type explanation struct {
	listedRule
	Attack      []string     `json:"attack"`
	Window      string       `json:"window,omitempty"`
	Events      []string     `json:"events"`
	Output      string       `json:"output,omitempty"`
	Condition   string       `json:"condition,omitempty"`
	Definitions []definition `json:"definitions"`
	Kernel      []string     `json:"kernel"` // what leaves the kernel for it, by kind of event
	Denied      []string     `json:"denied"` // what it denies, all of it
	Hooks       []string     `json:"hooks"`  // where the kernel is asked
	Effect      string       `json:"effect,omitempty"`
	Decided     []decision   `json:"decided"`
}

// definition is a macro or list that a condition is made of.
type definition struct {
	Kind string `json:"kind"`
	Name string `json:"name"`
	File string `json:"file"`
	Line int    `json:"line"`
	Text string `json:"text"`
}

// decision says where a part of a rule can be decided.
type decision struct {
	Part   string `json:"part"`
	Where  string `json:"where"` // kernel, filter, user space or never
	Why    string `json:"why,omitempty"`
	Macro  string `json:"macro,omitempty"`
	File   string `json:"file,omitempty"`
	Line   int    `json:"line,omitempty"`
	Column int    `json:"column,omitempty"`
}

func explain(c *catalogue, name string) (*explanation, error) {
	i := slices.IndexFunc(c.rules(), func(r *rule.Rule) bool { return r.Name == name })
	if i < 0 {
		return nil, noSuchRule(c, name)
	}
	r := c.rules()[i]
	x := &explanation{
		listedRule: listing(r), Attack: append([]string{}, r.Attack...), Window: windowText(&r.Window),
		Events: []string{}, Kernel: []string{}, Denied: []string{}, Hooks: []string{}, Output: strings.TrimSpace(r.Output()), Condition: strings.TrimSpace(r.Condition()),
	}
	if d, drift := c.drift(r); drift {
		x.drift(d)
		return x, nil
	}
	for k := event.Fork; k < event.KindCount; k++ {
		if slices.Contains(c.all.For(k), r) {
			x.Events = append(x.Events, k.String())
		}
	}
	if slices.Contains(c.all.ForAlerts(), r) {
		x.Events = append(x.Events, "alerts of other rules")
	}
	for _, interest := range r.Plan() {
		if interest.Kind == event.ExecCheck && !r.Stops() {
			continue // an Exec follows
		}
		x.Kernel = append(x.Kernel, interestText(&interest, interest.Exact && r.InKernel()))
		for _, h := range hooksOf(&interest) {
			if !slices.Contains(x.Hooks, h) {
				x.Hooks = append(x.Hooks, h)
			}
		}
	}
	for _, denial := range r.Denials() {
		if denial.Kind != event.Exec { // it is too late then
			x.Denied = append(x.Denied, testsText(&denial))
		}
	}
	x.Effect = effect(r)
	x.Definitions = c.definitions(r)
	for _, check := range r.Checks() {
		d := decision{Part: check.Text, Where: check.Where, Macro: check.Macro, File: check.File, Line: check.Line, Column: check.Column}
		if !check.Supplied {
			d.Where, d.Why = "never", check.Why
		}
		x.Decided = append(x.Decided, d)
	}
	return x, nil
}

// hooksOf are where the kernel meets what a rule asks about.
func hooksOf(i *rule.Interest) []string {
	switch i.Kind {
	case event.Access:
		return i.Op.Hooks()
	case event.ExecCheck:
		return event.OpExec.Hooks()
	case event.Exec:
		return []string{"sched_process_exec"}
	case event.Fork:
		return []string{"sched_process_fork"}
	case event.Exit:
		return []string{"sched_process_exit"}
	case event.Handshake:
		return []string{"uprobe/crypto_tls", "uprobe/libssl.so.3"}
	case event.Pause:
		return []string{"uprobe/go_stop_the_world"}
	}
	return nil
}

// drift explains a rule that the kernel decides by a baseline.
func (x *explanation) drift(d event.Dimension) {
	x.Events, x.Definitions = []string{event.Access.String()}, []definition{}
	part := decision{Part: "whether the baseline holds the operation", Where: rule.InKernel, Why: "at the hooks of dimension " + d.String()}
	if d == event.DimExec {
		x.Events = []string{event.ExecCheck.String()}
		part = decision{Part: "whether the baseline holds the file", Where: rule.InKernel, Why: "at bprm_check_security"}
	}
	x.Decided = []decision{part}
}

// windowText says when a rule with a window speaks up.
func windowText(w *rule.Window) string {
	if w.Count == 0 {
		return ""
	}
	text := fmt.Sprintf("%d matches within %s", w.Count, w.Within)
	if len(w.Distinct) > 0 {
		text = fmt.Sprintf("%d different %s within %s", w.Count, strings.Join(w.Distinct, ", "), w.Within)
	}
	return text + " in " + strings.Join(append([]string{"a workload"}, w.By...), ", ")
}

// effect is what becomes of what the rule matches.
func effect(r *rule.Rule) string {
	switch {
	case r.Mode == event.Off:
		return "mode off disables it"
	case r.Action == rule.Alert:
		return "it alerts"
	case r.Action.Responds() && r.Mode == event.Enforce:
		return "it alerts, and the agent does it then in protected workloads, if its configuration says \"responses: on\""
	case r.Action.Responds():
		return "in mode " + r.Mode.String() + " it alerts; with mode enforce the agent does it then, in protected workloads"
	case r.Mode == event.Enforce:
		return "the kernel does it in protected workloads; in others the alert says what would have been stopped"
	}
	return "in mode " + r.Mode.String() + " it alerts; with mode enforce the kernel does it, in protected workloads"
}

// definitions are the macros and lists of a rule, in the order in which its condition meets them.
func (c *catalogue) definitions(r *rule.Rule) []definition {
	found := []definition{}
	macros, lists := r.Uses()
	for _, name := range macros {
		for _, m := range c.set.Macros() {
			if m.Name == name {
				found = append(found, definition{"macro", m.Name, m.File, m.Line, strings.TrimSpace(m.Condition)})
			}
		}
	}
	for _, name := range lists {
		for _, l := range c.set.Lists() {
			if l.Name == name {
				found = append(found, definition{"list", l.Name, l.File, l.Line, strings.Join(l.Items, ", ")})
			}
		}
	}
	return found
}

func (x *explanation) print(out io.Writer) error {
	var b strings.Builder
	colour := isTerminal(out)
	state := ""
	if !x.Enabled {
		state = " (switched off)"
	}
	fmt.Fprintf(&b, "%s%s\n\n", paint(colour, bold, cli.Printable(x.Name)), state)
	for _, row := range [][2]string{
		{"description", strings.TrimSpace(x.Description)},
		{"source", x.Source},
		{"severity", x.Severity},
		{"tags", strings.Join(x.Tags, ", ")},
		{"attack", strings.Join(x.Attack, ", ")},
		{"action", x.Action},
		{"mode", x.Mode},
		{"effect", x.Effect},
		{"window", x.Window},
		{"defined", fmt.Sprintf("%s:%d", x.File, x.Line)},
		{"asked about", strings.Join(x.Events, ", ")},
		{"at hooks", strings.Join(x.Hooks, ", ")},
		{"output", x.Output},
	} {
		if row[1] != "" {
			fmt.Fprintf(&b, "  %-12s  %s\n", row[0], cli.Printable(row[1]))
		}
	}
	if x.Condition != "" {
		fmt.Fprintf(&b, "\n%s\n", paint(colour, bold, "condition"))
		indented(&b, x.Condition)
	}
	for _, d := range x.Definitions {
		fmt.Fprintf(&b, "\n%s (%s:%d)\n", paint(colour, bold, d.Kind+" "+cli.Printable(d.Name)), cli.Printable(d.File), d.Line)
		indented(&b, d.Text)
	}
	if len(x.Kernel) > 0 {
		fmt.Fprintf(&b, "\n%s\n", paint(colour, bold, "what leaves the kernel for it"))
		indented(&b, strings.Join(x.Kernel, "\n"))
	}
	if len(x.Denied) > 0 {
		fmt.Fprintf(&b, "\n%s\n", paint(colour, bold, "what the kernel denies"))
		indented(&b, strings.Join(x.Denied, "\n"))
	}
	fmt.Fprintf(&b, "\n%s\n", paint(colour, bold, "where each check is decided"))
	if err := x.printDecided(&b); err != nil {
		return err
	}
	_, err := io.WriteString(out, b.String())
	return err
}

func (x *explanation) printDecided(b *strings.Builder) error {
	var rows [][]string
	for _, d := range x.Decided {
		place, check := "", strings.Join(strings.Fields(d.Part), " ")
		if d.File != "" {
			place = fmt.Sprintf("%s:%d:%d", d.File, d.Line, d.Column)
		}
		if d.Why != "" {
			check += " (" + d.Why + ")"
		}
		rows = append(rows, []string{d.Where, place, check})
	}
	return newTable(b, "WHERE", "DEFINED", "CHECK").print(rows) // a check may be long: it comes last, and widens nothing
}

func indented(b *strings.Builder, text string) {
	for line := range strings.Lines(text) {
		b.WriteString("  " + cli.Printable(strings.TrimRight(line, " \r\n")) + "\n")
	}
}
