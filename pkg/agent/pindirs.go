package agent

import (
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/plumbline-io/plumbline/pkg/sensor"
)

// mountedBPF is where a machine mounts its BPF file system.
const mountedBPF = "/sys/fs/bpf"

// DefaultPinDir is where the agent of a socket pins: agents that run side by side have different ones.
func DefaultPinDir(socket string) string {
	name := "plumbline"
	if socket != DefaultSocket {
		// A BPF file system allows no dots in names.
		name += "-" + strings.NewReplacer("/", "-", ".", "_").Replace(strings.Trim(socket, "/"))
	}
	if sensor.IsBPF(mountedBPF) {
		return mountedBPF + "/" + name
	}
	return sensor.OwnPins + "/" + name
}

// notedPinDirs are the directories that agents with this state directory have pinned in: a changed socket or
// configuration, and a BPF file system that was mounted later, must not make anybody forget one.
func notedPinDirs(stateDir string) stateFile[[]string] {
	return stateFile[[]string]{filepath.Join(stateDir, "pins.json")}
}

// PinDirs lists where an agent of this configuration pins, or has pinned. Of the configuration, only where the
// agent is found needs to be filled in.
func PinDirs(c Config) ([]string, error) {
	if err := c.completePlaces(); err != nil {
		return nil, err
	}
	noted, err := notedPinDirs(c.StateDir).Load()
	if err != nil {
		return nil, err
	}
	return append([]string{c.PinDir}, slices.DeleteFunc(noted, func(dir string) bool { return isSameDir(dir, c.PinDir) })...), nil
}

// isSameDir says whether two names are of one directory.
func isSameDir(one, other string) bool {
	first, err := os.Stat(one)
	if err != nil {
		return one == other
	}
	second, err := os.Stat(other)
	return err == nil && os.SameFile(first, second)
}

// OtherPinDirs lists where else on this machine agents have pinned by default, this configuration aside.
func OtherPinDirs(known []string) []string {
	var others []string
	for _, pattern := range []string{mountedBPF + "/plumbline*", sensor.OwnPins + "/*"} {
		dirs, _ := filepath.Glob(pattern) // the patterns are well formed
		for _, dir := range dirs {
			if entries, err := os.ReadDir(dir); err == nil && len(entries) > 0 && !slices.Contains(known, dir) {
				others = append(others, dir)
			}
		}
	}
	return others
}
