package rule

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/plumbline-io/plumbline/pkg/event"
)

// falcoFields are the fields of Falco's three official files, by what it takes to supply them.
const falcoFields = `
A proc.name proc.cmdline proc.aname proc.pname proc.args proc.pcmdline proc.pexe proc.exe proc.tty proc.vpid proc.cwd
A proc.env proc.aexe proc.duration proc.exepath proc.is_exe_from_memfd proc.is_exe_upper_layer proc.is_vpgid_leader
A thread.cap_permitted thread.cap_effective user.name user.uid user.loginuid user.loginname group.gid group.name
A proc.pexepath proc.sname proc.aexepath proc.exe_ino.ctime proc.exe_ino.mtime proc.exe_ino.ctime_duration_proc_start
B fd.name fd.directory fd.typechar fd.num fd.filename fd.nameraw fd.type evt.type evt.num evt.rawres evt.res evt.args
B evt.is_open_read evt.is_open_write evt.is_open_exec evt.arg.path evt.arg.name evt.arg.oldpath evt.arg.newpath evt.arg.uid
B evt.arg.request evt.arg.mode evt.arg.flags evt.arg.cmd evt.arg.target evt.arg.domain evt.arg.filename evt.arg.fd
B evt.arg.linkpath
C fd.net fd.ip fd.l4proto fd.sport fd.connected fd.name_changed fd.snet fd.sip fd.cip fd.cnet fd.port fd.rnet fd.sockfamily
C fd.lport fd.rport fd.rip
D container.id container.image.repository k8s.ns.name k8s.pod.name
E container.privileged container.mount.dest container.mounts container.start_ts fd.sip.name fd.cip.name fd.lip.name fd.rip.name
F evt.buffer
`

func TestFalcoFields(t *testing.T) {
	known := map[string]FieldInfo{}
	for _, f := range Fields() {
		if _, twice := known[f.Name]; twice {
			t.Errorf("%s is there twice", f.Name)
		}
		known[f.Name] = f
		if f.Supplied != (f.Why == "") {
			t.Errorf("%+v", f)
		}
	}
	all, supplied := 0, 0
	for line := range strings.Lines(falcoFields) {
		class, names, _ := strings.Cut(strings.TrimSpace(line), " ")
		for _, name := range strings.Fields(names) {
			if f, ok := known[name]; !ok || f.Class != class {
				t.Errorf("%s: %+v, want class %s", name, f, class)
			}
			if all++; known[name].Supplied {
				supplied++
			}
		}
	}
	if all != 90 || supplied != 88 {
		t.Errorf("%d of %d fields are supplied", supplied, all)
	}
	// With an argument too, which the official files use.
	for name, takes := range map[string]string{"proc.aname": "index", "proc.aexe": "index", "proc.aexepath": "index", "container.mount.dest": "key", "proc.env": "key"} {
		if known[name].Argument != takes {
			t.Errorf("%+v", known[name])
		}
	}
}

// A field that is supplied has a value in some event of its classes, and in none of another; one that
// is not supplied has none anywhere.
func TestSupply(t *testing.T) {
	s := newScope()
	s.knowAll()
	events := []*Env{shell(), access(event.Key{Op: event.OpRead, Path: "/etc/x"}), access(event.Key{Op: event.OpSetuid, Value: 1})}
	denied := shell()
	denied.Event.Kind = event.ExecCheck
	handshake, pause := shell(), shell()
	handshake.Event.Kind, pause.Event.Kind = event.Handshake, event.Pause
	handshake.Event.Handshake = event.HandshakeInfo{
		Library: event.LibraryOpenSSL, Version: 0x0303, Suite: 1, Group: 1, Alert: 1, Reason: 1, ServerName: "a", ALPN: "a",
		HasPeer: true, PeerFingerprint: [32]byte{1}, PeerSPIFFEID: "a", PeerNotAfter: 1,
	}
	pause.Event.Pause = event.PauseInfo{Reason: 1, Stopping: 1}
	events = append(events, denied, handshake, pause,
		access(event.Key{Op: event.OpRename, Path: "/x"}), access(event.Key{Op: event.OpPtrace}), access(event.Key{Op: event.OpBPF}),
		access(event.Key{Op: event.OpSocket}), onAddress(event.OpConnect, 6, "::1", 1), onAddress(event.OpBind, 6, "::1", 1),
		onAddress(event.OpSend, 17, "::1", 1))
	taken := onAddress(event.OpAccept, 6, "::1", 1)
	taken.Event.Access.Local, taken.Event.Access.ClientPort = netip.MustParseAddr("::1"), 2
	begun := onAddress(event.OpTCPBegin, 6, "::1", 1)
	begun.Event.Access.Begins = event.BeginsPlaintext
	events = append(events, taken, made(), asked(t, "a.b", 1), begun)
	for _, e := range events {
		e.Variables = environmentOf(map[string][]string{"HOME": {"/root"}})
		e.Names = table(t, map[string][]string{"localhost": {"::1"}})
		e.Event.Exec.Inode, e.Event.Process.Start, e.Event.Ktime, e.Event.Tid = 1, 1, 1, 7
	}
	raised := shell()
	raised.Count, raised.Alert = 3, &Rule{Name: "r", Tags: []string{"a"}, Attack: []string{"T1059"}}
	events = append(events, raised)
	known := shell()
	known.Facts, known.Workload.ContainerID = allFacts{}, "c"
	known.Event.Ktime, known.Wall = 1, 1e18
	known.Event.Exec.Start, known.Event.Exec.Changed, known.Event.Exec.Modified = 1, 1, 1
	known.Event.Exec.Membership, known.Event.Process.Leader = event.Membership{VPID: 1, Namespace: 1}, "bash"
	known.Event.Exec.Capabilities.Known = true
	known.Number = 1
	link := access(event.Key{Op: event.OpCreate, Path: "/x"})
	link.Event.Access.Detailed, link.Event.Access.Mode, link.Event.Access.Said = true, event.TypeLink|0o777, "/y"
	opened := access(event.Key{Op: event.OpRead, Path: "/x"})
	opened.Event.Access.Detailed, opened.Event.Access.Said = true, "x"
	events = append(events, link, opened)
	changed := *known
	changed.Event = &event.Event{Kind: event.Exec, Ktime: 1, Exec: known.Event.Exec}
	changed.Event.Exec.Changed = 2e18
	events = append(events, &changed)
	known.Event.Process.Ancestors = []event.Ancestor{{Start: 1, Comm: "nginx", Args: "nginx: master process"}}
	events = append(events, known)
	for name, f := range s.fields {
		exists := existence(f)
		supplied := slices.ContainsFunc(events, func(e *Env) bool {
			ok := exists(e)
			if ok && !f.classes.has(e.class()) {
				t.Errorf("%s has a value in %s", name, classType(e.class()))
			}
			return ok
		})
		if supplied != (f.why == "") {
			t.Errorf("%s: supplied %t, %q", name, supplied, f.why)
		}
	}
}

// allFacts knows something of everybody.
type allFacts struct{}

func (allFacts) User(*Env, uint32) (User, bool) { return User{"root", "/root", "/bin/sh"}, true }
func (allFacts) Session(*Env) (Session, bool) {
	return Session{GID: 5, Group: "tty", LoginUID: 1000}, true
}

func (allFacts) Container(*Env) (Container, bool) {
	return Container{"shop", "docker", "nginx:1@sha256:0", "1", "nginx", "1", "sha256:0", "shop-0", "web", "u", true, true, []Mount{{"/", "/host", "ro", "rslave", false}}}, true
}

// forgetful knows nothing, and counts how often it is asked.
type forgetful struct{ asked int }

func (f *forgetful) User(*Env, uint32) (User, bool)    { f.asked++; return User{}, false }
func (f *forgetful) Session(*Env) (Session, bool)      { f.asked++; return Session{}, false }
func (f *forgetful) Container(*Env) (Container, bool)  { f.asked++; return Container{}, false }
func (f *forgetful) VariableNames(*Env) (string, bool) { f.asked++; return "", false }
func (f *forgetful) Variable(*Env, string) []string    { f.asked++; return nil }

// What takes a question is compared last, on whichever side of a comparison it stands, and in whatever it is wrapped.
func TestQuestionsComeLast(t *testing.T) {
	for _, check := range []string{
		`user.name = x`, `proc.env[A] = x`, `user.name = val(proc.name)`, `proc.name = val(user.name)`, `proc.name = val(proc.env[A])`,
		`proc.name = tolower(proc.env[A])`, `tolower(user.name) = x`, `proc.name = concat(proc.name, user.name)`, `join(",", (proc.name, user.name)) = x`,
	} {
		c, m := compiledCondition(check + ` and proc.name regex "a.*b"`)
		if m != nil {
			t.Errorf("%s: %s", check, m.message)
			continue
		}
		e, facts := shell(), &forgetful{}
		e.Facts, e.Variables = facts, facts
		if c.check(e) || facts.asked != 0 {
			t.Errorf("%s: asked %d times", check, facts.asked)
		}
	}
}
