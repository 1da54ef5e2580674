package enforce_test

import (
	"bytes"
	"errors"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/plumbline-io/plumbline/pkg/event"
)

const overlayModule = "/lib/modules/overlay.ko" // where the guests of test/vm have it

// loadOverlay makes overlayfs known to the kernel, if it can be.
func loadOverlay(t *testing.T) {
	t.Helper()
	f, err := os.Open(overlayModule)
	if err != nil {
		return
	}
	defer f.Close()
	if err := unix.FinitModule(int(f.Fd()), "", 0); err != nil && !errors.Is(err, unix.EEXIST) {
		t.Fatalf("load %s: %v", overlayModule, err)
	}
}

// overlay mounts dir/merged; both files and the tool come from its lower layer.
func overlay(t *testing.T, dir string) {
	t.Helper()
	for _, name := range []string{"lower", "upper", "work", "merged"} {
		if err := os.Mkdir(dir+"/"+name, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	copyTo(t, dir+"/"+vaultFile, dir+"/lower/secret")
	copyTo(t, dir+"/"+knownFile, dir+"/lower/known")
	copyTo(t, dir+"/"+toolFile, dir+"/lower/tool")
	layers := "lowerdir=" + dir + "/lower,upperdir=" + dir + "/upper,workdir=" + dir + "/work"
	if err := unix.Mount("overlay", dir+"/merged", "overlay", 0, layers); err != nil && !errors.Is(err, unix.ENODEV) {
		t.Fatal(err)
	}
}

func lacksOverlay() string {
	if known, err := os.ReadFile("/proc/filesystems"); err == nil && !bytes.Contains(known, []byte("\toverlay\n")) {
		return "this kernel has no overlayfs"
	}
	return ""
}

// layerEvasions reach the files of an overlay in its layers, and its own.
func layerEvasions() map[string]evasion {
	all := executed(map[string]evasion{
		"overlayfs: open": {
			do: func(dir string) error { return open(dir + "/merged/secret") }, about: about(onPath(event.OpRead, "merged/secret")),
		},
		"overlayfs: known file, in its lower layer": {
			do: func(dir string) error {
				return inOrder(peeking(dir, "merged/known"), peeking(dir, "lower/known"))
			},
			about: about(onPath(event.OpRead, "lower/known")),
		},
		"overlayfs: known file, in its upper layer": {
			do: func(dir string) error {
				return inOrder(func() error {
					return closing(unix.Open(dir+"/merged/known", unix.O_RDWR|unix.O_CLOEXEC, 0))
				}, peeking(dir, "merged/known"), peeking(dir, "upper/known"))
			},
			about: about(onPath(event.OpRead, "upper/known")), steps: []event.Operation{event.OpWrite},
		},
		"overlayfs: map, then mprotect": {
			do:    mapFile("merged/tool", unix.PROT_READ, func(m []byte) error { return unix.Mprotect(m, unix.PROT_READ|unix.PROT_EXEC) }),
			about: about(onPath(event.OpLibrary, "merged/tool")), steps: []event.Operation{event.OpRead},
		},
		"overlayfs: exec": {
			do: func(dir string) error { return spawn(dir + "/merged/tool") }, about: about(onPath(event.OpExec, "merged/tool")),
		},
		"overlayfs: exec from the lower layer": {
			do: func(dir string) error { return spawn(dir + "/lower/tool") }, about: about(onPath(event.OpExec, "lower/tool")),
		},
	})
	for name, e := range all {
		e.prepare, e.lacks = overlay, lacksOverlay
		all[name] = e
	}
	return all
}
