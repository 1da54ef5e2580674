package vm

import (
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
)

// tree is a root directory with programs and libraries of one architecture.
type tree struct {
	root, triplet string
	seen          map[string]bool // libraries that the guest has already
}

func machineTree() tree {
	return tree{root: "/", triplet: "x86_64-linux-gnu", seen: map[string]bool{}}
}

// Programs makes guest files of programs of this machine, with the shared libraries they need. Names
// are looked up in PATH.
func Programs(names ...string) ([]File, error) {
	var files []File
	t := machineTree()
	for _, name := range names {
		found, err := exec.LookPath(name)
		if err != nil {
			return nil, fmt.Errorf("find program: %w", err)
		}
		found, err = filepath.EvalSymlinks(found)
		if err != nil {
			return nil, fmt.Errorf("find program: %w", err)
		}
		libs, err := t.libraries(found)
		if err != nil {
			return nil, err
		}
		files = append(append(files, libs...), File{Path: "/bin/" + name, From: found})
	}
	return files, nil
}

// Libraries makes guest files of what a dynamic executable of this machine needs; none for a static one.
func Libraries(file string) ([]File, error) {
	t := machineTree()
	return t.libraries(file)
}

func (t *tree) libraries(file string) ([]File, error) {
	f, err := elf.Open(file)
	var format *elf.FormatError
	if errors.As(err, &format) || errors.Is(err, io.EOF) {
		return nil, nil // a script, maybe shorter than a header
	}
	if err != nil {
		return nil, fmt.Errorf("read libraries of %s: %w", file, err)
	}
	defer f.Close()
	var needed []string
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			interp := make([]byte, p.Filesz-1)
			if _, err := p.ReadAt(interp, 0); err != nil {
				return nil, fmt.Errorf("read interpreter of %s: %w", file, err)
			}
			needed = append(needed, string(interp))
		}
	}
	libs, err := f.ImportedLibraries()
	if err != nil {
		return nil, fmt.Errorf("read libraries of %s: %w", file, err)
	}
	var files []File
	for _, name := range append(needed, libs...) {
		if t.seen[filepath.Base(name)] {
			continue
		}
		t.seen[filepath.Base(name)] = true
		at := t.find(name)
		if at == "" {
			return nil, fmt.Errorf("find library %s of %s", name, file)
		}
		inGuest := name // an interpreter
		if !filepath.IsAbs(name) {
			inGuest = "/usr/lib/" + t.triplet + "/" + name
		}
		files = append(files, File{Path: inGuest, From: at})
		more, err := t.libraries(at)
		if err != nil {
			return nil, err
		}
		files = append(files, more...)
	}
	return files, nil
}

// find looks where Debian's dynamic linker does.
func (t *tree) find(name string) string {
	base := filepath.Base(name)
	for _, dir := range []string{"lib/" + t.triplet, "usr/lib/" + t.triplet, "lib64", "usr/lib64", "lib", "usr/lib"} {
		at := filepath.Join(t.root, dir, base)
		if _, err := os.Stat(at); err == nil {
			return at
		}
	}
	return ""
}
