package event

import (
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// The names are part of the output format.
func TestNames(t *testing.T) {
	for want, got := range map[string]fmt.Stringer{
		"unspecified": Unspecified, "fork": Fork, "exec": Exec, "exit": Exit, "exec_check": ExecCheck,
		"handshake": Handshake, "pause": Pause, "cgroup": Cgroup, "access": Access, "unknown(9)": KindCount, "unknown(65535)": Kind(65535),
		"allow": Allow, "audit": Audit, "deny": Deny, "unknown(3)": Verdict(3),
		"tracepoint": HookTracepoint, "lsm": HookLSM, "fmod_ret": HookFmodRet, "signal": HookSignal, "fanotify": HookFanotify,
		"uprobe": HookUprobe, "unknown(255)": Hook(255),
		"off": Off, "learn": Learn, "enforce": Enforce, "unknown(4)": Mode(4),
		"client": Client, "server": Server, "unknown": RoleUnknown, "unknown(7)": Role(7),
		"go": LibraryGo, "openssl": LibraryOpenSSL, "unknown(11)": Library(11),
	} {
		if got.String() != want {
			t.Errorf("%T %#v is %q, want %q", got, got, got.String(), want)
		}
	}
	if got := AuditMode.String(); got != "audit" {
		t.Error(got)
	}
}

func TestParseMode(t *testing.T) {
	for _, m := range []Mode{Off, Learn, AuditMode, Enforce} {
		if got, err := ParseMode(m.String()); err != nil || got != m {
			t.Errorf("%s: %v, %v", m, got, err)
		}
	}
	for _, in := range []string{"", "Off", "enforce ", "unknown(4)", "deny"} {
		if got, err := ParseMode(in); err == nil || got != Off {
			t.Errorf("%q: %v, %v", in, got, err)
		}
	}
}

// Every hook has a meaning, and only those that stop something claim so.
func TestMeans(t *testing.T) {
	for hook, want := range map[Hook]string{
		HookUnspecified: "observed only", HookTracepoint: "observed only", HookUprobe: "observed only",
		HookLSM: "the call returns EPERM", HookFmodRet: "the call returns EPERM",
		HookSignal:   "SIGKILL before the first instruction",
		HookFanotify: "the call returns EPERM", Hook(99): "observed only",
	} {
		if got := hook.Means(); got != want {
			t.Errorf("%s means %q, want %q", hook, got, want)
		}
	}
}

// The values are those of the kernel side, and so are the names.
func TestKernelSide(t *testing.T) {
	constant := regexp.MustCompile(`^\t(EVENT|VERDICT|HOOK|MODE)_([A-Z_]+) = (\d+),`)
	text, err := os.ReadFile("../../bpf/event.h")
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]int{}
	for line := range strings.Lines(string(text)) {
		m := constant.FindStringSubmatch(line)
		if m == nil || m[2] == "DENY_TWICE" { // which decoding makes a denial of
			continue
		}
		n, err := strconv.Atoi(m[3])
		if err != nil {
			t.Fatal(err)
		}
		seen[m[1]]++
		got := map[string]fmt.Stringer{"EVENT": Kind(n), "VERDICT": Verdict(n), "HOOK": Hook(n), "MODE": Mode(n)}[m[1]].String()
		want := strings.ToLower(m[2])
		if want == "unspec" {
			want = "unspecified"
		}
		if got != want {
			t.Errorf("%s_%s is %q here", m[1], m[2], got)
		}
	}
	for prefix, want := range map[string]int{
		"EVENT": int(KindCount), "VERDICT": len(verdictNames), "HOOK": len(hookNames), "MODE": len(modeNames),
	} {
		if seen[prefix] != want {
			t.Errorf("bpf/event.h has %d %s_ constants, here are %d", seen[prefix], prefix, want)
		}
	}
}
