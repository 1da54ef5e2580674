package agent

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/plumbline-io/plumbline/pkg/alert"
	"github.com/plumbline-io/plumbline/pkg/detect"
	"github.com/plumbline-io/plumbline/pkg/event"
	"github.com/plumbline-io/plumbline/pkg/response"
	"github.com/plumbline-io/plumbline/pkg/rule"
	"github.com/plumbline-io/plumbline/pkg/workload"
)

const (
	// responseQueue is how many responses may wait. One more is refused, and the alert says so.
	responseQueue = 16
	// responders work at the same time: one may wait for minutes until a budget lets a pod go.
	responders = 4

	restartGrace  = 10 * time.Second
	drainPatience = 30 * time.Second
)

// What became of a response, in the alert that asked for it and in the one that follows.
const (
	outcomeBegun   = "begun" // another alert tells how it ended
	outcomeTaken   = "taken"
	outcomeRefused = "refused"
	outcomeFailed  = "failed"
)

// responseFailedRule names the alert about a response that was begun and not possible.
const responseFailedRule = "Response failed"

// respondedRule names the alert about a response that was taken.
func respondedRule(a rule.Action) string {
	switch a {
	case rule.Quarantine:
		return "Workload quarantined"
	case rule.Drain:
		return "Workload drained"
	case rule.Restart:
		return "Workload restarted"
	}
	return "Workload evicted"
}

// responder takes from the event loop what rules ask for of whole workloads, and lets it be done beside the loop.
type responder struct {
	gate        *response.Gate // of the event loop
	executor    *response.Executor
	queue       chan job
	full        atomic.Uint64
	quarantines quarantines

	mu     sync.Mutex
	counts map[responseKind]uint64
}

type responseKind struct{ action, outcome string }

// job is a response that was begun.
type job struct {
	action  rule.Action
	id      uint32 // of the workload
	subject detect.Subject
	rule    string
	cause   string // fingerprint of the alert that asked for it
}

// ResponsesStatus tells of responses since the agent's start.
type ResponsesStatus struct {
	On      bool            `json:"on"`
	Waiting int             `json:"waiting"` // begun, and nobody is at it yet
	Counts  []ResponseCount `json:"counts,omitempty"`
}

// ResponseCount is how many responses ended so: taken, refused or failed.
type ResponseCount struct {
	Action  string `json:"action"`
	Outcome string `json:"outcome"`
	Count   uint64 `json:"count"`
}

// openResponses goes on with the quarantines of an earlier agent, or ends them if enforcement is paused.
func (a *Agent) openResponses() error {
	a.responder.gate = response.NewGate(response.Limits{On: a.cfg.Responses == on, PerNode: a.cfg.ResponsesPerNode})
	a.responder.queue, a.responder.counts = make(chan job, responseQueue), map[responseKind]uint64{}
	a.responder.executor = &response.Executor{Config: response.Config{
		Proc: a.host.proc, DBus: a.cfg.DBusSocket, Grace: restartGrace, Patience: drainPatience,
		API: func() (*response.API, error) { return response.InCluster(os.Getenv) },
		Pod: func(w workload.Workload) (workload.Info, bool) {
			return a.facts.containers.Find(w.ContainerID, w.PodUID)
		},
	}}
	a.readiness.look = a.responder.executor.Look
	q := &a.responder.quarantines
	q.kept = keptQuarantines(a.cfg.StateDir)
	if err := q.Restore(); err != nil {
		a.cfg.Log.Error("read of the quarantines of an earlier agent: what is stopped stays so", "error", err)
	}
	for _, k := range q.List() {
		a.cfg.Log.Warn("workload stays quarantined", "workload", k.Workload, "rule", k.Rule, "since", k.Since, "until", k.Until)
	}
	if a.isPaused() {
		a.releaseAll("enforcement is paused")
	}
	return nil
}

// respond begins what the rule of an alert asks for of the whole workload, and lets the alert say whether. It
// belongs to the event loop.
func (a *Agent) respond(ev *event.Event, told *alert.Alert) {
	d := &told.Detail
	if d.Action == "" {
		return
	}
	action, err := rule.ParseAction(d.Action)
	if err != nil || !action.Responds() {
		return
	}
	if d.Outcome == "" { // else the rule's mode is not enforce
		d.Outcome = outcomeBegun
		if err := a.begin(ev, action, told); err != nil {
			d.Outcome = outcomeRefused + ": " + err.Error()
		}
	}
	if d.Outcome != outcomeBegun {
		a.responder.count(action, outcomeRefused)
	}
}

func (a *Agent) begin(ev *event.Event, action rule.Action, told *alert.Alert) error {
	now := time.Now()
	s := a.registry.standing(ev.Workload)
	err := a.responder.gate.Admit(response.Request{
		Action: action, Workload: s.Name, Age: now.Sub(a.host.Wall(ev.Ktime)), Unknown: s.Name == "", Guarded: s.guarded, Protected: s.protected,
		Quarantined: a.responder.quarantines.Has(s.Name), Paused: a.isPaused(),
	}, now)
	if err != nil {
		return err
	}
	select {
	case a.responder.queue <- job{action, ev.Workload, s.Subject, told.Rule, told.Detail.Fingerprint}:
		return nil
	default:
		a.responder.full.Add(1)
		return fmt.Errorf("%d other responses wait", responseQueue)
	}
}

// runResponses does what was begun, until ctx ends.
func (a *Agent) runResponses(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return a.failResponses()
		case j := <-a.responder.queue:
			done, err := a.do(ctx, j)
			a.tellResponse(j, done, err)
		}
	}
}

// failResponses tells of those that nobody will do any more.
func (a *Agent) failResponses() error {
	for {
		select {
		case j := <-a.responder.queue:
			a.tellResponse(j, "", errors.New("the agent was told to stop"))
		default:
			return nil
		}
	}
}

// do takes a response, unless what it was admitted for is so no more.
func (a *Agent) do(ctx context.Context, j job) (string, error) {
	switch s := a.registry.standing(j.id); {
	case a.isPaused():
		return "", errors.New("enforcement is paused")
	case s.guarded || !s.protected:
		return "", errors.New("the workload is protected no more")
	}
	t, err := a.target(j)
	if err != nil {
		return "", fmt.Errorf("find the workload: %w", err)
	}
	if j.action == rule.Quarantine {
		return a.quarantine(ctx, j, t)
	}
	return a.responder.executor.Do(ctx, j.action, t)
}

func (a *Agent) target(j job) (response.Target, error) {
	nodes, err := a.host.Cgroups()
	if err != nil {
		return response.Target{}, err
	}
	return targetAmong(nodes, a.host.hierarchy, a.registry.cgroupsOf(j.id), j.subject.Name)
}

// tellResponse tells how a response ended, in an alert of its own: that of the rule must not wait for it.
func (a *Agent) tellResponse(j job, done string, err error) {
	n := notice{
		rule: respondedRule(j.action), action: j.action.String(), outcome: outcomeTaken + ": " + done, tag: "response", subject: j.subject,
		reason: "rule " + j.rule, fields: map[string]any{"plumbline.rule": j.rule, "plumbline.cause": j.cause},
	}
	outcome := outcomeTaken
	if err != nil {
		outcome = outcomeFailed
		n.rule, n.outcome = responseFailedRule, outcomeFailed+": "+err.Error()
	}
	n.text = fmt.Sprintf("%s (action=%s rule=%q workload=%s spiffe_id=%s): %s", n.rule, j.action, j.rule, j.subject.Name, j.subject.SPIFFEID, n.outcome)
	a.responder.count(j.action, outcome)
	a.cfg.Log.Warn("response", "workload", j.subject.Name, "action", j.action.String(), "rule", j.rule, "outcome", n.outcome)
	a.tell(n)
}

func (r *responder) count(action rule.Action, outcome string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.counts[responseKind{action.String(), outcome}]++
}

// Counts tells how responses have ended, in a stable order.
func (r *responder) Counts() []ResponseCount {
	r.mu.Lock()
	counts := maps.Clone(r.counts)
	r.mu.Unlock()
	var all []ResponseCount
	for action := rule.Quarantine; action.Responds(); action++ {
		for _, outcome := range []string{outcomeTaken, outcomeRefused, outcomeFailed} {
			if n := counts[responseKind{action.String(), outcome}]; n > 0 {
				all = append(all, ResponseCount{action.String(), outcome, n})
			}
		}
	}
	return all
}

func (a *Agent) responsesStatus() ResponsesStatus {
	return ResponsesStatus{On: a.cfg.Responses == on, Waiting: len(a.responder.queue), Counts: a.responder.Counts()}
}
