package main

import (
	"slices"
	"strings"
	"testing"
)

func TestFailedOutput(t *testing.T) {
	got := failedOutput(`=== RUN   TestAll
=== RUN   TestAll/good
    > said by good
=== RUN   TestAll/bad
    > said by bad
=== NAME  TestAll/good
    > more of good
=== NAME  TestAll/bad
    FAIL: why
--- FAIL: TestAll (1.00s)
    --- PASS: TestAll/good (0.50s)
    --- FAIL: TestAll/bad (0.50s)
=== RUN   TestCrashed
    > said before the crash
panic: runtime error
FAIL
`)
	for _, want := range []string{"said by bad", "FAIL: why", "--- FAIL: TestAll/bad", "said before the crash", "panic: "} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is missing in\n%s", want, got)
		}
	}
	if strings.Contains(got, "good") {
		t.Errorf("what passed is told:\n%s", got)
	}
}

func TestSkipReasons(t *testing.T) {
	got := parseTests(`=== RUN   TestAll
=== RUN   TestAll/one
    a_test.go:1: why one is skipped
=== RUN   TestAll/two
    a_test.go:2: said by two
    a_test.go:3: why two is skipped
=== RUN   TestAll/three
--- PASS: TestAll (12.25s)
    --- SKIP: TestAll/one (0.00s)
    --- SKIP: TestAll/two (0.00s)
    --- SKIP: TestAll/three (0.00s)
`)
	want := []test{
		{"PASS", "TestAll", "", 12.25, true},
		{"SKIP", "TestAll/one", "why one is skipped", 0, false},
		{"SKIP", "TestAll/two", "why two is skipped", 0, false},
		{"SKIP", "TestAll/three", "no reason given", 0, false},
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}
