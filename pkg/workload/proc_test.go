package workload

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// TestMain lets the test binary be the program that tests look at: wait until stdin closes.
func TestMain(m *testing.M) {
	if os.Getenv("WORKLOAD_TEST_CHILD") != "" {
		_, _ = os.Stdout.Write([]byte{'\n'})
		_, _ = os.Stdin.Read(make([]byte, 1))
		return
	}
	os.Exit(m.Run())
}

// child starts this binary again and waits until it runs.
func child(t *testing.T, change func(*exec.Cmd)) uint32 {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", "a b", "", "c\nd")
	cmd.Env = []string{"WORKLOAD_TEST_CHILD=1"}
	if change != nil {
		change(cmd)
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Skipf("start child: %v", err)
	}
	t.Cleanup(func() {
		_ = in.Close()
		_ = cmd.Wait()
	})
	if _, err := out.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	return uint32(cmd.Process.Pid)
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
}

// A baseline holds paths as the process's root sees them, which is what the kernel side reports.
func TestReadInChroot(t *testing.T) {
	needRoot(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	root := t.TempDir()
	if err := os.Mkdir(filepath.Join(root, "work"), 0o755); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, "app"), data, 0o755); err != nil {
		t.Fatal(err)
	}
	pid := child(t, func(cmd *exec.Cmd) {
		cmd.Path, cmd.Dir = "/app", "/work"
		cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: root}
	})
	p, err := NewProc("").Read(pid)
	if err != nil {
		t.Fatal(err)
	}
	if p.Exe != "/app" || p.Cwd != "/work" {
		t.Errorf("%+v", p)
	}
}

func TestReadFacts(t *testing.T) {
	needRoot(t)
	pid := child(t, func(cmd *exec.Cmd) {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	})
	p, err := NewProc("").Read(pid)
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if p.UID != 65534 || p.Exe != self || p.PPID != uint32(os.Getpid()) || p.Args != "/proc/self/exe a b  c\nd" {
		t.Errorf("%+v", p)
	}
	mine, err := NewProc("").Read(uint32(os.Getpid()))
	if err != nil || mine.Start == 0 || mine.Start > p.Start {
		t.Errorf("we began at %d, our child at %d, %v", mine.Start, p.Start, err)
	}
}

func TestReadDeleted(t *testing.T) {
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "app")
	if err := os.WriteFile(file, self, 0o755); err != nil {
		t.Fatal(err)
	}
	pid := child(t, func(cmd *exec.Cmd) { cmd.Path = file })
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	p, err := NewProc("").Read(pid)
	if err != nil || p.Exe != file || !p.Deleted {
		t.Errorf("%+v, %v", p, err)
	}
	images, err := NewProc("").Images(pid)
	if err != nil || images[0].Size != int64(len(self)) {
		t.Errorf("%+v, %v", images, err)
	}
}

// A kernel thread has no executable; there is one wherever we see all processes.
func TestReadKernelThread(t *testing.T) {
	p, err := NewProc("").Read(2)
	if err != nil || p.Comm != "kthreadd" {
		t.Skipf("no kthreadd: %+v, %v", p, err)
	}
	if p.Exe != "" || p.Args != "" || p.UID != 0 {
		t.Errorf("%+v", p)
	}
	if images, err := NewProc("").Images(2); err == nil {
		t.Errorf("%+v", images)
	}
}

// The libraries of a container come from an overlay whose layers may be on several file systems.
func TestImagesOnOverlay(t *testing.T) {
	needRoot(t)
	pid, lib := overlayChild(t)
	images, err := NewProc("").Images(pid)
	if err != nil {
		t.Fatal(err)
	}
	for _, img := range images {
		if img.Name != lib {
			continue
		}
		got, err := os.ReadFile(img.File)
		want, wantErr := os.ReadFile(images[0].File)
		if err != nil || wantErr != nil || len(got) == 0 || len(want) == 0 {
			t.Errorf("read %+v: %v, %v", img, err, wantErr)
		}
		return
	}
	t.Errorf("no %s in %+v", lib, images)
}

// overlayChild runs sleep from an overlay, in a mount namespace of its own, with a copy of libc there.
func overlayChild(t *testing.T) (pid uint32, lib string) {
	t.Helper()
	dir := t.TempDir()
	script := `set -e
mount --make-rprivate /
mount -t tmpfs none ` + dir + `
cd ` + dir + `
mkdir lower up top
cp /bin/sleep lower/
cp "$(ldd /bin/sleep | awk '/libc\.so/ { print $3 }')" lower/libc.so.6
mount -t tmpfs none up
mkdir up/upper up/work
mount -t overlay -o lowerdir=lower,upperdir=up/upper,workdir=up/work none top
echo
LD_LIBRARY_PATH=$PWD/top exec top/sleep 60`
	cmd := exec.Command("/bin/sh", "-c", script)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Skipf("no mount namespace: %v", err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	if _, err := out.Read(make([]byte, 1)); err != nil {
		t.Skip("cannot mount an overlay here")
	}
	pid = uint32(cmd.Process.Pid)
	lib = filepath.Join(dir, "top/libc.so.6")
	for { // until the loader has mapped it
		maps, err := os.ReadFile("/proc/" + strconv.Itoa(int(pid)) + "/maps")
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(maps), lib) {
			return pid, lib
		}
	}
}

// fakeProc is a proc tree with one process, 7, whose files a test may replace.
func fakeProc(t *testing.T) (Proc, string) {
	t.Helper()
	dir := t.TempDir()
	p := filepath.Join(dir, "7")
	for _, d := range []string{p, filepath.Join(p, "root"), filepath.Join(p, "root/usr")} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range map[string]string{
		"stat":         "7 (a) S 1 6 5 -2147448832 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 99 0 0",
		"status":       "Name:\ta\\nUid:\t0\nUmask:\t0022\nUid:\t5\t6\t7\t8\nNStgid:\t7\t3\t1\nNSpid:\t7\t3\t1\n",
		"cmdline":      strings.Repeat("x", 5000),
		"exe":          "program",
		"root/usr/lib": "library",
	} {
		if err := os.WriteFile(filepath.Join(p, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return NewProc(dir), p
}

func TestReadBounds(t *testing.T) {
	proc, _ := fakeProc(t)
	p, err := proc.Read(7)
	if err != nil || len(p.Args) != maxArgs || p.UID != 5 {
		t.Errorf("%d bytes of arguments, uid %d, %v", len(p.Args), p.UID, err)
	}
	if p.VPID != 1 || p.Group != 6 || p.Session != 5 || p.TTY != 0x80008800 { // field 7 is signed
		t.Errorf("%+v", p)
	}
}

// Without pid namespaces there is no other number.
func TestReadWithoutNamespaces(t *testing.T) {
	proc, dir := fakeProc(t)
	writeFile(t, filepath.Join(dir, "status"), "Name:\ta\nUid:\t5\t6\t7\t8\n")
	if p, err := proc.Read(7); err != nil || p.VPID != 7 {
		t.Errorf("%+v, %v", p, err)
	}
}

func TestReadGarbage(t *testing.T) {
	for name, tc := range map[string]struct{ file, text string }{
		"no name":       {"stat", "7 S 1"},
		"too short":     {"stat", "7 (a) S 1 7 7"},
		"start":         {"stat", "7 (a) S 1 7 7 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 -9 0 0"},
		"session":       {"stat", "7 (a) S 1 7 x 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 9 0 0"},
		"terminal":      {"stat", "7 (a) S 1 7 7 99999999999 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 9 0 0"},
		"inner number":  {"status", "Name:\ta\nUid:\t5\t6\t7\t8\nNStgid:\t7\tx\n"},
		"no uid":        {"status", "Name:\ta\n"},
		"uid no number": {"status", "Name:\ta\nUid:\tx\t0\n"},
	} {
		t.Run(name, func(t *testing.T) {
			proc, dir := fakeProc(t)
			if err := os.WriteFile(filepath.Join(dir, tc.file), []byte(tc.text), 0o644); err != nil {
				t.Fatal(err)
			}
			if p, err := proc.Read(7); err == nil || errors.Is(err, ErrGone) {
				t.Errorf("got %.200v, %v", p, err)
			}
		})
	}
}

// Where map_files may not be read, the mapping's path is taken, if the same file is there.
func TestImagesWithoutMapFiles(t *testing.T) {
	proc, dir := fakeProc(t)
	if err := os.Rename(filepath.Join(dir, "exe"), filepath.Join(dir, "root/usr/app")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(dir, "root/usr/app"), filepath.Join(dir, "exe")); err != nil {
		t.Fatal(err)
	}
	// A file instead of the directory: an error that is neither "no such file" nor success.
	if err := os.WriteFile(filepath.Join(dir, "map_files"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(filepath.Join(dir, "root/usr/lib"))
	if err != nil {
		t.Fatal(err)
	}
	inode := strconv.FormatUint(info.Sys().(*syscall.Stat_t).Ino, 10)
	maps := "1000-2000 r-xp 0 08:01 " + inode + "   /usr/lib\n" +
		"2000-3000 r-xp 0 08:01 " + inode + "   /usr/lib\n" + // again
		"3000-4000 r-xp 0 08:01 1   /usr/lib\n" + // another file had this name
		"4000-5000 r--p 0 08:01 2   /usr/data\n" +
		"5000-6000 r-xp 0 00:00 0   [vdso]\n" +
		"garbage\n"
	if err := os.WriteFile(filepath.Join(dir, "maps"), []byte(maps), 0o644); err != nil {
		t.Fatal(err)
	}
	images, err := proc.Images(7)
	if err != nil || len(images) != 2 || images[1].Name != "/usr/lib" || images[1].Size != int64(len("library")) {
		t.Errorf("got %+v, %v", images, err)
	}
}

func TestRSS(t *testing.T) {
	if rss := NewProc("").RSS(); rss < 1<<20 || rss > 1<<32 {
		t.Errorf("%d bytes", rss)
	}
	if rss := NewProc(t.TempDir()).RSS(); rss != 0 {
		t.Errorf("%d bytes without proc", rss)
	}
}

func BenchmarkRead(b *testing.B) {
	b.ReportAllocs()
	proc, pid := NewProc(""), uint32(os.Getpid())
	for b.Loop() {
		if _, err := proc.Read(pid); err != nil {
			b.Fatal(err)
		}
	}
}
