package event

import "fmt"

// The names are part of the output format: alerts, status and YAML use them.
var (
	kindNames    = [...]string{"unspecified", "fork", "exec", "exit", "exec_check", "handshake", "pause", "cgroup", "access"}
	verdictNames = [...]string{"allow", "audit", "deny"}
	hookNames    = [...]string{"unspecified", "tracepoint", "lsm", "fmod_ret", "signal", "uprobe", "cgroup", "fanotify", "fentry"}
	modeNames    = [...]string{"off", "learn", "audit", "enforce"}
)

func name(names []string, i int) string {
	if i < len(names) {
		return names[i]
	}
	return fmt.Sprintf("unknown(%d)", i)
}

func (k Kind) String() string    { return name(kindNames[:], int(k)) }
func (v Verdict) String() string { return name(verdictNames[:], int(v)) }
func (h Hook) String() string    { return name(hookNames[:], int(h)) }
func (m Mode) String() string    { return name(modeNames[:], int(m)) }

// ParseMode reads a mode's name.
func ParseMode(s string) (Mode, error) {
	for i, n := range modeNames {
		if n == s {
			return Mode(i), nil
		}
	}
	return Off, fmt.Errorf("unknown mode %q: want off, learn, audit or enforce", s)
}

// Means says in words what a hook does to a denied operation.
func (h Hook) Means() string {
	switch h {
	case HookLSM, HookFmodRet, HookCgroup, HookFanotify:
		return "the call returns EPERM"
	case HookSignal:
		return "SIGKILL before the first instruction"
	default:
		return "observed only"
	}
}

func (r Role) String() string    { return name([]string{"unknown", "client", "server"}, int(r)) }
func (l Library) String() string { return name([]string{"unknown", "go", "openssl"}, int(l)) }
