package main

import (
	"errors"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// overlay mounts dir/merged, with dir/lower below dir/upper.
func overlay(dir string) error {
	if err := loadOverlay("/lib/modules/overlay.ko"); err != nil {
		return err
	}
	layers := "lowerdir=" + dir + "/lower,upperdir=" + dir + "/upper,workdir=" + dir + "/work"
	return unix.Mount("overlay", dir+"/merged", "overlay", 0, layers)
}

// loadOverlay loads the module where the guest has it; it may be there already, or a part of the kernel.
func loadOverlay(module string) error {
	f, err := os.Open(module)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.FinitModule(int(f.Fd()), "", 0); err != nil && !errors.Is(err, unix.EEXIST) {
		return err
	}
	return nil
}
