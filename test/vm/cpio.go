package vm

import (
	"fmt"
	"io"
	"os"
	"path"
	"slices"
)

// File is one file of the guest.
type File struct {
	Path string // absolute, in the guest
	From string // on this machine; empty: Data
	Data []byte
	Mode uint32 // permissions; 0: 0755
}

// writeCPIO writes an initramfs in the newc format (Documentation/driver-api/early-userspace/
// buffer-format.rst of the kernel). Directories are made as needed.
func writeCPIO(w io.Writer, files []File) error {
	c := &cpio{w: w, made: map[string]bool{"/": true}}
	c.device("/dev/console", 5, 1)
	slices.SortStableFunc(files, func(a, b File) int {
		if a.Path < b.Path {
			return -1
		} else if a.Path > b.Path {
			return 1
		}
		return 0
	})
	for i, f := range files {
		if i > 0 && files[i-1].Path == f.Path {
			continue
		}
		data := f.Data
		if f.From != "" {
			var err error
			if data, err = os.ReadFile(f.From); err != nil {
				return fmt.Errorf("add %s to initramfs: %w", f.Path, err)
			}
		}
		mode := f.Mode
		if mode == 0 {
			mode = 0o755
		}
		c.parents(f.Path)
		c.entry(f.Path, 0o100000|mode, 0, 0, data)
	}
	c.entry("/TRAILER!!!", 0, 0, 0, nil)
	return c.err
}

type cpio struct {
	w     io.Writer
	made  map[string]bool
	inode uint32
	err   error
}

func (c *cpio) parents(name string) {
	dir := path.Dir(name)
	if c.made[dir] {
		return
	}
	c.parents(dir)
	c.made[dir] = true
	c.entry(dir, 0o040755, 0, 0, nil)
}

func (c *cpio) device(name string, major, minor uint32) {
	c.parents(name)
	c.entry(name, 0o020600, major, minor, nil)
}

// entry writes one member: a header of 8-digit hexadecimal numbers, the name, the data; name and data
// end on a multiple of four.
func (c *cpio) entry(name string, mode, major, minor uint32, data []byte) {
	if c.err != nil {
		return
	}
	c.inode++
	name = name[1:]
	header := fmt.Sprintf("070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%s\x00",
		c.inode, mode, 0, 0, 1, 0, len(data), 0, 0, major, minor, len(name)+1, 0, name)
	for _, b := range [][]byte{[]byte(header), pad(len(header)), data, pad(len(data))} {
		if _, err := c.w.Write(b); err != nil {
			c.err = fmt.Errorf("write initramfs: %w", err)
			return
		}
	}
}

func pad(n int) []byte { return make([]byte, (4-n%4)%4) }
