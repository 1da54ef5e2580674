package main

import (
	"encoding/xml"
	"io"
)

// The parts of JUnit's XML that continuous integration reads.
type (
	junitSuites struct {
		XMLName  xml.Name      `xml:"testsuites"`
		Name     string        `xml:"name,attr"`
		Tests    int           `xml:"tests,attr"`
		Failures int           `xml:"failures,attr"`
		Suites   []*junitSuite `xml:"testsuite"`
	}
	junitSuite struct {
		Name     string      `xml:"name,attr"`
		Tests    int         `xml:"tests,attr"`
		Failures int         `xml:"failures,attr"`
		Errors   int         `xml:"errors,attr"`
		Skipped  int         `xml:"skipped,attr"`
		Cases    []junitCase `xml:"testcase"`
	}
	junitCase struct {
		Name    string        `xml:"name,attr"`
		Class   string        `xml:"classname,attr"`
		File    string        `xml:"file,attr"`
		Line    int           `xml:"line,attr"`
		Failure *junitFailure `xml:"failure"`
	}
	junitFailure struct {
		Message string `xml:"message,attr"`
		Text    string `xml:",chardata"`
	}
)

// writeJUnit makes a suite of every file.
func writeJUnit(out io.Writer, results []trialResult) error {
	all := junitSuites{Name: "plumbline rules test"}
	suites := map[string]*junitSuite{}
	for _, r := range results {
		s := suites[r.File]
		if s == nil {
			s = &junitSuite{Name: r.File}
			suites[r.File] = s
			all.Suites = append(all.Suites, s)
		}
		c := junitCase{Name: r.Name, Class: r.File, File: r.File, Line: r.Line}
		if !r.OK {
			c.Failure = &junitFailure{"the rules that match are not the wanted ones", r.Message}
			s.Failures++
			all.Failures++
		}
		s.Tests++
		all.Tests++
		s.Cases = append(s.Cases, c)
	}
	if _, err := io.WriteString(out, xml.Header); err != nil {
		return err
	}
	enc := xml.NewEncoder(out)
	enc.Indent("", "  ")
	if err := enc.Encode(all); err != nil {
		return err
	}
	_, err := io.WriteString(out, "\n")
	return err
}
