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
	Auto    Strength = iota // the strongest that this kernel offers
	LSM                     // BPF LSM: the call returns EPERM. CONFIG_BPF_LSM and bpf in the lsm= list
	FmodRet                 // fmod_ret on security_ functions: the call returns EPERM
	Signal                  // executions only: SIGKILL before the first instruction; the caller's image is gone
)

func strengths() [4]string { return [4]string{"auto", "lsm", "fmod_ret", "signal"} }

func (s Strength) String() string { return strengths()[s] }

// ParseStrength reads a strength's name.
func ParseStrength(text string) (Strength, error) {
	for i, n := range strengths() {
		if n == text {
			return Strength(i), nil
		}
	}
	return Auto, fmt.Errorf("unknown strength %q: want auto, lsm, fmod_ret or signal", text)
}

// Hook is where verdicts of this strength are taken.
func (s Strength) Hook() event.Hook {
	return [...]event.Hook{event.HookUnspecified, event.HookLSM, event.HookFmodRet, event.HookSignal}[s]
}

// rung is one step of the ladder, named by its hook of executions.
type rung struct {
	strength Strength
	exec     string
}

func ladder() []rung {
	return []rung{
		{LSM, "lsm/bprm_check_security"},
		{FmodRet, "fmod_ret/security_bprm_check"},
		{Signal, "tp_btf/sched_process_exec"},
	}
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
