package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/plumbline-io/plumbline/pkg/alert"
	"github.com/plumbline-io/plumbline/pkg/detect"
	"github.com/plumbline-io/plumbline/pkg/response"
)

// releasedRule names the alert about a workload that goes on.
const releasedRule = "Workload released"

// errNotQuarantined is told to who wants to release it.
var errNotQuarantined = errors.New("it is not quarantined")

// Quarantine is a workload whose processes are stopped.
type Quarantine struct {
	Workload string            `json:"workload"`
	Rule     string            `json:"rule"`
	Since    time.Time         `json:"since"`
	Until    time.Time         `json:"until,omitzero"` // zero: until it is released
	Cgroups  []response.Frozen `json:"cgroups"`
}

// quarantineState is what the next agent reads.
type quarantineState struct {
	Boot string       `json:"boot"` // nothing is stopped any more after the next one
	All  []Quarantine `json:"quarantines"`
}

func keptQuarantines(stateDir string) stateFile[quarantineState] {
	return stateFile[quarantineState]{filepath.Join(stateDir, "quarantine.json")}
}

// quarantines are the workloads that are stopped, on disk too. Safe for concurrent use.
type quarantines struct {
	kept stateFile[quarantineState]

	doing sync.Mutex // of who stops workloads or lets them go; taken before mu
	mu    sync.Mutex
	all   []Quarantine
}

// Restore reads what an earlier agent has stopped.
func (q *quarantines) Restore() error {
	s, err := q.kept.Load()
	if err != nil {
		return err
	}
	boot, err := bootID()
	if err != nil || s.Boot != boot {
		return err
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.all = s.All
	return nil
}

// List tells all of them, by name.
func (q *quarantines) List() []Quarantine {
	q.mu.Lock()
	defer q.mu.Unlock()
	all := slices.Clone(q.all)
	slices.SortFunc(all, func(a, b Quarantine) int { return cmp.Compare(a.Workload, b.Workload) })
	return all
}

// Has says whether a workload is stopped.
func (q *quarantines) Has(name string) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return slices.ContainsFunc(q.all, func(k Quarantine) bool { return k.Workload == name })
}

// Begin stops a workload. It is written down first: whatever becomes of this agent, somebody can let it go. It was done
// also if the error is ErrStopping.
func (q *quarantines) Begin(ctx context.Context, k Quarantine, isPaused func() bool) error {
	q.doing.Lock()
	defer q.doing.Unlock()
	if isPaused() { // who pauses lets all go afterwards
		return errors.New("enforcement is paused")
	}
	if err := q.set(append(q.List(), k)); err != nil {
		return errors.Join(err, q.forget(k))
	}
	var stopping error
	for i, c := range k.Cgroups {
		err := c.Freeze(ctx)
		if errors.Is(err, response.ErrStopping) {
			stopping, err = err, nil
		}
		if err == nil {
			continue
		}
		for _, begun := range k.Cgroups[:i+1] {
			err = errors.Join(err, begun.Thaw())
		}
		return errors.Join(err, q.forget(k))
	}
	return stopping
}

func (q *quarantines) forget(k Quarantine) error {
	return q.set(slices.DeleteFunc(q.List(), func(other Quarantine) bool { return other.Workload == k.Workload }))
}

func (q *quarantines) set(all []Quarantine) error {
	q.mu.Lock()
	q.all = all
	q.mu.Unlock()
	boot, err := bootID()
	if err != nil {
		return err
	}
	return q.kept.Save(quarantineState{boot, all})
}

// Lift lets those go that are meant. What cannot be let go stays among them.
func (q *quarantines) Lift(meant func(Quarantine) bool) (lifted []Quarantine, err error) {
	q.doing.Lock()
	defer q.doing.Unlock()
	var errs []error
	left := slices.DeleteFunc(q.List(), func(k Quarantine) bool {
		if !meant(k) {
			return false
		}
		var thaws []error
		for _, c := range k.Cgroups {
			thaws = append(thaws, c.Thaw())
		}
		if err := errors.Join(thaws...); err != nil {
			errs = append(errs, fmt.Errorf("release %q: %w", k.Workload, err))
			return false
		}
		lifted = append(lifted, k)
		return true
	})
	if len(lifted) > 0 {
		errs = append(errs, q.set(left))
	}
	return lifted, errors.Join(errs...)
}

// isOver says whether the time of a quarantine has come, or nothing is left of what it stopped.
func (k Quarantine) isOver(now time.Time) bool {
	if !k.Until.IsZero() && !now.Before(k.Until) {
		return true
	}
	return !slices.ContainsFunc(k.Cgroups, response.Frozen.Exists)
}

// quarantine stops a workload for the configured time.
func (a *Agent) quarantine(ctx context.Context, j job, t response.Target) (string, error) {
	if err := t.Check(); err != nil {
		return "", err
	}
	cgroups, err := response.Freezers(t)
	if err != nil {
		return "", err
	}
	k := Quarantine{Workload: j.subject.Name, Rule: j.rule, Since: time.Now().UTC().Truncate(time.Second), Cgroups: cgroups}
	until := "until it is released"
	if limit := a.cfg.quarantineLimit(); limit > 0 {
		k.Until = k.Since.Add(limit)
		until = "until " + k.Until.Format(time.RFC3339)
	}
	err = a.responder.quarantines.Begin(ctx, k, a.isPaused)
	switch {
	case errors.Is(err, response.ErrStopping):
		return "its processes are stopped " + until + "; " + err.Error(), nil
	case err != nil:
		return "", err
	}
	return "its processes are stopped " + until, nil
}

// watchQuarantines ends those whose time has come.
func (a *Agent) watchQuarantines(ctx context.Context) error {
	return a.lookAgain(ctx, "end quarantine", func() error { return a.endQuarantines(time.Now()) })
}

func (a *Agent) endQuarantines(now time.Time) error {
	if len(a.responder.quarantines.List()) == 0 {
		return nil
	}
	lifted, err := a.responder.quarantines.Lift(func(k Quarantine) bool { return k.isOver(now) })
	for _, k := range lifted {
		reason := "its time is over"
		if k.Until.IsZero() || now.Before(k.Until) {
			reason = "its cgroup is gone"
		}
		a.tellReleased(k, reason)
	}
	return err
}

// release lets a workload go on before its time.
func (a *Agent) release(name, reason string) error {
	if !a.responder.quarantines.Has(name) {
		if _, err := a.registry.Named(name); err != nil {
			return fmt.Errorf("release %q: %w", name, err)
		}
		return fmt.Errorf("release %q: %w", name, errNotQuarantined)
	}
	lifted, err := a.responder.quarantines.Lift(func(k Quarantine) bool { return k.Workload == name })
	for _, k := range lifted {
		a.tellReleased(k, reason)
	}
	return err
}

// releaseAll lets all workloads go on.
func (a *Agent) releaseAll(reason string) {
	lifted, err := a.responder.quarantines.Lift(func(Quarantine) bool { return true })
	if err != nil {
		a.cfg.Log.Error("release workloads", "error", err)
	}
	for _, k := range lifted {
		a.tellReleased(k, reason)
	}
}

func (a *Agent) tellReleased(k Quarantine, reason string) {
	subject := detect.Subject{Name: k.Workload}
	if a.registry != nil {
		if known, err := a.registry.Named(k.Workload); err == nil {
			subject = known
		}
		a.registry.Excuse(k.Workload, time.Now())
	}
	a.cfg.Log.Warn("workload released", "workload", k.Workload, "reason", reason)
	a.tell(notice{
		rule: releasedRule, severity: alert.Warning, reason: reason, tag: "response", subject: subject,
		text:   fmt.Sprintf("Workload released from quarantine (workload=%s rule=%q since=%s): %s", k.Workload, k.Rule, k.Since.Format(time.RFC3339), reason),
		fields: map[string]any{"plumbline.rule": k.Rule, "plumbline.seconds": time.Since(k.Since).Round(time.Second).Seconds()},
	})
}

// ReleaseAll lets the workloads go on that an agent of this configuration has stopped, and names them. It is for when
// none runs. Of the configuration, only where the agent is found needs to be filled in.
func ReleaseAll(c Config) (names []string, err error) {
	if err := c.completePlaces(); err != nil {
		return nil, err
	}
	q := quarantines{kept: keptQuarantines(c.StateDir)}
	if err := q.Restore(); err != nil {
		return nil, err
	}
	lifted, err := q.Lift(func(Quarantine) bool { return true })
	for _, k := range lifted {
		names = append(names, k.Workload)
	}
	return names, err
}
