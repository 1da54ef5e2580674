// Package junit writes the parts of JUnit's XML that continuous integration reads. It must never decide what a
// failure is.
//
//	s := junit.Suite{Name: "a.yaml"}
//	s.Add(junit.Case{Name: "a test"})
//	err := junit.Write(w, s)
package junit

import (
	"encoding/xml"
	"io"
)

// Suites are those of one run.
type Suites struct {
	XMLName  xml.Name `xml:"testsuites"`
	Name     string   `xml:"name,attr"`
	Tests    int      `xml:"tests,attr"`
	Failures int      `xml:"failures,attr"`
	Suites   []*Suite `xml:"testsuite"`
}

// Suite is some cases. Errors and skipped ones there are none.
type Suite struct {
	XMLName  xml.Name `xml:"testsuite"`
	Name     string   `xml:"name,attr"`
	Tests    int      `xml:"tests,attr"`
	Failures int      `xml:"failures,attr"`
	Errors   int      `xml:"errors,attr"`
	Skipped  int      `xml:"skipped,attr"`
	Cases    []Case   `xml:"testcase"`
}

// Case is one test. A line of 0 is not known.
type Case struct {
	Name    string   `xml:"name,attr"`
	Class   string   `xml:"classname,attr"`
	File    string   `xml:"file,attr"`
	Line    int      `xml:"line,attr,omitempty"`
	Failure *Failure `xml:"failure"`
}

// Failure says why a case failed: in one line, and at length.
type Failure struct {
	Message string `xml:"message,attr"`
	Text    string `xml:",chardata"`
}

// Add adds a case and counts it.
func (s *Suite) Add(c Case) {
	s.Tests++
	if c.Failure != nil {
		s.Failures++
	}
	s.Cases = append(s.Cases, c)
}

// Add adds a suite, with all its cases, and counts them.
func (s *Suites) Add(suite *Suite) {
	s.Tests += suite.Tests
	s.Failures += suite.Failures
	s.Suites = append(s.Suites, suite)
}

// Write writes a Suite or Suites as a document.
func Write(out io.Writer, document any) error {
	if _, err := io.WriteString(out, xml.Header); err != nil {
		return err
	}
	enc := xml.NewEncoder(out)
	enc.Indent("", "  ")
	if err := enc.Encode(document); err != nil {
		return err
	}
	_, err := io.WriteString(out, "\n")
	return err
}
