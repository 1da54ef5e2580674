package baseline

import (
	"bytes"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/plumbline-io/plumbline/pkg/event"
)

// calling is a profile of a workload that executes a program and makes these calls.
func calling(t testing.TB, calls ...string) *Profile {
	t.Helper()
	p := New("w", "unit", execOnly.With(event.DimSyscalls))
	p.Add(binary("/bin/a"), false, noon)
	for _, name := range calls {
		v, err := event.ParseValue(event.OpSyscall, name)
		if err != nil {
			t.Fatal(err)
		}
		if got := p.Add(use(event.OpSyscall, v), false, noon); got != Learned {
			t.Fatalf("%s: %d", name, got)
		}
	}
	return p
}

func TestSyscallSection(t *testing.T) {
	p := calling(t, "write", "accept4", "read (32-bit)", "read", "400", "openat2")
	const want = `syscalls:
  - accept4
  - openat2
  - read
  - read (32-bit)
  - write
  - 400
`
	if _, got, _ := strings.Cut(string(p.Canonical()), "/bin/a\n"); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	again, err := Parse("f", p.Marshal())
	if err != nil {
		t.Fatalf("%v\n%s", err, p.Marshal())
	}
	if !slices.Equal(again.Keys(), p.Keys()) || !bytes.Equal(again.Marshal(), p.Marshal()) || again.Held() != p.Held() {
		t.Errorf("read as\n%s", again.Marshal())
	}
	for text, want := range map[string]string{
		"syscalls: [nosuch]\n":        `f:6: syscalls: unknown system call "nosuch"`,
		"syscalls: [512]\n":           `f:6: syscalls: unknown system call "512"`,
		"syscalls: [{name: read}]\n":  "f:6: expected one value",
		"syscalls:\n- read\n- read\n": `f:8: syscalls: "syscall read" is listed twice`,
	} {
		const head = "apiVersion: plumbline.io/v1\nkind: Baseline\nworkload: w\nworkloadKind: unit\nmode: learn\n"
		if _, err := Parse("f", []byte(head+text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
}

// New calls are news to a verification and a comparison, and do not keep a baseline from its promotion.
func TestSyscallNews(t *testing.T) {
	before, after := calling(t, "read"), calling(t, "read", "ptrace")
	v, err := event.ParseValue(event.OpSyscall, "ptrace")
	if err != nil {
		t.Fatal(err)
	}
	news := []event.Key{use(event.OpSyscall, v)}
	before.BeginRun()
	if r := Verify(before, after, 1); r.Result != NewBehaviour || !slices.Equal(r.New, news) {
		t.Errorf("%+v", r)
	}
	if d := Diff(before, after); !slices.Equal(d.Added, news) || d.Held != 0 {
		t.Errorf("%+v", d)
	}
	if r := Verify(before, New("w", "unit", execOnly), 1); r.Result != CoverageTooSmall || !r.Unseen.Has(event.DimSyscalls) {
		t.Errorf("%+v", r)
	}
	after.BeginRun()
	if err := before.Merge(after); err != nil || !before.Has(news[0]) {
		t.Errorf("%v\n%s", err, before.Canonical())
	}
	before.BeginRun()
	before.Add(use(event.OpSyscall, v+2), false, noon)
	if err := before.Promote(event.Enforce, ""); err != nil {
		t.Error(err)
	}
	alone := New("w", "unit", event.Dimensions(0).With(event.DimSyscalls))
	if err := alone.Promote(event.Enforce, "because"); !errors.Is(err, ErrNotReady) {
		t.Errorf("a baseline that holds nothing is promoted: %v", err)
	}
}

func TestSeccomp(t *testing.T) {
	for name, tc := range map[string]struct {
		calls         []string
		arch          string
		seen          []string
		architectures []string
		unnamed       int
	}{
		"x86":           {[]string{"write", "read", "socket"}, "amd64", []string{"read", "socket", "write"}, []string{"SCMP_ARCH_X86_64"}, 0},
		"Arm":           {[]string{"read"}, "arm64", []string{"read"}, []string{"SCMP_ARCH_AARCH64"}, 0},
		"32-bit":        {[]string{"read", "read (32-bit)", "socketcall (32-bit)"}, "amd64", []string{"read", "socketcall"}, []string{"SCMP_ARCH_X86_64", "SCMP_ARCH_X86"}, 0},
		"without names": {[]string{"read", "400"}, "amd64", []string{"read"}, []string{"SCMP_ARCH_X86_64"}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			text, unnamed, err := calling(t, tc.calls...).Seccomp(tc.arch)
			if err != nil {
				t.Fatal(err)
			}
			var got seccompProfile
			dec := json.NewDecoder(bytes.NewReader(text))
			dec.DisallowUnknownFields()
			if err := dec.Decode(&got); err != nil {
				t.Fatal(err)
			}
			if got.DefaultAction != "SCMP_ACT_ERRNO" || got.DefaultErrnoRet != 1 || !slices.Equal(got.Architectures, tc.architectures) || len(unnamed) != tc.unnamed {
				t.Errorf("%+v, %v", got, unnamed)
			}
			if len(got.Syscalls) != 2 || !slices.Equal(got.Syscalls[0].Names, tc.seen) || got.Syscalls[1].Action != "SCMP_ACT_ALLOW" {
				t.Fatalf("%+v", got.Syscalls)
			}
			all := slices.Concat(got.Syscalls[0].Names, got.Syscalls[1].Names)
			for _, needed := range append([]string{"execve"}, tc.seen...) {
				if n := len(slices.DeleteFunc(slices.Clone(all), func(s string) bool { return s != needed })); n != 1 {
					t.Errorf("%s stands there %d times", needed, n)
				}
			}
		})
	}
	if _, _, err := New("w", "unit", event.AllDimensions).Seccomp("amd64"); !errors.Is(err, ErrNoSyscalls) {
		t.Error(err)
	}
	if _, _, err := calling(t, "read").Seccomp("mips"); err == nil {
		t.Error("an architecture that we do not know")
	}
	for _, name := range runtimeCalls() {
		if _, err := event.ParseValue(event.OpSyscall, name); err != nil {
			t.Error(err)
		}
	}
	if !slices.IsSorted(runtimeCalls()) {
		t.Error("what the runtime needs is not sorted")
	}
}
