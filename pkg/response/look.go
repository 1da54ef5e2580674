package response

import (
	"context"
	"errors"
	"time"

	"github.com/plumbline-io/plumbline/pkg/workload"
)

// Readiness is what a look at a workload finds.
type Readiness int

// The findings. Only Ready and NotReady say something.
const (
	NotAsked Readiness = iota // there was no time for it
	Unknown                   // nobody knows, or tells
	Changing                  // somebody has asked for a start or a stop, and it is at that, or has ended as it was to
	Ready
	NotReady
)

// Look is what one look at a workload has found.
type Look struct {
	Readiness Readiness
	// Since is when it turned out not to be ready; zero: not known. WasReady says that it had been ready before, by whom was asked.
	Since    time.Time
	WasReady bool
	Why      string // in words, unless it is ready
	// Start is what it is at, if it is Changing because the service manager starts it; else it is empty.
	Start Start
}

// Start is one of a workload that was ready before. A start of a higher number after the same time was made because the one
// of a lower number has failed.
type Start struct {
	After  time.Time // when it was ready last
	Begun  time.Time
	Number uint32
}

// String is what status shows.
func (l Look) String() string {
	word := ""
	switch l.Readiness {
	case NotAsked:
		return "not asked"
	case Ready:
		return "ready"
	case Unknown:
		word = "not known"
	case Changing:
		word = "starting or stopping"
	case NotReady:
		word = "not ready"
	}
	return word + ": " + l.Why
}

func unknown(err error) Look { return Look{Readiness: Unknown, Why: err.Error()} }

// Look asks systemd about units and the Kubernetes API server about containers of pods whether they are ready, and
// answers in the same order. It ends with ctx; who was not reached by then was not asked. Units have half of the time: a
// system bus that hangs must not keep pods from being asked about.
func (e *Executor) Look(ctx context.Context, all []workload.Workload) []Look {
	looks := make([]Look, len(all))
	var units []string
	at := map[string]int{}
	for i, w := range all {
		if w.Kind != workload.Unit {
			continue
		}
		if err := checkUnit(Target{Workload: w}, ".service"); err != nil {
			looks[i] = unknown(err)
			continue
		}
		at[w.Unit] = i
		units = append(units, w.Unit)
	}
	if len(units) > 0 {
		ctx, cancel := halfOf(ctx)
		defer cancel()
		found, err := lookAtUnits(ctx, e.DBus, units)
		for _, unit := range units {
			look, told := found[unit]
			if !told && err != nil && ctx.Err() == nil {
				look = unknown(err)
			}
			looks[at[unit]] = look
		}
	}
	for i, w := range all {
		if w.Kind != workload.Unit && ctx.Err() == nil {
			looks[i] = e.lookAtContainer(ctx, w)
		}
	}
	return looks
}

// halfOf ends after half of the time that ctx has left, if it has an end.
func halfOf(ctx context.Context) (context.Context, context.CancelFunc) {
	end, ok := ctx.Deadline()
	if !ok {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, time.Until(end)/2)
}

func (e *Executor) lookAtContainer(ctx context.Context, w workload.Workload) Look {
	pod, isPod, err := e.podOf(w)
	if err == nil && !isPod {
		err = errors.New("it is neither a unit nor of a pod")
	}
	if err != nil {
		return unknown(err)
	}
	api, err := e.API()
	if err != nil {
		return unknown(err)
	}
	look, err := api.look(ctx, pod, w.ContainerID)
	if err != nil {
		return unknown(err)
	}
	return look
}
