package main

import (
	"io"

	"github.com/plumbline-io/plumbline/cmd/internal/junit"
)

// writeJUnit makes a suite of every file.
func writeJUnit(out io.Writer, results []trialResult) error {
	var order []*junit.Suite
	suites := map[string]*junit.Suite{}
	for _, r := range results {
		s := suites[r.File]
		if s == nil {
			s = &junit.Suite{Name: r.File}
			suites[r.File] = s
			order = append(order, s)
		}
		c := junit.Case{Name: r.Name, Class: r.File, File: r.File, Line: r.Line}
		if !r.OK {
			c.Failure = &junit.Failure{Message: "the alerts are not the wanted ones", Text: r.Message}
		}
		s.Add(c)
	}
	all := junit.Suites{Name: "plumbline rules test"}
	for _, s := range order {
		all.Add(s)
	}
	return junit.Write(out, all)
}
