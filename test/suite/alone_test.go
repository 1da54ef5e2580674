package main

import (
	"errors"
	"go/parser"
	"go/token"
	"slices"
	"strings"
	"testing"
)

// What may start a goroutine is tested with the race detector, what is not known too.
func TestStarts(t *testing.T) {
	for source, want := range map[string]bool{
		`import ("sync"; "strings"); func f() { var mu sync.Mutex; mu.Lock(); strings.Cut("", "") }`: false,
		`func f() { go f() }`:                                                               true,
		`func f() { go func() {}() }`:                                                       true,
		`func f() { defer func() { if true { go f() } }() }`:                                true,
		`import "sync"; func f(w *sync.WaitGroup) { w.Go(f) }`:                              true,
		`import "sync"; func f(w *sync.WaitGroup) { start := w.Go; start(f) }`:              true,
		`import "testing"; func TestF(t *testing.T) { t.Run("a", func(t *testing.T) {}) }`:  false,
		`import "testing"; func TestF(t *testing.T) { t.Parallel() }`:                       true,
		`import "testing"; func BenchmarkF(b *testing.B) { b.RunParallel(nil) }`:            true,
		`import "time"; func f() { time.Now() }`:                                            false,
		`import "time"; func f() { time.AfterFunc(1, f) }`:                                  true,
		`import . "time"; func f() { AfterFunc(1, f) }`:                                     true,
		`import other "time"; func f() { other.AfterFunc(1, f) }`:                           true,
		`import "context"; func f() { context.AfterFunc(nil, f) }`:                          true,
		`import "runtime"; func f() { runtime.SetFinalizer(nil, f) }`:                       true,
		`import "runtime"; func f() { runtime.AddCleanup(new(int), func(int) {}, 1) }`:      true,
		`import "crypto/tls"; func f(c *tls.Conn) { c.HandshakeContext(nil) }`:              true,
		`import "os/exec"; func f() { exec.Command("a").CombinedOutput() }`:                 false,
		`import ("os"; "os/exec"); func f() { println(exec.Command("a"), os.Stdout) }`:      false,
		`import "os/exec"; func f(w W) { c := exec.Command("a"); c.Stdout = w }`:            true,
		`import "os/exec"; func f(w W) { c := exec.Cmd{Stderr: w} }`:                        true,
		`import ("os"; "os/exec"); func f() { c := exec.Command("a"); c.Stdin = os.Stdin }`: true, // it need not
		`import "net/http"`:       true,
		"import `net/http`":       true,
		`import "net"`:            true,
		`import "os/signal"`:      true,
		`import "database/sql"`:   true,
		`import "C"`:              true,
		`import "encoding/json"`:  false,
		`import "debug/elf"`:      false,
		`import "math/rand/v2"`:   false,
		`import "mathematics"`:    true,
		`import "a.org/net/http"`: false, // which is looked at itself
	} {
		f, err := parser.ParseFile(token.NewFileSet(), "a.go", "package a\n"+source, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		if got := starts(f); got != want {
			t.Errorf("starts a goroutine: %t, want %t: %s", got, want, source)
		}
	}
}

// Packages are looked at with all that they import, and with their tests.
func TestAlone(t *testing.T) {
	module, single, others, err := alone([]string{"../../..."})
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{
		"pkg/rule":       true,
		"pkg/alert":      true,
		"pkg/rulefile":   false, // its tests do
		"pkg/sensor":     false, // itself
		"rules":          true,
		"pkg/detect":     false, // its tests; what pkg/rule's imports do not
		"deploy/rpm":     false, // by way of pkg/agent
		"pkg/workload":   false,
		"test/vm/vminit": false,
		"cmd/agent":      false,
		"pkg/bus":        false,
		"test/suite":     false, // which waits for two commands at once
		"pkg/telemetry":  false,
	} {
		path := module + "/" + name
		if slices.Contains(single, path) != want || slices.Contains(others, path) == want {
			t.Errorf("%s: one goroutine: %t, want %t", name, slices.Contains(single, path), want)
		}
	}
	if _, _, _, err := alone([]string{"./no/such/package"}); err == nil {
		t.Error("there is no such package, and no error")
	}
}

func TestRuns(t *testing.T) {
	kinds := func(single, others string) func([]string) (string, []string, []string, error) {
		return func([]string) (string, []string, []string, error) {
			return "m.org", strings.Fields(single), strings.Fields(others), nil
		}
	}
	const plain, many = "go test -json -count=1 -gcflags=m.org/...=-d=checkptr -p=1 ", "go test -json -race -count=1 "
	for name, tc := range map[string]struct {
		args, single, others string
		want                 []string
	}{
		"both":           {"-race -count=1 ./...", "m.org/a m.org/b", "m.org/c", []string{many + "m.org/c", plain + "m.org/a m.org/b"}},
		"none alone":     {"-race -count=1 ./...", "", "m.org/c", []string{many + "m.org/c"}},
		"all alone":      {"-race -count=1 ./...", "m.org/a", "", []string{plain + "m.org/a"}},
		"no race":        {"-count=1 ./...", "m.org/a", "m.org/c", []string{"go test -json -count=1 ./..."}},
		"this directory": {"-race", "m.org/a", "m.org/c", []string{"go test -json -race"}},
	} {
		t.Run(name, func(t *testing.T) {
			cmds, _, err := runs(strings.Fields(tc.args), kinds(tc.single, tc.others))
			var got []string
			for _, cmd := range cmds {
				got = append(got, strings.Join(cmd.Args, " "))
				if slices.Contains(cmd.Env, "CGO_ENABLED=0") != strings.HasPrefix(got[len(got)-1], plain) {
					t.Errorf("environment of %q: %q", cmd.Args, cmd.Env)
				}
			}
			if err != nil || !slices.Equal(got, tc.want) {
				t.Errorf("got %q, %v", got, err)
			}
		})
	}
	refused := errors.New("no packages")
	if _, _, err := runs([]string{race, "./..."}, func([]string) (string, []string, []string, error) { return "", nil, nil, refused }); !errors.Is(err, refused) {
		t.Errorf("got %v", err)
	}
}
