package rule

import "fmt"

// Problem is something wrong in a rule file. The rest of the file is loaded.
type Problem struct {
	ID      string // one of ProblemIDs
	File    string
	Line    int    // from 1
	Column  int    // from 1, in characters
	Rule    string // "" if it is not about one rule
	Message string
	Warning bool // what it is about is loaded, or left out for a good reason
}

// Error tells place, rule and what is wrong.
func (p Problem) Error() string {
	s := fmt.Sprintf("%s:%d:%d: ", p.File, p.Line, p.Column)
	if p.Rule != "" {
		s += fmt.Sprintf("rule %q: ", p.Rule)
	}
	return s + p.Message
}

// Severity is "error" or "warning".
func (p Problem) Severity() string {
	if p.Warning {
		return "warning"
	}
	return "error"
}

// What problems there are. Tools suppress and count by these names: they do not change.
const (
	invalidFile      = "invalid-file"
	invalidEntry     = "invalid-entry"
	invalidCondition = "invalid-condition"
	unknownName      = "unknown-name"
	refusedField     = "refused-field"
	undecidable      = "undecidable"
	unmetRequirement = "unmet-requirement"
	moreProblems     = "more-problems"
	unknownKey       = "unknown-key"
	unknownSource    = "unknown-source"
	unused           = "unused"
	neverAsked       = "never-asked"
	alwaysAsked      = "always-asked"
	noEffect         = "no-effect"
	unobservedType   = "unobserved-type"
	notSupplied      = "not-supplied"
	unknownOutcome   = "unknown-outcome"
	unknownTechnique = "unknown-technique"
)

// ProblemID describes a kind of problems.
type ProblemID struct{ ID, Description string }

// ProblemIDs lists all kinds of problems.
func ProblemIDs() []ProblemID {
	return []ProblemID{
		{invalidFile, "The file cannot be read as a list of rules, macros and lists, or is too large."},
		{invalidEntry, "A rule, macro or list has a key or value that is not right; it is left out."},
		{invalidCondition, "A condition, output or exception is not right; the rule is left out."},
		{unknownName, "There is no such field or macro; the rule is left out."},
		{refusedField, "The field is never supplied, by policy; the rule is left out."},
		{undecidable, "The rule denies or kills, and the kernel cannot decide it; it is left out."},
		{unmetRequirement, "The file was written for a version of Falco's engine or of a plugin that this is not; nothing of it is loaded."},
		{moreProblems, "There are more problems than are told."},
		{unknownKey, "The key is not known, and has no meaning."},
		{unknownSource, "No sensor supplies the source; the rule is left out, or never asked."},
		{unused, "Nothing refers to the macro or list."},
		{neverAsked, "The condition holds for no event that is observed; the rule never raises an alert."},
		{alwaysAsked, "The condition names no kind of event; the rule is asked about every one."},
		{noEffect, "This is loaded, and part of it has no effect."},
		{unobservedType, "The condition names an evt.type that no event has; the rest of it is asked."},
		{unknownOutcome, "The condition asks how a call ends, which is not known where it is asked."},
		{unknownTechnique, "No version of ATT&CK has this id."},
		{notSupplied, "No event has the field: a check on it is false, and an output shows <NA>."},
	}
}
