// Package wholefile replaces files: who reads one, and a machine that crashes meanwhile, finds the old content or
// the new, and never a part. It must never make directories or follow a link that it was not asked about.
//
//	err := wholefile.Write("/var/lib/plumbline/pause.json", data, 0o600)
package wholefile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// Write puts data under a name, with these permissions. A link of that name is replaced.
func Write(name string, data []byte, mode fs.FileMode) error {
	return write(name, data, func(f *os.File) error { return f.Chmod(mode.Perm()) })
}

// Rewrite gives a file that is there another content. Its permissions and owner stay, and a link goes on leading
// to it.
func Rewrite(name string, data []byte) error {
	real, err := filepath.EvalSymlinks(name)
	if err != nil {
		return fmt.Errorf("replace file: %w", err)
	}
	info, err := os.Stat(real)
	if err != nil {
		return fmt.Errorf("replace file: %w", err)
	}
	return write(real, data, func(f *os.File) error {
		if owner, ok := info.Sys().(*syscall.Stat_t); ok {
			if err := f.Chown(int(owner.Uid), int(owner.Gid)); err != nil {
				return err
			}
		}
		return f.Chmod(info.Mode().Perm())
	})
}

// write makes a file beside the other one, and gives it its name when all is on the disk.
func write(name string, data []byte, prepare func(*os.File) error) error {
	f, err := os.CreateTemp(filepath.Dir(name), ".plumbline-")
	if err != nil {
		return fmt.Errorf("replace %s: %w", name, err)
	}
	_, err = f.Write(data)
	if err = errors.Join(err, prepare(f), f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("replace %s: %w", name, err), os.Remove(f.Name()))
	}
	return nil
}
