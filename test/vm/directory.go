package vm

import (
	"fmt"
	"io/fs"
	"path"
	"path/filepath"
)

// Directory makes guest files of the regular files below a directory of this machine.
func Directory(inGuest, dir string) ([]File, error) {
	var files []File
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, name)
		if err != nil {
			return err
		}
		files = append(files, File{Path: path.Join(inGuest, filepath.ToSlash(rel)), From: name, Mode: uint32(info.Mode().Perm())})
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("add directory %s: %w", dir, err)
	}
	return files, nil
}
