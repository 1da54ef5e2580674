package agent

import (
	"sync/atomic"
	"time"

	"github.com/plumbline-io/plumbline/pkg/rule"
	"github.com/plumbline-io/plumbline/pkg/workload"
)

// Processes may have others answer for their memory, and late.
const (
	// environPatience is how long an event waits for the memory of the process that it is about.
	environPatience = 20 * time.Millisecond
	// environBudget is how long all events of an environSpan wait together, answered or not. Then nobody is asked.
	environBudget = 100 * time.Millisecond
	environSpan   = time.Second
)

// environs tells rules of environments. It belongs to the event loop, but for want and the counters.
type environs struct {
	read   func(pid uint32, start uint64, wanted func(name string) bool) (workload.Environment, error)
	wanted atomic.Pointer[map[string]bool] // the variables whose values rules ask for
	busy   chan struct{}                   // holds one: somebody reads

	// The environment that was read last, for one event.
	of    sessionKey
	last  workload.Environment
	found bool

	begun  time.Time     // the span of now
	waited time.Duration // in it

	late atomic.Uint64 // times that memory did not answer in time, and that nobody was free or had the time to ask
	cut  atomic.Uint64 // environments of which not all was looked at
}

func newEnvirons(proc workload.Proc) *environs {
	v := &environs{read: proc.Environ, busy: make(chan struct{}, 1)}
	v.want(nil)
	return v
}

// want says whose values may be read from now on.
func (v *environs) want(names []string) {
	wanted := make(map[string]bool, len(names))
	for _, name := range names {
		wanted[name] = true
	}
	v.wanted.Store(&wanted)
}

// VariableNames implements rule.Variables.
func (v *environs) VariableNames(e *rule.Env) (string, bool) {
	v.ask(e)
	return v.last.Names, v.found
}

// Variable implements rule.Variables.
func (v *environs) Variable(e *rule.Env, name string) []string {
	v.ask(e)
	return v.last.Values[name]
}

func (v *environs) ask(e *rule.Env) {
	key := sessionKey{e.Event.Tgid, e.Event.Ktime}
	if key == v.of {
		return
	}
	v.of, v.last, v.found = key, workload.Environment{}, false
	now := time.Now()
	if now.Sub(v.begun) >= environSpan {
		v.begun, v.waited = now, 0
	}
	if v.waited >= environBudget {
		v.late.Add(1)
		return
	}
	select {
	case v.busy <- struct{}{}:
	default: // who was asked before still waits
		v.late.Add(1)
		return
	}
	type answer struct {
		env workload.Environment
		err error
	}
	answered := make(chan answer, 1)
	pid, start, wanted := e.Event.Tgid, e.Event.Process.Start, *v.wanted.Load()
	go func() {
		env, err := v.read(pid, start, func(name string) bool { return wanted[name] })
		<-v.busy
		answered <- answer{env, err}
	}()
	patience := time.NewTimer(min(environPatience, environBudget-v.waited))
	defer patience.Stop()
	select {
	case a := <-answered:
		v.last, v.found = a.env, a.err == nil
		if a.env.Cut {
			v.cut.Add(1)
		}
	case <-patience.C:
		v.late.Add(1)
	}
	v.waited += time.Since(now)
}

// addTo adds what was not read to lost.
func (v *environs) addTo(lost map[string]uint64) {
	lost["environment_late"], lost["environment_cut"] = v.late.Load(), v.cut.Load()
}
