package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// race is the flag of `go test`, and checked what it implies that one goroutine needs too: unsafe.Pointer is used as the
// language allows.
const (
	race    = "-race"
	checked = "-d=checkptr"
)

// runs are the commands that test what args of `go test` say. Where nothing starts a goroutine, nothing can race, and
// the race detector finds nothing but time: those packages are tested without it, which is several times faster.
func runs(args []string, alone func(patterns []string) (module string, alone, others []string, err error)) ([]*exec.Cmd, []string, error) {
	test := func(args ...string) *exec.Cmd {
		return exec.Command("go", append([]string{"test", "-json"}, args...)...)
	}
	flags, patterns := split(args)
	if !slices.Contains(flags, race) || len(patterns) == 0 {
		return []*exec.Cmd{test(args...)}, nil, nil
	}
	module, single, others, err := alone(patterns)
	if err != nil {
		return nil, nil, err
	}
	var all []*exec.Cmd
	if len(others) > 0 {
		all = append(all, test(append(flags, others...)...))
	}
	if len(single) > 0 {
		flags = slices.DeleteFunc(slices.Clone(flags), func(f string) bool { return f == race })
		cmd := test(slices.Concat(flags, []string{"-gcflags=" + module + "/...=" + checked, "-p=1"}, single)...)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		all = append(all, cmd)
	}
	return all, single, nil
}

// split tells flags, which have their values behind =, from packages.
func split(args []string) (flags, patterns []string) {
	for _, a := range args {
		if strings.HasPrefix(a, "-") {
			flags = append(flags, a)
		} else {
			patterns = append(patterns, a)
		}
	}
	return flags, patterns
}

// listed is a package as `go list` tells of it: with -test also the ones with their tests, and their mains.
type listed struct {
	ImportPath, Dir, ForTest  string
	Standard, DepOnly         bool
	Module                    struct{ Path string }
	GoFiles, CgoFiles, SFiles []string
	Deps                      []string
}

// alone tells packages in whose tests one goroutine runs from the others.
func alone(patterns []string) (module string, single, others []string, err error) {
	cmd := exec.Command("go", append([]string{"list", "-test", "-deps", "-json=ImportPath,Dir,ForTest,Standard,DepOnly,Module,GoFiles,CgoFiles,SFiles,Deps"}, patterns...)...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return "", nil, nil, fmt.Errorf("list packages: %w", err)
	}
	packages := map[string]listed{}
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p listed
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return "", nil, nil, fmt.Errorf("read list of packages: %w", err)
		}
		packages[p.ImportPath] = p
	}
	known := map[string]bool{}
	for path, p := range packages {
		if p.DepOnly || p.ForTest != "" || strings.HasSuffix(path, ".test") {
			continue
		}
		module = p.Module.Path
		test, tested := packages[path+".test"]
		if !tested || slices.ContainsFunc(test.Deps, func(dep string) bool {
			if _, is := known[dep]; !is {
				known[dep] = !packages[dep].Standard && packages[dep].starts()
			}
			return known[dep]
		}) {
			others = append(others, path)
		} else {
			single = append(single, path)
		}
	}
	slices.Sort(single)
	slices.Sort(others)
	return module, single, others, nil
}

// starts says whether code of the package may start a goroutine, or might as far as can be seen.
func (p listed) starts() bool {
	if len(p.CgoFiles)+len(p.SFiles) > 0 {
		return true
	}
	for _, name := range p.GoFiles {
		if !filepath.IsAbs(name) {
			name = filepath.Join(p.Dir, name)
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		if err != nil || starts(f) {
			return true
		}
	}
	return false
}

// quiet are packages of the standard library that call nobody back in a goroutine of their own, but for what starts
// looks for. A name that ends in / stands for all below.
func quiet() []string {
	return []string{
		"bufio", "bytes", "cmp", "context", "crypto/sha256", "crypto/tls", "debug/", "embed", "encoding", "encoding/", "errors", "flag", "fmt",
		"go/ast", "go/format", "go/parser", "go/token", "hash/", "io", "io/fs", "iter", "maps", "math", "math/", "net/netip", "net/url", "os", "os/exec",
		"path", "path/filepath", "reflect", "regexp", "regexp/", "runtime", "slices", "sort", "strconv", "strings", "sync", "sync/atomic", "syscall",
		"testing", "testing/fstest", "text/", "time", "unicode", "unicode/", "unsafe",
	}
}

// starts says it of a file. It knows names, not types: it may see a goroutine where none is, and not the other way.
func starts(f *ast.File) bool {
	executes := false
	for _, i := range f.Imports {
		path := strings.Trim(i.Path.Value, "\"`")
		if i.Name != nil && i.Name.Name == "." {
			return true
		}
		if first, _, _ := strings.Cut(path, "/"); strings.Contains(first, ".") {
			continue // it is looked at itself
		}
		if !slices.ContainsFunc(quiet(), func(q string) bool { return path == q || strings.HasSuffix(q, "/") && strings.HasPrefix(path, q) }) {
			return true
		}
		executes = executes || path == "os/exec"
	}
	found := false
	ast.Inspect(f, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.GoStmt:
			found = true
		case *ast.SelectorExpr:
			if of, is := n.X.(*ast.Ident); is && of.Name == "os" {
				return false
			}
			switch n.Sel.Name {
			case "Go", "Parallel", "RunParallel", "AfterFunc", "SetFinalizer", "AddCleanup", "HandshakeContext":
				found = true
			}
		case *ast.Ident:
			switch n.Name {
			case "Stdin", "Stdout", "Stderr", "Cancel": // of a command: they may be ours
				found = found || executes
			}
		}
		return !found
	})
	return found
}
