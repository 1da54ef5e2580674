package rule

import (
	"fmt"
	"math/bits"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/plumbline-io/plumbline/pkg/dns"
	"github.com/plumbline-io/plumbline/pkg/event"
)

func TestPlan(t *testing.T) {
	path := func(s string) PathTest { return PathTest{Text: s} }
	below := func(s string) PathTest { return PathTest{Text: s, Prefix: true} }
	ends := func(s string) PathTest { return PathTest{Text: s, Suffix: true} }
	connect := Interest{Kind: event.Access, Op: event.OpConnect, Exact: true}
	tcp := connect
	tcp.Networks, tcp.Ports = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, []PortRange{{0, 1023}}
	tcp.Protocols = []event.Protocol{event.ProtocolTCP}
	number := func(op event.Operation, tests ...ValueTest) []Interest {
		return []Interest{{Kind: event.Access, Op: op, Values: tests, Exact: true}}
	}
	for condition, want := range map[string][]Interest{
		`evt.type = finit_module`:                                                             {{Kind: event.Access, Op: event.OpModule, Exact: true}},
		`evt.type = linkat and evt.arg.oldpath in (/a, /b, "")`:                               {{Kind: event.Access, Op: event.OpLink, Paths: []PathTest{path("/a"), path("/b")}, Exact: true}},
		`evt.type = linkat and (evt.arg.oldpath = /a or evt.arg.newpath startswith /b)`:       {{Kind: event.Access, Op: event.OpLink, Paths: []PathTest{path("/a"), below("/b")}, Exact: true}},
		`evt.type = linkat and not evt.arg.oldpath = /a`:                                      {{Kind: event.Access, Op: event.OpLink}},
		`evt.type = linkat and evt.arg.oldpath = /a and not proc.name = x`:                    {{Kind: event.Access, Op: event.OpLink, Paths: []PathTest{path("/a")}}},
		`evt.type = linkat and not (evt.arg.oldpath != /a or proc.name = x)`:                  {{Kind: event.Access, Op: event.OpLink}},
		`evt.type = linkat and evt.arg.oldpath pmatch (/a/b, /c*/d)`:                          {{Kind: event.Access, Op: event.OpLink, Paths: []PathTest{below("/a/b/"), path("/a/b"), below("/c")}}},
		`evt.type = linkat and evt.arg.oldpath pmatch (/a)`:                                   {{Kind: event.Access, Op: event.OpLink, Paths: []PathTest{below("/a/"), path("/a")}, Exact: true}},
		`evt.type = linkat and evt.arg.oldpath glob "/home/*/.ssh/*"`:                         {{Kind: event.Access, Op: event.OpLink, Paths: []PathTest{below("/home/")}}},
		`evt.type = linkat and evt.arg.oldpath glob "*.so"`:                                   {{Kind: event.Access, Op: event.OpLink, Paths: []PathTest{ends(".so")}}},
		`evt.type = linkat and evt.arg.oldpath startswith anyof (/a, /b)`:                     {{Kind: event.Access, Op: event.OpLink, Paths: []PathTest{below("/a"), below("/b")}, Exact: true}},
		`evt.type = linkat and evt.arg.oldpath startswith oneof (/a, /b)`:                     {{Kind: event.Access, Op: event.OpLink, Paths: []PathTest{below("/a"), below("/b")}}},
		`evt.type = linkat and evt.arg.oldpath = ""`:                                          nil,
		`evt.type = connect and fd.sip = 10.0.0.0/8 and fd.sport < 1024 and fd.l4proto = tcp`: {tcp},
		`evt.type = execve and proc.exepath = /a`: {
			{Kind: event.Exec, Paths: []PathTest{path("/a")}, Exact: true}, {Kind: event.ExecCheck, Paths: []PathTest{path("/a")}, Exact: true},
		},
		`evt.type = procexit and proc.exepath = /a`:                                {{Kind: event.Exit}},
		`evt.type = finit_module and container.id != host`:                         {{Kind: event.Access, Op: event.OpModule, Where: InContainers, Exact: true}},
		`evt.type = finit_module and not container.id != host`:                     {{Kind: event.Access, Op: event.OpModule, Where: OnHost, Exact: true}},
		`evt.type = finit_module and container.id != host and container.id = host`: nil,
		`evt.type = finit_module and container.id = abc`:                           {{Kind: event.Access, Op: event.OpModule, Where: InContainers}},
		`evt.type = finit_module and container.id != abc`:                          {{Kind: event.Access, Op: event.OpModule}},
		`evt.path = /a and (evt.operation = link and container.id = host or evt.operation = link and container.id != host)`: {
			{Kind: event.Access, Op: event.OpLink, Paths: []PathTest{path("/a")}, Exact: true},
		},
		`evt.operation = link and (evt.path = /a and container.id = host or evt.path = /b and container.id != host)`: {
			{Kind: event.Access, Op: event.OpLink, Paths: []PathTest{path("/a"), path("/b")}},
		},
		`evt.operation = bpf and evt.arg.cmd in (BPF_PROG_LOAD, BPF_LINK_CREATE, 77)`:   number(event.OpBPF, ValueTest{5, 32}, ValueTest{28, 32}, ValueTest{77, 32}),
		`evt.operation = bpf and evt.value = 5`:                                         number(event.OpBPF, ValueTest{5, 32}),
		`evt.operation = capability and evt.value in (CAP_SYS_ADMIN, 21)`:               number(event.OpCapability, ValueTest{21, 32}),
		`evt.operation = socket and (evt.arg.domain = AF_PACKET or evt.value = 131846)`: number(event.OpSocket, ValueTest{17 << 16, 16}, ValueTest{131846, 32}),
		`evt.operation = ptrace and evt.value startswith attach`:                        number(event.OpPtrace, ValueTest{event.PtraceAttach, 32}, ValueTest{event.PtraceAttach | event.PtraceOther, 32}),
		`evt.type = setns`: number(event.OpNamespace, ValueTest{event.NamespaceEntered, 1}),
		`evt.operation = namespace and evt.type = unshare and evt.value in ("new net", "enter net")`: number(event.OpNamespace, ValueTest{30, 32}),
		`evt.type = setns and evt.value = "enter mount"`:                                             number(event.OpNamespace, ValueTest{event.NamespaceEntered | 17, 32}),
		`evt.operation = setuid and evt.arg.uid = 0`:                                                 number(event.OpSetuid, ValueTest{0, 32}),
		`evt.operation = setuid and evt.arg.uid startswith 1`:                                        {{Kind: event.Access, Op: event.OpSetuid}},
		`evt.operation = bpf and evt.arg.cmd = NOTHING`:                                              nil,
		`evt.operation = link and evt.path startswith /` + strings.Repeat("a", MaxPrefix):            {{Kind: event.Access, Op: event.OpLink, Paths: []PathTest{below("/" + strings.Repeat("a", MaxPrefix))}}},
		`evt.operation = link and evt.path endswith anyof (/a, .key)`:                                {{Kind: event.Access, Op: event.OpLink, Paths: []PathTest{ends("/a"), ends(".key")}, Exact: true}},
		`evt.operation = link and basename(evt.path) in (a, /b)`:                                     {{Kind: event.Access, Op: event.OpLink, Paths: []PathTest{path("a"), ends("/a")}, Exact: true}},
		`evt.operation = link and evt.path startswith /dev/ and evt.path endswith .key`:              {{Kind: event.Access, Op: event.OpLink, Paths: []PathTest{below("/dev/")}}},
		`evt.operation = link and evt.path startswith / and evt.path in (/a, /b)`:                    {{Kind: event.Access, Op: event.OpLink, Paths: []PathTest{path("/a"), path("/b")}}},
		`evt.operation = link and evt.path endswith 12345678901234567`:                               {{Kind: event.Access, Op: event.OpLink, Paths: []PathTest{ends("12345678901234567")}}},
		`evt.operation = connect and fd.sip = ::/0`:                                                  {{Kind: event.Access, Op: event.OpConnect, Networks: []netip.Prefix{netip.MustParsePrefix("::/0")}}},
		`evt.operation = connect and fd.sport > 1024`:                                                {{Kind: event.Access, Op: event.OpConnect, Ports: []PortRange{{1025, 65535}}}},
	} {
		t.Run(condition, func(t *testing.T) {
			set, _ := load(t, ruleOf(condition))
			for i := range want {
				if want[i].Where == 0 {
					want[i].Where = Anywhere
				}
			}
			if got := set.Plan(); !reflect.DeepEqual(got, want) {
				t.Errorf("got %+v", got)
			}
		})
	}
}

// chance makes random rules and events of a small world, in which they meet often.
type chance struct {
	*rand.Rand
	hosts *NameTable
}

func (g chance) pick(from ...string) string { return from[g.IntN(len(from))] }

func (g chance) path() string {
	return g.pick("/", "/a", "/a/b", "/a/b/c", "/ab", "/ab/c", "/c", "@x", "")
}

func (g chance) paths(prefixes ...string) string {
	items := make([]string, g.IntN(4))
	for i := range items {
		items[i] = `"` + g.pick(append(prefixes, g.path())...) + `"`
	}
	return "(" + strings.Join(items, ", ") + ")"
}

func (g chance) condition(depth int) string {
	if depth == 0 || g.IntN(4) == 0 {
		return g.check()
	}
	parts := make([]string, 2+g.IntN(2))
	for i := range parts {
		parts[i] = g.pick("", "", "", "not ") + "(" + g.condition(depth-1) + ")"
	}
	return strings.Join(parts, g.pick(" and ", " or "))
}

func (g chance) check() string {
	onPath := g.pick("fd.name", "fd.name", "evt.arg.path", "proc.exepath", "evt.arg.path", "evt.arg.name", "evt.arg.oldpath", "evt.arg.newpath", "evt.arg.filename")
	number := g.pick("0", "1", "2", "65535", "70000", "-1")
	switch g.IntN(22) {
	case 0:
		return "evt.type " + g.pick("= execve", "in (openat, linkat)", "!= connect", "= connect", "in (unlinkat, bind, sendto)", "= accept", "in (accept4, connect)", "= dup2", "in (dup, dup3, connect)", "= dns_query", "= tcp_begin", "in (tcp_begin, connect)")
	case 1:
		return onPath + g.pick(" = ", " != ", " startswith ", " endswith ", " contains ", " = ") + `"` + g.path() + `"`
	case 2:
		return onPath + g.pick(" in ", " pmatch ", " intersects ", " in ") + g.paths("/a/*", "/?b/c", "a", "/a/")
	case 3:
		return onPath + g.pick(" = ", " startswith ", " glob ", " != ", " contains ") + g.pick("anyof ", "oneof ", "allof ") + g.paths()
	case 4:
		return onPath + ` glob "` + g.pick("/a*", "*b", "*[ab]c", `*\\\\b`, "/a/?", "/[ab]/*", `/\\a`, "/a") + `"`
	case 5:
		return "fd.directory " + g.pick(`= "`, `!= "`, `startswith "`) + g.path() + `"`
	case 6:
		return g.pick("fd.sip", "fd.rip", "fd.lip", "fd.net", "fd.ip", "fd.cip", "fd.cnet") + g.pick(" = 10.0.0.1", " in (10.0.0.0/8, ::1)", " != 10.0.0.1", " = ::/0", " in ()")
	case 7:
		return g.pick("fd.port", "fd.rport", "fd.lport", "fd.sport", "fd.cport") + g.pick(" = ", " < ", " >= ", " != ", " <= ", " > ") + number
	case 8:
		return "fd.l4proto " + g.pick("= tcp", "in (udp, icmp)", "= 6", "= 132", "!= tcp", "= 0132")
	case 11:
		return "basename(" + onPath + ")" + g.pick(" = b", " in (a, b)", " startswith b", " in (c, b/c)")
	case 9:
		return "container.id " + g.pick("= host", "!= host", "= abc", "!= abc", "in (host, abc)", "in ()")
	case 10:
		return g.pick("evt.value = 2", "evt.value in (CAP_CHOWN, 1, attach)", "evt.value startswith a", `evt.value startswith ""`, "evt.value != 2",
			"evt.arg.cmd = BPF_MAP_UPDATE_ELEM", "evt.arg.domain in (AF_PACKET, 3)", "evt.arg.request = PTRACE_ATTACH", "evt.arg.uid = anyof (1, 02)",
			"evt.value = oneof (1, 2)")
	}
	if g.IntN(4) > 0 {
		return g.actor()
	}
	return g.pick("proc.name = sh", "user.uid in (1, 33)", "evt.is_open_read = true", "proc.tty = 0", "fd.filename = b", "fd.typechar = 4",
		"fd.name = val(proc.exepath)", "tcp.begins = tls", "tcp.begins != tls", "dns.name_length >= 5", "dns.name_length = 1", "dns.name_length < 8", "dns.name_length in (5, 8)", "fd.sip.name = A.org.", "fd.rip.name != a.org", "fd.cip.name in (a.org, b.org)", "len(fd.name) > 2", "evt.operation = link", "basename(fd.name) = b")
}

// names are of programs, a few of them as files in memory have them.
func (g chance) names() string {
	items := make([]string, 1+g.IntN(3))
	for i := range items {
		items[i] = `"` + g.pick("sh", "nginx", "runc", "b", "exe", "", "a/b", "/memfd:runc_cloned:/proc/self/exe", "memfd:x", "twenty-letters-or-so", "twenty-letters-") + `"`
	}
	return "(" + strings.Join(items, ", ") + ")"
}

// actor is a check of who acts.
func (g chance) actor() string {
	named := g.pick("proc.name", "basename(proc.exepath)", "proc.exepath", "proc.pname", "basename(proc.pexepath)", "proc.pexepath", "proc.aname", "proc.aname[2]")
	switch g.IntN(5) {
	case 0:
		return "evt.verdict " + g.pick("in (audit, deny)", "= allow", "!= allow", "= deny", "in (allow, audit, deny)", "in ()", "!= deny")
	case 1:
		return g.pick("proc.is_exe_from_memfd", "proc.is_exe_unlinked", "proc.is_exe_detached", "proc.is_exe_upper_layer", "proc.stdio_inet", "evt.in_baseline", "proc.is_cwd_detached", "evt.by_ancestor", "evt.is_host_namespace") +
			g.pick(" = true", " = false", " != true", " in (true, false)", " = anyof (true)")
	}
	return named + g.pick(" in ", " in ", " in ", " = anyof ", " = oneof ", " startswith anyof ", " != anyof ") + g.names()
}

func (g chance) program() string {
	return g.pick("/usr/bin/sh", "/usr/sbin/nginx", "/usr/bin/runc", "/a/b", "/memfd:runc_cloned:/proc/self/exe", "/memfd:x", "/bin/twenty-letters-or-so")
}

// event is mostly one that the rule is asked about.
func (g chance) event(r *Rule) *Env {
	e := shell()
	class := 1 + g.IntN(classCount-1)
	if n := bits.OnesCount64(uint64(r.classes)); n > 0 && g.IntN(4) > 0 {
		nth := g.IntN(n)
		r.classes.each(func(c int) {
			if nth == 0 {
				class = c
			}
			nth--
		})
	}
	setClass(e.Event, class)
	e.Event.Exec.Path, e.Event.Exec.Filename, e.Event.Access.Path = g.path(), g.path(), g.path()
	addr := netip.MustParseAddr(g.pick("10.0.0.1", "10.0.0.2", "192.0.2.1", "::1", "2001:db8::1", "::ffff:10.0.0.1"))
	e.Event.Access.Address = netip.PrefixFrom(addr, addr.BitLen())
	if g.IntN(5) == 0 {
		e.Event.Access.Address = netip.Prefix{}
	}
	if e.Event.Access.Op == event.OpAccept && g.IntN(5) > 0 {
		e.Event.Access.Local, e.Event.Access.ClientPort = netip.MustParseAddr(g.pick("10.0.0.1", "::1", "192.0.2.1")), []uint16{1, 2, 65535}[g.IntN(3)]
	}
	if e.Event.Access.Op == event.OpDup && g.IntN(5) > 0 {
		e.Event.Access.Local, e.Event.Access.LocalPort, e.Event.Access.Descriptor = netip.MustParseAddr(g.pick("10.0.0.1", "::1")), []uint16{1, 2, 65535}[g.IntN(3)], uint32(g.IntN(3))
	}
	if e.Event.Access.Op == event.OpDNSQuery && g.IntN(5) > 0 {
		e.Event.Access.Question, _ = dns.Ask(g.pick("a", "a.org", "aa.b.org", "."), dns.Type(g.IntN(3)))
	}
	e.Event.Access.Begins = event.Beginning(g.IntN(4))
	e.Names = g.hosts
	e.Event.Access.Port = []uint16{0, 1, 2, 65535}[g.IntN(4)]
	e.Event.Access.Protocol = []event.Protocol{1, event.ProtocolTCP, event.ProtocolUDP, 132}[g.IntN(4)]
	e.Event.Access.Value = []uint32{0, 1, 2, 257, 258, 17<<16 | 3}[g.IntN(6)]
	if e.Event.Access.Op == event.OpPtrace {
		e.Event.Access.Value = []uint32{1, 2, 257, 258}[g.IntN(4)] // there are no others
	}
	e.Workload.ContainerID = g.pick("", "abc", "def")
	g.actorOf(e.Event)
	return e
}

// actorOf fills in who acts, of whom all is known.
func (g chance) actorOf(ev *event.Event) {
	ev.Verdict = []event.Verdict{event.Allow, event.Audit, event.Deny}[g.IntN(3)]
	ev.Process.Path, ev.Process.Lineage = g.program(), make([]string, 1+g.IntN(4))
	for i := range ev.Process.Lineage {
		ev.Process.Lineage[i] = g.program()
	}
	ev.Process.Parent = ev.Process.Lineage[0]
	ev.Access.Comm = g.pick("sh", "nginx", "b", "twenty-letters-")
	x := &ev.Exec
	x.Comm, x.Unlinked, x.Detached = g.pick("sh", "nginx", "b"), g.IntN(2) == 0, g.IntN(2) == 0
	x.Upper, x.StdioInet, x.CwdDetached = g.IntN(2) == 0, g.IntN(2) == 0, g.IntN(2) == 0
	ev.Access.ByAncestor, ev.Access.HostNamespace = g.IntN(2) == 0, g.IntN(2) == 0
	if g.IntN(3) == 0 {
		x.Path = g.program()
	}
	ev.Access.Known = ev.Verdict == event.Allow && g.IntN(2) == 0
}

// What the kernel lets pass holds all that a rule matches, and an exact plan nothing else: the filter
// and then the rules are the rules alone.
func TestPlanIsSound(t *testing.T) {
	g := chance{rand.New(rand.NewPCG(3, 4)), table(t, map[string][]string{"a.org": {"10.0.0.1", "::1"}, "b.org": {"192.0.2.1"}})}
	var matches, stopped, exact, passed int
	for range 2000 {
		text := g.condition(3)
		set, problems := load(t, ruleOf(text)+"  warn_evttypes: false\n")
		if bad := errorsIn(problems); len(bad) > 0 {
			t.Fatal(bad)
		}
		r := set.Rules()[0]
		plan := set.Plan()
		for range 100 {
			e := g.event(r)
			match := r.Match(e) && slices.Contains(set.ForEvent(e.Event), r)
			i := slices.IndexFunc(plan, func(i Interest) bool { return i.Passes(e) })
			switch {
			case match && i < 0:
				t.Fatalf("%s\nmatches what does not pass: %s\n%+v", text, describe(e), plan)
			case !match && i >= 0 && plan[i].Exact:
				t.Fatalf("%s\ndoes not match what passes exactly: %s\n%+v", text, describe(e), plan[i])
			}
			matches, stopped = matches+index(match), stopped+index(i < 0)
			if i >= 0 {
				passed++
				exact += index(plan[i].Exact)
			}
		}
	}
	t.Logf("%d matches, %d stopped, %d passed, %d of them decided", matches, stopped, passed, exact)
	if matches < 1000 || stopped < 1000 || exact < 1000 {
		t.Errorf("%d matches, %d stopped, %d decided: that tests little", matches, stopped, exact)
	}
}

func describe(e *Env) string {
	return fmt.Sprintf("%s %+v %+v", e.Event.Kind, e.Event.Access, e.Event.Exec)
}

func TestWhere(t *testing.T) {
	for condition, want := range map[string]struct {
		where    string
		inKernel bool
	}{
		`evt.type = linkat and evt.arg.oldpath = /a`:                   {"kernel kernel", true},
		`evt.type = linkat and evt.arg.oldpath glob "/a*"`:             {"kernel filter", false},
		`evt.type = linkat and proc.cmdline = a`:                       {"kernel user space", false},
		`evt.type = linkat and not proc.name = a`:                      {"kernel user space", true},
		`evt.type = linkat and not evt.arg.oldpath = /a`:               {"kernel user space", false},
		`evt.type = connect and fd.sport = 22 and fd.net = 10.0.0.0/8`: {"kernel kernel kernel", true},
		// Each can be decided, and not the two at once: the kernel has one test for the path.
		`evt.type = linkat and evt.arg.oldpath startswith /a and evt.arg.newpath startswith /a/b`: {"kernel filter filter", false},
		// An alert about an execution is decided when it has left the kernel, as all do.
		`evt.type = execve and proc.exepath = /a`: {"kernel user space", true},
		// One that is decided is a filter if the others are not.
		`evt.type = linkat and evt.arg.oldpath = /a and proc.cmdline = b`: {"kernel filter user space", false},
		`evt.type = connect and fd.sport in (22, 23) or evt.type = bpf`:   {"kernel kernel kernel", true},
	} {
		t.Run(condition, func(t *testing.T) {
			set, _ := load(t, ruleOf(condition))
			r := set.Rules()[0]
			var where []string
			for _, c := range r.Checks() {
				where = append(where, c.Where)
			}
			if got := strings.Join(where, " "); got != want.where || r.InKernel() != want.inKernel {
				t.Errorf("got %s, in kernel %t", got, r.InKernel())
			}
			undecided := r.Undecided()
			if (len(undecided) == 0) != want.inKernel {
				t.Errorf("undecided: %+v", undecided)
			}
			for _, c := range undecided {
				if c.Where == InKernel && len(undecided) < len(where) {
					t.Errorf("%+v is decided", c)
				}
			}
		})
	}
	set, _ := load(t, "")
	if set.Drift(event.DimExec).InKernel() || set.Drift(event.DimFile).Plan() != nil {
		t.Error("the drift rule has a plan")
	}
}
