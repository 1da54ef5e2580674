package enforce_test

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"testing"

	"github.com/plumbline-io/plumbline/pkg/enforce"
	"github.com/plumbline-io/plumbline/pkg/event"
	"github.com/plumbline-io/plumbline/pkg/sensor"
	"github.com/plumbline-io/plumbline/pkg/sensor/sensortest"
)

// element of a cgroup in the map of workloads, once its workload is in this state.
func element(t *testing.T, scope *sensortest.Scope, cgroup uint64, state sensor.WorkloadState) []byte {
	t.Helper()
	if err := scope.Shared.SetWorkload(cgroup, state); err != nil {
		t.Fatal(err)
	}
	raw, err := scope.Shared.Workloads.LookupBytes(cgroup)
	if err != nil || raw == nil {
		t.Fatalf("read element: %v", err)
	}
	return raw
}

// The kernel gives the element of a workload to another one, or the next state, while a program still reads there. What was
// read so is neither denied nor learnt, and it is counted.
func TestElementOfAnother(t *testing.T) {
	rungs(t, func(t *testing.T, r rig) {
		dropped := dropped(t)
		foreign, cgroup := r.scope.Workload+1000, r.scope.ID+1<<40
		t.Cleanup(func() {
			if err := r.scope.Shared.RemoveWorkload(cgroup); err != nil {
				t.Error(err)
			}
		})
		learning := element(t, r.scope, r.scope.ID, sensor.State(r.scope.Workload, event.Learn, 1, r.scope.Held))
		enforced := element(t, r.scope, r.scope.ID, sensor.State(r.scope.Workload, event.Enforce, 2, r.scope.Held))
		halfway := slices.Concat(learning[:4], enforced[4:8], learning[8:]) // the new mode with the generation that was learnt in
		for name, raw := range map[string][]byte{
			"another enforced":   element(t, r.scope, cgroup, sensor.State(foreign, event.Enforce, 1, r.scope.Held)),
			"another learning":   element(t, r.scope, cgroup, sensor.State(foreign, event.Learn, 1, r.scope.Held)),
			"own state, halfway": halfway,
		} {
			before := r.scope.Lost(t)["workload_changed"]
			if err := r.scope.Shared.Workloads.Put(r.scope.ID, raw); err != nil {
				t.Fatal(err)
			}
			if err := r.scope.Run(t, dropped); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			if after := r.scope.Lost(t)["workload_changed"]; after == before {
				t.Errorf("%s: nothing was counted", name)
			}
		}
		for _, workload := range []uint32{r.scope.Workload, foreign} {
			entries, err := r.enforcer.Entries(workload, 1)
			if err != nil || len(entries) != 0 {
				t.Errorf("workload %d has learnt %+v, %v", workload, entries, err)
			}
			if tally, err := r.enforcer.Tally(workload); err != nil || tally != (enforce.Tally{}) {
				t.Errorf("workload %d has a tally: %+v, %v", workload, tally, err)
			}
		}
		r.scope.Set(t, event.Enforce, 2)
		r.wantStopped(t, r.scope.Run(t, dropped))
	})
}

// One workload is held to nothing and opens files, others may open none, and all of them are written again and again: the first
// is never taken for another. What is between two instructions here is long where a processor is taken away from the guest.
func TestWorkloadsThatChange(t *testing.T) {
	sensortest.ByHand(t)
	if runtime.NumCPU() < 2 {
		t.Skip("it needs two processors")
	}
	_, scope := use(t, enforce.LSM, event.Dimensions(0).With(event.DimFile))
	others := make([]uint64, 16)
	for i := range others {
		others[i] = scope.ID + uint64(i+1)<<40
	}
	change := func() error {
		for _, cgroup := range others {
			own := scope.Shared.SetWorkload(scope.ID, sensor.State(scope.Workload, event.Off, 1, 0))
			if err := errors.Join(own, scope.Shared.SetWorkload(cgroup, sensor.State(scope.Workload+1000, event.Enforce, 1, event.AllDimensions))); err != nil {
				return err
			}
		}
		return nil
	}
	t.Cleanup(func() {
		for _, cgroup := range others {
			if err := scope.Shared.RemoveWorkload(cgroup); err != nil {
				t.Error(err)
			}
		}
	})
	const opens = 400_000
	script := fmt.Sprintf("i=0; denied=0; while [ $i -lt %d ]; do i=$((i+1)); command : </etc/passwd || denied=$((denied+1)); done 2>/dev/null; echo $denied", opens)
	cmd, done := scope.Command(t, "/bin/sh", "-c", script), make(chan struct{})
	var out []byte
	var err error
	go func() {
		defer close(done)
		out, err = cmd.Output()
	}()
	changes := 0
	for running := true; running; changes++ {
		if err := change(); err != nil {
			t.Error(err)
		}
		select {
		case <-done:
			running = false
		default:
		}
	}
	if err != nil || string(out) != "0\n" {
		t.Errorf("of %d opens were denied: %q, %v", opens, out, err)
	}
	t.Logf("%d changes of all, lost %v", changes, scope.Lost(t))
}
