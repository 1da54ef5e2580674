package enforce_test

import (
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/plumbline-io/plumbline/pkg/event"
	"github.com/plumbline-io/plumbline/pkg/sensor"
	"github.com/plumbline-io/plumbline/pkg/sensor/sensortest"
)

// Rules that ask who acts, or what is executed.
func TestDenials(t *testing.T) {
	tests := map[string]func(t *testing.T, w *trial){
		"actors": testActors, "ancestors": testAncestors, "executions": testExecutions, "layers": testLayers, "sockets": testSockets,
		"baseline": testBaselineOfDenials, "together": testTogether, "elsewhere": testElsewhere,
	}
	eachStrength(t, func(t *testing.T, w *trial) {
		for name, test := range tests {
			w.scope.Held = 0
			w.state(t, event.Off, 1, sensor.Protected)
			w.does = newDoer(t, w.scope)
			t.Run(name, func(t *testing.T) { test(t, w) })
		}
	})
}

// attempt is a deed by somebody.
type attempt struct {
	by, deed, arg string
	denied        bool
}

// attempts lets each be made under a rule, and counts what is denied, and told as denied by that rule.
func (w *trial) attempts(t *testing.T, dir, text string, all []attempt) {
	t.Helper()
	r := w.use(t, text).Rules()[0]
	for i, a := range all {
		before, denials := w.tally(t).Denied, w.denials()
		want := 0
		if a.denied {
			want = 1
		}
		if code := w.as(t, dir+"/"+a.by, a.deed, a.arg); code != want*int(unix.EPERM) {
			t.Errorf("%d: %s by %s: exit code %d, denied: %t", i, a.deed, a.by, code, a.denied)
		}
		if n := w.tally(t).Denied - before; n != uint64(want) {
			t.Errorf("%d: %s by %s: %d denials, want %d", i, a.deed, a.by, n, want)
			continue
		}
		if a.denied {
			if by := w.toldBy(t, denials); by != r.ID() {
				t.Errorf("%d: told as denied by rule %d, want %d", i, by, r.ID())
			}
		}
	}
}

// A deed is denied to those whom the rule means, by their files, what they call themselves, and who started them, and
// to nobody else; the hooks of files, capabilities and of the network alike.
func testActors(t *testing.T, w *trial) {
	dir := t.TempDir()
	if err := fill(dir); err != nil {
		t.Fatal(err)
	}
	cast(t, dir, "thief", "other", "keeper", "boss", "a-name-of-16-byt", "a-name-of-15-by")
	read, port := "evt.operation = read and evt.path = "+dir+"/file", strconv.Itoa(listenTCP(t))
	by := func(name string, more ...string) string {
		return arguments(append([]string{dir + "/" + name}, more...)...)
	}
	for name, tc := range map[string]struct {
		condition string
		attempts  []attempt
	}{
		"file": {read + " and basename(proc.exepath) in (nobody, thief)", []attempt{
			{"thief", "read", dir, true},
			{"other", "read", dir, false},
			{"thief", calledDeed, arguments("other", "read", dir), true},
			{"other", calledDeed, arguments("thief", "read", dir), false},
		}},
		"not a file": {read + " and not basename(proc.exepath) in (nobody, keeper)", []attempt{
			{"keeper", "read", dir, false},
			{"other", "read", dir, true},
			{"other", calledDeed, arguments("keeper", "read", dir), true},
			{"keeper", calledDeed, arguments("other", "read", dir), false},
		}},
		"file in memory": {read + ` and not proc.exepath in ("/memfd:keeper:/proc/self/exe")`, []attempt{
			{"other", memoryDeed, arguments("keeper:/proc/self/exe", "read", dir), false},
			{"other", memoryDeed, arguments("keeper", "read", dir), true},
			{"keeper", "read", dir, true},
		}},
		"name": {read + " and proc.name in (thief, a-name-of-16-by)", []attempt{
			{"thief", "read", dir, true},
			{"other", "read", dir, false},
			{"a-name-of-15-by", "read", dir, false},
			{"a-name-of-16-byt", "read", dir, true},
			{"thief", calledDeed, arguments("other", "read", dir), false},
			{"other", calledDeed, arguments("thief", "read", dir), true},
			{"other", calledDeed, arguments("thie", "read", dir), false},
		}},
		"parent's file": {read + " and basename(proc.pexepath) in (boss, a-name-of-16-byt)", []attempt{
			{"boss", startDeed, by("other", "read", dir), true},
			{"other", startDeed, by("boss", "read", dir), false},
			{"boss", "read", dir, false},
			{"a-name-of-16-byt", startDeed, by("other", "read", dir), true},
			{"a-name-of-15-by", startDeed, by("other", "read", dir), false},
			{"boss", calledDeed, arguments("other", startDeed, by("other", "read", dir)), true},
		}},
		"parent's name": {read + " and not proc.pname in (boss, a-name-of-16-by)", []attempt{
			{"boss", startDeed, by("other", "read", dir), false},
			{"other", startDeed, by("boss", "read", dir), true},
			{"a-name-of-16-byt", startDeed, by("other", "read", dir), false},
			{"a-name-of-15-by", startDeed, by("other", "read", dir), true},
			{"other", calledDeed, arguments("boss", startDeed, by("other", "read", dir)), true},
		}},
		"two of them": {read + " and basename(proc.exepath) = thief and not proc.pname = boss", []attempt{
			{"other", startDeed, by("thief", "read", dir), true},
			{"boss", startDeed, by("thief", "read", dir), false},
			{"other", startDeed, by("other", "read", dir), false},
		}},
		"one of them": {read + " and (basename(proc.exepath) = thief or proc.pname = boss)", []attempt{
			{"other", startDeed, by("thief", "read", dir), true},
			{"boss", startDeed, by("other", "read", dir), true},
			{"other", startDeed, by("other", "read", dir), false},
		}},
		"connection": {"evt.operation = connect and fd.sport = " + port + " and basename(proc.exepath) in (thief)", []attempt{
			{"thief", "connect4", port, true}, {"thief", "connect6", port, true}, {"other", "connect4", port, false}, {"other", "connect6", port, false},
		}},
		"capability": {"evt.operation = capability and evt.value = CAP_SYS_ADMIN and not proc.pname = boss", []attempt{
			{"boss", startDeed, by("other", "hostname", dir), false}, {"other", startDeed, by("other", "hostname", dir), true},
		}},
	} {
		t.Run(name, func(t *testing.T) { w.attempts(t, dir, ruleText(name, tc.condition, denying), tc.attempts) })
	}
}

// An ancestor is looked for as far as 16 processes up, and not farther.
func testAncestors(t *testing.T, w *trial) {
	dir := t.TempDir()
	if err := fill(dir); err != nil {
		t.Fatal(err)
	}
	cast(t, dir, "boss", "x")
	descendant := func(n int) string { // the nth of boss
		return arguments(strings.Repeat(dir+"/x\t"+startDeed+"\t", n-1)+dir+"/x", "read", dir)
	}
	w.attempts(t, dir, ruleText("ancestor", "evt.operation = read and evt.path = "+dir+"/file and proc.aname in (nobody, boss)", denying), []attempt{
		{"boss", "read", dir, false},
		{"boss", startDeed, descendant(1), true},
		{"boss", startDeed, descendant(2), true},
		{"boss", startDeed, descendant(16), true},
		{"boss", startDeed, descendant(17), false},
	})
	w.attempts(t, dir, ruleText("no ancestor", "evt.operation = read and evt.path = "+dir+"/file and not proc.aname in (nobody, boss)", denying), []attempt{
		{"boss", "read", dir, true}, {"boss", startDeed, descendant(2), false}, {"x", startDeed, descendant(1), true},
	})
}

// Of an execution: what it will be called, however its path is written, and what kind of file it is.
func testExecutions(t *testing.T, w *trial) {
	dir := t.TempDir()
	if err := fill(dir); err != nil {
		t.Fatal(err)
	}
	cast(t, dir, "other", "boss")
	putFile(t, dir+"/tool", exiting())
	if err := os.Symlink("tool", dir+"/thief"); err != nil {
		t.Fatal(err)
	}
	const exec = "evt.type = execve and "
	named := []attempt{
		{"other", "become", dir + "/thief", true},
		{"other", "become", dir + "/tool", false},
		{"other", "become here", dir + "/thief", true},
		{"other", "become here", dir + "/tool", false},
		{"other", "become", dir + "//thief", true},
		{"other", "become", dir + "/mountpoint/../tool", false},
	}
	for n := range 16 { // a slash at each place of what the kernel side reads at once
		path := fmt.Sprintf("%s%s/.%s/", dir, strings.Repeat("/.", n/2), strings.Repeat("/", n%2))
		named = append(named, attempt{"other", "become", path + "thief", true}, attempt{"other", "become", path + "tool", false})
	}
	w.attempts(t, dir, ruleText("new name", exec+"proc.name in (nobody, thief)", denying), named)
	under := exec + "proc.exepath startswith " + dir + "/tool and "
	w.attempts(t, dir, ruleText("not a new name", under+"not proc.name in (tool)", denying), []attempt{
		{"other", "become", dir + "/thief", true}, {"other", "become", dir + "/tool", false},
	})
	w.attempts(t, dir, ruleText("parent", under+"proc.pname = boss", denying), []attempt{
		{"boss", startDeed, arguments(dir+"/other", "become", dir+"/tool"), true}, {"boss", "become", dir + "/tool", false},
	})
	w.attempts(t, dir, ruleText("memory", exec+"proc.is_exe_from_memfd = true", denying), []attempt{
		{"other", memoryDeed, arguments("x", "nothing", ""), true},
		{"other", "become", dir + "/tool", false},
		{"other", "become detached", dir, false},
	})
	w.attempts(t, dir, ruleText("detached", exec+"proc.is_exe_detached = true and not proc.is_exe_from_memfd = true", denying), []attempt{
		{"other", "become detached", dir, true}, {"other", memoryDeed, arguments("x", "nothing", ""), false}, {"other", "become", dir + "/tool", false},
	})
	victim := dir + "/mountpoint/tool"
	putFile(t, victim, exiting())
	w.attempts(t, dir, ruleText("unlinked", exec+"proc.is_exe_unlinked = true", denying), []attempt{
		{"other", "become", victim, false}, {"other", "become unlinked", victim, true},
	})
}

// What is executed in an overlay is of its lower layer, or was made in it.
func testLayers(t *testing.T, w *trial) {
	loadOverlay(t)
	if why := lacksOverlay(); why != "" {
		t.Skip(why)
	}
	dir := t.TempDir()
	renew(t, dir)
	cast(t, dir, "other")
	overlay(t, dir)
	t.Cleanup(func() {
		if err := unix.Unmount(dir+"/merged", unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	putFile(t, dir+"/merged/made", exiting())
	w.attempts(t, dir, ruleText("upper", "evt.type = execve and proc.is_exe_upper_layer = true", denying), []attempt{
		{"other", "become", dir + "/merged/made", true}, {"other", "become", dir + "/merged/tool", false},
	})
	if err := os.Chmod(dir+"/merged/tool", 0o700); err != nil { // it is copied up
		t.Fatal(err)
	}
	w.attempts(t, dir, ruleText("upper", "evt.type = execve and proc.is_exe_upper_layer = true", denying), []attempt{
		{"other", "become", dir + "/merged/tool", true},
	})
}

// A program whose standard input and output are Internet sockets is killed before it runs; whoever has others is not.
func testSockets(t *testing.T, w *trial) {
	w.use(t, ruleText("socket", "evt.type = execve and proc.stdio_inet = true", "  action: kill\n  mode: enforce\n"))
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	for name, tc := range map[string]struct {
		in, out *os.File
		killed  bool
	}{
		"TCP":               {internet(t, "tcp4"), internet(t, "tcp4"), true},
		"IPv6":              {internet(t, "tcp6"), internet(t, "tcp6"), true},
		"UDP":               {internet(t, "udp4"), internet(t, "udp4"), true},
		"input only":        {internet(t, "tcp4"), null, false},
		"output only":       {null, internet(t, "tcp4"), false},
		"pair of sockets":   {pairOfSockets(t), pairOfSockets(t), false},
		"files":             {null, null, false},
		"socket and a file": {pairOfSockets(t), internet(t, "tcp4"), false},
	} {
		t.Run(name, func(t *testing.T) {
			before, denials := w.tally(t).Denied, w.denials()
			cmd := w.scope.Command(t, "/bin/true")
			cmd.Stdin, cmd.Stdout = tc.in, tc.out
			_ = cmd.Run()
			code, denied := cmd.ProcessState.ExitCode(), w.tally(t).Denied-before
			if tc.killed != (code == -1) || tc.killed != (denied == 1) || !tc.killed && code != 0 {
				t.Errorf("exit code %d, %d denials; killed: %t", code, denied, tc.killed)
			}
			if !tc.killed {
				return
			}
			w.toldBy(t, denials)
			checks := w.events.Of(event.ExecCheck)
			if got := checks[len(checks)-1]; !got.Exec.StdioInet {
				t.Errorf("%+v", got.Exec)
			}
		})
	}
}

// internet is a socket that is connected to nobody who answers.
func internet(t *testing.T, network string) *os.File {
	t.Helper()
	families := map[string][2]int{
		"tcp4": {unix.AF_INET, unix.SOCK_STREAM}, "tcp6": {unix.AF_INET6, unix.SOCK_STREAM}, "udp4": {unix.AF_INET, unix.SOCK_DGRAM},
	}
	fd, err := unix.Socket(families[network][0], families[network][1]|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), network)
	t.Cleanup(func() { f.Close() })
	return f
}

func pairOfSockets(t *testing.T) *os.File {
	t.Helper()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	ends := [2]*os.File{os.NewFile(uintptr(pair[0]), "end"), os.NewFile(uintptr(pair[1]), "end")}
	for _, end := range ends {
		t.Cleanup(func() { end.Close() })
	}
	return ends[0]
}

// A rule may ask whether the operation is outside of the baseline, and whether it is in it: in audit and enforce. Neither
// is so where the workload is held to none, or still learns.
func testBaselineOfDenials(t *testing.T, w *trial) {
	dir := t.TempDir()
	if err := fill(dir); err != nil {
		t.Fatal(err)
	}
	file := event.Key{Op: event.OpRead, Path: dir + "/file"}
	port := uint16(listenTCP(t))
	connection := event.Key{Op: event.OpConnect, Protocol: event.ProtocolTCP, Address: netip.MustParsePrefix("127.0.0.1/32"), Port: port}
	deeds := map[event.Key][2]string{file: {"read", dir}, connection: {"connect4", strconv.Itoa(int(port))}}
	about := fmt.Sprintf("(%s or (%s)) and ", conditionFor(file), conditionFor(connection))
	all := event.Dimensions(0).With(event.DimFile).With(event.DimNetwork)
	exact := []event.Key{file, connection}
	patterns := []event.Key{
		{Op: event.OpRead, Path: dir + "/**"},
		{Op: event.OpConnect, Protocol: event.ProtocolTCP, Address: netip.MustParsePrefix("127.0.0.0/8"), Port: port},
	}
	generation := uint32(300)
	for _, tc := range []struct {
		mode        event.Mode
		held        event.Dimensions
		known       []event.Key
		outside, in bool
	}{
		{event.Off, all, exact, false, false},
		{event.Learn, all, nil, false, false},
		{event.Learn, all, exact, false, false},
		{event.AuditMode, all, nil, true, false},
		{event.AuditMode, all, exact, false, true},
		{event.AuditMode, all, patterns, false, true},
		{event.AuditMode, 0, exact, false, false},
		{event.Enforce, all, nil, true, false},
		{event.Enforce, all, exact, false, true},
		{event.Enforce, all, patterns, false, true},
		{event.Enforce, 0, patterns, false, false},
	} {
		for condition, denied := range map[string]bool{
			"evt.verdict in (audit, deny)": tc.outside, "not evt.verdict in (audit, deny)": !tc.outside,
			"evt.in_baseline = true": tc.in, "not evt.in_baseline = true": !tc.in,
		} {
			w.use(t, ruleText("r", about+condition, denying))
			generation++
			if err := w.enforcer.Replace(w.scope.Workload, generation, tc.known); err != nil {
				t.Fatal(err)
			}
			w.scope.Held = tc.held
			w.state(t, tc.mode, generation, sensor.Protected)
			for key, deed := range deeds {
				before := w.told(key)
				code := w.does.run(t, deed[0], deed[1])
				if stopped := tc.mode == event.Enforce && tc.outside; (code != 0) != (denied || stopped) || code != 0 && code != int(unix.EPERM) {
					t.Errorf("%s, %+v: %s: exit code %d, denied: %t", condition, tc, key, code, denied)
				}
				sensortest.Until(t, key.String(), func() bool { return w.told(key) > before })
				if got := w.last(key); (got.RuleID != 0) != denied || got.Access.Known != tc.in || denied && got.Deviates != tc.outside {
					t.Errorf("%s, %+v: told %s of %s by rule %d, known: %t, deviates: %t", condition, tc, got.Verdict, key, got.RuleID, got.Access.Known, got.Deviates)
				}
			}
		}
	}
}

// Of several rules about one thing the first that means the actor denies it to him; a later one may kill him.
func testTogether(t *testing.T, w *trial) {
	dir := t.TempDir()
	if err := fill(dir); err != nil {
		t.Fatal(err)
	}
	cast(t, dir, "thief", "boss", "other")
	read := "evt.operation = read and evt.path = " + dir + "/file and "
	rules := w.use(t, ruleText("thief", read+"basename(proc.exepath) = thief", denying)+
		ruleText("boss", read+"proc.pname = boss", "  action: kill\n  mode: enforce\n")+
		ruleText("end", "evt.operation = read and evt.path endswith /file and basename(proc.exepath) = boss", denying)).Rules()
	child := func(name string) string { return arguments(dir+"/"+name, "read", dir) }
	for i, tc := range []struct {
		by, deed, arg string
		code          int
		rule          uint32
	}{
		{"thief", "read", dir, int(unix.EPERM), rules[0].ID()},
		{"boss", startDeed, child("other"), childKilled, rules[1].ID()},
		{"boss", startDeed, child("thief"), childKilled, rules[0].ID()},
		{"boss", "read", dir, int(unix.EPERM), rules[2].ID()},
		{"boss", startDeed, child("boss"), childKilled, rules[1].ID()},
		{"other", startDeed, child("other"), 0, 0},
	} {
		denials := w.denials()
		if code := w.as(t, dir+"/"+tc.by, tc.deed, tc.arg); code != tc.code {
			t.Errorf("%d: exit code %d, want %d", i, code, tc.code)
		}
		if tc.rule == 0 {
			continue
		}
		if by := w.toldBy(t, denials); by != tc.rule {
			t.Errorf("%d: denied by rule %d, want %d", i, by, tc.rule)
		}
	}
}

// Who is not protected is seen by what he may be denied, on the host and in containers, and not denied it.
func testElsewhere(t *testing.T, w *trial) {
	dir := t.TempDir()
	if err := fill(dir); err != nil {
		t.Fatal(err)
	}
	cast(t, dir, "thief")
	file := event.Key{Op: event.OpRead, Path: dir + "/file"}
	w.use(t, ruleText("thief", conditionFor(file)+" and container.id != host and proc.name = thief", denying))
	for _, tc := range []struct {
		flags uint32
		code  int
		told  int
	}{{0, 0, 0}, {sensor.Protected, 0, 0}, {sensor.Container, 0, 1}, {sensor.Container | sensor.Protected, int(unix.EPERM), 1}} {
		w.state(t, event.Off, 1, tc.flags)
		before := w.told(file)
		if code := w.as(t, dir+"/thief", "read", dir); code != tc.code {
			t.Errorf("flags %d: exit code %d, want %d", tc.flags, code, tc.code)
		}
		sensortest.Until(t, "what is told", func() bool { return w.told(file) >= before+tc.told })
		if n := w.told(file) - before; n != tc.told {
			t.Errorf("flags %d: told %d times, want %d", tc.flags, n, tc.told)
		}
	}
}
