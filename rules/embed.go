// Package rules holds the rules that ship with Plumbline. They must be quiet: a rule that fires in
// ordinary work does not belong here.
//
//	data, err := rules.Files.ReadFile("execution.yaml")
package rules

import "embed"

// Files are the rule files.
//
//go:embed *.yaml
var Files embed.FS
