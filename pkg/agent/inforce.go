package agent

import (
	"fmt"

	"github.com/plumbline-io/plumbline/pkg/enforce"
	"github.com/plumbline-io/plumbline/pkg/rule"
)

// KernelRules tells what the kernel does of the rules.
type KernelRules struct {
	// Generation counts the rulesets that were put in force in the kernel; 0: it has no part in it.
	Generation uint32   `json:"generation"`
	Entries    int      `json:"entries"`           // that it looks operations up in
	Operations []string `json:"operations"`        // that it is asked about
	Blind      []string `json:"blind,omitempty"`   // those of them that it has no hook for
	Problem    string   `json:"problem,omitempty"` // why it has none of the rules
}

// StoppingRule is a rule that denies or kills, in protected workloads and if its mode is enforce.
type StoppingRule struct {
	Name   string `json:"name"`
	Action string `json:"action"`
	Mode   string `json:"mode"`
	Cannot string `json:"cannot,omitempty"` // what it asks for in vain on this node
}

// RespondingRule is a rule that asks for a response, in protected workloads and if its mode is enforce.
type RespondingRule struct {
	Name   string `json:"name"`
	Action string `json:"action"`
	Mode   string `json:"mode"`
}

// responding lists the rules that ask for a response.
func responding(set *rule.Ruleset) []RespondingRule {
	var list []RespondingRule
	for _, r := range set.Rules() {
		if r.Action.Responds() {
			list = append(list, RespondingRule{r.Name, r.Action.String(), r.Mode.String()})
		}
	}
	return list
}

// useRules puts a set of rules in force, in the kernel and for every event from the next one on. If the kernel
// refuses them, those in force stay.
func (a *Agent) useRules(set *rule.Ruleset) error {
	a.detector.Expect(set) // the kernel denies by them first
	if err := a.loadKernelRules(set); err != nil {
		return err
	}
	a.environs.want(set.Variables())
	a.detector.SetRuleset(set)
	a.wantNames(set)
	return nil
}

// openKernelRules gives the kernel the rules that were loaded before it was open. The agent goes on without
// any there if they do not fit.
func (a *Agent) openKernelRules() error {
	if err := a.loadKernelRules(a.rules.InForce()); err != nil {
		problem := err.Error()
		a.kernelProblem.Store(&problem)
		a.cfg.Log.Error("put rules in force: the kernel tells of news only, and no rule denies", "error", err)
	}
	return nil
}

func (a *Agent) loadKernelRules(set *rule.Ruleset) error {
	if a.kernel == nil || a.kernel.enforcer == nil {
		return nil
	}
	loaded, err := a.kernel.enforcer.LoadRules(set)
	if err != nil {
		return fmt.Errorf("load rules into the kernel: %w", err)
	}
	a.kernelProblem.Store(nil)
	a.cfg.Log.Info("rules in force in the kernel", "generation", loaded.Generation, "entries", loaded.Entries)
	for _, r := range stopping(set, a.kernel.enforcer) {
		if r.Cannot != "" {
			a.cfg.Log.Warn("a rule cannot stop all that it asks for", "rule", r.Name, "cannot", r.Cannot)
		}
	}
	return nil
}

// stopping lists the rules that deny or kill; e is nil where nothing can be stopped.
func stopping(set *rule.Ruleset, e *enforce.Enforcer) []StoppingRule {
	var list []StoppingRule
	for _, r := range set.Rules() {
		if !r.Stops() {
			continue
		}
		stop := StoppingRule{Name: r.Name, Action: r.Action.String(), Mode: r.Mode.String(), Cannot: "stop anything: this kernel has no means"}
		if e != nil {
			stop.Cannot = e.Cannot(r)
		}
		list = append(list, stop)
	}
	return list
}

// rulesStatus tells which rules are in force, and what the kernel does of them.
func (a *Agent) rulesStatus() RulesStatus {
	s := a.rules.Status()
	s.Kernel.Operations = []string{}
	s.Names = a.namesStatus(a.rules.InForce())
	s.Stopping, s.Responding = stopping(a.rules.InForce(), a.kernel.enforcer), responding(a.rules.InForce())
	if problem := a.kernelProblem.Load(); problem != nil {
		s.Kernel.Problem = *problem
	}
	if a.kernel.enforcer == nil {
		return s
	}
	loaded := a.kernel.enforcer.Rules()
	s.Kernel.Generation, s.Kernel.Entries = loaded.Generation, loaded.Entries
	for _, op := range loaded.Operations {
		s.Kernel.Operations = append(s.Kernel.Operations, op.String())
	}
	for _, op := range loaded.Blind {
		s.Kernel.Blind = append(s.Kernel.Blind, op.String())
	}
	return s
}
