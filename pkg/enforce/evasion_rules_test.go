package enforce_test

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"runtime"
	"slices"
	"strconv"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/features"
	"golang.org/x/sys/unix"

	"github.com/plumbline-io/plumbline/pkg/event"
	"github.com/plumbline-io/plumbline/pkg/sensor"
)

// Rules that deny the secret and the tool by their paths, without any baseline, stop every way to them, or docs/limits.md
// says why not.
func testEvasionsByRules(t *testing.T, w *trial) {
	dir := t.TempDir()
	t.Cleanup(func() { renew(t, dir) }) // nothing is mounted in it
	w.state(t, event.Off, 1, sensor.Protected)
	tool := ruleText("tool", fmt.Sprintf("evt.type = execve and proc.exepath = %q", dir+"/"+toolFile), denying) +
		ruleText("mapped tool", fmt.Sprintf("evt.operation = library and evt.path = %q", dir+"/"+toolFile), denying)
	for name, where := range map[string]string{"path": "evt.path = " + dir + "/" + vaultFile, "directory": "evt.path pmatch (" + dir + "/vault)"} {
		t.Run(name, func(t *testing.T) {
			w.use(t, ruleText("secret", "evt.operation in (read, write) and "+where, denying)+tool)
			var rows []row
			for _, name := range slices.Sorted(maps.Keys(evasions())) {
				if beside(name) == "" {
					t.Run(name, func(t *testing.T) { rows = append(rows, w.evadeRules(t, name, dir)) })
				}
			}
			printTable(t, rows, "why")
		})
	}
}

// beside says why an evasion passes by rules about the secret and the tool; "": it does not.
func beside(name string) string {
	for why, some := range map[string]map[string]evasion{
		"it is about no file":      networkEvasions(),
		"it is about sockets":      socketEvasions(),
		"it is about processes":    processEvasions(),
		"it is about other files":  layerEvasions(),
		"it is about a known file": rememberedEvasions(),
	} {
		if _, ok := some[name]; ok {
			return why
		}
	}
	return map[string]string{
		"change: replace a known file":         "it is about a known file",
		"chroot to where it has a known name":  "it is about a copy of the secret",
		"code in anonymous memory":             "it is no file",
		"exec: after a move to another cgroup": "it leaves the workload",
		"exec: clone3 into another cgroup":     "it leaves the workload",
		"exec: anonymous file":                 "it is a copy of the tool, in memory",
		"exec: copied":                         "it is a copy of the tool",
		"exec: script":                         "it is about a script",
		"handed over from outside":             "nobody in the workload opens it",
		"interpreter":                          "it is about the shell",
		"ld.so":                                "it is about another program",
		"ld.so, which is known":                "it is about another program",
		"LD_PRELOAD":                           "it is about another library",
	}[name]
}

// evadeRules tries an evasion of the rules in force.
func (w *trial) evadeRules(t *testing.T, name, dir string) row {
	e := evasions()[name]
	if e.lacks != nil && e.lacks() != "" {
		t.Skip(e.lacks())
	}
	renew(t, dir)
	e.prepare(t, dir)
	code, by := w.underRules(t, evasionPrefix+name, dir)
	switch unix.Errno(code) {
	case unix.ENOSYS, unix.ENOEXEC, unix.ENODEV, unix.EOPNOTSUPP:
		t.Skip(unix.ErrnoName(unix.Errno(code)))
	}
	want := max(e.code, int(unix.EPERM))
	if code != want && !(e.code == 0 && code == emptyHanded) || by == nil {
		t.Errorf("error number %d, denied by a rule: %t", code, by != nil)
		return row{name, "PASSES", "", ""}
	}
	return row{name, "denied", show([]event.Key{keyOf(*by)}, dir), why(by, dir)}
}

// underRules lets something be done by a workload that has mounted nothing yet, and returns its error number and what was
// told last as denied by a rule.
func (w *trial) underRules(t *testing.T, deed, dir string) (int, *event.Event) {
	t.Helper()
	if err := w.enforcer.Remove(w.scope.Workload, 0); err != nil {
		t.Fatal(err)
	}
	told := w.denials()
	code := w.does.runAlone(t, deed, dir) // what the same process is denied again is only counted
	if w.tally(t).Denied == 0 {
		return code, nil
	}
	w.toldBy(t, told)
	all := w.events.Where(byRule)
	return code, &all[len(all)-1]
}

// why a rule denies what it does not say.
func why(ev *event.Event, dir string) string {
	a := &ev.Access
	switch {
	case ev.Kind == event.ExecCheck && ev.Exec.OtherName:
		return "executed by another name"
	case ev.Kind == event.ExecCheck:
	case a.Reached != "":
		return "reached as " + show([]event.Key{{Op: a.Op, Path: a.Reached}}, dir)
	case a.Renames:
		return "would have another name"
	case a.Replaces:
		return "would be replaced"
	}
	return ""
}

// Rules deny a file by all names that it has, and to give it another one; and nothing else to those who link, rename, mount
// and change their root.
func testOtherNames(t *testing.T, w *trial) {
	dir := t.TempDir()
	t.Cleanup(func() { renew(t, dir) })
	w.state(t, event.Off, 1, sensor.Protected)
	reads := func(where string) string { return ruleText("reads", "evt.operation = read and "+where, denying) }
	writes := func(where string) string { return ruleText("writes", "evt.operation = write and "+where, denying) }
	path, below := "evt.path = "+dir+"/"+vaultFile, "evt.path pmatch ("+dir+"/vault)"
	end := "evt.path endswith /secret"
	deletes := ruleText("deletes", "evt.operation = delete and "+below, denying)
	creates := ruleText("creates", "evt.operation = create and evt.path startswith "+dir+"/vault/new", denying)
	for i, tc := range []struct {
		deed   string
		rules  string
		denied bool
	}{
		{"link a known file", reads(path), false},
		{"rename a known file", reads(below), false},
		{"rename a known directory", reads(below), false},
		{"read by a bind mount", reads(path), false},
		{"read by a bind mount", reads(below), true},
		{"read beside a bind mount", reads(below), false},
		{"read in another root", reads(below), false},
		{"replace the secret", reads(path), false},
		{"replace the secret", writes(path), true},
		{"link into the vault", reads(below), false},
		{"link within the vault", reads(below), false},
		{"link within the vault", reads(path), true},
		{"rename within the vault", reads(below), false},
		{"rename within the vault", reads(path), true},
		{"rename within the vault", reads(end), true},
		{"rename the vault", reads(end), false},
		{"rename the vault", reads("evt.path endswith vault/secret"), true},
		{"rename a directory in the vault", reads(below), false},
		{"rename a directory out of the vault", reads(below), true},
		{"exchange the vault", reads(below), true},
		{"exchange known directories", reads(below), false},
		{"read by the last of many bind mounts", reads(path), features.HaveProgramHelper(ebpf.Kprobe, asm.FnLoop) == nil}, // without it, of 64
		{"read by a bind mount of all", reads(path), true},
		{"read by a moved mount", reads(below), true},
		{"create by a bind mount", creates, true},
		{"read where the mount was taken away", reads("evt.path = " + dir + "/own/secret"), true},
		{"rename a directory out of the vault", deletes, false}, // what it is called is not what is done to it
		{"rename the vault", deletes, true},
	} {
		t.Run(strconv.Itoa(i)+" "+tc.deed, func(t *testing.T) {
			renew(t, dir)
			ownMount(t, dir)
			w.use(t, tc.rules)
			code, by := w.underRules(t, evasionPrefix+tc.deed, dir)
			if tc.denied != (code != 0) || tc.denied != (by != nil) {
				t.Errorf("error number %d, denied by a rule: %t, want %t", code, by != nil, tc.denied)
			}
		})
	}
}

// Rules that deny to get at another process, or at an abstract socket, stop every way to it, too.
func testProcessesByRules(t *testing.T, w *trial) {
	listenAbstract(t)
	dir := t.TempDir()
	t.Cleanup(func() { renew(t, dir) })
	w.state(t, event.Off, 1, sensor.Protected)
	for name, e := range processEvasions() {
		t.Run(name, func(t *testing.T) {
			w.use(t, ruleText("processes", conditionFor(e.about(dir)[0]), denying))
			w.evadeRules(t, name, dir)
		})
	}
}

// What an inode remembers as allowed under another name is asked about again once rules may deny it: no policy has changed
// then.
func testProtectedLater(t *testing.T, w *trial) {
	dir := t.TempDir()
	t.Cleanup(func() { renew(t, dir) })
	renew(t, dir)
	w.use(t, ruleText("reads", "evt.operation = read and evt.path = "+dir+"/vault/secres", denying))
	w.scope.Held = event.Dimensions(0).With(event.DimFile)
	known := event.Key{Op: event.OpRead, Path: dir + "/mnt/secres"}
	if err := w.enforcer.Replace(w.scope.Workload, 102, []event.Key{known, {Op: event.OpMount, Path: dir + "/mnt"}}); err != nil {
		t.Fatal(err)
	}
	before := w.tally(t)
	for i, step := range []struct {
		deed  string
		mode  event.Mode
		flags uint32
		code  int
	}{
		{"read by a bind mount", event.AuditMode, 0, 0},
		{"read what is mounted", event.AuditMode, 0, 0},
		{"read what is mounted", event.Enforce, sensor.Protected, int(unix.EPERM)},
		{"read what is mounted", event.Enforce, 0, 0},
	} {
		w.state(t, step.mode, 102, step.flags)
		if code := w.does.run(t, evasionPrefix+step.deed, dir); code != step.code {
			t.Errorf("step %d, %s: error number %d, want %d", i, step.deed, code, step.code)
		}
	}
	if now := w.tally(t); now.Denied-before.Denied != 1 || now.Audited != before.Audited {
		t.Errorf("from %+v to %+v, want 1 denied", before, now)
	}
}

// ownMount is a file system with a secret.
func ownMount(t *testing.T, dir string) {
	t.Helper()
	if err := errors.Join(os.Mkdir(dir+"/own", 0o755), unix.Mount("none", dir+"/own", "tmpfs", 0, ""), os.WriteFile(dir+"/own/secret", nil, 0o600)); err != nil {
		t.Fatal(err)
	}
}

// readWithoutMount reads the secret of a mount by another one, in a namespace in which the first is gone.
func readWithoutMount(dir string) error {
	runtime.LockOSThread()
	return inOrder(func() error { return unix.Unshare(unix.CLONE_NEWNS) },
		func() error { return unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "") },
		bind(dir, "own", "mnt"),
		func() error { return unix.Unmount(dir+"/own", unix.MNT_DETACH) },
		peeking(dir, "mnt/secret"))
}

// renamings change names, or read by other ones. Rules say whether that is denied.
func renamings() map[string]func(dir string) error {
	do := func(steps ...func(dir string) func() error) func(string) error {
		return func(dir string) error {
			for _, step := range steps {
				if err := step(dir)(); err != nil {
					return err
				}
			}
			return nil
		}
	}
	on := func(move func(dir, from, to string) func() error, from, to string) func(string) func() error {
		return func(dir string) func() error { return move(dir, from, to) }
	}
	peekAt := func(name string) func(string) func() error {
		return func(dir string) func() error { return peeking(dir, name) }
	}
	making := func(name string) func(string) func() error {
		return func(dir string) func() error { return func() error { return unix.Mkdir(dir+"/"+name, 0o755) } }
	}
	exchange := func(dir, from, to string) func() error {
		return func() error {
			return unix.Renameat2(unix.AT_FDCWD, dir+"/"+from, unix.AT_FDCWD, dir+"/"+to, unix.RENAME_EXCHANGE)
		}
	}
	return map[string]func(string) error{
		"link a known file":        do(on(link, knownFile, aliasFile), peekAt(aliasFile)),
		"rename a known file":      do(on(rename, knownFile, aliasFile), peekAt(aliasFile)),
		"rename a known directory": do(on(rename, "open", "moved"), peekAt("moved/known")),
		"read by a bind mount":     do(on(bind, "vault", "mnt"), peekAt("mnt/secres")),
		"read what is mounted":     do(peekAt("mnt/secres")),
		"read beside a bind mount": do(on(bind, "open", "mnt"), peekAt("mnt/known"), peekAt(knownFile)),
		"read in another root": func(dir string) error {
			return inOrder(func() error { return unix.Chroot(dir + "/open") }, func() error { return peek("/known") })
		},
		"replace the secret":                  do(on(rename, knownFile, vaultFile)),
		"link into the vault":                 do(on(link, knownFile, "vault/new")),
		"link within the vault":               do(on(link, vaultFile, "vault/new")),
		"rename within the vault":             do(on(rename, vaultFile, "vault/new")),
		"rename the vault":                    do(on(rename, "vault", "moved")),
		"rename a directory in the vault":     do(making("vault/dir"), on(rename, "vault/dir", "vault/moved")),
		"rename a directory out of the vault": do(making("vault/dir"), on(rename, "vault/dir", "moved")),
		"exchange the vault":                  do(on(exchange, "open", "vault")),
		"exchange known directories":          do(on(exchange, "open", "bin")),
		"read by the last of many bind mounts": func(dir string) error {
			last := ""
			for i := range 100 {
				last = fmt.Sprintf("mnt/%d", i)
				if err := inOrder(func() error { return unix.Mkdir(dir+"/"+last, 0o755) }, bind(dir, "vault", last)); err != nil {
					return err
				}
			}
			return peek(dir + "/" + last + "/secret")
		},
		"read by a bind mount of all": do(on(bind, ".", "mnt"), peekAt("mnt/"+vaultFile)),
		"read by a moved mount": do(making("moved"), on(bind, "vault", "mnt"), on(func(dir, from, to string) func() error {
			return func() error { return unix.Mount(dir+"/"+from, dir+"/"+to, "", unix.MS_MOVE, "") }
		}, "mnt", "moved"), peekAt("moved/secret")),
		"read where the mount was taken away": readWithoutMount,
		"create by a bind mount":              do(on(bind, "vault", "mnt"), making("mnt/new")),
	}
}
