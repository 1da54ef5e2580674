package archtest

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// Module is the path of ours.
const module = "github.com/plumbline-io/plumbline"

// allowed lists for each package of ours which others of ours it may import. A package that is not
// listed may import none. Tests, and programs that are only for tests, may import any.
func allowed() map[string][]string {
	core := []string{"pkg/event", "pkg/alert"}
	sensor := []string{"pkg/event", "pkg/sensor"}
	return map[string][]string{
		"pkg/event":             {"pkg/syscalls", "pkg/dns"},
		"pkg/alert":             {"pkg/event"},
		"pkg/process":           {"pkg/event"},
		"pkg/rule":              append([]string{"pkg/syscalls", "pkg/dns"}, core...),
		"pkg/rulefile":          {"pkg/rule"},
		"pkg/hostname":          {"pkg/rule"},
		"pkg/baseline":          {"pkg/event", "pkg/syscalls"},
		"pkg/detect":            append([]string{"pkg/rule", "pkg/baseline", "rules"}, core...),
		"pkg/sensor":            {"pkg/event"},
		"pkg/sensor/process":    sensor,
		"pkg/sensor/gotls":      append([]string{"pkg/gobin"}, sensor...),
		"pkg/sensor/gcpause":    append([]string{"pkg/gobin"}, sensor...),
		"pkg/sensor/openssl":    append([]string{"pkg/accessor"}, sensor...),
		"pkg/sensor/sensortest": sensor,
		"pkg/enforce":           append([]string{"pkg/syscalls", "pkg/rule", "pkg/dns"}, sensor...),
		"pkg/bus":               {"pkg/alert", "pkg/wholefile"},
		"pkg/bus/natsserver":    {"pkg/bus"},
		"pkg/spool":             {"pkg/alert"},
		"pkg/alertstore":        {"pkg/alert"},
		"pkg/output":            {"pkg/alert"},
		"pkg/falco":             {"pkg/alert"},
		"pkg/response":          {"pkg/rule", "pkg/workload"},
		"pkg/agent": {
			"pkg/event", "pkg/alert", "pkg/process", "pkg/rule", "pkg/rulefile", "pkg/baseline", "pkg/detect", "pkg/sensor", "pkg/sensor/process",
			"pkg/sensor/gotls", "pkg/sensor/gcpause", "pkg/sensor/openssl", "pkg/enforce", "pkg/workload", "pkg/identity", "pkg/bus",
			"pkg/spool", "pkg/output", "pkg/falco", "pkg/telemetry", "pkg/wholefile", "pkg/response", "pkg/hostname", "rules",
		},
		"pkg/controlplane": {
			"pkg/event", "pkg/alert", "pkg/rule", "pkg/baseline", "pkg/bus", "pkg/bus/natsserver", "pkg/alertstore", "pkg/identity", "pkg/telemetry", "pkg/falco",
		},
		"cmd/agent": {
			"pkg/agent", "pkg/alert", "pkg/baseline", "pkg/event", "pkg/sensor", "pkg/wholefile", "cmd/internal/cli", "cmd/internal/junit",
		},
		"cmd/controlplane": {
			"pkg/controlplane", "pkg/alert", "pkg/alertstore", "pkg/bus", "pkg/event", "pkg/rule", "pkg/rulefile", "pkg/detect", "pkg/wholefile", "rules", "cmd/internal/cli",
			"cmd/internal/junit",
		},
	}
}

// owners names the only packages that may import a third-party module.
func owners() map[string][]string {
	return map[string][]string{
		"github.com/cilium/ebpf":              {"pkg/sensor", "pkg/enforce"},
		"github.com/nats-io":                  {"pkg/bus"},
		"github.com/nats-io/nats-server":      {"pkg/bus/natsserver"}, // agents do not carry it
		"modernc.org/sqlite":                  {"pkg/alertstore"},
		"github.com/spiffe/go-spiffe":         {"pkg/identity"},
		"github.com/falcosecurity/client-go":  {"pkg/falco"},
		"google.golang.org/grpc":              {"pkg/falco"},
		"google.golang.org/protobuf":          {"pkg/falco"},
		"go.opentelemetry.io/otel":            {"pkg/telemetry"},
		"github.com/prometheus/client_golang": {"pkg/telemetry"},
		"github.com/coreos/go-systemd":        {"pkg/response"},
		"github.com/godbus/dbus":              {"pkg/response"},
		"github.com/fsnotify/fsnotify":        {"pkg/rulefile"},
		"github.com/spf13/cobra":              {"cmd"},
		"github.com/spf13/pflag":              {"cmd"},
		"golang.org/x/arch":                   {"pkg/accessor", "pkg/gobin"},
		"golang.org/x/term":                   {"cmd"},
	}
}

// common lists the modules that every package may import.
func common() []string {
	return []string{"go.yaml.in/yaml/v3", "golang.org/x/sync", "golang.org/x/sys"}
}

// testOnly lists the modules for tests, beside common and what has an owner.
func testOnly() []string {
	return []string{"github.com/rogpeppe/go-internal", "golang.org/x/net"}
}

// topLevel is what the root of the repository may hold.
func topLevel() []string {
	return []string{
		"bpf", "cmd", "pkg", "rules", "deploy", "test", "docs", "bin",
		"go.mod", "go.sum", "Makefile", "README.md", "ARCHITECTURE.md", "HACKING.md", "CHANGELOG.md", "LICENSE",
	}
}

// The largest file, function and parameter list that are still easy to read.
const (
	maxLines    = 400
	maxFunction = 80
	maxParams   = 5 // a context among them
)

// file is one parsed source file.
type file struct {
	name      string // relative to the root
	pkg       string // its directory
	ast       *ast.File
	set       *token.FileSet
	lines     int
	generated bool
	test      bool
}

// problem is one breach, with the rule that it breaks.
type problem struct{ file, what string }

func (p problem) String() string { return p.file + ": " + p.what }

// load parses every Go file below root.
func load(root fs.FS) ([]file, error) {
	var files []file
	set := token.NewFileSet()
	err := fs.WalkDir(root, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (strings.HasPrefix(d.Name(), ".") && name != "." || d.Name() == "testdata" || name == "bin") {
			return fs.SkipDir
		}
		if d.IsDir() || filepath.Ext(name) != ".go" {
			return nil
		}
		data, err := fs.ReadFile(root, name)
		if err != nil {
			return err
		}
		tree, err := parser.ParseFile(set, name, data, parser.ParseComments)
		if err != nil {
			return err
		}
		files = append(files, file{
			name: name, pkg: path.Dir(name), ast: tree, set: set, lines: strings.Count(string(data), "\n"),
			generated: ast.IsGenerated(tree), test: strings.HasSuffix(name, "_test.go"),
		})
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read sources: %w", err)
	}
	return files, nil
}

// check finds every breach.
func check(files []file) []problem {
	var all []problem
	for _, f := range files {
		for _, rule := range []func(file) []string{imports, size, functions, globals, sleeps, executes, docs} {
			for _, what := range rule(f) {
				all = append(all, problem{f.name, what})
			}
		}
	}
	return append(all, comments(files)...)
}

func imports(f file) []string {
	var found []string
	for _, spec := range f.ast.Imports {
		name := strings.Trim(spec.Path.Value, `"`)
		ours, isOurs := strings.CutPrefix(name, module+"/")
		switch {
		case isOurs && !f.test && !strings.HasPrefix(f.pkg, "test/") && ours != f.pkg && !slices.Contains(allowed()[f.pkg], ours):
			found = append(found, fmt.Sprintf("%s must not import %s: see allowed in pkg/archtest", f.pkg, ours))
		case !isOurs:
			if owner := foreign(f, name); owner != "" {
				found = append(found, fmt.Sprintf("%s must not import %s: only %s may", f.pkg, name, owner))
			}
			if !isKnown(f, name) {
				found = append(found, fmt.Sprintf("%s is a new dependency: give it a place in pkg/archtest, and a reason", name))
			}
		}
	}
	return found
}

// foreign names the owners of a module that f is not among. Tests are free to use real parts.
func foreign(f file, name string) string {
	if f.test {
		return ""
	}
	for mod, who := range owners() {
		if !isOf(mod, name) {
			continue
		}
		if !slices.ContainsFunc(who, func(dir string) bool { return f.pkg == dir || strings.HasPrefix(f.pkg, dir+"/") }) {
			return strings.Join(who, ", ")
		}
	}
	return ""
}

func isOf(mod, name string) bool { return name == mod || strings.HasPrefix(name, mod+"/") }

// isKnown says whether an import is of the standard library or of a module that was thought about.
func isKnown(f file, name string) bool {
	if first, _, _ := strings.Cut(name, "/"); !strings.Contains(first, ".") {
		return true
	}
	known := common()
	for mod := range owners() {
		known = append(known, mod)
	}
	if f.test || strings.HasPrefix(f.pkg, "test/") {
		known = append(known, testOnly()...)
	}
	return slices.ContainsFunc(known, func(mod string) bool { return isOf(mod, name) })
}

func size(f file) []string {
	if f.generated || f.test || f.lines <= maxLines {
		return nil
	}
	return []string{fmt.Sprintf("%d lines, at most %d: one concept per file", f.lines, maxLines)}
}

// globals finds init functions and package-level variables that are more than a constant value.
func globals(f file) []string {
	if f.generated || f.test {
		return nil
	}
	var found []string
	for _, decl := range f.ast.Decls {
		switch d := decl.(type) {
		case *ast.FuncDecl:
			if d.Recv == nil && d.Name.Name == "init" {
				found = append(found, "has an init function: initialise in a constructor")
			}
		case *ast.GenDecl:
			if d.Tok != token.VAR {
				continue
			}
			for _, spec := range d.Specs {
				v := spec.(*ast.ValueSpec)
				for i, name := range v.Names {
					if !constant(f, d, v, i) {
						found = append(found, fmt.Sprintf("package-level variable %s: pass it, or make it a function", name.Name))
					}
				}
			}
		}
	}
	return found
}

// constant allows `_`, sentinel errors, embedded files, tables of an array type, main.version, and what packages
// for tests find out once. It is asked about the i-th name of a declaration.
func constant(f file, d *ast.GenDecl, v *ast.ValueSpec, i int) bool {
	name := v.Names[i].Name
	if name == "_" || f.ast.Name.Name == "main" && name == "version" {
		return true
	}
	for _, doc := range []*ast.CommentGroup{d.Doc, v.Doc} {
		if doc == nil {
			continue
		}
		for _, c := range doc.List {
			if strings.HasPrefix(c.Text, "//go:embed") {
				return true
			}
		}
	}
	if len(v.Values) != len(v.Names) {
		return false
	}
	switch value := v.Values[i].(type) {
	case *ast.CallExpr:
		fun, ok := value.Fun.(*ast.SelectorExpr)
		if !ok {
			return false
		}
		called := fmt.Sprint(fun.X) + "." + fun.Sel.Name
		return called == "errors.New" || called == "sync.OnceValues" && strings.HasSuffix(f.pkg, "test")
	case *ast.CompositeLit:
		array, ok := value.Type.(*ast.ArrayType)
		return ok && array.Len != nil
	}
	return false
}

// sleeps finds time.Sleep where waiting for luck would do harm.
func sleeps(f file) []string {
	if f.test || strings.HasPrefix(f.pkg, "test/") || strings.HasSuffix(f.pkg, "test") {
		return nil
	}
	var found []string
	clock := localName(f, "time")
	ast.Inspect(f.ast, func(n ast.Node) bool {
		if s, ok := n.(*ast.SelectorExpr); ok && s.Sel.Name == "Sleep" && fmt.Sprint(s.X) == clock {
			found = append(found, "uses time.Sleep: wait for a condition or a timer")
		}
		return true
	})
	return found
}

// executes finds who could execute a program in the agent's process: with the strength fanotify that execution would wait
// for the agent, which Go's runtime holds meanwhile. `baseline record` is a process of its own.
func executes(f file) []string {
	if f.test || !strings.HasPrefix(f.pkg, "pkg/") || strings.HasSuffix(f.pkg, "test") || f.name == "pkg/agent/record.go" {
		return nil
	}
	for _, spec := range f.ast.Imports {
		if strings.Trim(spec.Path.Value, `"`) == "os/exec" {
			return []string{"imports os/exec: an agent that executes something can hang, see docs/design/010-fanotify.md"}
		}
	}
	return nil
}

// localName is what a file calls a package of the standard library that it imports.
func localName(f file, name string) string {
	for _, spec := range f.ast.Imports {
		if strings.Trim(spec.Path.Value, `"`) == name && spec.Name != nil {
			return spec.Name.Name
		}
	}
	return path.Base(name)
}

// comments finds packages without a package comment.
func comments(files []file) []problem {
	has := map[string]bool{}
	for _, f := range files {
		if !f.test {
			has[f.pkg] = has[f.pkg] || f.ast.Doc != nil
		}
	}
	var found []problem
	for pkg, ok := range has {
		if !ok {
			found = append(found, problem{pkg, "has no package comment: say what it is for and what it must never do"})
		}
	}
	slices.SortFunc(found, func(a, b problem) int { return strings.Compare(a.file, b.file) })
	return found
}
