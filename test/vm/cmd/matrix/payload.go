package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	vm "github.com/plumbline-io/plumbline/test/vm"
	"github.com/plumbline-io/plumbline/test/vm/scenario"
)

const (
	module       = "github.com/plumbline-io/plumbline"
	scenarioStep = "scenarios"

	scenarioPackage = "./test/vm/scenario"
)

// programs of this machine that the guests get.
func programs() []string {
	return []string{
		"sh", "true", "false", "cat", "uname", "ls", "sleep", "mkdir", "rmdir", "cp", "rm", "mv", "echo", "env",
		"date", "chmod", "kill", "grep", "bash", "openssl", "curl", "busybox", "runc", "crun",
	}
}

// payload is what all guests of one architecture get, compiled once.
type payload struct {
	dir, init string
	arch      string
	mu        sync.Mutex // of what follows
	files     []vm.File
	tests     []testBinary
	scenarios []scenarioFile
}

type testBinary struct {
	name, pkg string
	tests     []string // that guests run
}

type scenarioFile struct {
	file   string
	header scenario.Header
}

func newPayload(ctx context.Context, arch string) (*payload, error) {
	dir, err := os.MkdirTemp("", "plumbline-matrix-")
	if err != nil {
		return nil, fmt.Errorf("make payload: %w", err)
	}
	p := &payload{dir: dir, arch: arch}
	if p.init, err = vm.BuildInit(ctx, arch); err != nil {
		return nil, err
	}
	if err := p.findScenarios(); err != nil {
		return nil, err
	}
	tests, helpers, err := testPackages()
	if err != nil {
		return nil, err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(2)
	tests[scenarioPackage] = nil
	for pkg, names := range tests {
		group.Go(func() error { return p.buildTest(ctx, pkg, names) })
	}
	for _, h := range append(helpers, programsOfTests()...) {
		group.Go(func() error { return p.build(ctx, h) })
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	slices.SortFunc(p.tests, func(a, b testBinary) int { return strings.Compare(a.name, b.name) })
	return p, nil
}

func (p *payload) findScenarios() error {
	names, err := filepath.Glob("test/vm/scenarios/*.txtar")
	if err != nil {
		return err
	}
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		header, err := scenario.ParseHeader(string(text))
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		p.scenarios = append(p.scenarios, scenarioFile{name, header})
	}
	return nil
}

// scenarioFiles are the scenarios that want to run in this boot.
func (p *payload) scenarioFiles(b boot, every bool) []vm.File {
	var files []vm.File
	for _, s := range p.scenarios {
		if s.header.Wants(b.guest(), every) {
			files = append(files, vm.File{Path: "/scenarios/" + filepath.Base(s.file), From: s.file, Mode: 0o644})
		}
	}
	return files
}

// helper is a program that tests need beside themselves, in /testbin of the guest.
type helper struct {
	name, pkg string
	flags     []string
}

// programsOfTests are those that every guest gets.
func programsOfTests() []helper {
	stripped := "-ldflags=-s -w"
	return []helper{
		{"plumbline-agent", "./cmd/agent", []string{stripped}},
		{"plumbline", "./cmd/controlplane", []string{stripped}},
		{"intruder", "./test/vm/intruder", []string{stripped}},
		{"specimen", "./pkg/gobin/gobintest/specimen", nil},
		{"specimen-stripped", "./pkg/gobin/gobintest/specimen", []string{stripped}},
		{"specimen-stripped-pie", "./pkg/gobin/gobintest/specimen", []string{stripped, "-buildmode=pie"}},
	}
}

func (p *payload) remove() {
	_ = os.RemoveAll(p.dir)
	_ = os.Remove(p.init)
}

func (p *payload) build(ctx context.Context, h helper) error {
	if p.arch != runtime.GOARCH && slices.Contains(h.flags, "-buildmode=pie") {
		return nil // it needs the loader of its own architecture
	}
	to := filepath.Join(p.dir, h.name)
	if err := vm.Build(ctx, p.arch, to, h.pkg, h.flags...); err != nil {
		return err
	}
	return p.add(h.name, to)
}

// add puts a program into the guest's /testbin.
func (p *payload) add(name, file string) error {
	libs, err := vm.Libraries(file)
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.files = append(append(p.files, libs...), vm.File{Path: "/testbin/" + name, From: file})
	return nil
}

func (p *payload) buildTest(ctx context.Context, pkg string, tests []string) error {
	name := strings.ReplaceAll(strings.TrimPrefix(pkg, "./"), "/", "_")
	to := filepath.Join(p.dir, name+".test")
	cmd := exec.CommandContext(ctx, "go", "test", "-c", "-cover", "-ldflags=-s -w", "-o", to, pkg)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOARCH="+p.arch)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build tests of %s: %w: %s", pkg, err, out)
	}
	if err := p.add(name+".test", to); err != nil {
		return err
	}
	if pkg == scenarioPackage {
		return nil
	}
	data, err := testdata(name, pkg)
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.files = append(p.files, data...)
	p.tests = append(p.tests, testBinary{name, pkg, tests})
	return nil
}

// testdata is where the test runs.
func testdata(name, pkg string) ([]vm.File, error) {
	dir := filepath.Join(pkg, "testdata")
	if _, err := os.Stat(dir); err != nil {
		return nil, nil
	}
	return vm.Directory("/work/"+name+"/testdata", dir)
}

func (p *payload) steps(b boot, o options) []vm.Step {
	args := []string{"-test.v", "-test.timeout=44m"}
	env := []string{
		"PLUMBLINE_CGROUPS=" + b.cgroups, fmt.Sprintf("PLUMBLINE_LSM=%t", b.lsm), "PLUMBLINE_KERNEL=" + b.kernel,
		"PATH=/testbin:/bin:/usr/bin:/sbin:/usr/sbin",
	}
	if o.every {
		env = append(env, "PLUMBLINE_EVERY=1")
	}
	var steps []vm.Step
	if !b.scenarios {
		for _, t := range p.tests {
			cover, run := "/tmp/"+t.name+".cover", o.run
			if run == "" {
				run = "^(" + strings.Join(t.tests, "|") + ")$"
			}
			steps = append(steps, vm.Step{
				Name: t.name, Dir: "/work/" + t.name, Env: env, Timeout: 45 * time.Minute, Fetch: []string{cover},
				Args: append([]string{"/testbin/" + t.name + ".test", "-test.coverprofile=" + cover, "-test.run=" + run}, args...),
			})
		}
	}
	if !o.wantsScenarios() {
		return steps
	}
	return append(steps, vm.Step{
		Name: scenarioStep, Dir: "/work/scenario", Env: env, Timeout: 45 * time.Minute,
		Args: append([]string{"/testbin/test_vm_scenario.test", "-test.run=" + cmp.Or(o.run, "TestScenarios")}, args...),
	})
}

// saveCoverage keeps profiles for `go tool cover`.
func saveCoverage(dir, boot string, r vm.Result) error {
	for _, data := range r.Files {
		name := regexp.MustCompile(`[^A-Za-z0-9.-]+`).ReplaceAllString(boot+"."+r.Step, "_") + ".out"
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("save coverage: %w", err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
			return fmt.Errorf("save coverage: %w", err)
		}
	}
	return nil
}

// prefixer puts the boot's name before every line.
type prefixer struct {
	name string
	mu   sync.Mutex
}

func (p *prefixer) writer() io.Writer {
	if p == nil {
		return nil
	}
	return p
}

func (p *prefixer) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	fmt.Printf("[%s] %s", p.name, b)
	return len(b), nil
}
