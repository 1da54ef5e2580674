package workload

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// cgroupForTest makes a cgroup, in the version 2 tree if there is one, and removes it with all that is
// below.
func cgroupForTest(t *testing.T) (*Hierarchy, string) {
	t.Helper()
	mounts, err := readMounts("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(mounts, func(m mount) bool { return m.version2 })
	if i < 0 {
		i = slices.IndexFunc(mounts, func(m mount) bool { return slices.Contains(m.controllers, "pids") })
	}
	if i < 0 || os.Getuid() != 0 {
		t.Skip("needs root and a cgroup hierarchy")
	}
	dir, err := os.MkdirTemp(mounts[i].dir, "plumbline-test-")
	if err != nil {
		t.Skipf("needs a writable cgroup hierarchy: %v", err)
	}
	t.Cleanup(func() { removeCgroup(t, dir) })
	h, err := Detect(Config{Scope: dir})
	if err != nil {
		t.Fatal(err)
	}
	if (h.Controller == "") != mounts[i].version2 || (h.ID == 0) != mounts[i].version2 || h.Mount != mounts[i].dir {
		t.Fatalf("got %+v, want %+v", h, mounts[i])
	}
	return h, dir
}

// removeCgroup works with relative names: the tree may be deeper than a path can be long.
func removeCgroup(t *testing.T, dir string) {
	parent, err := unix.Open(filepath.Dir(dir), unix.O_DIRECTORY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(parent)
	if err := removeBelow(parent, filepath.Base(dir)); err != nil {
		t.Errorf("remove %s: %v", dir, err)
	}
}

func removeBelow(parent int, name string) error {
	fd, err := unix.Openat(parent, name, unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), name)
	entries, err := f.ReadDir(-1)
	for _, e := range entries {
		if e.IsDir() {
			err = errors.Join(err, removeBelow(fd, e.Name()))
		}
	}
	return errors.Join(err, f.Close(), unix.Unlinkat(parent, name, unix.AT_REMOVEDIR))
}

func TestWalk(t *testing.T) {
	h, dir := cgroupForTest(t)
	inner := filepath.Join(dir, "a", "web.service")
	hostile := filepath.Join(dir, "x\x1b[2Jy \\ \xff") // the kernel refuses newlines only
	for _, d := range []string{inner, hostile} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	nodes, err := h.Walk(dir)
	if err != nil {
		t.Fatal(err)
	}
	var dirs []string
	for _, n := range nodes {
		dirs = append(dirs, n.Dir)
		if n.Path != strings.TrimPrefix(n.Dir, h.Mount) {
			t.Errorf("path %q of %q", n.Path, n.Dir)
		}
		if id := handleID(t, n.Dir); n.ID != id {
			t.Errorf("%s: id %d, its file handle says %d", n.Path, n.ID, id)
		}
	}
	if want := []string{dir, filepath.Join(dir, "a"), inner, hostile}; !slices.Equal(dirs, want) {
		t.Errorf("got %q, want %q", dirs, want)
	}
}

// handleID asks the kernel for a cgroup's id in the way that it documents for BPF programs.
func handleID(t *testing.T, dir string) uint64 {
	t.Helper()
	handle, _, err := unix.NameToHandleAt(unix.AT_FDCWD, dir, 0)
	if err != nil {
		t.Fatal(err)
	}
	var id uint64
	for i, b := range handle.Bytes() {
		id |= uint64(b) << (8 * i)
	}
	return id
}

// The root of every hierarchy has the id 1, in version 1 too.
func TestNodeOfEveryMount(t *testing.T) {
	mounts, err := readMounts("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range mounts {
		if !m.whole() {
			continue
		}
		h := Hierarchy{Mount: m.dir, root: m.root}
		n, err := h.Node(m.dir)
		if err != nil {
			t.Fatal(err)
		}
		if n.Path != "/" || n.ID != handleID(t, m.dir) {
			t.Errorf("%s: %+v", m.dir, n)
		}
	}
}

// Who may make cgroups can nest them deeper than a path can be long. That must not stop the agent.
func TestWalkBeyondPathLimit(t *testing.T) {
	h, dir := cgroupForTest(t)
	name := strings.Repeat("d", 250)
	fd, err := unix.Open(dir, unix.O_DIRECTORY, 0)
	if err != nil {
		t.Fatal(err)
	}
	const levels = 19 // 19 * 251 > 4096
	for range levels {
		if err := unix.Mkdirat(fd, name, 0o755); err != nil {
			t.Fatal(err)
		}
		next, err := unix.Openat(fd, name, unix.O_DIRECTORY, 0)
		if err != nil {
			t.Fatal(err)
		}
		unix.Close(fd)
		fd = next
	}
	unix.Close(fd)
	if err := os.Mkdir(filepath.Join(dir, "z"), 0o755); err != nil {
		t.Fatal(err)
	}
	nodes, err := h.Walk(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(nodes) < 15 || nodes[len(nodes)-1].Dir != filepath.Join(dir, "z") {
		t.Errorf("%d cgroups, the last %q", len(nodes), nodes[len(nodes)-1].Dir)
	}
}

func TestWalkErrors(t *testing.T) {
	h, dir := cgroupForTest(t)
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct{ dir, want string }{
		"none":              {filepath.Join(dir, "none"), "no such file"},
		"a file":            {filepath.Join(dir, "cgroup.procs"), "is no directory"},
		"outside":           {"/proc", "not below"},
		"a link from there": {link, "not below"},
	} {
		t.Run(name, func(t *testing.T) {
			if nodes, err := h.Walk(tc.dir); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %d cgroups, %v, want %q", len(nodes), err, tc.want)
			}
		})
	}
}

func TestProcesses(t *testing.T) {
	h, dir := cgroupForTest(t)
	cmd := exec.Command("/bin/sleep", "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stop := func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
	t.Cleanup(stop) // before the cgroup is removed
	procs := filepath.Join(dir, "cgroup.procs")
	if err := os.WriteFile(procs, []byte(strconv.Itoa(cmd.Process.Pid)), 0); err != nil {
		t.Fatal(err)
	}
	n, err := h.Node(dir)
	if err != nil {
		t.Fatal(err)
	}
	pids, err := n.Processes()
	if err != nil || !slices.Equal(pids, []uint32{uint32(cmd.Process.Pid)}) {
		t.Errorf("got %v, %v, want %d", pids, err, cmd.Process.Pid)
	}
	if pids, err := (Node{Dir: filepath.Join(dir, "none")}).Processes(); err != nil || len(pids) != 0 {
		t.Errorf("of a removed cgroup: %v, %v", pids, err)
	}
	if _, err := h.Node(filepath.Join(dir, "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("node of a removed cgroup: %v", err)
	}
}

// A mount may show a part of the tree only: in a container, or with a bind mount.
func TestPathOfPartialMount(t *testing.T) {
	for name, tc := range map[string]struct{ root, dir, want string }{
		"whole":     {"/", "/m/x", "/x"},
		"part":      {"/docker/a", "/m/x", "/docker/a/x"},
		"its top":   {"/docker/a", "/m", "/docker/a"},
		"namespace": {"/../../..", "/m/kubepods", "/kubepods"},
	} {
		t.Run(name, func(t *testing.T) {
			proc := t.TempDir()
			if err := os.Mkdir(filepath.Join(proc, "self"), 0o755); err != nil {
				t.Fatal(err)
			}
			line := "30 23 0:26 " + tc.root + " /m rw - cgroup2 cgroup2 rw\n"
			if err := os.WriteFile(filepath.Join(proc, "self/mountinfo"), []byte(line), 0o600); err != nil {
				t.Fatal(err)
			}
			h, err := Detect(Config{Proc: proc})
			if err != nil {
				t.Fatal(err)
			}
			if got, err := h.path(tc.dir); err != nil || got != tc.want {
				t.Errorf("got %q, %v, want %q", got, err, tc.want)
			}
		})
	}
}

func FuzzMountinfo(f *testing.F) {
	f.Add(pidsLine)
	f.Add("30 23 0:26 /../.. /a\\040b rw - cgroup2 cgroup2 rw\n")
	file := filepath.Join(f.TempDir(), "mountinfo")
	f.Fuzz(func(t *testing.T, text string) {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		mounts, err := readMounts(file)
		if err != nil {
			return
		}
		for _, m := range mounts {
			if !strings.HasPrefix(m.root, "/") || strings.Contains(m.root, "/../") {
				t.Errorf("%+v", m)
			}
		}
		_, _, _, _ = choose(mounts, "")
		_, _, _, _ = choose(mounts, "/a b/c")
	})
}
