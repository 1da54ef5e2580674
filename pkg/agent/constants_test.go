package agent

import (
	"os"
	"slices"
	"strings"
	"testing"
)

func TestConstantsOf(t *testing.T) {
	const smaps = `00400000-00e86000 r-xp 00000000 fd:00 7 /usr/bin/plumbline-agent
Rss:                9560 kB
Anonymous:             0 kB
VmFlags: rd ex mr mw me
00e86000-01a64000 r--p 00a86000 fd:00 7 /usr/bin/plumbline-agent
Rss:                9588 kB
Anonymous:             0 kB
01a64000-01a66000 r--p 01664000 fd:00 7 /usr/bin/plumbline-agent
Rss:                   8 kB
Anonymous:             8 kB
01a66000-01d09000 rw-p 01666000 fd:00 7 /usr/bin/plumbline-agent
Anonymous:             0 kB
7f0000000000-7f0000001000 r--p 00000000 fd:00 8 /usr/lib/libc.so.6
Anonymous:             0 kB
`
	found, err := constantsOf(strings.NewReader(smaps), "/usr/bin/plumbline-agent")
	if want := []mapping{{0xe86000, 0x1a64000}}; err != nil || !slices.Equal(found, want) {
		t.Errorf("constants %x, %v, want %x: not the code, what was relocated, what can be written, or a library", found, err, want)
	}
}

func TestForgetConstants(t *testing.T) {
	program, err := os.Readlink("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Open("/proc/self/smaps")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if found, err := constantsOf(f, program); err != nil || len(found) == 0 {
		t.Fatalf("a Go program has constants: %v, %v", found, err)
	}
	if err := forgetConstants(); err != nil {
		t.Fatal(err)
	}
	if got := strings.Repeat("still here ", 2); got != "still here still here " {
		t.Errorf("a constant is %q afterwards", got)
	}
}
