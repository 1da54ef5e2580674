package rule

import (
	"testing"

	"github.com/plumbline-io/plumbline/pkg/event"
)

// testScope knows the fields and two lists.
func testScope() *scope {
	s := newScope()
	s.lists["some"] = &list{name: "some", items: []string{"a", "sh"}, state: compiled}
	s.lists["one"] = &list{name: "one", items: []string{"sh"}, state: compiled}
	s.lists["empty"] = &list{name: "empty", state: compiled}
	return s
}

// textOf is a text that stands in no file.
func textOf(text string) *passage { return &passage{text: text} }

// compiledCondition compiles a condition that stands in no file.
func compiledCondition(text string) (part, *mistake) {
	c, _, m := testScope().compile(textOf(text))
	return c, m
}

func TestConditions(t *testing.T) {
	handshake := func() *Env {
		return &Env{Wall: 1_700_000_000_000_000_000, Event: &event.Event{Kind: event.Handshake, Handshake: event.HandshakeInfo{
			Library: event.LibraryGo, Role: event.Client, Version: 0x0303, Suite: 0xc02f, Alert: 42, HasPeer: true,
			PeerFingerprint: [32]byte{0xab}, PeerNotAfter: 1_700_000_000 + 86400 + 5,
		}}}
	}
	for name, tc := range map[string]struct {
		env  *Env
		want map[string]bool
	}{
		"exec": {shell(), map[string]bool{
			`proc.name = sh`:                           true,
			`proc.name == sh`:                          true,
			`proc.name=sh`:                             true,
			`proc.name != sh`:                          false,
			`proc.name = "sh"`:                         true,
			`proc.name = 'sh'`:                         true,
			`proc.name in (sh, x)`:                     true,
			`proc.name in (some)`:                      true,
			`proc.name in ("some")`:                    false,
			`proc.name in (empty)`:                     false,
			`proc.name in ()`:                          false,
			`basename(proc.exepath) in (dash, "bash")`: true,
			`basename( proc.exepath ) = sh`:            false,
			`proc.pname = nginx and proc.exepath startswith /usr`:             true,
			`proc.pname = nginx and not proc.name = sh`:                       false,
			`not (proc.name = a or proc.name = b)`:                            true,
			`not not proc.name = sh`:                                          true,
			`not(proc.name = sh)`:                                             false,
			`proc.name = a or proc.name = sh and user.uid = 33`:               true,
			`(proc.name = a or proc.name = sh) and user.uid = 34`:             false,
			`proc.name = a or proc.name = b or proc.name = sh`:                true,
			`proc.cmdline contains " -c "`:                                    true,
			`proc.cmdline endswith id`:                                        true,
			`proc.cmdline icontains " -C I"`:                                  true,
			`proc.cmdline icontains ""`:                                       true,
			`proc.cmdline icontains "-c idd"`:                                 false,
			`proc.args = "-c id"`:                                             true,
			`proc.exe = sh and proc.exeline = "sh -c id"`:                     true,
			`evt.arg.filename = /bin/sh`:                                      true,
			`user.uid >= 33 and user.uid < 34`:                                true,
			`user.uid in (1, 0x21)`:                                           true,
			`user.uid > 33`:                                                   false,
			`user.uid > 9223372036854775807`:                                  false,
			`user.uid < -9223372036854775808`:                                 false,
			`user.uid != 34`:                                                  true,
			`container.id = host and container.id != ""`:                      true,
			`evt.type = execve and evt.dir = <`:                               true,
			`tls.sni != x`:                                                    false, // no such value: the check is false
			`not tls.sni = x`:                                                 true,
			`tls.sni exists`:                                                  false,
			`tls.ok exists or tls.ok = false or tls.ok != true`:               false,
			`proc.pid exists`:                                                 true,
			`workload.name=nginx.service`:                                     true,
			`proc.exepath glob /usr/*/da?h`:                                   true,
			`proc.exepath glob "/usr/bin/[a-d]ash"`:                           true,
			`proc.exepath glob "/usr/bin/[!a-d]ash"`:                          false,
			`proc.exepath glob /usr`:                                          false,
			`proc.exepath pmatch (/etc, /usr/bin)`:                            true,
			`proc.exepath pmatch (/usr/bin/dash)`:                             true,
			`proc.exepath pmatch (/usr/bi)`:                                   false,
			`proc.exepath pmatch (/usr/)`:                                     true,
			`proc.exepath pmatch (/)`:                                         true,
			`proc.aname = systemd`:                                            true,
			`proc.aname = sh`:                                                 false, // ancestors only
			`proc.aname in (a, nginx)`:                                        true,
			`proc.aname[0] = sh`:                                              true,
			`proc.aname[1] = nginx`:                                           true,
			`proc.aname[2] = systemd and not proc.aname[3] exists`:            true,
			`proc.aexepath[2] startswith /usr/lib and proc.aexepath exists`:   true,
			`proc.is_exe_unlinked = false and proc.is_exe_from_memfd != true`: true,
			`evt.verdict = allow and evt.hook in (tracepoint, lsm)`:           true,
		}},
		"handshake": {handshake(), map[string]bool{
			`tls.version = "TLS 1.2" and tls.version_number < 0x0304`:        true,
			`tls.cipher = TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256`:             true,
			`tls.cipher_number in (0xc02f)`:                                  true,
			`tls.peer.sha256 startswith ab0000 and tls.peer.sha256 exists`:   true,
			`tls.peer.days_left = 1`:                                         true,
			`tls.role = client and tls.library = go and tls.ok = false`:      true,
			`tls.alert = 42 and not tls.reason exists and not tls.sni != ""`: true,
			`tls.verify_result >= 0`:                                         false, // OpenSSL's only
			`evt.type = tls_handshake`:                                       true,
			`proc.is_exe_unlinked = false or proc.is_exe_unlinked = true`:    false,
		}},
	} {
		for condition, want := range tc.want {
			t.Run(name+"/"+condition, func(t *testing.T) {
				c, m := compiledCondition(condition)
				if m != nil {
					t.Fatalf("%d: %s", m.at, m.message)
				}
				if got := c.check(tc.env); got != want {
					t.Errorf("got %t", got)
				}
				if n := testing.AllocsPerRun(10, func() { c.check(tc.env) }); n != 0 {
					t.Errorf("%v allocations", n)
				}
			})
		}
	}
}

func TestMistakes(t *testing.T) {
	for condition, want := range map[string]struct {
		at      int
		message string
	}{
		``:                              {0, "expected a field, a macro, not or (, found the end"},
		`proc.nam = a`:                  {0, `unknown field "proc.nam" (did you mean proc.name?)`},
		`proc.name`:                     {9, "expected an operator after proc.name, found the end"},
		`proc.name =`:                   {11, "expected a value, found the end"},
		`proc.name = (a)`:               {12, `expected a value, found "(a"`},
		`proc.name in a`:                {13, `expected (, found "a"`},
		`proc.name in (a b)`:            {16, `expected , or ), found "b"`},
		`proc.name in (a,`:              {16, "expected a value, found the end"},
		`proc.name = a b`:               {14, `expected and, or, or the end, found "b"`},
		`proc.name = a and`:             {17, "expected a field, a macro, not or (, found the end"},
		`(proc.name = a`:                {14, "expected ), found the end"},
		`proc.name = a)`:                {13, `expected and, or, or the end, found ")"`},
		`proc.name = "a`:                {12, "the string is not closed"},
		`proc.name < a`:                 {10, `proc.name is text and has no operator "<"`},
		`proc.name like a`:              {10, `proc.name is text and has no operator "like"`},
		`proc.name regex "a("`:          {10, "proc.name is text and the regular expression is wrong: error parsing regexp: missing closing ): `a(`"},
		`proc.pid = a`:                  {9, `proc.pid is a number, "a" is none`},
		`proc.pid in (1, 0x)`:           {9, `proc.pid is a number, "0x" is none`},
		`proc.pid contains 1`:           {9, "proc.pid is a number and has no operator contains"},
		`proc.pid pmatch ()`:            {9, "proc.pid is a number and has no operator pmatch"},
		`tls.ok = yes`:                  {7, "tls.ok is true or false"},
		`tls.ok in (true, yes)`:         {7, "tls.ok is true or false"},
		`tls.ok contains true`:          {7, "tls.ok is true or false and has no operator contains"},
		`evt.operation in (read, exec)`: {14, `evt.operation is never exec: ask for executions by evt.type = execve`},
		`tls.role = sever`:              {9, `tls.role is never "sever": it is one of unknown, client, server`},
		`evt.hook in (lsm, kvm)`:        {9, `evt.hook is never "kvm": it is one of tracepoint, lsm, fmod_ret, signal, uprobe, cgroup, fanotify, fentry`},
		`proc.name[1] = a`:              {0, "proc.name has no index"},
		`proc.aname[x] = a`:             {0, "proc.aname: the index is a number from 0 to 100"},
		`proc.aname[1 = a`:              {10, "the [ is not closed"},
		`spawned and a.b = 1`:           {0, `unknown macro "spawned"`},
		`upper(proc.name) = a`:          {0, `unknown transformer "upper"`},
		`basename(proc.pid) = a`:        {9, "proc.pid is no text"},
		`basename(proc.name = a`:        {19, `expected ), found "="`},
		`; proc.name = a`:               {0, `expected a field, a macro, not or (, found ";"`},
	} {
		t.Run(condition, func(t *testing.T) {
			_, m := compiledCondition(condition)
			if m == nil || m.at != want.at || m.message != want.message {
				t.Errorf("got %+v, want %+v", m, want)
			}
		})
	}
}

func TestGlob(t *testing.T) {
	for _, tc := range []struct {
		pattern, s string
		want       bool
	}{
		{"", "", true},
		{"", "a", false},
		{"*", "", true},
		{"*", "a/b", true},
		{"a*", "a", true},
		{"*a*b*", "xxaxxbxx", true},
		{"*a*b", "xxaxxbx", false},
		{"a?c", "abc", true},
		{"a?c", "ac", false},
		{"[]a]", "]", true},
		{"[a-]", "-", true},
		{"[^a]", "b", true},
		{"[a", "[a", true},
		{`\*`, "*", true},
		{`\*`, "a", false},
		{`a\`, `a\`, true},
		{"*[0-9]", "file7", true},
	} {
		if got := glob(tc.pattern, tc.s, false); got != tc.want {
			t.Errorf("%q %q: %t", tc.pattern, tc.s, got)
		}
	}
}

// setClass makes an event one of a class.
func setClass(ev *event.Event, class int) {
	op, ok := operationOf(class)
	switch {
	case class == alertClass:
		ev.Kind, ev.Access.Op = event.Access, event.OpCount // nobody knows it
	case !ok:
		ev.Kind = event.Kind(class)
	default:
		ev.Kind, ev.Access.Op = event.Access, op
		ev.Access.Mode = map[int]uint32{directoryClass: event.TypeDirectory, linkClass: event.TypeLink}[class]
		ev.Access.Value = map[int]uint32{enteredClass: event.NamespaceEntered}[class]
		ev.Access.Call = map[int]string{dup2Class: "dup2", dup3Class: "dup3"}[class]
	}
}

func FuzzCondition(f *testing.F) {
	for _, seed := range []string{
		`evt.type = execve and proc.name in (some, "x") and not (user.uid > 0x7f or tls.sni exists)`,
		`basename(proc.exepath) glob "[a-z]*\"" or proc.aname[2] icontains 'A'`,
		`proc.exepath pmatch (/a, /b/*/c?) and tls.ok != true`,
		`join("-", (proc.name, proc.pid)) startswith oneof ("a", 'b') or getopt(proc.args, "ab:")[b] = val(proc.name)`,
		`fd.net in (10.0.0.0/8, "::/0") and not evt.type in (connect, openat) and len(b64(toupper(fd.name))) < 5`,
		`proc.name regex "a.*[b-d]{2,3}" or proc.cmdline iglob "*[[:alpha:]]*" or evt.arg.uid exists`,
	} {
		f.Add(seed, "/usr/bin/dash")
	}
	f.Fuzz(func(t *testing.T, condition, path string) {
		c, m := compiledCondition(condition)
		if m != nil {
			if m.at < 0 || m.at > len(condition) || m.message == "" {
				t.Fatalf("%q: %+v", condition, m)
			}
			return
		}
		e := shell()
		e.Event.Exec.Path = path
		(allClasses &^ 1).each(func(class int) {
			setClass(e.Event, class)
			holds := c.check(e)
			if class = classOf(e.Event); class != 0 && (holds && !c.may.has(class) || !holds && !c.mayNot.has(class)) {
				t.Fatalf("%q: %t for %s, which was thought impossible", condition, holds, classType(class))
			}
		})
	})
}
