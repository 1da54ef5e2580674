package junit

import (
	"strings"
	"testing"
)

// A document has what readers look for, and cannot be broken by what tests are called.
func TestWrite(t *testing.T) {
	s := &Suite{Name: "a.yaml"}
	s.Add(Case{Name: `a "<b>`, Class: "c", File: "a.yaml", Line: 3})
	s.Add(Case{Name: "x", Class: "c", File: "a.yaml", Failure: &Failure{"short", "long]]>\x01"}})
	all := Suites{Name: "run"}
	all.Add(s)
	all.Add(&Suite{Name: "b.yaml"})
	var b strings.Builder
	if err := Write(&b, all); err != nil {
		t.Fatal(err)
	}
	const want = `<?xml version="1.0" encoding="UTF-8"?>
<testsuites name="run" tests="2" failures="1">
  <testsuite name="a.yaml" tests="2" failures="1" errors="0" skipped="0">
    <testcase name="a &#34;&lt;b&gt;" classname="c" file="a.yaml" line="3"></testcase>
    <testcase name="x" classname="c" file="a.yaml">
      <failure message="short">long]]&gt;` + "\ufffd" + `</failure>
    </testcase>
  </testsuite>
  <testsuite name="b.yaml" tests="0" failures="0" errors="0" skipped="0"></testsuite>
</testsuites>
`
	if b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
	b.Reset()
	if err := Write(&b, s); err != nil || !strings.Contains(b.String(), "\n<testsuite name=\"a.yaml\" tests=\"2\"") {
		t.Errorf("%v\n%s", err, b.String())
	}
}
