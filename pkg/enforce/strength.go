package enforce

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/plumbline-io/plumbline/pkg/event"
	"github.com/plumbline-io/plumbline/pkg/sensor"
)

// Strength is how a denied operation is stopped.
type Strength uint8

// The strengths, strongest first after Auto.
const (
	Auto     Strength = iota // the strongest that this kernel offers
	LSM                      // BPF LSM: the call returns EPERM. CONFIG_BPF_LSM and bpf in the lsm= list
	FmodRet                  // fmod_ret on security_ functions: the call returns EPERM
	Fanotify                 // executions only: the call returns EPERM where the agent answers, and behind it is Signal. Only if it is asked for
	Signal                   // executions only: SIGKILL before the first instruction; the caller's image is gone
	Cgroup                   // the network only: the call returns EPERM. Only if it is asked for: others have these hooks too
)

func strengths() [6]string {
	return [6]string{"auto", "lsm", "fmod_ret", "fanotify", "signal", "cgroup"}
}

func (s Strength) String() string { return strengths()[s] }

// ParseStrength reads a strength's name.
func ParseStrength(text string) (Strength, error) {
	for i, n := range strengths() {
		if n == text {
			return Strength(i), nil
		}
	}
	return Auto, fmt.Errorf("unknown strength %q: want auto, lsm, fmod_ret, fanotify, signal or cgroup", text)
}

// Hook is where verdicts of this strength are taken.
func (s Strength) Hook() event.Hook {
	return [...]event.Hook{
		event.HookUnspecified, event.HookLSM, event.HookFmodRet, event.HookFanotify, event.HookSignal, event.HookCgroup,
	}[s]
}

// rung is one step of the ladder, named by the hook that it does not do without.
type rung struct {
	strength Strength
	hook     string
}

// lacks says why a rung's hook is not to be had.
func (r rung) lacks() string {
	if r.strength == Cgroup {
		return "it needs the dimension network, and workloads in cgroups of version 2"
	}
	return errNoHook.Error()
}

const signalHook = "tp_btf/sched_process_exec"

// ladder to the strength that is wanted.
func ladder(wanted Strength) []rung {
	rungs := []rung{
		{LSM, "lsm/bprm_check_security"},
		{FmodRet, "fmod_ret/security_bprm_check"},
		{Signal, signalHook},
	}
	switch wanted {
	case Fanotify:
		rungs[2].strength = Fanotify // it does not do without the hook of Signal either
	case Cgroup:
		rungs = append(rungs, rung{Cgroup, "cgroup/connect4"})
	}
	return rungs
}

// unsupported tells "this kernel cannot" from "something went wrong". Kernels without BPF
// trampolines load these programs and refuse to attach them, with ENOTSUPP, which has no name in
// user space.
func unsupported(err error) bool {
	const enotsupp = unix.Errno(524)
	for _, cannot := range []error{
		ebpf.ErrNotSupported, sensor.ErrNotSupported, link.ErrNotSupported, enotsupp,
		unix.EINVAL, unix.ENOTSUP, unix.EBUSY, unix.ENOENT, unix.EPERM, unix.EACCES,
	} {
		if errors.Is(err, cannot) {
			return true
		}
	}
	return false
}
