package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
)

// testPackages finds the tests, by package, that load programs into the kernel: those in files that use
// sensortest, or are called *_vm_test.go. The others find the same on this machine, at a tenth of the price. The
// files' directives name the programs that the tests need beside themselves. A file that says //vm:byhand takes too
// long for the matrix; vmrun runs it.
func testPackages() (tests map[string][]string, helpers []helper, err error) {
	files, err := filepath.Glob("pkg/*/*_test.go")
	if err != nil {
		return nil, nil, err
	}
	deeper, err := filepath.Glob("pkg/*/*/*_test.go")
	if err != nil {
		return nil, nil, err
	}
	own, err := filepath.Glob(scenarioPackage + "/*_test.go")
	if err != nil {
		return nil, nil, err
	}
	tests = map[string][]string{}
	for _, file := range slices.Concat(files, deeper, own) {
		data, err := os.ReadFile(file)
		if err != nil {
			return nil, nil, err
		}
		text, pkg := string(data), "./"+filepath.Dir(file)
		wanted := strings.Contains(text, module+"/pkg/sensor/sensortest") || strings.HasSuffix(file, "_vm_test.go")
		byHand := strings.Contains(text, "\n//vm:byhand\n")
		if wanted && !byHand && pkg != scenarioPackage {
			tests[pkg] = append(tests[pkg], testsOf(text)...)
		}
		helpers = append(helpers, directives(text)...)
	}
	return tests, helpers, nil
}

// testsOf finds the names of a file's tests.
func testsOf(text string) []string {
	var names []string
	for _, m := range regexp.MustCompile(`(?m)^func (Test\w+)\(t \*testing\.T\)`).FindAllStringSubmatch(text, -1) {
		names = append(names, m[1])
	}
	return names
}

// directives finds the lines of a test file that name a program to build for it, as production does:
// stripped, and position independent where the guest has this machine's architecture.
//
//	//vm:build NAME ./PACKAGE
func directives(text string) []helper {
	var found []helper
	for _, m := range regexp.MustCompile(`(?m)^//vm:build (\S+) (\./\S+)$`).FindAllStringSubmatch(text, -1) {
		found = append(found, helper{m[1], m[2], []string{"-ldflags=-s -w", "-buildmode=pie"}})
	}
	return found
}

// builders compile the payload of an architecture when its first guest is about to boot.
type builders struct {
	byArch map[string]func() (*payload, error)
	mu     sync.Mutex
	made   []*payload
}

func newBuilders(ctx context.Context) *builders {
	b := &builders{byArch: map[string]func() (*payload, error){}}
	for _, arch := range []string{"amd64", "arm64"} {
		b.byArch[arch] = sync.OnceValues(func() (*payload, error) {
			start := time.Now()
			p, err := newPayload(ctx, arch)
			if err != nil {
				return nil, err
			}
			fmt.Printf("built the programs of %s guests in %.0f s\n", arch, time.Since(start).Seconds())
			b.mu.Lock()
			defer b.mu.Unlock()
			b.made = append(b.made, p)
			return p, nil
		})
	}
	return b
}

func (b *builders) get(arch string) (*payload, error) { return b.byArch[arch]() }

func (b *builders) remove() {
	for _, p := range b.made {
		p.remove()
	}
}
