package archtest

import (
	"os"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

func TestRepository(t *testing.T) {
	files, err := load(os.DirFS("../.."))
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < 50 {
		t.Fatalf("found %d files; is this the repository?", len(files))
	}
	for _, p := range check(files) {
		t.Error(p)
	}
}

func TestTopLevel(t *testing.T) {
	entries, err := os.ReadDir("../..")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), ".") && !slices.Contains(topLevel(), e.Name()) {
			t.Errorf("%s has no place at the top level", e.Name())
		}
	}
	for _, name := range []string{"bpf", "cmd/agent", "cmd/controlplane", "pkg", "rules", "deploy/daemonset", "test/vm", "go.mod", "LICENSE"} {
		if _, err := os.Stat("../../" + name); err != nil {
			t.Error(err)
		}
	}
}

// Every rule has to be able to fail.
func TestRulesCanFail(t *testing.T) {
	long := "// Package x is long.\npackage x\n" + strings.Repeat("\n", maxLines)
	for name, tc := range map[string]struct{ file, text, want string }{
		"upward import":    {"pkg/event/a.go", "// Package event is.\npackage event\nimport _ \"" + module + "/pkg/agent\"\n", "pkg/event must not import pkg/agent"},
		"sideways import":  {"pkg/bus/a.go", "// Package bus is.\npackage bus\nimport _ \"" + module + "/pkg/spool\"\n", "pkg/bus must not import pkg/spool"},
		"foreign module":   {"pkg/agent/a.go", "// Package agent is.\npackage agent\nimport _ \"github.com/nats-io/nats.go\"\n", "only pkg/bus may"},
		"server module":    {"pkg/agent/a.go", "// Package agent is.\npackage agent\nimport _ \"github.com/nats-io/nats-server/v2/server\"\n", "only pkg/bus"},
		"server in agents": {"pkg/bus/a.go", "// Package bus is.\npackage bus\nimport _ \"github.com/nats-io/nats-server/v2/server\"\n", "only pkg/bus/natsserver may"},
		"no comment":       {"pkg/x/a.go", "package x\n", "has no package comment"},
		"init":             {"pkg/x/a.go", "// Package x is.\npackage x\nfunc init() {}\n", "init function"},
		"variable":         {"pkg/x/a.go", "// Package x is.\npackage x\nvar cache = map[string]int{}\n", "package-level variable cache"},
		"slice":            {"pkg/x/a.go", "// Package x is.\npackage x\nvar names = []string{\"a\"}\n", "package-level variable names"},
		"sleep":            {"pkg/x/a.go", "// Package x is.\npackage x\nimport \"time\"\nfunc f() { time.Sleep(1) }\n", "time.Sleep"},
		"sleep by alias":   {"pkg/x/a.go", "// Package x is.\npackage x\nimport clock \"time\"\nfunc f() { clock.Sleep(1) }\n", "time.Sleep"},
		"execution":        {"pkg/agent/a.go", "// Package agent is.\npackage agent\nimport _ \"os/exec\"\n", "imports os/exec"},
		"long file":        {"pkg/x/a.go", long, "one concept per file"},
		"sdk":              {"pkg/agent/a.go", "// Package agent is.\npackage agent\nimport _ \"go.opentelemetry.io/otel/sdk/metric\"\n", "only pkg/telemetry may"},
		"cobra":            {"pkg/agent/a.go", "// Package agent is.\npackage agent\nimport _ \"github.com/spf13/cobra\"\n", "only cmd may"},
		"new dependency":   {"pkg/x/a.go", "// Package x is.\npackage x\nimport _ \"example.org/left/pad\"\n", "is a new dependency"},
		"test dependency":  {"pkg/x/a.go", "// Package x is.\npackage x\nimport _ \"github.com/rogpeppe/go-internal/testscript\"\n", "is a new dependency"},
		"grpc":             {"pkg/bus/a.go", "// Package bus is.\npackage bus\nimport _ \"google.golang.org/grpc\"\n", "only pkg/falco may"},
		"in a test":        {"pkg/x/a_test.go", "package x\nimport _ \"example.org/left/pad\"\n", "is a new dependency"},
		"of nobody":        {"pkg/new/a.go", "// Package new is.\npackage new\nimport _ \"" + module + "/pkg/event\"\n", "pkg/new must not import pkg/event"},
		"kernel library":   {"pkg/agent/a.go", "// Package agent is.\npackage agent\nimport _ \"github.com/cilium/ebpf/link\"\n", "only pkg/sensor, pkg/enforce may"},
		"second variable":  {"pkg/x/a.go", "// Package x is.\npackage x\nvar _, cache = 1, map[int]int{}\n", "package-level variable cache"},
		"once":             {"pkg/x/a.go", "// Package x is.\npackage x\nimport \"sync\"\nvar once = sync.OnceValues(f)\n", "package-level variable once"},
		"no value":         {"pkg/x/a.go", "// Package x is.\npackage x\nvar count int\n", "package-level variable count"},
		"long function":    {"pkg/x/a.go", "// Package x is.\npackage x\nfunc f() {\n" + strings.Repeat("\n", maxFunction) + "}\n", "f has 82 lines"},
		"parameters":       {"pkg/x/a.go", "// Package x is.\npackage x\nfunc f(a, b, c, d, e, g int) {}\n", "f takes 6 parameters"},
		"function":         {"pkg/x/a.go", "// Package x is.\npackage x\nfunc F() {}\n", "F has no comment"},
		"method":           {"pkg/x/a.go", "// Package x is.\npackage x\n// T is.\ntype T[P any] struct{}\nfunc (t *T[P]) M() {}\n", "M has no comment"},
		"type":             {"pkg/x/a.go", "// Package x is.\npackage x\ntype T struct{}\n", "T has no comment"},
		"constant":         {"pkg/x/a.go", "// Package x is.\npackage x\nconst (\n\tC = 1\n)\n", "C has no comment"},
	} {
		t.Run(name, func(t *testing.T) {
			files, err := load(fstest.MapFS{tc.file: {Data: []byte(tc.text)}})
			if err != nil {
				t.Fatal(err)
			}
			found := check(files)
			if len(found) != 1 || !strings.Contains(found[0].String(), tc.want) {
				t.Errorf("got %v, want %q", found, tc.want)
			}
		})
	}
}

// Every entry of the lists is about something that exists.
func TestListsAreCurrent(t *testing.T) {
	there := func(list, dir string) {
		if _, err := os.Stat("../../" + dir); err != nil {
			t.Errorf("%s: %v", list, err)
		}
	}
	for pkg, others := range allowed() {
		there("allowed", pkg)
		for _, other := range others {
			there("allowed for "+pkg, other)
		}
	}
	text, err := os.ReadFile("../../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	mods := slices.Concat(common(), testOnly())
	for mod, who := range owners() {
		mods = append(mods, mod)
		for _, dir := range who {
			there("owners of "+mod, dir)
		}
	}
	for _, mod := range mods {
		if !strings.Contains(string(text), "\t"+mod) {
			t.Errorf("go.mod does not require %s", mod)
		}
	}
}

// What the rules allow must pass.
func TestRulesCanPass(t *testing.T) {
	text := `// Package x is.
package x

import (
	"errors"

	_ "go.yaml.in/yaml/v3"
)

// ErrX is.
var ErrX = errors.New("x")

var table = [...]string{"a"}

var _ = table

// The limits.
const (
	Low  = 1
	High = 2 // but not too high
)

type hidden struct{}

func (hidden) Exported() {}

// T is.
type T struct{}

func (T) String() string { return "" }
`
	files, err := load(fstest.MapFS{"pkg/x/a.go": {Data: []byte(text)}})
	if err != nil {
		t.Fatal(err)
	}
	if found := check(files); len(found) != 0 {
		t.Error(found)
	}
}
