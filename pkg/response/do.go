package response

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/plumbline-io/plumbline/pkg/rule"
	"github.com/plumbline-io/plumbline/pkg/workload"
)

// ErrNotPossible means that there is no such response for a workload of this kind.
var ErrNotPossible = errors.New("not possible")

// Config of an Executor.
type Config struct {
	Proc workload.Proc
	DBus string // socket of the system bus
	// API finds the Kubernetes API server; Pod what is known of a container. They are asked when a rule asks.
	API      func() (*API, error)
	Pod      func(container workload.Workload) (workload.Info, bool)
	Grace    time.Duration // until what was asked to start anew is killed
	Patience time.Duration // until what was asked to end should have
}

// Executor ends workloads, and starts them anew. It is safe for concurrent use: nothing of it lasts longer than a call.
type Executor struct{ Config }

// Do does what is asked for, and says in words what that was. Quarantine is not among it: see Freezers.
func (e *Executor) Do(ctx context.Context, a rule.Action, t Target) (string, error) {
	if err := t.Check(); err != nil {
		return "", err
	}
	switch a {
	case rule.Drain:
		return e.drain(ctx, t)
	case rule.Restart:
		return e.restart(ctx, t)
	case rule.Evict:
		return e.evict(ctx, t)
	}
	return "", fmt.Errorf("%s: %w", a, ErrNotPossible)
}

func (e *Executor) drain(ctx context.Context, t Target) (string, error) {
	if t.Kind == workload.Unit {
		if err := checkUnit(t, ".service", ".scope"); err != nil {
			return "", err
		}
		return stopUnit(ctx, e.DBus, t.Unit)
	}
	pod, isPod, err := e.podOf(t.Workload)
	switch {
	case err != nil:
		return "", err
	case !isPod:
		return e.drainProcesses(ctx, t)
	}
	api, err := e.API()
	if err != nil {
		return "", err
	}
	return api.Drain(ctx, pod)
}

func (e *Executor) restart(ctx context.Context, t Target) (string, error) {
	if t.Kind == workload.Unit {
		if err := checkUnit(t, ".service"); err != nil {
			return "", err
		}
		return restartUnit(ctx, e.DBus, t.Unit)
	}
	return e.restartProcesses(ctx, t)
}

func (e *Executor) evict(ctx context.Context, t Target) (string, error) {
	pod, isPod, err := e.podOf(t.Workload)
	switch {
	case err != nil:
		return "", err
	case !isPod:
		return "", fmt.Errorf("evict: %w: it is of no pod", ErrNotPossible)
	}
	api, err := e.API()
	if err != nil {
		return "", err
	}
	return api.Evict(ctx, pod)
}

// podOf finds the pod of a container.
func (e *Executor) podOf(t workload.Workload) (Pod, bool, error) {
	if t.Kind != workload.Container {
		return Pod{}, false, nil
	}
	info, _ := e.Pod(t)
	pod := Pod{Namespace: info.Namespace, Name: info.Pod, UID: t.PodUID}
	if pod.UID == "" {
		pod.UID = info.PodUID
	}
	switch {
	case pod.Name != "" && pod.Namespace != "":
		return pod, true, nil
	case pod.UID != "":
		return Pod{}, false, fmt.Errorf("find its pod: the runtime has not written down the name of pod %s", pod.UID)
	}
	return Pod{}, false, nil
}

// checkUnit says why the system's manager does not do this to a unit.
func checkUnit(t Target, kinds ...string) error {
	if t.Unit != t.Name {
		return fmt.Errorf("%w: the unit %s belongs to another manager than the system's", ErrNotPossible, t.Name)
	}
	for _, kind := range kinds {
		if strings.HasSuffix(t.Unit, kind) {
			return nil
		}
	}
	return fmt.Errorf("%w: %s is no %s", ErrNotPossible, t.Unit, strings.Join(kinds, " or "))
}
