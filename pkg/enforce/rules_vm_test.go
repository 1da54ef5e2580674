package enforce_test

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/plumbline-io/plumbline/pkg/enforce"
	"github.com/plumbline-io/plumbline/pkg/event"
	"github.com/plumbline-io/plumbline/pkg/rule"
	"github.com/plumbline-io/plumbline/pkg/sensor"
	"github.com/plumbline-io/plumbline/pkg/sensor/process"
	"github.com/plumbline-io/plumbline/pkg/sensor/sensortest"
)

// Rules in the kernel.
func TestRules(t *testing.T) {
	tests := map[string]func(t *testing.T, w *trial){
		"other names": testOtherNames,
		"deeds":       testEveryDeed, "known": testKnown, "baseline": testBesideBaseline, "kill": testKill, "manner": testManner, "runtime": testRuntime, "where": testWhere,
		"protected later": testProtectedLater, "too many names": testTooManyNames, "own cgroup": testOwnCgroup, "processes": testProcessesByRules,
		"reload": testReload(""), "reload by actor": testReload(" and not proc.aname in (nobody, nowhere) and not basename(proc.exepath) = nobody"),
	}
	eachStrength(t, func(t *testing.T, w *trial) {
		for name, test := range tests {
			w.scope.Held = 0
			w.state(t, event.Off, 1, 0)
			w.does = newDoer(t, w.scope)
			t.Run(name, func(t *testing.T) { test(t, w) })
		}
	})
}

// eachStrength runs a test with each strength that stops other things than executions, in the matrix on a kernel each.
func eachStrength(t *testing.T, test func(t *testing.T, w *trial)) {
	for strength, kernel := range map[enforce.Strength]string{enforce.LSM: "6.12", enforce.FmodRet: "6.1"} {
		t.Run(strength.String(), func(t *testing.T) {
			sensortest.OnlyOn(t, kernel)
			k, scope := use(t, strength, event.AllDimensions)
			test(t, k.trial(t, scope))
		})
	}
}

// state sets mode, generation and flags of the scope.
func (w *trial) state(t *testing.T, mode event.Mode, generation, flags uint32) {
	t.Helper()
	s := sensor.State(w.scope.Workload, mode, generation, w.scope.Held)
	s.Flags = flags
	if err := w.scope.Shared.SetWorkload(w.scope.ID, s); err != nil {
		t.Fatal(err)
	}
}

func (w *trial) tally(t *testing.T) enforce.Tally {
	t.Helper()
	tally, err := w.enforcer.Tally(w.scope.Workload)
	if err != nil {
		t.Fatal(err)
	}
	return tally
}

// use puts rules in force.
func (w *trial) use(t *testing.T, text string) *rule.Ruleset {
	t.Helper()
	set, problems := rule.Load(rule.File{Name: "r.yaml", Data: []byte(text)})
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	if _, err := w.enforcer.LoadRules(set); err != nil {
		t.Fatal(err)
	}
	return set
}

func ruleText(name, condition, keys string) string {
	return fmt.Sprintf("- rule: %s\n  condition: %q\n  output: o\n  priority: warning\n%s", name, condition, keys)
}

const denying = "  action: deny\n  mode: enforce\n"

// conditionFor is a condition that an operation alone meets.
func conditionFor(k event.Key) string {
	text := "evt.operation = " + k.Op.String()
	switch {
	case k.Op.OnPath():
		return text + fmt.Sprintf(" and evt.path = %q", k.Path)
	case k.Op.OnAddress():
		return text + fmt.Sprintf(" and fd.sip = %s and fd.sport = %d and fd.l4proto = %s", k.Address.Addr(), k.Port, k.Protocol)
	}
	return text + fmt.Sprintf(" and evt.value = %q", event.ValueName(k.Op, k.Value))
}

// A rule that denies does so in protected containers and nowhere else, whatever the operation is, without any
// baseline; elsewhere in containers it sees the operation, and on the host it does not.
func testEveryDeed(t *testing.T, w *trial) {
	for name, d := range deeds() {
		t.Run(name, func(t *testing.T) { w.testRule(t, name, d) })
	}
}

func (w *trial) testRule(t *testing.T, name string, d deed) {
	d.skipUnseen(t, w.enforcer)
	dir := t.TempDir()
	if err := fill(dir); err != nil {
		t.Fatal(err)
	}
	d.prepare(t, dir)
	run, denied := w.does.run, int(unix.EPERM)
	if d.alone {
		run = w.does.runAlone
	}
	if d.code != 0 {
		denied = d.code
	}
	key := d.key(dir)
	steps := []struct {
		flags   uint32
		code    int
		verdict event.Verdict // of what is told
		told    bool
	}{
		{0, 0, 0, false},
		{sensor.Protected, 0, 0, false},
		{sensor.Container, 0, event.Allow, true},
		{sensor.Container | sensor.Protected, denied, event.Deny, true},
	}
	where := " and container.id != host"
	if key.Op == event.OpPtrace || key.Op == event.OpSignal {
		// The deed is done to this process, which is the agent: containers may not, in any case.
		where, steps = " and container.id = host", steps[2:]
		for i := range steps {
			steps[i].flags &^= sensor.Container
		}
	}
	r := w.use(t, ruleText(name, conditionFor(key)+where, denying)).Rules()[0]
	for step, tc := range steps {
		w.state(t, event.Off, 1, tc.flags)
		before := w.told(key)
		if code := run(t, name, dir); code != tc.code {
			t.Errorf("step %d: exit code %d, want %d", step, code, tc.code)
		}
		if tc.told {
			sensortest.Until(t, "step "+strconv.Itoa(step)+": "+key.String(), func() bool { return w.told(key) > before })
			got := w.last(key)
			if got.Verdict != tc.verdict || got.RuleID != map[event.Verdict]uint32{event.Deny: r.ID()}[tc.verdict] || got.Deviates {
				t.Errorf("step %d: told %s by rule %d, deviates %t", step, got.Verdict, got.RuleID, got.Deviates)
			}
			before++
		}
		if tc.code == 0 && d.after != nil {
			if err := d.after(dir); err != nil {
				t.Error(err)
			}
		}
		if n := w.told(key); n != before {
			t.Errorf("step %d: told %d times, want %d", step, n, before)
		}
	}
}

// A rule sees what the baseline knows, each process of it once, and nothing else of that leaves the kernel; also
// when the file was opened before the rule was there, so that the inode remembers it as known.
func testKnown(t *testing.T, w *trial) {
	dir := t.TempDir()
	if err := fill(dir); err != nil {
		t.Fatal(err)
	}
	file := event.Key{Op: event.OpRead, Path: dir + "/file"}
	w.scope.Held = event.Dimensions(0).With(event.DimFile)
	const generation = 100
	before := len(w.events.Of(event.Access))
	if err := w.enforcer.Replace(w.scope.Workload, generation, []event.Key{{Op: event.OpRead, Path: "/**"}, {Op: event.OpWrite, Path: "/**"}}); err != nil {
		t.Fatal(err)
	}
	w.state(t, event.Enforce, generation, sensor.Protected)
	read := func(times int) {
		t.Helper()
		for range times {
			if code := w.does.runAlone(t, "read", dir); code != 0 {
				t.Fatalf("exit code %d", code)
			}
		}
	}
	read(5)
	w.use(t, ruleText("read", conditionFor(file)+" and proc.name = x", ""))
	read(3)
	sensortest.Until(t, "3 reads", func() bool { return w.told(file) >= 3 })
	w.use(t, ruleText("other", "evt.operation = read and evt.path endswith .key", ""))
	read(5)
	w.use(t, ruleText("all below", fmt.Sprintf("evt.operation = read and evt.path startswith %q", dir+"/"), ""))
	read(2)
	sensortest.Until(t, "5 reads", func() bool { return w.told(file) >= 5 })
	w.use(t, ruleText("by its end", "evt.operation = read and evt.path endswith /file", ""))
	read(2)
	sensortest.Until(t, "7 reads", func() bool { return w.told(file) >= 7 })
	if all := w.events.Of(event.Access)[before:]; len(all) != 7 {
		t.Errorf("%d events left the kernel, want 7: %+v", len(all), all)
	}
	for _, ev := range w.about(file) {
		if ev.Verdict != event.Allow || ev.RuleID != 0 {
			t.Errorf("told %s by rule %d", ev.Verdict, ev.RuleID)
		}
	}
}

// One entry of a baseline is asked about on the host and in a container that is still its parent's, and what a rule
// wishes of the one is not taken for the other.
func testWhere(t *testing.T, w *trial) {
	dir := t.TempDir()
	if err := fill(dir); err != nil {
		t.Fatal(err)
	}
	file := event.Key{Op: event.OpRead, Path: dir + "/file"}
	w.scope.Held = event.Dimensions(0).With(event.DimFile)
	const generation = 101
	if err := w.enforcer.Replace(w.scope.Workload, generation, []event.Key{file, {Op: event.OpRead, Path: "/**"}, {Op: event.OpWrite, Path: "/**"}}); err != nil {
		t.Fatal(err)
	}
	w.use(t, ruleText("read", conditionFor(file)+" and container.id != host", denying))
	const inContainer = sensor.Container | sensor.Protected
	for i, step := range []struct {
		flags uint32
		code  int
	}{
		{sensor.Protected, 0},
		{inContainer, int(unix.EPERM)},
		{inContainer, int(unix.EPERM)},
		{sensor.Protected, 0},
		{sensor.Protected, 0},
		{inContainer, int(unix.EPERM)},
	} {
		w.state(t, event.Enforce, generation, step.flags)
		if code := w.does.runAlone(t, "read", dir); code != step.code {
			t.Errorf("step %d: exit code %d, want %d", i, code, step.code)
		}
	}
}

// A rule sees that a file is truncated also right after it was opened to be written.
func testManner(t *testing.T, w *trial) {
	dir := t.TempDir()
	if err := fill(dir); err != nil {
		t.Fatal(err)
	}
	w.use(t, ruleText("write", fmt.Sprintf("evt.operation = write and evt.path = %q", dir+"/file"), ""))
	w.state(t, event.Off, 1, sensor.Container)
	for _, name := range []string{"write", "truncate"} {
		if code := w.does.run(t, name, dir); code != 0 {
			t.Fatalf("%s: exit code %d", name, code)
		}
	}
	file := event.Key{Op: event.OpWrite, Path: dir + "/file"}
	sensortest.Until(t, "both are told", func() bool { return w.told(file) >= 2 })
	if all := w.about(file); !all[0].Access.Detailed || all[1].Access.Detailed {
		t.Errorf("%+v", all)
	}
}

// What a rule denies and the baseline does not know is told as both. Pausing suspends rules too.
func testBesideBaseline(t *testing.T, w *trial) {
	dir := t.TempDir()
	if err := fill(dir); err != nil {
		t.Fatal(err)
	}
	file := event.Key{Op: event.OpRead, Path: dir + "/file"}
	w.scope.Held = event.Dimensions(0).With(event.DimFile)
	set := w.use(t, ruleText("read", conditionFor(file), denying))
	for step, tc := range []struct {
		mode     event.Mode
		known    bool
		deviates bool
	}{{event.Off, false, false}, {event.Learn, false, false}, {event.AuditMode, true, false}, {event.AuditMode, false, true}, {event.Enforce, false, true}, {event.Enforce, true, false}} {
		generation := uint32(step + 200)
		if tc.known {
			if err := w.enforcer.Replace(w.scope.Workload, generation, []event.Key{file}); err != nil {
				t.Fatal(err)
			}
		}
		w.state(t, tc.mode, generation, sensor.Protected)
		before := w.told(file)
		cmd := w.does.runAlone
		if w.scope.Held.Has(event.DimFile) && tc.mode == event.Enforce {
			cmd = w.does.run // a new process could not read what it is made of
		}
		if code := cmd(t, "read", dir); code != int(unix.EPERM) {
			t.Errorf("step %d: exit code %d", step, code)
		}
		sensortest.Until(t, "a denial", func() bool { return w.told(file) > before })
		if got := w.last(file); got.Verdict != event.Deny || got.RuleID != set.Rules()[0].ID() || got.Deviates != tc.deviates {
			t.Errorf("step %d: %s by rule %d, deviates %t", step, got.Verdict, got.RuleID, got.Deviates)
		}
	}
	if err := w.enforcer.Pause(^uint64(0)); err != nil {
		t.Fatal(err)
	}
	if code := w.does.run(t, "read", dir); code != 0 {
		t.Errorf("paused: exit code %d", code)
	}
	if err := w.enforcer.Pause(0); err != nil {
		t.Fatal(err)
	}
}

// kill ends the process at the hook; of others of its kind only the one that did it.
func testKill(t *testing.T, w *trial) {
	dir := t.TempDir()
	if err := fill(dir); err != nil {
		t.Fatal(err)
	}
	file := event.Key{Op: event.OpWrite, Path: dir + "/file"}
	w.use(t, ruleText("kill", conditionFor(file), "  action: kill\n  mode: enforce\n"))
	w.state(t, event.Off, 1, sensor.Protected)
	if code := w.does.runAlone(t, "write", dir); code != -1 {
		t.Errorf("exit code %d, want death by a signal", code)
	}
	sensortest.Until(t, "the denial", func() bool { return w.told(file) == 1 })
	if code := w.does.run(t, "read", dir); code != 0 {
		t.Errorf("another process: %d", code)
	}
}

// Executions: the rule denies by every strength, and where the baseline allows it.
func TestRuleDeniesExec(t *testing.T) {
	rungs(t, func(t *testing.T, r rig) {
		w := &trial{scope: r.scope, enforcer: r.enforcer}
		truePath, shPath := resolved(t, "/bin/true"), resolved(t, "/bin/sh")
		if err := r.enforcer.Replace(r.scope.Workload, 2, []event.Key{execOf(truePath), execOf(shPath)}); err != nil {
			t.Fatal(err)
		}
		set := w.use(t, ruleText("true", "evt.type = execve and proc.exepath = "+truePath, denying))
		w.state(t, event.Enforce, 2, 0)
		if err := r.scope.Run(t, "/bin/true"); err != nil {
			t.Errorf("not protected: %v", err)
		}
		w.state(t, event.Enforce, 2, sensor.Protected)
		r.wantStopped(t, r.scope.Run(t, "/bin/true"))
		got := r.events.Wait(t, event.ExecCheck, 1)[0]
		if got.Verdict != event.Deny || got.RuleID != set.Rules()[0].ID() || got.Deviates || got.Exec.Path != truePath {
			t.Errorf("%+v", got)
		}
		if err := r.scope.Run(t, "/bin/sh", "-c", "exit 1"); err == nil || !strings.Contains(err.Error(), "exit status 1") {
			t.Errorf("another program: %v", err)
		}
		r.wantTally(t, enforce.Tally{Hits: 2, Denied: 1})
		parent := filepath.Base(selfPath(t))
		for name, tc := range map[string]struct {
			condition string
			stopped   bool
		}{
			"by its name": {"proc.name = true and not proc.pname = nobody", true}, "another name": {"proc.name = sh", false},
			"by the parent": {fmt.Sprintf("proc.exepath = %s and basename(proc.pexepath) = %s", truePath, parent), true},
			"not by it":     {fmt.Sprintf("proc.exepath = %s and not basename(proc.pexepath) = %s", truePath, parent), false},
		} {
			w.use(t, ruleText(name, "evt.type = execve and "+tc.condition, denying))
			for range 3 { // from the second time on, the baseline remembers which denials there are
				if err := r.scope.Run(t, "/bin/true"); tc.stopped {
					r.wantStopped(t, err)
				} else if err != nil {
					t.Errorf("%s: %v", name, err)
				}
			}
		}
	})
}

// Addresses: by network, protocol and port, each of them given or not. The address that is none means another one, too.
func TestNetworkRules(t *testing.T) {
	scope, e, does, port := networkTrial(t)
	w := &trial{scope: scope, enforcer: e, does: does}
	w.state(t, event.Off, 1, sensor.Protected)
	loopback := netip.MustParsePrefix("127.0.0.1/32")
	for name, tc := range map[string]struct {
		condition string
		denied    string // deeds
	}{
		"network":            {"evt.operation = connect and fd.sip = 127.0.0.0/8", "connect4 mapped connect udp fast open none4 nonemapped noneudp nonebound"},
		"port":               {fmt.Sprintf("evt.operation = connect and fd.sport = %d", port), "connect4 connect6 mapped connect udp fast open none4 none6 nonemapped noneudp nonebound"},
		"protocol":           {"evt.operation = connect and fd.l4proto = udp", "connect udp noneudp nonebound"},
		"port and protocol":  {conditionFor(event.Key{Op: event.OpConnect, Address: loopback, Port: uint16(port), Protocol: event.ProtocolTCP}), "connect4 mapped fast open none4 nonemapped"},
		"port, but another":  {"evt.operation = connect and fd.sport = 1", ""},
		"IPv6":               {`evt.operation in (connect, send) and fd.sip = "::1/128"`, "connect6 send6 none6 nonesend6"},
		"as it is written":   {`evt.operation in (connect, send) and fd.sip in ("0.0.0.0/32", "::/128")`, "none4 none6 nonemapped noneudp nonebound nonesend nonesend6"},
		"as it is bound":     {"evt.operation in (connect, send) and fd.sip = 127.0.0.2", "nonebound"},
		"sent to":            {"evt.operation = send and fd.sip = 127.0.0.1", "send nonesend"},
		"bind to the port":   {fmt.Sprintf("evt.operation = bind and fd.sport in (%d, %d)", port, port+1), "bind bind6 udp"},
		"any of the network": {"evt.operation in (connect, send, bind)", "connect4 connect6 mapped connect udp fast open send send6 bind bind6 udp none4 none6 nonemapped noneudp nonebound nonesend nonesend6"},
	} {
		t.Run(name, func(t *testing.T) {
			w.use(t, ruleText(name, tc.condition, denying))
			for deed := range networkDeeds() {
				want := 0
				if names(tc.denied, deed) {
					want = int(unix.EPERM)
				}
				if code := w.does.run(t, deed, strconv.Itoa(port)); (code == int(unix.EPERM)) != (want != 0) {
					t.Errorf("%s: exit code %d, denied: %t", deed, code, want != 0)
				}
			}
		})
	}
}

// The same where other hooks stand in for those of cgroups.
func TestMeantAddresses(t *testing.T) {
	for strength, kernel := range map[enforce.Strength]string{enforce.LSM: "6.12", enforce.FmodRet: "6.1"} {
		t.Run(strength.String(), func(t *testing.T) {
			sensortest.OnlyOn(t, kernel)
			scope := sensortest.NewScope(t)
			e, err := enforce.Open(scope.Shared, enforce.Config{Strength: strength, Dimensions: event.Dimensions(0).With(event.DimNetwork)})
			if errors.Is(err, sensor.ErrNotSupported) && !has(strength) {
				t.Skip(err)
			}
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { e.Close() })
			w := &trial{scope: scope, enforcer: e, does: newDoer(t, scope)}
			w.state(t, event.Off, 1, sensor.Protected)
			port := strconv.Itoa(listenTCP(t))
			for address, denied := range map[string]string{
				"127.0.0.1": "none4 nonemapped noneudp", "::1": "none6", "127.0.0.2": "nonebound", "0.0.0.0": "none4 nonemapped noneudp nonebound", "10.0.0.1": "",
			} {
				w.use(t, ruleText(address, fmt.Sprintf("evt.operation = connect and fd.sip = %q", address), denying))
				for _, deed := range []string{"none4", "none6", "nonemapped", "noneudp", "nonebound"} {
					want := 0
					if names(denied, deed) {
						want = int(unix.EPERM)
					}
					if code := w.does.run(t, deed, port); code != want {
						t.Errorf("%s: %s: exit code %d, want %d", address, deed, code, want)
					}
				}
			}
		})
	}
}

// What the baseline holds is not asked about again under rules that wish nothing of it; others are asked at once.
func TestRulesAskAboutWhatIsKnown(t *testing.T) {
	scope, e, does, port := networkTrial(t)
	p, err := process.Open(scope.Shared)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	w := &trial{scope: scope, enforcer: e, does: does, events: sensortest.Collect(t, scope.Shared, p, e)}
	known := event.Key{Op: event.OpConnect, Protocol: event.ProtocolTCP, Address: netip.MustParsePrefix("127.0.0.1/32"), Port: uint16(port)}
	if err := e.Replace(scope.Workload, 2, []event.Key{known}); err != nil {
		t.Fatal(err)
	}
	w.state(t, event.Enforce, 2, sensor.Protected)
	elsewhere := ruleText("elsewhere", fmt.Sprintf("evt.operation = connect and fd.sport = %d", port+1), denying)
	watching := ruleText("watching", fmt.Sprintf("evt.operation = connect and fd.sport = %d", port), "")
	here := ruleText("here", fmt.Sprintf("evt.operation = connect and fd.sport = %d", port), denying)
	seen := 0
	for i, step := range []struct {
		rules  string
		denied bool
		seen   int // events
	}{{elsewhere, false, 0}, {here, true, 1}, {elsewhere, false, 0}, {watching, false, 1}, {elsewhere, false, 0}, {here, true, 1}} {
		w.use(t, step.rules)
		for range 3 {
			code := does.run(t, "connect4", strconv.Itoa(port))
			if (code == int(unix.EPERM)) != step.denied || code != 0 && !step.denied {
				t.Errorf("step %d: %d", i, code)
			}
		}
		seen += step.seen
		w.events.Wait(t, event.Access, seen)
	}
	if got := w.tally(t); got.Hits != 12 || got.Denied != 6 || got.Audited != 0 {
		t.Errorf("%+v, want 12 hits and 6 denials", got)
	}
}

// A file is opened for two uses, and rules ask about one of them. That it was allowed is remembered, the other use with it; but
// not once they ask about that, nor once a baseline does.
func TestRulesAskAboutAnotherUse(t *testing.T) {
	held := event.Dimensions(0).With(event.DimFile)
	k, scope := use(t, enforce.LSM, held)
	w := &trial{scope: scope, enforcer: k.enforcer}
	dir := t.TempDir()
	if err := fill(dir); err != nil {
		t.Fatal(err)
	}
	if err := k.enforcer.Replace(scope.Workload, 2, []event.Key{{Op: event.OpRead, Path: "/**"}}); err != nil {
		t.Fatal(err)
	}
	reads := ruleText("reads", conditionFor(event.Key{Op: event.OpRead, Path: dir + "/victim"}), denying)
	writes := ruleText("writes", conditionFor(event.Key{Op: event.OpWrite, Path: dir + "/file"}), denying)
	inForce := ""
	for i, step := range []struct {
		rules  string
		mode   event.Mode
		denied bool
	}{{reads, event.Off, false}, {writes, event.Off, true}, {reads, event.Off, false}, {reads, event.Enforce, true}, {reads, event.Off, false}} {
		if step.rules != inForce {
			w.use(t, step.rules)
			inForce = step.rules
		}
		state := sensor.State(scope.Workload, step.mode, 2, held)
		state.Flags = sensor.Protected
		if err := scope.Shared.SetWorkload(scope.ID, state); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			out, err := scope.Command(t, "/bin/sh", "-c", ": 3<>"+dir+"/file").CombinedOutput()
			if denied := strings.Contains(string(out), "Operation not permitted"); denied != step.denied || err != nil && !denied {
				t.Errorf("step %d: %v: %s", i, err, out)
			}
		}
	}
}

// As TestUpdatesLeaveNoGap, by rules: their replacement is one write too.
func TestReloadsLeaveNoGap(t *testing.T) {
	sensortest.OnlyOn(t, "5.10", "6.12")
	scope, e, does, port := networkTrial(t)
	w := &trial{scope: scope, enforcer: e, does: does}
	set := w.use(t, ruleText("deny", fmt.Sprintf("evt.operation = connect and fd.sport = %d and not proc.pname = nobody", port), denying))
	w.state(t, event.Off, 1, sensor.Protected)
	var stop atomic.Bool
	done := make(chan [2]int)
	go func() {
		rounds, reached := 0, 0
		for ; !stop.Load(); rounds++ {
			reached += does.run(t, "hammer", strconv.Itoa(port))
		}
		done <- [2]int{rounds, reached}
	}()
	for range reloads {
		if _, err := e.LoadRules(set); err != nil {
			t.Fatal(err)
		}
	}
	stop.Store(true)
	got := <-done
	t.Logf("%d reloads, %d denials", reloads, got[0]*hammerTries)
	if got[1] != 0 || w.tally(t).Denied != uint64(got[0]*hammerTries) {
		t.Errorf("%d of %d connections were made, %d denied", got[1], got[0]*hammerTries, w.tally(t).Denied)
	}
}

// names says whether a list of deeds, whose names may have spaces, has one.
func names(list, deed string) bool {
	for _, longer := range []string{"connect udp", "fast open", "bind6 udp"} {
		if longer != deed {
			list = strings.ReplaceAll(list, longer, "")
		}
	}
	return strings.Contains(" "+list+" ", " "+deed+" ")
}

const reloads = 1000

// insist opens dir/file and makes directories in dir/made until dir/stop is there. It returns how often the
// file was opened, 255 at the most, and leaves in dir/tries how often that was tried.
func insist(dir string) int {
	opened, tries := 0, 0
	for {
		tries++
		if unix.Access(dir+"/stop", unix.F_OK) == nil {
			break
		}
		fd, err := unix.Open(dir+"/file", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err == nil {
			opened++
			unix.Close(fd)
		}
		if tries%16 == 0 {
			if err := unix.Mkdir(fmt.Sprintf("%s/made/%d", dir, tries/16), 0o700); err != nil {
				return 255
			}
		}
	}
	if os.WriteFile(dir+"/tries", []byte(strconv.Itoa(tries-1)), 0o600) != nil {
		return 255
	}
	return min(opened, 255)
}

// While rules are replaced a thousand times, an operation that all of them deny does not succeed once, every
// denial is counted, and each operation that they watch is told exactly once.
func testReload(actor string) func(t *testing.T, w *trial) {
	return func(t *testing.T, w *trial) { w.testReload(t, actor) }
}

func (w *trial) testReload(t *testing.T, actor string) {
	dir := t.TempDir()
	if err := errors.Join(fill(dir), os.Mkdir(dir+"/made", 0o700)); err != nil {
		t.Fatal(err)
	}
	text := ruleText("deny", conditionFor(event.Key{Op: event.OpRead, Path: dir + "/file"})+actor, denying) +
		ruleText("watch", fmt.Sprintf("evt.operation = create and evt.path startswith %q", dir+"/made/"), "")
	set := w.use(t, text)
	before, generation := w.tally(t).Denied, w.enforcer.Rules().Generation
	w.state(t, event.Off, 1, sensor.Protected)
	done := make(chan int)
	go func() { done <- w.does.runAlone(t, "insist", dir) }()
	for range reloads {
		if _, err := w.enforcer.LoadRules(set); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(dir+"/stop", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if opened := <-done; opened != 0 {
		t.Errorf("opened %d times", opened)
	}
	said, err := os.ReadFile(dir + "/tries")
	if err != nil {
		t.Fatal(err)
	}
	tries, err := strconv.ParseUint(string(said), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	denied := w.tally(t).Denied - before
	made, err := filepath.Glob(dir + "/made/*")
	if err != nil {
		t.Fatal(err)
	}
	told := func() (n int) {
		for _, ev := range w.events.Of(event.Access) {
			if strings.HasPrefix(ev.Access.Path, dir+"/made/") {
				n++
			}
		}
		return n
	}
	sensortest.Until(t, "what was made is told", func() bool { return told() >= len(made) })
	t.Logf("%d reloads, %d denials, %d directories made and told", reloads, denied, len(made))
	if denied != tries || told() != len(made) || tries < reloads/10 {
		t.Errorf("%d denials of %d tries, %d told of %d made", denied, tries, told(), len(made))
	}
	if lost := w.scope.Lost(t); len(lost) > 0 {
		t.Errorf("lost: %v", lost)
	}
	// One of each rule, and the directories above the file.
	if r := w.enforcer.Rules(); r.Generation != generation+reloads || r.Entries != 2+strings.Count(dir, "/") {
		t.Errorf("%+v", r)
	}
}
