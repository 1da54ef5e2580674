package rule

import (
	"testing"

	"github.com/plumbline-io/plumbline/pkg/event"
)

// detailedAccess is an operation whose call told more than the key.
func detailedAccess(op event.Operation, path string, detail uint32, said string) *Env {
	e := access(event.Key{Op: op, Path: path})
	a := &e.Event.Access
	a.Detailed, a.Said = true, said
	if op == event.OpRead || op == event.OpWrite {
		a.OpenFlags = detail
	} else {
		a.Mode = detail
	}
	return e
}

func TestArgumentFields(t *testing.T) {
	setuid := access(event.Key{Op: event.OpSetuid, Value: 1000})
	for name, tc := range map[string]struct {
		env  *Env
		want map[string]bool
	}{
		"truncate": {detailedAccess(event.OpWrite, "/etc/x", 0o1001, "../etc/./x"), map[string]bool{
			`fd.nameraw = "../etc/./x" and fd.nameraw contains ../ and fd.name = /etc/x`: true,
			`evt.arg.flags = "O_TRUNC|O_WRONLY" and evt.is_open_exec = false`:            true,
			`evt.args = "name=/etc/x flags=O_TRUNC|O_WRONLY"`:                            true,
			`evt.arg.mode exists or evt.arg.target exists or evt.arg.linkpath exists`:    false,
		}},
		"all flags": {detailedAccess(event.OpWrite, "/x", 0o6017302, "x"), map[string]bool{
			`evt.arg.flags = "O_TRUNC|O_SYNC|O_NONBLOCK|O_EXCL|O_DSYNC|O_APPEND|O_CREAT|O_RDWR|O_CLOEXEC"`: true,
		}},
		"read":    {detailedAccess(event.OpRead, "/x", 0o100000, ""), map[string]bool{`evt.arg.flags = O_RDONLY and not fd.nameraw exists`: true}},
		"program": {detailedAccess(event.OpCreate, "/x", 0o100755, ""), map[string]bool{`evt.is_open_exec = true and evt.arg.mode = 0755 and evt.type = openat`: true}},
		"file":    {detailedAccess(event.OpCreate, "/x", 0o100644, ""), map[string]bool{`evt.is_open_exec = false and evt.is_open_write = true`: true}},
		"device":  {detailedAccess(event.OpCreate, "/x", 0o020755, ""), map[string]bool{`evt.is_open_exec = false`: true}},
		"directory": {detailedAccess(event.OpCreate, "/x/y", 0o040755, ""), map[string]bool{
			`evt.type in (mkdir, mkdirat) and evt.arg.mode = 0755 and evt.arg.path = /x/y and evt.operation = create`: true,
			`evt.is_open_write exists or fd.name exists or fd.directory exists or evt.is_open_exec exists`:            false,
		}},
		"link": {detailedAccess(event.OpCreate, "/tmp/y", 0o120777, "/etc/shadow"), map[string]bool{
			`evt.type in (symlink, symlinkat) and evt.arg.target = /etc/shadow and evt.arg.linkpath = /tmp/y`: true,
			`evt.args = "name=/tmp/y linkpath=/tmp/y target=/etc/shadow mode=0777"`:                           true,
			`fd.name exists or evt.type = openat`:                                                             false,
			`fs.path.name = /tmp/y and evt.path = /tmp/y`:                                                     true,
		}},
		"chmod": {detailedAccess(event.OpAttributes, "/x", 0o4755, ""), map[string]bool{
			`evt.arg.mode contains S_ISUID and evt.arg.mode contains "S_IXUSR"`:                                                                   true,
			`evt.args = "filename=/x mode=S_IXOTH|S_IROTH|S_IXGRP|S_IRGRP|S_IXUSR|S_IWUSR|S_IRUSR|S_ISUID"`:                                       true,
			`evt.arg.mode in ("S_IXOTH|S_IROTH|S_IXGRP|S_IRGRP|S_IXUSR|S_IWUSR|S_IRUSR|S_ISUID") and not evt.arg.mode contains S_ISGID`:           true,
			`tolower(evt.arg.mode) startswith s_ixoth and len(evt.args) > 20 and concat(evt.arg.filename, evt.arg.mode) startswith "/xS_IXOTH|S"`: true,
		}},
		"chown":  {access(event.Key{Op: event.OpAttributes, Path: "/x"}), map[string]bool{`evt.arg.mode exists`: false, `evt.args = "filename=/x"`: true}},
		"create": {access(event.Key{Op: event.OpCreate, Path: "/x"}), map[string]bool{`evt.is_open_exec exists`: false, `evt.is_open_write = true`: true}},
		"rename": {access(event.Key{Op: event.OpRename, Path: "/x"}), map[string]bool{`evt.args = "oldpath=/x"`: true}},
		"setuid": {setuid, map[string]bool{`evt.args = "uid=1000"`: true}},
		"exec":   {shell(), map[string]bool{`evt.args = "filename=/bin/sh"`: true}},
		"connect": {onAddress(event.OpConnect, event.ProtocolTCP, "10.1.2.3", 443), map[string]bool{
			`evt.args = "addr=10.1.2.3:443"`: true,
		}},
		"signal": {access(event.Key{Op: event.OpSignal, Value: 9}), map[string]bool{`evt.args exists`: false}},
	} {
		t.Run(name, func(t *testing.T) { holds(t, tc.env, tc.want) })
	}
	e := detailedAccess(event.OpWrite, "/etc/x", 0o1001, "x")
	set, _ := load(t, ruleOf(`evt.arg.flags contains O_APPEND or evt.args contains O_EXCL or evt.arg.mode = x`))
	var matching []*Rule
	if n := testing.AllocsPerRun(100, func() { matching = set.Match(e, All, matching[:0]) }); n != 0 || len(matching) > 0 {
		t.Errorf("%v allocations, %d matches", n, len(matching))
	}
}

// Falco's way to say always and never is that, whatever is counted; another number is a number.
func TestNumberOfEvent(t *testing.T) {
	e := shell()
	holds(t, e, map[string]bool{`evt.num = 1 or evt.num > 1 or evt.num exists`: false})
	e.Number = 3
	holds(t, e, map[string]bool{
		`evt.num = 0 or evt.num < 1 or evt.num <= 0 or evt.num = 2`: false,
		`evt.num >= 0 and evt.num > 0 and evt.num >= 1`:             true,
		`evt.num = 3 and evt.num > 2 and evt.num != 0`:              true,
		`evt.num in (0, 3)`: true,
	})
	set, problems := load(t, ruleOf(`evt.type = execve and (proc.exepath = /x or evt.num = 0) and evt.num >= 0`)+"  action: deny\n  mode: enforce\n")
	if len(errorsIn(problems)) > 0 || !set.Rules()[0].InKernel() {
		t.Errorf("%v", problems)
	}
}

// The kernel does not tell apart what is made: it decides for all of it or for nothing.
func TestCreationsInKernel(t *testing.T) {
	for condition, decides := range map[string]bool{
		`evt.operation = create and evt.path = /x`:                                                  true,
		`evt.operation in (create, delete) and evt.path = /x`:                                       true,
		`evt.type = symlinkat and evt.path = /x`:                                                    false,
		`evt.type in (openat, mkdirat) and evt.path = /x`:                                           false,
		`evt.operation = create and (evt.path = /x or evt.type = mkdirat)`:                          false,
		`evt.operation = create and not evt.type = mkdirat and evt.path = /x`:                       false,
		`evt.type in (openat, mkdirat, symlinkat) and evt.path = /x`:                                true,
		`evt.operation in (read, create) and evt.path = /x and evt.type in (openat, mkdirat)`:       false,
		`evt.operation = create and evt.path = /x and (evt.type = openat or not evt.type = openat)`: true,
	} {
		set, problems := load(t, ruleOf(condition)+"  action: deny\n  mode: enforce\n")
		if bad := errorsIn(problems); len(bad) == 0 != decides {
			t.Errorf("%s: %v", condition, bad)
		} else if decides && len(set.Rules()) == 1 {
			for _, i := range set.Rules()[0].Plan() {
				if !i.Exact {
					t.Errorf("%s: %+v", condition, i)
				}
			}
		}
	}
	set, _ := load(t, ruleOf(`evt.type = symlinkat and evt.arg.target = /etc/shadow`))
	if plan := set.Rules()[0].Plan(); len(plan) != 1 || plan[0].Op != event.OpCreate || plan[0].Exact {
		t.Errorf("%+v", plan)
	}
}
