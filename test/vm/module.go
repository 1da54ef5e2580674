package vm

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os/exec"
	"path/filepath"
	"strings"
)

// Modules are kernel modules of a guest, in /lib/modules for whoever loads them. One that this kernel
// was built without is left out.
func Modules(k Kernel, names ...string) ([]File, error) {
	above, _, ok := strings.Cut(k.Image, "/"+k.Version+"/")
	if !ok {
		return nil, fmt.Errorf("find modules: %s is not below a directory %s", k.Image, k.Version)
	}
	var files []File
	err := filepath.WalkDir(filepath.Join(above, k.Version), func(path string, _ fs.DirEntry, err error) error {
		name, packed, isModule := strings.Cut(filepath.Base(path), ".ko")
		if err != nil || !isModule {
			return err
		}
		for _, want := range names {
			if name != want {
				continue
			}
			file := File{Path: "/lib/modules/" + name + ".ko", From: path}
			if packed != "" {
				file, err = unpacked(file)
			}
			files = append(files, file)
		}
		return err
	})
	return files, err
}

func unpacked(f File) (File, error) {
	var out, complaint bytes.Buffer
	cmd := exec.Command("xz", "-dc", f.From)
	cmd.Stdout, cmd.Stderr = &out, &complaint
	if err := cmd.Run(); err != nil {
		return f, errors.Join(fmt.Errorf("unpack module %s: %w", f.From, err), errors.New(complaint.String()))
	}
	return File{Path: f.Path, Data: out.Bytes()}, nil
}
