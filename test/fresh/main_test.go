package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// tree makes a repository with three files that count and one that does not.
func tree(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	for name, text := range map[string]string{
		"bpf/a.bpf.c": "int a;", "bpf/a.h": "#pragma once", "bpf/README": "words",
		"pkg/enforce/bpf_x86_bpfel.o": "object", "pkg/sensor/a/bpf_x86_bpfel.go": "package a", "pkg/sensor/a/a.go": "package a",
	} {
		file := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func TestFresh(t *testing.T) {
	write := func(name, text string) func(string) error {
		return func(root string) error { return os.WriteFile(filepath.Join(root, name), []byte(text), 0o644) }
	}
	remove := func(name string) func(string) error {
		return func(root string) error { return os.Remove(filepath.Join(root, name)) }
	}
	for name, tc := range map[string]struct {
		change func(root string) error
		want   string // "": it is fresh
	}{
		"nothing changed":       {func(string) error { return nil }, ""},
		"other file changed":    {write("pkg/sensor/a/a.go", "package b"), ""},
		"words changed":         {write("bpf/README", "more"), ""},
		"source changed":        {write("bpf/a.bpf.c", "int b;"), "bpf/a.bpf.c differs"},
		"header changed":        {write("bpf/a.h", ""), "bpf/a.h differs"},
		"object changed":        {write("pkg/enforce/bpf_x86_bpfel.o", "x"), "pkg/enforce/bpf_x86_bpfel.o differs"},
		"bindings changed":      {write("pkg/sensor/a/bpf_x86_bpfel.go", "x"), "bpf_x86_bpfel.go differs"},
		"source added":          {write("bpf/b.bpf.c", "int b;"), "bpf/b.bpf.c differs"},
		"source removed":        {remove("bpf/a.h"), "3 files, 4 recorded"},
		"digests are missing":   {remove(sums), "read recorded digests"},
		"digests are of nobody": {write(sums, "nonsense\n"), "differs"},
	} {
		t.Run(name, func(t *testing.T) {
			root := tree(t)
			if err := run(root, true); err != nil {
				t.Fatal(err)
			}
			if err := tc.change(root); err != nil {
				t.Fatal(err)
			}
			err := run(root, false)
			switch {
			case tc.want == "" && err != nil:
				t.Error(err)
			case tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)):
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
}

// The digests are in the form that `sha256sum -c` reads.
func TestForm(t *testing.T) {
	root := tree(t)
	if err := run(root, true); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(root, sums))
	if err != nil {
		t.Fatal(err)
	}
	want := "2958d416d08aa5a472d7b509036cb7eafd542add84527e66a145ea64cb4cdc75  pkg/enforce/bpf_x86_bpfel.o"
	if got := strings.Count(string(text), "\n"); got != 4 {
		t.Errorf("%d lines, want 4", got)
	}
	if !strings.Contains(string(text), want+"\n") {
		t.Errorf("no %s in\n%s", want, text)
	}
}
