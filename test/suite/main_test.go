package main

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
)

func summarize(t *testing.T, stream string) (*summary, string) {
	t.Helper()
	var out bytes.Buffer
	s := newSummary(&out)
	s.read(strings.NewReader(stream))
	s.print()
	fmt.Fprintln(&out, s.counts())
	return s, out.String()
}

func TestCounts(t *testing.T) {
	s, out := summarize(t, `
{"Action":"start","Package":"p"}
{"Action":"run","Package":"p","Test":"TestA"}
{"Action":"output","Package":"p","Test":"TestA","Output":"=== RUN   TestA\n"}
{"Action":"output","Package":"p","Test":"TestA","Output":"    a_test.go:5: chatter of A\n"}
{"Action":"pass","Package":"p","Test":"TestA","Elapsed":0.1}
{"Action":"pass","Package":"p","Test":"TestB/one"}
{"Action":"output","Package":"p","Test":"TestC","Output":"=== RUN   TestC\n"}
{"Action":"output","Package":"p","Test":"TestC","Output":"    c_test.go:17: got 1, want 2: both\n"}
{"Action":"output","Package":"p","Test":"TestC","Output":"--- FAIL: TestC (0.00s)\n"}
{"Action":"fail","Package":"p","Test":"TestC"}
{"Action":"output","Package":"p","Test":"TestD","Output":"    d_test.go:9: needs root: it loads programs\n"}
{"Action":"skip","Package":"p","Test":"TestD"}
{"Action":"output","Package":"p","Test":"TestE","Output":"    e_test.go:1: needs root: it loads programs\n"}
{"Action":"skip","Package":"p","Test":"TestE"}
{"Action":"skip","Package":"p","Test":"TestF"}
{"Action":"output","Package":"p","Output":"FAIL\n"}
{"Action":"fail","Package":"p","Elapsed":1.25}
{"Action":"skip","Package":"q"}
{"Action":"pass","Package":"r","Elapsed":0.5}
`[1:])
	if s.passed != 2 || s.failed != 1 || s.skipped != 3 {
		t.Errorf("counted %d passed, %d failed, %d skipped, want 2, 1, 3", s.passed, s.failed, s.skipped)
	}
	for _, want := range []string{
		"c_test.go:17: got 1, want 2: both\n", "--- FAIL: TestC",
		"skipped 2: needs root: it loads programs\n", "skipped 1: no reason given\n",
		"FAILED p TestC\n", "tests: 2 passed, 1 failed, 3 skipped\n",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	if strings.Contains(out, "chatter") {
		t.Errorf("output of a test that passed is shown:\n%s", out)
	}
	if last := "tests: 2 passed, 1 failed, 3 skipped\n"; !strings.HasSuffix(out, last) {
		t.Errorf("the counts are not last:\n%s", out)
	}
}

// What nobody can attribute is shown all the same.
func TestNothingIsHidden(t *testing.T) {
	for name, tc := range map[string]struct {
		stream string
		want   []string
	}{
		"go's own words": {"go: cannot find main module\n", []string{"go: cannot find main module\n"}},
		"build failure": {
			`{"ImportPath":"p","Action":"build-output","Output":"p/a.go:1:1: expected 'package'\n"}` + "\n" +
				`{"ImportPath":"p","Action":"build-fail"}` + "\n" +
				`{"Action":"output","Package":"p","Output":"FAIL\tp [build failed]\n"}` + "\n" +
				`{"Action":"fail","Package":"p","FailedBuild":"p"}` + "\n",
			[]string{"p/a.go:1:1: expected 'package'\n", "p [build failed]", "FAILED p \n"},
		},
		"crash in a test": {
			`{"Action":"output","Package":"p","Test":"TestA","Output":"panic: oh\n"}` + "\n" +
				`{"Action":"output","Package":"pp","Test":"TestB","Output":"of another\n"}` + "\n" +
				`{"Action":"output","Package":"p","Output":"exit status 2\n"}` + "\n" +
				`{"Action":"fail","Package":"p"}` + "\n",
			[]string{"panic: oh\n", "exit status 2\n", "FAILED p \n"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, out := summarize(t, tc.stream)
			for _, want := range tc.want {
				if !strings.Contains(out, want) {
					t.Errorf("no %q in\n%s", want, out)
				}
			}
			if strings.Contains(out, "of another") {
				t.Errorf("output of a package that has not ended:\n%s", out)
			}
		})
	}
}

func TestReason(t *testing.T) {
	for name, tc := range map[string]struct {
		output []string
		want   string
	}{
		"none":       {nil, "no reason given"},
		"only marks": {[]string{"=== RUN   TestX\n", "--- SKIP: TestX (0.00s)\n", "\n"}, "no reason given"},
		"position":   {[]string{"=== RUN   TestX\n", "    x_test.go:9: because\n"}, "because"},
		"colons":     {[]string{"    x_test.go:9: read: no such file\n"}, "read: no such file"},
		"bare":       {[]string{"because\n"}, "because"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := reason(tc.output); got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}
