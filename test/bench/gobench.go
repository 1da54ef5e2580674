package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
)

// goBenchmarks runs the benchmarks that stand beside the code.
func goBenchmarks(ctx context.Context) ([]row, error) {
	var rows []row
	for _, b := range []struct{ pkg, name, what, target string }{
		{"./pkg/agent", "BenchmarkRingToAlertQuiet", "record to last rule, nothing raised", "1000 ns, 0 allocations"},
		{"./pkg/agent", "BenchmarkRingToAlertRaised", "record to alert", ""},
		{"./pkg/detect", "BenchmarkObserveQuiet", "  of it detect", ""},
		{"./pkg/process", "BenchmarkObserveAndFill", "  of it process table (fork, exec, exit)", ""},
		{"./pkg/rule", "BenchmarkMatch", "  of it one rule", ""},
		{"./pkg/rule", "BenchmarkNoMatch/exec", "all rules asked about an execution that none matches", "2000 ns, 0 allocations"},
		{"./pkg/rule", "BenchmarkNoMatch/open", "all rules asked about a file that none matches", "2000 ns, 0 allocations"},
		{"./pkg/rule", "BenchmarkNoMatchOfMany", "500 rules asked about an execution that none matches", "2000 ns, 0 allocations"},
		{"./pkg/rule", "BenchmarkMatching", "all rules asked about an execution that one matches, its output", "10000 ns"},
		{"./pkg/rule", "BenchmarkLoad", "500 rules loaded", "100 ms"},
		{"./pkg/enforce", "BenchmarkApply", "a profile of 10,000 entries put into force, the one before removed", "100 ms"},
	} {
		cmd := exec.CommandContext(ctx, "go", "test", "-run", "^$", "-bench", "^"+strings.ReplaceAll(b.name, "/", "$/^")+"$", "-count", "10", "-benchtime", "200ms", b.pkg)
		cmd.Stderr = os.Stderr
		out, err := cmd.Output()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", b.name, err)
		}
		best := ""
		var least float64
		for _, m := range regexp.MustCompile(`\s([0-9.]+) ns/op\s+[0-9]+ B/op\s+([0-9]+) allocs/op`).FindAllStringSubmatch(string(out), -1) {
			var ns float64
			if _, err := fmt.Sscan(m[1], &ns); err == nil && (best == "" || ns < least) {
				best, least = fmt.Sprintf("%s, %s allocations (best of 10)", inUnit(ns), m[2]), ns
			}
		}
		if best == "" {
			return nil, fmt.Errorf("%s: no result in %q", b.name, out)
		}
		rows = append(rows, row{b.what, best, b.target})
	}
	return rows, nil
}

// inUnit writes nanoseconds in the unit that goals of their size have.
func inUnit(ns float64) string {
	if ns < 1e6 {
		return fmt.Sprintf("%.0f ns", ns)
	}
	return fmt.Sprintf("%.0f ms", ns/1e6)
}
