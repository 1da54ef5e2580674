package main

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/plumbline-io/plumbline/cmd/internal/cli"
	"github.com/plumbline-io/plumbline/pkg/agent"
	"github.com/plumbline-io/plumbline/pkg/event"
	"github.com/plumbline-io/plumbline/pkg/sensor"
)

const defaultSocket = agent.DefaultSocket

func socketFlag(cmd *cobra.Command) *string {
	return cmd.Flags().String("socket", defaultSocket, "Unix socket `FILE` of the agent")
}

// outputFlag gives a verb its form for people, and JSON.
func outputFlag(cmd *cobra.Command, people string) *string {
	o := cmd.Flags().StringP("output", "o", people, people+" or json")
	cli.Choice(cmd, "output", people, "json")
	return o
}

func checkOutput(cmd *cobra.Command) error {
	f := cmd.Flags().Lookup("output")
	if f == nil || f.Value.String() == f.DefValue || f.Value.String() == "json" {
		return nil
	}
	return usageError{fmt.Errorf("read --output: unknown format %q: want %s", f.Value, f.Usage)}
}

func printJSON(w io.Writer, value any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(value)
}

func newCheck() *cobra.Command {
	var f configFlags
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Load and attach everything once, and say what this kernel supports",
		Long: `check loads and attaches everything in scope, prints each hook and sensor with
supported or not and why, and takes all of it away again. It denies nothing.

Exit codes: 0 everything the agent does can be done here; 1 it can run, and
something is missing; 2 it cannot run here, or the usage was wrong.`,
		Example: `  plumbline-agent check
  plumbline-agent check --scope /sys/fs/cgroup/system.slice/shop.service -o json`,
		Args: cobra.NoArgs,
	}
	output := outputFlag(cmd, "table")
	f.register(cmd)
	cmd.RunE = work(func(cmd *cobra.Command, _ []string) error {
		c, err := f.load(cmd)
		if err != nil {
			return err
		}
		report, err := agent.Check(c)
		if err != nil {
			return usageError{fmt.Errorf("check: %w", err)}
		}
		if *output == "json" {
			err = printJSON(cmd.OutOrStdout(), report)
		} else {
			err = printReport(cmd.OutOrStdout(), report)
		}
		if err == nil && len(report.Missing) > 0 {
			err = errFindings
		}
		return err
	})
	return cmd
}

func printReport(w io.Writer, r agent.Report) error {
	fmt.Fprintf(w, "kernel %s, %s, cgroups %s\n\n", r.Kernel, r.Arch, r.CgroupLayout)
	if err := printHooks(w, r.Hooks); err != nil {
		return err
	}
	fmt.Fprintf(w, "\nA denied execution: %s (%s).\nHeld by: %s.\n", r.Means, r.Strength, heldBy(r.Dimensions))
	if len(r.Missing) == 0 {
		fmt.Fprintln(w, "Everything the agent does can be done here.")
		return nil
	}
	for _, m := range r.Missing {
		fmt.Fprintln(w, "Missing:", cli.Printable(strings.ReplaceAll(m, "\n", " ")))
	}
	return nil
}

func printHooks(w io.Writer, hooks []sensor.Status) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "SENSOR\tHOOK\tSUPPORTED\tWHY")
	for _, h := range hooks {
		supported := "yes"
		if !h.Supported {
			supported = "no"
		}
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\n", h.Sensor, cli.Printable(h.Hook), supported, cli.Printable(strings.ReplaceAll(h.Reason, "\n", " ")))
	}
	return tw.Flush()
}

// heldBy names what holds each dimension.
func heldBy(dims []agent.DimensionStatus) string {
	list := []string{}
	for _, d := range dims {
		list = append(list, d.Name+" "+d.Strength)
	}
	return strings.Join(list, ", ")
}

func newStatus() *cobra.Command {
	cmd := &cobra.Command{
		Use: "status", Short: "Ask the running agent for its state", Args: cobra.NoArgs,
		Example: "  plumbline-agent status\n  plumbline-agent status -o json | jq .lost",
	}
	socket, output := socketFlag(cmd), outputFlag(cmd, "table")
	cmd.RunE = work(func(cmd *cobra.Command, _ []string) error {
		s, err := agent.NewClient(*socket).Status(cmd.Context())
		if err != nil {
			return err
		}
		if *output == "json" {
			return printJSON(cmd.OutOrStdout(), s)
		}
		return printStatus(cmd.OutOrStdout(), s)
	})
	return cmd
}

func printStatus(w io.Writer, s agent.Status) error {
	scope := "the whole machine"
	if len(s.Scope) > 0 {
		scope = strings.Join(s.Scope, ", ")
	}
	fmt.Fprintf(w, "node %s, agent %s, kernel %s, up %s, attached in %.0f ms, RSS %.1f MiB\n",
		s.Node, s.Version, s.Kernel, time.Since(s.Started).Round(time.Second), s.AttachedMs, float64(s.RSS)/(1<<20))
	fmt.Fprintf(w, "scope: %s (cgroups %s)\na denied execution: %s (%s)\n", scope, s.CgroupLayout, s.Means, s.Strength)
	fmt.Fprintln(w, "held by:", heldBy(s.Dimensions))
	fmt.Fprintf(w, "alerts: %d, suppressed repetitions: %d\n", s.Alerts, s.Suppressed)
	printRules(w, s.Rules)
	if cp := s.ControlPlane; cp.URL == "" {
		fmt.Fprintln(w, "control plane: none, the agent works alone")
	} else {
		state := "connected"
		if !cp.Connected {
			state = "not connected: " + cp.LastError
		}
		fmt.Fprintf(w, "control plane: %s, %s, %d alerts stored, %d waiting\n", cp.URL, state, cp.Stored, cp.Spooled)
	}
	printBridges(w, s)
	if s.Pins != "" {
		fmt.Fprintf(w, "enforcement outlives the agent: pinned in %s; when it is told to stop: %s\n", s.Pins, s.OnStop)
	} else {
		fmt.Fprintln(w, "enforcement ends with the agent:", s.Unpinned)
	}
	printProtection(w, s)
	if !s.PausedUntil.IsZero() {
		fmt.Fprintln(w, "PAUSED: nothing is denied until", s.PausedUntil.Format(time.TimeOnly))
	}
	printResponses(w, s)
	fmt.Fprintf(w, "baselines: %d entries; the kernel has room for %d with a path\n", s.Entries, s.BaselinePaths)
	fmt.Fprintln(w)
	if err := printWorkloads(w, s); err != nil {
		return err
	}
	fmt.Fprintln(w)
	if err := printHooks(w, s.Hooks); err != nil {
		return err
	}
	fmt.Fprintln(w, "\nlost:", counters(s.Lost))
	return nil
}

// printProtection tells whether containers may get at the agent.
func printProtection(w io.Writer, s agent.Status) {
	const what = "the agent's maps, programs and pins"
	switch {
	case s.Unprotected != "":
		fmt.Fprintf(w, "containers may get at %s: %s\n", what, cli.Printable(s.Unprotected))
	case s.ProtectedOnly != "":
		fmt.Fprintf(w, "containers are kept from %s %s\n", what, s.ProtectedOnly)
	default:
		fmt.Fprintf(w, "containers are kept from %s\n", what)
	}
}

// printResponses tells what was done to whole workloads, and which of them are stopped.
func printResponses(w io.Writer, s agent.Status) {
	state := "off"
	if s.Responses.On {
		state = "on"
	}
	fmt.Fprintf(w, "responses: %s", state)
	for _, c := range s.Responses.Counts {
		fmt.Fprintf(w, ", %s %s %d", c.Action, c.Outcome, c.Count)
	}
	if s.Responses.Waiting > 0 {
		fmt.Fprintf(w, ", %d waiting", s.Responses.Waiting)
	}
	fmt.Fprintln(w)
	if s.Readiness.On {
		fmt.Fprintf(w, "readiness: asked after denials, %d looks\n", s.Readiness.Looks)
	} else {
		fmt.Fprintln(w, "readiness: not asked")
	}
	for _, q := range s.Quarantined {
		until := "until it is released"
		if !q.Until.IsZero() {
			until = "until " + q.Until.Local().Format(time.DateTime)
		}
		fmt.Fprintf(w, "QUARANTINED: %s since %s %s, by rule %s\n",
			cli.Printable(q.Workload), q.Since.Local().Format(time.DateTime), until, cli.Printable(q.Rule))
	}
}

// printWorkloads prints a line for each, and below the table what is not held as the mode says.
func printWorkloads(w io.Writer, s agent.Status) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "WORKLOAD\tKIND\tMODE\tRULES DENY\tSTRENGTH\tVERSION\tRUNS\tENTRIES\tHITS\tLEARNT\tAUDITED\tDENIED\tBUDGET\tSPIFFE ID\tBASELINE")
	var notes []string
	for _, m := range s.Workloads {
		name, budget := cli.Printable(m.Name), "no limit"
		if m.Budget >= 0 {
			budget = fmt.Sprint(m.Budget)
		}
		deny := "no"
		if m.Protected {
			deny = "yes"
		}
		common := "its own"
		if m.Baseline != "" {
			common = fmt.Sprintf("%s (%s)", cli.Printable(m.Baseline), containers(m.Containers))
		}
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\t%s\t%d\t%d\t%d\t%d\t%d\t%d\t%s\t%s\t%s\n",
			name, m.Kind, m.Mode, deny, s.Strength, m.Version, m.Runs, m.Entries, m.Hits, m.Learnt, m.Audited, m.Denied, budget, m.SPIFFEID, common)
		if m.Unreadable != "" {
			notes = append(notes, fmt.Sprintf("%s: held to nothing, its stored baseline cannot be read: %s", name, cli.Printable(m.Unreadable)))
		}
		if m.ByHand != "" {
			notes = append(notes, fmt.Sprintf("%s: its mode stands in its baseline's file, and promote would have refused it: %s", name, cli.Printable(m.ByHand)))
		}
		if len(m.Softened) > 0 {
			notes = append(notes, fmt.Sprintf("%s: audited only, not enforced: %s", name, strings.Join(m.Softened, ", ")))
		}
		if len(m.Full) > 0 {
			notes = append(notes, fmt.Sprintf("%s: its baseline has no room, or no name, for all that was done, and can only be audited: %s", name, strings.Join(m.Full, ", ")))
		}
		if len(m.Lacking) > 0 {
			notes = append(notes, fmt.Sprintf("%s: audited only, since an earlier version learnt the baseline without them: %s (let it learn a run, or promote it with --force)", name, strings.Join(m.Lacking, ", ")))
		}
		if m.Readiness != "" {
			notes = append(notes, fmt.Sprintf("%s: denied something lately; whether it is ready: %s", name, cli.Printable(m.Readiness)))
		}
		if len(m.Unfit) > 0 {
			notes = append(notes, fmt.Sprintf("%s: the kernel has not got all of its baseline: %s", name, strings.Join(m.Unfit, ", ")))
		}
		if len(m.Recorded) > 0 {
			notes = append(notes, fmt.Sprintf("%s: learnt, and not enforced by us: %s", name, strings.Join(m.Recorded, ", ")))
		}
		if len(m.Blind) > 0 {
			notes = append(notes, fmt.Sprintf("%s: in the baseline, and not held by this kernel: %s", name, strings.Join(m.Blind, ", ")))
		}
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(w, "VERSION: the first digits of the baseline's digest. HITS: lookups; what an inode remembers as allowed is not looked up.")
	for _, note := range notes {
		fmt.Fprintln(w, note)
	}
	return nil
}

// printBridges tells where else alerts go, and whose alerts are taken.
func printBridges(w io.Writer, s agent.Status) {
	because := func(reason string) string {
		if reason == "" {
			return ""
		}
		return "; last error: " + reason
	}
	for _, o := range s.Outputs {
		fmt.Fprintf(w, "%s: %s, %d alerts sent, %d waiting, %d dropped, %d failed", o.Name, o.Address, o.Sent, o.Queued, o.Dropped, o.Failed)
		if o.Name == "falco_socket" {
			fmt.Fprintf(w, ", %d subscribers", o.Subscribers)
		}
		fmt.Fprintln(w, because(o.LastError))
	}
	for _, i := range s.Inputs {
		fmt.Fprintf(w, "%s: %s, %d alerts taken, %d refused%s\n", i.Name, i.Address, i.Alerts, i.Refused, because(i.LastError))
	}
}

// counters prints what is not zero.
func counters(all map[string]uint64) string {
	var parts []string
	for name, n := range all {
		if n > 0 {
			parts = append(parts, fmt.Sprintf("%s %d", name, n))
		}
	}
	if len(parts) == 0 {
		return "nothing"
	}
	slices.Sort(parts)
	return strings.Join(parts, ", ")
}

func newEvents() *cobra.Command {
	cmd := &cobra.Command{
		Use: "events", Short: "Follow what the running agent observes", Args: cobra.NoArgs,
		Long: "events prints each event from now on until it is interrupted. It is a window, not a record:\na reader that is too slow misses events and is told how many.",
		Example: `  plumbline-agent events --kind handshake,pause
  plumbline-agent events -o json | jq 'select(.handshake.version != "TLS 1.3")'`,
	}
	socket, output := socketFlag(cmd), outputFlag(cmd, "table")
	kinds := cmd.Flags().StringSlice("kind", nil, "only these kinds: "+strings.Join(eventKinds(), ", "))
	cli.Choice(cmd, "kind", eventKinds()...)
	cmd.RunE = work(func(cmd *cobra.Command, _ []string) error {
		for _, k := range *kinds {
			if !slices.Contains(eventKinds(), k) {
				return usageError{fmt.Errorf("read --kind: unknown kind %q: want %s", k, strings.Join(eventKinds(), ", "))}
			}
		}
		enc := json.NewEncoder(cmd.OutOrStdout())
		return agent.NewClient(*socket).Events(cmd.Context(), func(v agent.View) error {
			if len(*kinds) > 0 && !slices.Contains(*kinds, v.Kind) && v.Kind != "missed" {
				return nil
			}
			if *output == "json" {
				return enc.Encode(v)
			}
			_, err := fmt.Fprintln(cmd.OutOrStdout(), cli.Printable(v.Text()))
			return err
		})
	})
	return cmd
}

func eventKinds() []string {
	var names []string
	for k := event.Fork; k < event.KindCount; k++ {
		names = append(names, k.String())
	}
	return names
}
