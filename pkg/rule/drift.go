package rule

import (
	"github.com/plumbline-io/plumbline/pkg/alert"
	"github.com/plumbline-io/plumbline/pkg/event"
)

// DriftRule is the name of the drift rule for executions.
const DriftRule = "Exec outside baseline"

// DriftName is the name under which a rule file may change the words of a dimension's drift rule.
func DriftName(d event.Dimension) string { return drifts()[d].name }

// Drift is the rule that reports deviation from a baseline in a dimension; only its words and severity
// count: the kernel has decided.
func (s *Ruleset) Drift(d event.Dimension) *Rule { return s.drift[d] }

const baselineTag = "baseline"

// drift describes a dimension's drift rule.
type drift struct {
	name, desc string
	severity   alert.Severity
	tags       []string
}

func drifts() [event.DimSyscalls]drift {
	return [event.DimSyscalls]drift{
		event.DimExec:      {DriftRule, "A workload executed a file that its baseline does not hold.", alert.Critical, []string{"execution", "mitre_execution", "T1059.004"}},
		event.DimLibrary:   {"Library outside baseline", "A workload mapped an executable file that its baseline does not hold.", alert.Critical, []string{"injection", "mitre_execution", "T1129", "T1574.006"}},
		event.DimFile:      {"File access outside baseline", "A workload used a file as its baseline does not hold.", alert.Error, []string{"file", "mitre_collection", "T1005"}},
		event.DimUnix:      {"Unix socket outside baseline", "A workload reached a Unix socket that its baseline does not hold.", alert.Error, []string{"unix", "mitre_lateral_movement", "T1559"}},
		event.DimNetwork:   {"Network outside baseline", "A workload used an address that its baseline does not hold.", alert.Error, []string{"network", "mitre_command_and_control", "T1071", "T1571"}},
		event.DimPrivilege: {"Privilege outside baseline", "A workload used a privilege that its baseline does not hold.", alert.Critical, []string{"escape", "mitre_privilege_escalation", "T1068"}},
	}
}

// driftOf is the dimension whose drift rule has this name.
func driftOf(name string) (event.Dimension, bool) {
	for d, drift := range drifts() {
		if drift.name == name {
			return event.Dimension(d), true
		}
	}
	return 0, false
}

const (
	execDrift   = "Executable outside the baseline (file=%proc.exepath parent=%proc.pexepath command=%proc.cmdline verdict=%evt.verdict hook=%evt.hook workload=%workload.name spiffe_id=%workload.spiffe_id)"
	accessDrift = "Operation outside the baseline (%evt.key process=%proc.exepath parent=%proc.pexepath command=%proc.cmdline verdict=%evt.verdict hook=%evt.hook workload=%workload.name spiffe_id=%workload.spiffe_id)"
)

// currentIn are the ids of techniques among tags, which are of AttackVersion: TestAttackOfTags.
func currentIn(tags []string) (ids []string) {
	for _, tag := range tags {
		if isTechnique(tag) {
			ids = append(ids, tag)
		}
	}
	return ids
}

func builtInDrift(s *scope) (rules [event.DimSyscalls]*Rule) {
	for d, drift := range drifts() {
		r := &Rule{
			Name: drift.name, Desc: drift.desc, Source: "syscall", Severity: drift.severity,
			Tags: append([]string{baselineTag}, drift.tags...), Attack: currentIn(drift.tags), Mode: event.AuditMode, Enabled: true, File: "built-in", Line: 1, Column: 1,
		}
		output := accessDrift
		if event.Dimension(d) == event.DimExec {
			output = execDrift
		}
		// The text is ours and its fields exist: TestBuiltInDrift.
		_ = s.setOutput(r, &passage{text: output})
		rules[d] = r
	}
	return rules
}
