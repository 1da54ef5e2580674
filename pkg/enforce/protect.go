package enforce

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/plumbline-io/plumbline/pkg/sensor"
)

// ForEver is also after the end of who protects himself.
const ForEver uint64 = math.MaxUint64

// Protect keeps containers from what this process has in the kernel now: its maps, programs and links, and the
// directory of its pins, if it has one. Whoever is no container is let alone. The error says what is not protected.
// Until is as in ProtectUntil.
func (e *Enforcer) Protect(pinDir string, until uint64) error {
	objects, err := ownObjects()
	if err != nil {
		return fmt.Errorf("protect the agent: %w", err)
	}
	for _, o := range objects {
		if err := e.maps.OwnObjects.Put(o, uint8(1)); err != nil {
			return fmt.Errorf("protect the agent: write map of own objects: %w", err)
		}
	}
	if err := e.ProtectUntil(until); err != nil {
		return err
	}
	if missing := e.unprotected(); missing != "" {
		err = fmt.Errorf("protect the agent: %w: %s", sensor.ErrNotSupported, missing)
	}
	if pinDir == "" {
		return err
	}
	var dir unix.Stat_t
	if failed := unix.Stat(pinDir, &dir); failed != nil {
		return errors.Join(err, fmt.Errorf("protect pins in %s: %w", pinDir, failed))
	}
	const minorBits = 20 // of the kernel's own device numbers
	device := unix.Major(dir.Dev)<<minorBits | unix.Minor(dir.Dev)
	if failed := errors.Join(e.pinsDevice.Set(device), e.pinsInode.Set(dir.Ino)); failed != nil {
		return errors.Join(err, fmt.Errorf("protect pins in %s: %w", pinDir, failed))
	}
	return err
}

// hostPIDs is the inode of the host's pid namespace: PROC_PID_INIT_INO of include/linux/proc_ns.h.
const hostPIDs = 0xeffffffc

// Unseen says why the kernel would not see the end of this process, as it has to with Config.InContainer; empty: it would.
func (e *Enforcer) Unseen() string {
	var pids unix.Stat_t
	if err := unix.Stat("/proc/self/ns/pid", &pids); err != nil || pids.Ino != hostPIDs {
		return "its pid namespace is not the host's"
	}
	if !slices.ContainsFunc(e.links, func(l attached) bool { return l.program == exitProgram }) {
		return cmp.Or(e.unprotected(), "no hook "+exitHook)
	}
	return ""
}

// ProtectUntil lets the protection end at this time of CLOCK_MONOTONIC, in nanoseconds; 0: now. With Config.InContainer it
// ends with this process, if that is earlier.
func (e *Enforcer) ProtectUntil(until uint64) error {
	if err := e.protected.Set(until); err != nil {
		return fmt.Errorf("protect the agent: set its end: %w", err)
	}
	return nil
}

// unprotected names what this kernel lacks to keep containers from the agent; empty: nothing.
func (e *Enforcer) unprotected() string {
	var missing []string
	for _, name := range []string{"task_kill", "file_send_sigiotask", "ptrace_access_check", "bpf", "bpf_map", "bpf_prog", "path_unlink"} {
		if !e.hasHook(name) {
			missing = append(missing, name)
		}
	}
	if missing == nil {
		return ""
	}
	return "no hook " + strings.Join(missing, ", ")
}

// ownObjects lists the maps, programs and links that this process has a descriptor for, and the maps of these programs.
func ownObjects() ([]bpfObjectKey, error) {
	files, err := os.ReadDir("/proc/self/fdinfo")
	if err != nil {
		return nil, fmt.Errorf("list own descriptors: %w", err)
	}
	seen := map[bpfObjectKey]bool{}
	for _, f := range files {
		text, err := os.ReadFile("/proc/self/fdinfo/" + f.Name())
		if err != nil {
			continue // closed meanwhile, as that of the listing is
		}
		for line := range strings.Lines(string(text)) {
			name, value, _ := strings.Cut(line, ":")
			kind, ok := map[string]bpfObjectKind{
				"map_id": bpfObjectKindOBJECT_MAP, "prog_id": bpfObjectKindOBJECT_PROGRAM, "link_id": bpfObjectKindOBJECT_LINK,
			}[name]
			id, err := strconv.ParseUint(strings.TrimSpace(value), 10, 32)
			if ok && err == nil {
				seen[bpfObjectKey{Kind: kind, Id: uint32(id)}] = true
			}
		}
	}
	var all []bpfObjectKey
	for o := range seen {
		all = append(all, o)
		if o.Kind != bpfObjectKindOBJECT_PROGRAM {
			continue
		}
		maps, err := mapsOf(ebpf.ProgramID(o.Id))
		if err != nil {
			return nil, err
		}
		for _, id := range maps {
			all = append(all, bpfObjectKey{Kind: bpfObjectKindOBJECT_MAP, Id: uint32(id)})
		}
	}
	return all, nil
}

func mapsOf(id ebpf.ProgramID) ([]ebpf.MapID, error) {
	program, err := ebpf.NewProgramFromID(id)
	if err != nil {
		return nil, fmt.Errorf("open program %d: %w", id, err)
	}
	defer program.Close()
	info, err := program.Info()
	if err != nil {
		return nil, fmt.Errorf("read about program %d: %w", id, err)
	}
	maps, _ := info.MapIDs()
	return maps, nil
}
