// Fresh fails if a BPF source changed after the committed objects were generated from it. It needs no
// compiler: `go generate` ends with `fresh -write`, which records a digest of every source beside the
// objects.
//
//	go run ./test/fresh
package main

import (
	"crypto/sha256"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// sums has one line for each source and object: SHA-256 and path, as sha256sum prints it.
const sums = "bpf/SHA256SUMS"

func main() {
	write := flag.Bool("write", false, "record the digests instead of comparing them")
	root := flag.String("C", ".", "root of the repository")
	flag.Parse()
	if err := run(*root, *write); err != nil {
		fmt.Fprintln(os.Stderr, "fresh:", err)
		os.Exit(1)
	}
}

func run(root string, write bool) error {
	now, err := digests(root)
	if err != nil {
		return err
	}
	file := filepath.Join(root, sums)
	if write {
		return os.WriteFile(file, []byte(strings.Join(now, "\n")+"\n"), 0o644)
	}
	then, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("read recorded digests: %w", err)
	}
	recorded := strings.Split(strings.TrimSpace(string(then)), "\n")
	for _, line := range now {
		if !slices.Contains(recorded, line) {
			return fmt.Errorf("%s differs from what the objects were generated from; run `make generate`", line[66:])
		}
	}
	if len(now) != len(recorded) {
		return fmt.Errorf("%d files, %d recorded in %s; run `make generate`", len(now), len(recorded), sums)
	}
	return nil
}

func digests(root string) ([]string, error) {
	var lines []string
	for _, pattern := range []string{"bpf/*.[ch]", "pkg/*/bpf_*_bpfel.*", "pkg/*/*/bpf_*_bpfel.*"} {
		files, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			return nil, err
		}
		for _, file := range files {
			data, err := os.ReadFile(file)
			if err != nil {
				return nil, fmt.Errorf("read source: %w", err)
			}
			rel, err := filepath.Rel(root, file)
			if err != nil {
				return nil, err
			}
			lines = append(lines, fmt.Sprintf("%x  %s", sha256.Sum256(data), rel))
		}
	}
	slices.Sort(lines)
	return lines, nil
}
