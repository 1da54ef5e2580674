package main

import (
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
