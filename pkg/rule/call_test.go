package rule

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/plumbline-io/plumbline/pkg/event"
)

// Which of several calls did it no hook tells: a rule that names any of them is asked. The event has one name.
func TestSiblingCalls(t *testing.T) {
	made := func(path string, mode uint32) *Env { return detailedAccess(event.OpCreate, path, mode, "") }
	onKey := func(op event.Operation, path string) *Env { return access(event.Key{Op: op, Path: path}) }
	for name, tc := range map[string]struct {
		env   *Env
		calls []string
		told  string
		never string
	}{
		"read":      {onKey(event.OpRead, "/a"), []string{"open", "openat", "openat2", "creat"}, "openat", "mkdir"},
		"write":     {onKey(event.OpWrite, "/a"), []string{"open", "openat", "openat2", "creat"}, "openat", "truncate"},
		"file":      {made("/a", 0o100644), []string{"open", "openat", "openat2", "creat"}, "openat", "mkdir"},
		"directory": {made("/a", 0o040755), []string{"mkdir", "mkdirat"}, "mkdirat", "open"},
		"link":      {made("/a", 0o120777), []string{"symlink", "symlinkat"}, "symlinkat", "link"},
		"delete":    {onKey(event.OpDelete, "/a"), []string{"unlink", "unlinkat"}, "unlinkat", "rmdir"},
		"rename":    {onKey(event.OpRename, "/a"), []string{"rename", "renameat", "renameat2"}, "renameat", "unlink"},
		"hard link": {onKey(event.OpLink, "/a"), []string{"link", "linkat"}, "linkat", "symlink"},
		"mode":      {onKey(event.OpAttributes, "/a"), []string{"chmod", "fchmod", "fchmodat", "fchmodat2"}, "fchmodat", "chown"},
		"mount":     {onKey(event.OpMount, "/a"), []string{"mount", "move_mount"}, "mount", "umount2"},
		"module":    {onKey(event.OpModule, ""), []string{"init_module", "finit_module"}, "finit_module", "delete_module"},
		"user":      {onKey(event.OpSetuid, ""), []string{"setuid", "setreuid", "setresuid"}, "setuid", "setgid"},
		"signal":    {onKey(event.OpSignal, ""), []string{"kill", "tkill", "tgkill"}, "kill", "ptrace"},
		"key":       {onKey(event.OpKeyctl, ""), []string{"keyctl", "add_key", "request_key"}, "keyctl", "kill"},
		"execution": {shell(), []string{"execve", "execveat"}, "execve", "open"},
	} {
		t.Run(name, func(t *testing.T) {
			vectors := map[string]bool{
				"evt.type in (" + strings.Join(tc.calls, ", ") + ")": true, "evt.type = " + tc.never: false, "evt.type != " + tc.never: true,
				"evt.type startswith " + tc.told: true,
			}
			for _, call := range tc.calls {
				vectors["evt.type = "+call], vectors["evt.type != "+call], vectors["not evt.type = "+call] = true, false, false
				vectors["evt.type = anyof ("+call+")"] = true
			}
			vectors["evt.type = oneof ("+strings.Join(tc.calls, ", ")+")"] = true // it has one type
			holds(t, tc.env, vectors)
			r := &Rule{}
			if m := newScope().setOutput(r, textOf("%evt.type")); m != nil {
				t.Fatal(m.message)
			}
			if got := string(r.AppendOutput(nil, tc.env)); got != tc.told {
				t.Errorf("told as %s, want %s", got, tc.told)
			}
		})
	}
}

// What matches nothing is named, with the reason.
func TestUnobservedTypes(t *testing.T) {
	for condition, want := range map[string][]string{
		"evt.type in (open, mkdir, chmod)":      nil,
		"evt.type in (rmdir, unlink, unlinkat)": nil, // the others stand for it
		"evt.type != switch":                    nil,
		"evt.type = rmdir or proc.name = x":     {"evt.type is never rmdir: it is not told apart from unlinkat, which stands for it too"},
		"evt.type in (execve, chown, fchown)":   {"evt.type is never chown, fchown: it is not told apart from fchmodat, which stands for it too"},
		"evt.type in (accept, accept4, listen)": nil,
		"evt.type in (accept, recvfrom)":        {"evt.type is never recvfrom: what arrives is not observed"},
		"evt.type in (setns, unshare, execve)":  nil,
		"evt.type in (execve, adjtimex)":        {"evt.type is never adjtimex: no hook asks about it"},
		"evt.type in (execve, opnat)":           {"evt.type is never opnat: there is no such call (did you mean openat?)"},
		"evt.type in (execve, 'a b')":           {`evt.type is never "a b": there is no such call`},
		"evt.type in (execve, 59)":              {"evt.type is never 59: there is no such call"},
		"evt.type in (dup, dup2, dup3)":         nil,
		"evt.type in (execve, recvmmsg, pipe, recvmsg)": {
			"evt.type is never recvmmsg, recvmsg: what arrives is not observed",
			"evt.type is never pipe: how a process makes and passes on descriptors is not observed",
		},
	} {
		set, problems := load(t, ruleOf(condition))
		var got []string
		for _, p := range problems {
			if p.ID == unobservedType {
				got = append(got, p.Message)
			}
			if !p.Warning || p.Rule != "r" || p.Line != 2 {
				t.Errorf("%s: %+v", condition, p)
			}
		}
		if !slices.Equal(got, want) || len(set.Rules()) != 1 {
			t.Errorf("%s: got %q, want %q; %d rules", condition, got, want, len(set.Rules()))
		}
	}
}

// Every name that stands in a table is a name that it can stand for.
func TestCallTables(t *testing.T) {
	types := typesByName()
	for class := 1; class < classCount; class++ {
		told := classType(class)
		for _, call := range siblings(told) {
			if types[call] != types[told] || toldAs(call) != "" || siblings(call) != nil {
				t.Errorf("%s is a sibling of %s, and something else", call, told)
			}
			if unobserved(call) == "" {
				t.Errorf("%s is no call", call)
			}
		}
	}
}

// A field that no event has is named wherever it stands, once for each place.
func TestNotSupplied(t *testing.T) {
	const head = "- rule: r\n  desc: d\n  priority: error\n"
	for name, tc := range map[string]struct {
		text string
		want []string
	}{
		"or":     {head + "  condition: evt.type = execve and (proc.name = a or evt.arg.fd = 1)\n  output: o\n", []string{"4:54 evt.arg.fd is not supplied: the hooks are told the file or the socket, not the number of its descriptor"}},
		"output": {head + "  condition: evt.type = execve\n  output: of %evt.arg.fd and %proc.name\n", []string{"5:14 evt.arg.fd is not supplied: the hooks are told the file or the socket, not the number of its descriptor"}},
		"macro": {
			"- macro: m\n  condition: evt.arg.fd = 1 or proc.name = a\n" + head + "  condition: evt.type = execve and not m\n  output: o\n",
			[]string{"2:14 macro m: evt.arg.fd is not supplied: the hooks are told the file or the socket, not the number of its descriptor"},
		},
		"transformed": {head + "  condition: evt.type = execve and not tolower(evt.arg.fd) = a\n  output: o\n", []string{"4:48 evt.arg.fd is not supplied: the hooks are told the file or the socket, not the number of its descriptor"}},
	} {
		t.Run(name, func(t *testing.T) {
			set, problems := load(t, tc.text)
			var got []string
			for _, p := range problems {
				got = append(got, fmt.Sprintf("%d:%d %s", p.Line, p.Column, p.Message))
				if p.ID != notSupplied || !p.Warning {
					t.Errorf("%+v", p)
				}
			}
			if !slices.Equal(got, tc.want) || len(set.Rules()) != 1 {
				t.Errorf("got %q, want %q; %d rules", got, tc.want, len(set.Rules()))
			}
		})
	}
}

// Of the types that Falco's stable rules ask for, each alone finds what the list that it stands in finds, but for
// those that nothing observes.
func TestStableTypes(t *testing.T) {
	text, s := string(stable(t).Data), newScope()
	var unobserved []string
	found := 0
	for _, m := range regexp.MustCompile(`evt\.type\s*(?:in\s*\(([^)]*)\)|=\s*([a-z0-9_]+))`).FindAllStringSubmatch(text, -1) {
		names := strings.FieldsFunc(m[1]+m[2], func(r rune) bool { return r == ',' || r == ' ' })
		all := s.typesNamed(names)
		for _, name := range names {
			found++
			switch {
			case all == 0 && !slices.Contains(unobserved, name):
				unobserved = append(unobserved, name)
			case all == dups() && s.types[name]&^all == 0: // each is a class
			case s.types[name] != all:
				t.Errorf("%s of %s finds other events", name, m[0])
			}
		}
	}
	if len(unobserved) > 0 || found < 20 {
		t.Errorf("of %d types %q are not observed", found, unobserved)
	}
}
