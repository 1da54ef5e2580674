// Bench prints one table of what Plumbline costs on this machine: Go benchmarks of the way from a record
// to an alert, and runs of the real programs. Ratios are taken within one run, because machines differ
// and are shared. It judges nothing by exit code: a slow machine is no failure.
//
//	make bench
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"regexp"
	"text/tabwriter"
)

// row is one line of the table.
type row struct{ what, measured, target string }

func main() {
	bin := flag.String("bin", "bin", "directory of plumbline and plumbline-agent")
	rounds := flag.Int("rounds", 7, "rounds of the execution benchmark")
	only := flag.String("run", "", "only the parts that match: packages, executions, delivery, memory, pushdown, vm")
	c := comparison{}
	flag.StringVar(&c.kernels, "kernels", "6.12", "kernels of the parts pushdown and vm, comma-separated")
	flag.StringVar(&c.agent, "agent", "test/bench/agents/plumbline.sh", "script of the agent under test in the part vm")
	flag.StringVar(&c.with, "with", "", "further programs of this machine that the script needs there, comma-separated")
	flag.StringVar(&c.loads, "loads", "", "only the loads of the part vm that match")
	flag.IntVar(&c.boots, "boots", 3, "boots of each kernel in the part vm; what they find differs by some hundredths")
	flag.BoolVar(&c.profile, "programs", false, "in the part vm, also tell which BPF programs each load calls, and what they cost")
	flag.Parse()
	c.boots = max(1, c.boots)
	c.bin = *bin
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt)
	defer cancel()
	if err := run(ctx, c, *rounds, *only); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, c comparison, rounds int, only string) error {
	wanted, err := regexp.Compile(only)
	if err != nil {
		return fmt.Errorf("read -run: %w", err)
	}
	var rows []row
	for _, part := range []struct {
		name    string
		measure func() ([]row, error)
	}{
		{"packages", func() ([]row, error) { return goBenchmarks(ctx) }},
		{"executions", func() ([]row, error) { return executions(ctx, c.bin, rounds) }},
		{"delivery", func() ([]row, error) { return delivery(ctx, c.bin) }},
		{"memory", func() ([]row, error) { return memory(ctx, c.bin) }},
		{"pushdown", func() ([]row, error) { return pushdown(ctx, c.kernels) }},
		{"vm", func() ([]row, error) { return c.measure(ctx) }},
	} {
		if !wanted.MatchString(part.name) {
			continue
		}
		fmt.Fprintf(os.Stderr, "measuring: %s\n", part.name)
		more, err := part.measure()
		if err != nil {
			return fmt.Errorf("measure %s: %w", part.name, err)
		}
		rows = append(rows, more...)
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "WHAT\tMEASURED\tTARGET")
	for _, r := range rows {
		fmt.Fprintf(w, "%s\t%s\t%s\n", r.what, r.measured, r.target)
	}
	return w.Flush()
}
