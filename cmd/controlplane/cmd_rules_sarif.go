package main

import (
	"encoding/json"
	"io"
	"net/url"
	"path/filepath"
	"strings"

	"github.com/plumbline-io/plumbline/pkg/rule"
)

// The parts of SARIF 2.1.0 (OASIS) that a list of places in files needs.
type (
	sarifLog struct {
		Schema  string     `json:"$schema"`
		Version string     `json:"version"`
		Runs    []sarifRun `json:"runs"`
	}
	sarifRun struct {
		Tool       sarifTool     `json:"tool"`
		ColumnKind string        `json:"columnKind"`
		Results    []sarifResult `json:"results"`
	}
	sarifTool struct {
		Driver sarifDriver `json:"driver"`
	}
	sarifDriver struct {
		Name    string      `json:"name"`
		Version string      `json:"version,omitempty"`
		Rules   []sarifRule `json:"rules"`
	}
	sarifRule struct {
		ID               string       `json:"id"`
		ShortDescription sarifMessage `json:"shortDescription"`
	}
	sarifResult struct {
		RuleID    string          `json:"ruleId"`
		RuleIndex int             `json:"ruleIndex"`
		Level     string          `json:"level"`
		Message   sarifMessage    `json:"message"`
		Locations []sarifLocation `json:"locations"`
	}
	sarifMessage struct {
		Text string `json:"text"`
	}
	sarifLocation struct {
		PhysicalLocation sarifPlace `json:"physicalLocation"`
	}
	sarifPlace struct {
		ArtifactLocation sarifArtifact `json:"artifactLocation"`
		Region           sarifRegion   `json:"region"`
	}
	sarifArtifact struct {
		URI string `json:"uri"`
	}
	sarifRegion struct {
		StartLine   int `json:"startLine"`
		StartColumn int `json:"startColumn"`
	}
)

func writeSARIF(out io.Writer, problems []finding) error {
	run := sarifRun{
		ColumnKind: "unicodeCodePoints", Results: []sarifResult{},
		Tool: sarifTool{sarifDriver{Name: "plumbline", Version: version}},
	}
	index := map[string]int{}
	for i, kind := range rule.ProblemIDs() {
		index[kind.ID] = i
		run.Tool.Driver.Rules = append(run.Tool.Driver.Rules, sarifRule{kind.ID, sarifMessage{kind.Description}})
	}
	for _, p := range problems {
		r := sarifResult{RuleID: p.ID, RuleIndex: index[p.ID], Level: p.Severity, Message: sarifMessage{p.Message}}
		if p.Rule != "" {
			r.Message.Text = "rule " + p.Rule + ": " + p.Message
		}
		r.Locations = []sarifLocation{{sarifPlace{sarifArtifact{fileURI(p.File)}, sarifRegion{p.Line, p.Column}}}}
		run.Results = append(run.Results, r)
	}
	enc := json.NewEncoder(out)
	enc.SetIndent("", "  ")
	return enc.Encode(sarifLog{"https://json.schemastore.org/sarif-2.1.0.json", "2.1.0", []sarifRun{run}})
}

// fileURI is a path as a URI; relative ones are relative to where the command ran.
func fileURI(path string) string {
	u := url.URL{Path: filepath.ToSlash(path)}
	if strings.HasPrefix(u.Path, "/") {
		u.Scheme = "file"
	}
	return u.String()
}
