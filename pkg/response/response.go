// Package response acts on a whole workload where a rule asks for it: it stops the workload's processes, lets it
// end, starts it anew or evicts it. Gate says whether it may, from values alone; Executor and Frozen do it. Executor
// also looks whether workloads are ready. It must never touch a process, unit or pod that is not of the workload it was
// given, nor anything before it is asked.
//
//	if why := gate.Admit(request, now); why == nil {
//		done, err := executor.Do(ctx, rule.Drain, target)
//	}
package response

import (
	"errors"
	"fmt"
	"time"

	"github.com/plumbline-io/plumbline/pkg/rule"
)

// Every is the time that limits count in: one response for a workload, and so many workloads of a node.
const Every = 10 * time.Minute

// MaxAge of what a rule has matched: who reads of it later would act on a workload that has become another.
const MaxAge = time.Minute

// Limits of responses.
type Limits struct {
	On      bool // the configuration wants any
	PerNode int  // workloads within Every
}

// Request is what a rule asks for, and what is known of the workload when it matches.
type Request struct {
	Action   rule.Action
	Workload string
	Age      time.Duration // of what the rule has matched

	Unknown     bool // nobody has named the workload
	Guarded     bool // the machine depends on it, or it is the root cgroup
	Protected   bool // rules that deny would do so in it
	Quarantined bool // it is stopped already
	Paused      bool // somebody has broken the glass
}

// Gate lets requests through, or says why not. It is for one goroutine.
type Gate struct {
	limits Limits
	taken  map[string]time.Time // at most limits.PerNode workloads
}

// NewGate makes a Gate.
func NewGate(l Limits) *Gate { return &Gate{limits: l, taken: map[string]time.Time{}} }

// Admit says why a request is refused. If it is not, it counts.
func (g *Gate) Admit(r Request, now time.Time) error {
	if err := g.refuse(r); err != nil {
		return err
	}
	for name, at := range g.taken {
		if now.Sub(at) >= Every {
			delete(g.taken, name)
		}
	}
	if at, ok := g.taken[r.Workload]; ok {
		return fmt.Errorf("the workload met a response %s ago: one in %s", now.Sub(at).Round(time.Second), Every)
	}
	if len(g.taken) >= g.limits.PerNode {
		return fmt.Errorf("%d workloads of this node met responses within %s: see responses_per_node in the configuration", len(g.taken), Every)
	}
	g.taken[r.Workload] = now
	return nil
}

// refuse is Admit without what came before.
func (g *Gate) refuse(r Request) error {
	switch {
	case !r.Action.Responds():
		return fmt.Errorf("%s is no response", r.Action)
	case !g.limits.On:
		return errors.New("responses are off in the configuration")
	case r.Unknown:
		return errors.New("the workload is not known yet")
	case r.Guarded:
		return errors.New("the machine depends on this workload")
	case !r.Protected:
		return errors.New("the workload is not protected: neither is its mode enforce, nor is it named under protect")
	case r.Paused:
		return errors.New("enforcement is paused")
	case r.Age > MaxAge:
		return fmt.Errorf("it happened %s ago", r.Age.Round(time.Second))
	case r.Quarantined:
		return errors.New("the workload is quarantined")
	}
	return nil
}
