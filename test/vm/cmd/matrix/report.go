package main

import (
	"cmp"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"golang.org/x/sys/unix"

	testcounts "github.com/plumbline-io/plumbline/test/counts"
)

// report gathers the outcomes of all boots.
type report struct {
	mu  sync.Mutex
	all []outcome
}

func newReport() *report { return &report{} }

func (r *report) add(o outcome) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, o)
	state := "ok"
	if !o.ok() {
		state = "FAILED"
	}
	fmt.Printf("%-6s %-28s %s\n", state, o.boot.name(), o.duration())
}

// duration of the run, if there was one.
func (o *outcome) duration() string {
	if o.remembered {
		return "(cached)"
	}
	return fmt.Sprintf("%3.0f s", o.took.Seconds())
}

func (o *outcome) ok() bool {
	return o.err == nil && o.tests.failed+o.scenarios.failed == 0 && (o.filtered || o.tests.passed+o.scenarios.passed > 0)
}

// print writes the table and says whether everything passed.
func (r *report) print(took time.Duration) bool {
	order := boots()
	slices.SortFunc(r.all, func(a, b outcome) int { return slices.Index(order, a.boot) - slices.Index(order, b.boot) })
	ok := len(r.all) > 0
	var tests, scenarios counts
	cached := 0
	skips := map[string]int{}
	fmt.Println()
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "KERNEL\tCGROUPS\tBPF LSM\tBOOT\tTESTS\tFAILED\tSKIPPED\tSCENARIOS\tFAILED\tSKIPPED\tCOVERED\tTOOK")
	for _, o := range r.all {
		ok = ok && o.ok()
		fmt.Fprintf(w, "%s\t%s\t%t\t%.1f s\t%d\t%d\t%d\t%d\t%d\t%d\t%s\t%s\n", o.version, o.boot.cgroups, o.boot.lsm, o.booted.Seconds(),
			o.tests.passed, o.tests.failed, o.tests.skipped, o.scenarios.passed, o.scenarios.failed, o.scenarios.skipped, o.covered.String(), o.duration())
		if o.remembered {
			cached++
		}
		tests.add(o.tests)
		scenarios.add(o.scenarios)
		for _, s := range o.skips {
			skips[s]++
		}
	}
	if err := w.Flush(); err != nil {
		return false
	}
	for _, why := range sortedKeys(skips) {
		fmt.Printf("skipped on %d: %s\n", skips[why], why)
	}
	for _, o := range r.all {
		for _, f := range o.failures {
			fmt.Printf("FAILED %s: %s\n", o.boot.name(), f)
		}
		if o.err != nil {
			fmt.Printf("FAILED %s: %v\n", o.boot.name(), o.err)
		}
	}
	err := testcounts.Tell(fmt.Sprintf("matrix: %d boots, %d of them cached; tests: %d passed, %d failed, %d skipped; scenarios: %d passed, %d failed, %d skipped; %.0f s, %.0f s of processors", len(r.all), cached,
		tests.passed, tests.failed, tests.skipped, scenarios.passed, scenarios.failed, scenarios.skipped, took.Seconds(), processorTime().Seconds()))
	if err != nil {
		fmt.Fprintln(os.Stderr, "matrix:", err)
	}
	return ok && err == nil && tests.passed+scenarios.passed > 0
}

// printSlowest lists the n tests that took longest.
func (r *report) printSlowest(n int) {
	var all []timed
	for _, o := range r.all {
		all = append(all, o.times...)
	}
	slices.SortFunc(all, func(a, b timed) int { return cmp.Compare(b.seconds, a.seconds) })
	for _, t := range all[:min(n, len(all))] {
		fmt.Printf("%7.1f s  %s\n", t.seconds, t.what)
	}
}

func (c *counts) add(other counts) {
	c.passed += other.passed
	c.failed += other.failed
	c.skipped += other.skipped
}

func sortedKeys(m map[string]int) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, strings.Compare)
	return keys
}

// processorTime is what the compilers and guests took, which unlike the time by the clock does not depend on what
// else the machine does.
func processorTime() time.Duration {
	var usage unix.Rusage
	if unix.Getrusage(unix.RUSAGE_CHILDREN, &usage) != nil {
		return 0
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
