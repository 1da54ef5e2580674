package main

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	vm "github.com/plumbline-io/plumbline/test/vm"
)

// outcome is what one boot found.
type outcome struct {
	boot      boot
	version   string
	booted    time.Duration
	took      time.Duration
	tests     counts
	scenarios counts
	covered   coverage // of the packages whose tests ran
	failures  []string
	skips     []string
	times     []timed // of tests and scenarios that have no subtests
	filtered  bool    // not all tests were asked for: none is fine

	remembered bool // the guest did not run: nothing that is in it has changed since everything passed
	err        error
}

// timed is how long a test took in its guest.
type timed struct {
	what    string
	seconds float64
}

type counts struct{ passed, failed, skipped int }

// judge counts the tests in a step's output; a step that failed without a failed test is a failure
// too.
func (o *outcome) judge(r vm.Result) {
	c := &o.tests
	if r.Step == scenarioStep {
		c = &o.scenarios
	}
	before := c.failed
	for _, t := range parseTests(string(r.Output)) {
		if !t.parent {
			o.times = append(o.times, timed{o.boot.name() + ": " + r.Step + " " + t.name, t.seconds})
		}
		// A test with subtests stands for them.
		switch {
		case t.parent && t.verdict != "FAIL":
		case t.verdict == "PASS":
			c.passed++
		case t.verdict == "SKIP":
			c.skipped++
			o.skips = append(o.skips, r.Step+" "+t.name+": "+t.why)
		case t.parent:
		default:
			c.failed++
			o.failures = append(o.failures, r.Step+" "+t.name)
		}
	}
	if r.Code != 0 && c.failed == before {
		c.failed++
		o.failures = append(o.failures, fmt.Sprintf("%s: exit code %d", r.Step, r.Code))
	}
	if r.Code != 0 {
		fmt.Printf("--- %s: %s\n%s", o.boot.name(), r.Step, failedOutput(string(r.Output)))
	}
}

// failedOutput leaves out what tests wrote that passed, and their verdicts.
func failedOutput(out string) string {
	failed := map[string]bool{}
	for _, t := range parseTests(out) {
		failed[t.name] = t.verdict == "FAIL"
	}
	// Go writes whose output follows: === RUN, CONT, NAME and PAUSE.
	heading := regexp.MustCompile(`^=== [A-Z]+ +(\S+)`)
	var kept []string
	ours := true
	for _, line := range strings.Split(out, "\n") {
		text := strings.TrimSpace(line)
		if m := heading.FindStringSubmatch(text); m != nil {
			verdict, known := failed[m[1]]
			ours = verdict || !known // it did not end
			continue
		}
		if strings.HasPrefix(text, "--- PASS") || strings.HasPrefix(text, "--- SKIP") {
			continue
		}
		if ours || strings.HasPrefix(text, "--- FAIL") || strings.HasPrefix(text, "panic: ") {
			kept = append(kept, line)
		}
	}
	const most = 400
	if len(kept) > most {
		kept = append(append(kept[:most/4:most/4], fmt.Sprintf("... %d lines left out", len(kept)-most)), kept[len(kept)-most*3/4:]...)
	}
	return strings.Join(kept, "\n") + "\n"
}

type test struct {
	verdict, name, why string
	seconds            float64
	parent             bool
}

// parseTests reads the verdict lines of `-test.v`. Why a test was skipped is what it wrote last.
func parseTests(out string) []test {
	// Go writes whose output follows: === RUN, CONT, NAME and PAUSE.
	heading := regexp.MustCompile(`^=== [A-Z]+ +(\S+)`)
	verdict := regexp.MustCompile(`^\s*--- (PASS|FAIL|SKIP): (\S+) \(([0-9.]+)s\)`)
	var tests []test
	current, wrote := "", map[string]string{}
	for line := range strings.Lines(out) {
		line = strings.TrimRight(line, "\n")
		if m := heading.FindStringSubmatch(line); m != nil {
			current = m[1]
		} else if m := verdict.FindStringSubmatch(line); m != nil {
			t := test{verdict: m[1], name: m[2]}
			t.seconds, _ = strconv.ParseFloat(m[3], 64) // the expression lets through nothing else
			if t.verdict == "SKIP" {
				t.why = cmp.Or(wrote[t.name], "no reason given")
			}
			tests = append(tests, t)
		} else if _, said, ok := strings.Cut(line, ".go:"); ok {
			_, wrote[current], _ = strings.Cut(said, ": ")
		}
	}
	for i := range tests {
		tests[i].parent = slices.ContainsFunc(tests, func(t test) bool { return strings.HasPrefix(t.name, tests[i].name+"/") })
	}
	return tests
}
