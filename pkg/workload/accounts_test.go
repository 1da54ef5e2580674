package workload

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestParsePasswd(t *testing.T) {
	got := parsePasswd([]byte("root:x:0:0:root:/root:/bin/sh\n# nobody\nbad line\n:x:7:7:::\n" +
		"web:x:33:33:a,b:/var/www:/usr/sbin/nologin\r\ntoor:x:0:0::/:/bin/x\nbig:x:4294967296:0:::\nlast:x:4294967294:0::/l:"))
	want := map[uint32]Account{
		0: {"root", "/root", "/bin/sh"}, 33: {"web", "/var/www", "/usr/sbin/nologin"}, 4294967294: {"last", "/l", ""},
	}
	if !maps.Equal(got, want) {
		t.Errorf("%v", got)
	}
	groups := parseGroup([]byte("root:x:0:\nadm:x:4:a,b\nno:x\n"))
	if want := map[uint32]string{0: "root", 4: "adm"}; !maps.Equal(groups, want) {
		t.Errorf("%v", groups)
	}
	var many strings.Builder
	for i := range 2 * maxAccounts {
		fmt.Fprintf(&many, "u%d:x:%d:0:::\n", i, i)
	}
	if got := parsePasswd([]byte(many.String())); len(got) != maxAccounts {
		t.Errorf("%d accounts", len(got))
	}
}

func TestMapID(t *testing.T) {
	ranges, err := parseIDMap([]byte("         0     100000      65536\n     70000       1000          1\n"))
	if err != nil {
		t.Fatal(err)
	}
	for id, want := range map[uint32]int64{100000: 0, 165535: 65535, 165536: -1, 99999: -1, 0: -1, 1000: 70000, 4294967295: -1} {
		got, ok := mapID(ranges, id)
		if ok != (want >= 0) || ok && int64(got) != want {
			t.Errorf("%d is %d, %t, want %d", id, got, ok, want)
		}
	}
	if _, err := parseIDMap([]byte("a b c\n")); err == nil {
		t.Error("letters are taken for ids")
	}
}

func TestRootType(t *testing.T) {
	for name, tc := range map[string]struct {
		mounts, want string
		local        bool
	}{
		"overlay": {"600 500 0:50 / / rw,relatime master:1 - overlay overlay rw\n601 600 0:51 / /proc rw - proc proc rw\n", "overlay", true},
		"on top":  {"1 1 0:1 / / rw - rootfs rootfs rw\n20 1 8:1 / / rw - fuse.sshfs x rw\n", "fuse.sshfs", false},
		"below":   {"600 500 0:50 / /x rw - ext4 a rw\n", "", false},
		"cut":     {"600 500 0:50 / /", "", false},
		"nfs":     {"600 500 0:50 / / rw - nfs4 s:/x rw\n", "nfs4", false},
	} {
		if got := rootType([]byte(tc.mounts)); got != tc.want || isLocal(got) != tc.local {
			t.Errorf("%s: %q, local %t", name, got, isLocal(got))
		}
	}
}

// Whatever lies at the name, nothing outside of the root is read, and nothing is waited for.
func TestHostileRoot(t *testing.T) {
	outside := t.TempDir()
	writeFile(t, filepath.Join(outside, "passwd"), "evil:x:0:0:::\n")
	for name, tc := range map[string]struct {
		make func(t *testing.T, etc string)
		want string // content, or the error
	}{
		"a file":      {func(t *testing.T, etc string) { writeFile(t, etc+"/passwd", "in") }, "in"},
		"nothing":     {func(*testing.T, string) {}, ""},
		"a pipe":      {func(t *testing.T, etc string) { check(t, unix.Mkfifo(etc+"/passwd", 0o644)) }, "open etc/passwd: it is no regular file"},
		"a directory": {func(t *testing.T, etc string) { check(t, os.Mkdir(etc+"/passwd", 0o755)) }, "open etc/passwd: it is no regular file"},
		"a link out":  {func(t *testing.T, etc string) { check(t, os.Symlink(outside+"/passwd", etc+"/passwd")) }, ""},
		"dots": {func(t *testing.T, etc string) {
			check(t, os.Symlink("../../../../../.."+outside+"/passwd", etc+"/passwd"))
		}, ""},
		"a link to /proc": {func(t *testing.T, etc string) { check(t, os.Symlink("/proc/self/root/etc/passwd", etc+"/passwd")) }, ""},
		"a circle":        {func(t *testing.T, etc string) { check(t, os.Symlink("passwd", etc+"/passwd")) }, "open etc/passwd: too many levels of symbolic links"},
		"an absolute link within": {func(t *testing.T, etc string) {
			writeFile(t, filepath.Dir(etc)+"/passwd", "moved")
			check(t, os.Symlink("/passwd", etc+"/passwd"))
		}, "moved"},
		"a large file": {func(t *testing.T, etc string) {
			writeFile(t, etc+"/passwd", "")
			check(t, os.Truncate(etc+"/passwd", maxAccountBytes+1))
		}, "read etc/passwd: more than 65536 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			check(t, os.Mkdir(dir+"/etc", 0o755))
			tc.make(t, dir+"/etc")
			root, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
			check(t, err)
			defer unix.Close(root)
			got := ""
			var v fileVersion
			if err := v.read(root, "etc/passwd", func(data []byte) { got = string(data) }); err != nil {
				got += err.Error()
			}
			if got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func writeFile(t *testing.T, path, text string) {
	t.Helper()
	check(t, os.WriteFile(path, []byte(text), 0o644))
}

// A container is a process with a root of its own; its names come from there, and follow its files.
func TestAccountsOfContainer(t *testing.T) {
	needRoot(t)
	root := t.TempDir()
	if err := unix.Mount("tmpfs", root, "tmpfs", 0, "size=1m"); err != nil {
		t.Skipf("mount a root: %v", err)
	}
	t.Cleanup(func() { check(t, unix.Unmount(root, unix.MNT_DETACH)) })
	check(t, os.Mkdir(root+"/etc", 0o755))
	check(t, os.Mkdir(root+"/proc", 0o755))
	writeFile(t, root+"/etc/passwd", "app:x:1000:1000::/srv:/bin/app\n")
	writeFile(t, root+"/etc/group", "apps:x:1000:\n")
	pid := child(t, func(cmd *exec.Cmd) {
		// The program is opened before the root changes.
		self, err := os.Open("/proc/self/exe")
		check(t, err)
		data, err := os.ReadFile(self.Name())
		check(t, err)
		check(t, self.Close())
		check(t, unix.Mount("tmpfs", root+"/proc", "tmpfs", 0, "size=64m"))
		check(t, os.WriteFile(root+"/proc/app", data, 0o755))
		cmd.Path, cmd.SysProcAttr = "/proc/app", &syscall.SysProcAttr{Chroot: root}
	})
	oldest := pid
	a := NewAccounts(NewProc(""), func(string) (uint32, bool) { return oldest, oldest != 0 })
	p := Actor{PID: pid, ContainerID: "c", Now: 1}
	if got, ok := a.User(p, 1000); !ok || got != (Account{"app", "/srv", "/bin/app"}) {
		t.Errorf("%+v, %t", got, ok)
	}
	if got, ok := a.Group(p, 1000); !ok || got != "apps" {
		t.Errorf("%q, %t", got, ok)
	}
	if got, ok := a.User(p, 0); ok {
		t.Errorf("the host's root is %+v in there", got)
	}

	// A change is seen after a while, and nothing is allocated in between.
	writeFile(t, root+"/etc/passwd", "renamed:x:1000:1000::/srv:/bin/app\n")
	if got, _ := a.User(p, 1000); got.Name != "app" {
		t.Errorf("at once: %+v", got)
	}
	if n := testing.AllocsPerRun(100, func() { a.User(p, 1000) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
	p.Now += uint64(accountAge)
	if got, _ := a.User(p, 1000); got.Name != "renamed" {
		t.Errorf("later: %+v", got)
	}

	// What becomes unreadable stays known, and is counted.
	check(t, os.Remove(root+"/etc/passwd"))
	check(t, unix.Mkfifo(root+"/etc/passwd", 0o644))
	p.Now += uint64(accountAge)
	if got, _ := a.User(p, 1000); got.Name != "renamed" || a.Unread() != 1 {
		t.Errorf("with a pipe: %+v, %d unread", got, a.Unread())
	}

	// A process that is another one by now is not asked.
	oldest = 0
	if _, ok := a.User(Actor{PID: pid, Start: 1, ContainerID: "d", Now: 1}, 1000); ok || a.Unread() != 1 {
		t.Errorf("another process's names are taken, %d unread", a.Unread())
	}
}

func TestAccountTablesAreBounded(t *testing.T) {
	a := NewAccounts(NewProc(t.TempDir()), func(string) (uint32, bool) { return 0, false })
	for i := range 3 * maxTables {
		a.User(Actor{PID: 1, ContainerID: fmt.Sprint(i), Now: uint64(time.Second)}, 0)
	}
	if len(a.tables) != maxTables || len(a.order) != maxTables {
		t.Errorf("%d tables, %d in order", len(a.tables), len(a.order))
	}
}

func TestSession(t *testing.T) {
	proc := NewProc("")
	me, err := proc.Read(uint32(os.Getpid()))
	check(t, err)
	s, err := proc.Session(me.PID, me.Start)
	if err != nil || int(s.GID) != os.Getgid() {
		t.Errorf("%+v, %v", s, err)
	}
	if _, err := proc.Session(me.PID, me.Start+1); err == nil {
		t.Error("another process is taken for it")
	}
	dir := t.TempDir()
	check(t, os.Mkdir(dir+"/7", 0o755))
	writeFile(t, dir+"/7/stat", "7 (x) S 1 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 42 0")
	writeFile(t, dir+"/7/status", "Name:\tx\nUid:\t0\t0\t0\t0\nGid:\t5\t6\t7\t8\n")
	for text, want := range map[string]Session{"1000": {5, 1000, true}, "4294967295": {5, 4294967295, false}, "": {GID: 5}} {
		writeFile(t, dir+"/7/loginuid", text)
		if s, err := NewProc(dir).Session(7, 42); err != nil || s != want {
			t.Errorf("%q: %+v, %v, want %+v", text, s, err, want)
		}
	}
}

func FuzzParsePasswd(f *testing.F) {
	f.Add([]byte("root:x:0:0:root:/root:/bin/sh\n"))
	f.Add([]byte("0 100000 65536\n"))
	f.Add([]byte("600 500 0:50 / / rw,relatime master:1 - overlay overlay rw\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if users := parsePasswd(data); len(users) > maxAccounts {
			t.Errorf("%d users", len(users))
		}
		if groups := parseGroup(data); len(groups) > maxAccounts {
			t.Errorf("%d groups", len(groups))
		}
		if ranges, err := parseIDMap(data); err == nil {
			mapID(ranges, 1000)
		}
		rootType(data)
	})
}
