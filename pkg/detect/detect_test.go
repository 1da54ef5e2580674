package detect

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/plumbline-io/plumbline/pkg/alert"
	"github.com/plumbline-io/plumbline/pkg/event"
	"github.com/plumbline-io/plumbline/pkg/rule"
	"github.com/plumbline-io/plumbline/rules"
)

func builtIn(t testing.TB) *rule.Ruleset {
	t.Helper()
	entries, err := rules.Files.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	var files []rule.File
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), "_test.yaml") {
			continue
		}
		data, err := rules.Files.ReadFile(e.Name())
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, rule.File{Name: e.Name(), Data: data})
	}
	set, problems := rule.Load(files...)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	return set
}

func wall(ktime uint64) time.Time { return time.Unix(1_700_000_000, int64(ktime)) }

func subject() *Subject {
	return &Subject{Name: "nginx.service", Kind: "unit", SPIFFEID: "spiffe://d/n", IdentitySource: "template", Mode: event.Enforce}
}

func denied(path string, ktime uint64) *event.Event {
	return &event.Event{
		Kind: event.ExecCheck, Verdict: event.Deny, Hook: event.HookLSM, Ktime: ktime, Tgid: 42,
		Process: event.Process{Path: "/usr/sbin/nginx", Parent: "/usr/sbin/nginx", Lineage: []string{"/usr/sbin/nginx", "/usr/lib/systemd/systemd"}},
		Exec:    event.ExecInfo{Path: path, Filename: path},
	}
}

func TestDriftAlert(t *testing.T) {
	set, _ := rule.Load()
	d := New(Config{Ruleset: set, Hostname: "n1", Wall: wall})
	got := d.Observe(denied("/usr/bin/dash", 5), subject(), nil)
	if len(got) != 1 {
		t.Fatalf("%d alerts", len(got))
	}
	a := got[0]
	if a.Rule != rule.DriftRule || a.Severity != alert.Critical || a.Detail.Verdict != "deny" || a.Detail.Hook != "lsm" ||
		a.Detail.SPIFFEID != "spiffe://d/n" || a.Detail.Key != "/usr/bin/dash" || a.Detail.Workload != "nginx.service" ||
		len(a.Detail.Lineage) != 2 || a.Hostname != "n1" || !a.Time.Equal(wall(5)) {
		t.Errorf("%+v", a)
	}
	line, err := json.Marshal(a)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := alert.Parse(line); err != nil {
		t.Error(err)
	}
	if a.Fields["proc.exepath"] != "/usr/bin/dash" || !strings.Contains(a.Output, "Critical Executable outside the baseline (file=/usr/bin/dash parent=/usr/sbin/nginx") {
		t.Errorf("%s", line)
	}
}

// A denied execution that rules match too is one alert, which names them.
func TestOneAlertForADenial(t *testing.T) {
	d := New(Config{Ruleset: builtIn(t), Wall: wall})
	got := d.Observe(denied("/tmp/x", 5), subject(), nil)
	if len(got) != 1 || !slices.Equal(got[0].Detail.Also, []string{"Exec from temporary directory"}) {
		t.Errorf("%+v", got)
	}
}

// Under the signal rung the denied image is loaded, and its exec is seen. It never ran: no second alert.
func TestKilledExecIsNotToldTwice(t *testing.T) {
	d := New(Config{Ruleset: builtIn(t), Wall: wall})
	check := denied("/tmp/x", 5)
	check.Hook = event.HookSignal
	exec := &event.Event{Kind: event.Exec, Tgid: check.Tgid, Hook: event.HookTracepoint, Exec: check.Exec}
	got := d.Observe(exec, subject(), d.Observe(check, subject(), nil))
	if len(got) != 1 {
		t.Errorf("%d alerts, want 1", len(got))
	}
	if got := d.Observe(exec, subject(), nil); len(got) != 1 {
		t.Errorf("a later exec of the same pid: %d alerts, want 1", len(got))
	}
}

func TestVerdicts(t *testing.T) {
	set, _ := rule.Load()
	for verdict, want := range map[event.Verdict]int{event.Allow: 0, event.Audit: 1, event.Deny: 1} {
		ev := denied("/x", 1)
		ev.Verdict = verdict
		if got := New(Config{Ruleset: set, Wall: wall}).Observe(ev, subject(), nil); len(got) != want {
			t.Errorf("%s: %d alerts, want %d", verdict, len(got), want)
		}
	}
}

// access is an operation outside of a baseline.
func access(op event.Operation, path string, v event.Verdict) *event.Event {
	return &event.Event{Kind: event.Access, Verdict: v, Hook: event.HookLSM, Access: event.AccessInfo{Key: event.Key{Op: op, Path: path}}}
}

// What a workload does for the first time while it is learnt meets the rules; what deviates is drift, and
// names the rules that match too if it was denied. Each dimension has words of its own.
func TestAccess(t *testing.T) {
	set, problems := rule.Load(rule.File{Name: "r.yaml", Data: []byte("- rule: shadow\n  condition: evt.type = openat and fd.name = /etc/shadow\n  priority: error\n  output: x\n")})
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	d := New(Config{Ruleset: set, Wall: wall})
	for name, tc := range map[string]struct {
		ev   *event.Event
		want string
		also []string
	}{
		"learnt":          {access(event.OpRead, "/etc/shadow", event.Allow), "shadow", nil},
		"learnt, usual":   {access(event.OpRead, "/etc/hosts", event.Allow), "", nil},
		"denied":          {access(event.OpRead, "/etc/shadow", event.Deny), "File access outside baseline", []string{"shadow"}},
		"library":         {access(event.OpLibrary, "/tmp/libinject.so", event.Deny), "Library outside baseline", nil},
		"abstract socket": {access(event.OpUnixConnect, "@x", event.Audit), "Unix socket outside baseline", nil},
	} {
		t.Run(name, func(t *testing.T) {
			got := d.Observe(tc.ev, subject(), nil)
			if tc.want == "" {
				if len(got) != 0 {
					t.Errorf("%+v", got)
				}
				return
			}
			if len(got) != 1 || got[0].Rule != tc.want || !slices.Equal(got[0].Detail.Also, tc.also) || got[0].Detail.Key != tc.ev.Access.Key.String() {
				t.Errorf("%+v", got)
			}
		})
	}
}

// What is audited was allowed, and meets the rules too.
func TestAuditedAccess(t *testing.T) {
	set, _ := rule.Load(rule.File{Name: "r.yaml", Data: []byte("- rule: shadow\n  condition: evt.type = openat and fd.name = /etc/shadow\n  priority: error\n  output: x\n")})
	got := New(Config{Ruleset: set, Wall: wall}).Observe(access(event.OpRead, "/etc/shadow", event.Audit), subject(), nil)
	if len(got) != 2 || got[0].Rule != "File access outside baseline" || got[0].Detail.Also != nil || got[1].Rule != "shadow" {
		t.Errorf("%+v", got)
	}
}

// What a rule denies is one alert of that rule, which names the baseline and the other rules that speak against
// it too; also if the rule was replaced since. What it let pass it would have denied.
func TestDeniedByRule(t *testing.T) {
	load := func(text string) *rule.Ruleset {
		set, problems := rule.Load(rule.File{Name: "r.yaml", Data: []byte(text)})
		if len(problems) > 0 {
			t.Fatal(problems)
		}
		return set
	}
	const other = "- rule: other\n  condition: evt.operation = read and proc.name = x\n  output: x\n  priority: error\n"
	set := load("- rule: shadow\n  condition: evt.operation = read and evt.path = /etc/shadow\n  output: x\n  priority: error\n  action: deny\n  mode: enforce\n" + other)
	ev := access(event.OpRead, "/etc/shadow", event.Deny)
	ev.RuleID, ev.Access.Comm = set.Rules()[0].ID(), "x"
	const drift = "File access outside baseline"
	for name, tc := range map[string]struct {
		after    *rule.Ruleset // that is in force by now
		expected bool          // and the denying set is about to come, in its place
		deviates bool
		rule     string
		also     []string
	}{
		"known":            {nil, false, false, "shadow", []string{"other"}},
		"deviates":         {nil, false, true, "shadow", []string{drift, "other"}},
		"replaced":         {load(other), false, true, "shadow", []string{drift, "other"}},
		"to come":          {load(other), true, false, "shadow", []string{"other"}},
		"replaced, nobody": {nil, false, false, drift, []string{"shadow", "other"}},
	} {
		t.Run(name, func(t *testing.T) {
			d, ev := New(Config{Ruleset: set, Wall: wall}), *ev
			if tc.after != nil {
				d.SetRuleset(tc.after)
			}
			if tc.expected {
				d.SetRuleset(tc.after) // the set of before is forgotten
				d.Expect(set)
			}
			if tc.rule == drift {
				ev.RuleID++
			}
			ev.Deviates = tc.deviates
			got := d.Observe(&ev, subject(), nil)
			if len(got) != 1 || got[0].Rule != tc.rule || !slices.Equal(got[0].Detail.Also, tc.also) || got[0].Detail.Verdict != "deny" || got[0].Detail.Hook != "lsm" {
				t.Errorf("%+v", got)
			}
		})
	}
	passed := access(event.OpRead, "/etc/shadow", event.Allow)
	passed.Access.Comm = "x"
	got := New(Config{Ruleset: set, Wall: wall}).Observe(passed, subject(), nil)
	if len(got) != 2 || got[0].Rule != "shadow" || got[0].Detail.Verdict != "audit" || got[1].Rule != "other" || got[1].Detail.Verdict != "allow" {
		t.Errorf("%+v", got)
	}
}

// The kernel does not repeat itself: what it left out is counted too.
func TestRepeatedInTheKernel(t *testing.T) {
	d := New(Config{Wall: wall})
	ev := access(event.OpRead, "/x", event.Deny)
	ev.Access.Repeated = 41
	if got := d.Observe(ev, subject(), nil); len(got) != 1 || got[0].Fields["alert.suppressed"] != int64(41) {
		t.Errorf("%+v", got)
	}
}

func TestSteppedDown(t *testing.T) {
	d := New(Config{Wall: wall, Hostname: "n1"})
	a := d.SteppedDown(access(event.OpRead, "/x", event.Deny), subject(), event.DimFile, 61)
	if a.Rule != SteppedDownRule || a.Source != "internal" || a.Detail.Verdict != "audit" || a.Hostname != "n1" ||
		!strings.Contains(a.Output, "61 denials within a minute (dimension=file") || !strings.Contains(a.Output, "last=read /x") {
		t.Errorf("%+v", a)
	}
}

func TestCrashLoop(t *testing.T) {
	d := New(Config{Wall: wall, Hostname: "n1"})
	for how, exit := range map[string]event.ExitInfo{"last=exit code 203": {Code: 203}, "last=signal 9": {Code: -1, Signal: 9}} {
		a := d.CrashLoop(&event.Event{Kind: event.Exit, Exit: exit}, subject(), event.DimExec, 3)
		if a.Rule != SteppedDownRule || a.Detail.Key != "dimension exec" || a.Fields[CrashesField] != 3 ||
			!strings.Contains(a.Output, "has ended 3 times after denials (dimension=exec") || !strings.Contains(a.Output, how) {
			t.Errorf("%+v", a)
		}
	}
}

func TestNotReady(t *testing.T) {
	d := New(Config{Wall: wall, Hostname: "n1"})
	a := d.NotReady(time.Unix(1_800_000_000, 0), subject(), event.DimExec, "failed (failed): watchdog")
	if a.Rule != SteppedDownRule || a.Severity != alert.Critical || a.Detail.Key != "dimension exec" || a.Detail.Hook != "agent" ||
		a.Fields[ReadinessField] != "failed (failed): watchdog" || a.Time.Unix() != 1_800_000_000 ||
		!strings.Contains(a.Output, "it was ready, and is not any more after denials (dimension=exec") || !strings.Contains(a.Output, "last=failed (failed): watchdog") {
		t.Errorf("%+v", a)
	}
}

// What the alert says must not change with the reader's buffer.
func TestExecutableChanged(t *testing.T) {
	d := New(Config{Wall: wall, Hostname: "n1"})
	buffer := []byte("/usr/bin/x")
	text := unsafe.String(&buffer[0], len(buffer))
	ev := &event.Event{Kind: event.Exec, Process: event.Process{Lineage: []string{text}}, Exec: event.ExecInfo{Path: text, Args: text, Changed: 2e18}}
	a := d.ExecutableChanged(ev, subject(), time.Unix(1e9, 5))
	copy(buffer, "xxxxxxxxxx")
	if a.Rule != ExecutableChangedRule || a.Severity != alert.Warning || a.Detail.Verdict != "allow" || a.Detail.Key != "/usr/bin/x" ||
		a.Fields["proc.cmdline"] != "/usr/bin/x" || !slices.Equal(a.Detail.Lineage, []string{"/usr/bin/x"}) ||
		!strings.Contains(a.Output, "file=/usr/bin/x changed=2033-05-18T03:33:20Z before=2001-09-09T01:46:40.000000005Z") {
		t.Errorf("%+v", a)
	}
}

// The exec of a killed process is known by its start time: a pid may come back.
func TestKilledAndReused(t *testing.T) {
	d := New(Config{Ruleset: builtIn(t), Wall: wall})
	check := denied("/tmp/x", 5)
	check.Hook, check.Exec.Start = event.HookSignal, 100
	d.Observe(check, subject(), nil)
	exec := &event.Event{Kind: event.Exec, Tgid: check.Tgid, Exec: event.ExecInfo{Path: "/tmp/y", Start: 900}}
	if got := d.Observe(exec, subject(), nil); len(got) != 1 {
		t.Errorf("the exec of another process: %d alerts, want 1", len(got))
	}
}

// What is there already stays as it is.
func TestObserveAppends(t *testing.T) {
	d := New(Config{Ruleset: builtIn(t), Wall: wall, DenyWindow: time.Hour})
	first := []alert.Alert{{Rule: "before"}}
	out := d.Observe(denied("/tmp/x", 5), subject(), first)
	out = d.Observe(denied("/tmp/x", 6), subject(), out)
	if len(out) != 2 || out[0].Rule != "before" || out[0].Detail.Also != nil || len(out[1].Detail.Also) != 1 {
		t.Errorf("%+v", out)
	}
}

// Without rules there is still the baseline.
func TestNoRuleset(t *testing.T) {
	d := New(Config{Wall: wall})
	if got := d.Observe(denied("/x", 5), subject(), nil); len(got) != 1 || got[0].Rule != rule.DriftRule {
		t.Errorf("%+v", got)
	}
	d.SetRuleset(nil)
	if got := d.Observe(denied("/x", 6), subject(), nil); len(got) != 1 {
		t.Errorf("%+v", got)
	}
}

// Rules are replaced while events come: each event meets one set or the other, never none.
func TestReplaceWhileObserving(t *testing.T) {
	set := func(output string) *rule.Ruleset {
		s, problems := rule.Load(rule.File{Name: "r.yaml", Data: []byte("- rule: r\n  condition: evt.type = execve\n  priority: error\n  output: " + output + "\n")})
		if len(problems) > 0 {
			t.Fatal(problems)
		}
		return s
	}
	sets := [...]*rule.Ruleset{set("a"), set("b")}
	d := New(Config{Ruleset: sets[0], Wall: wall})
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
				d.SetRuleset(sets[i%2])
				d.Stats()
			}
		}
	}()
	for range 5000 {
		got := d.Observe(quiet(), subject(), nil)
		if len(got) != 1 || !strings.HasSuffix(got[0].Output, "Error a") && !strings.HasSuffix(got[0].Output, "Error b") {
			t.Fatalf("%+v", got)
		}
	}
	close(stop)
	<-stopped
}

// The next alert says how many equal ones were not told. The window goes by the kernel's clock: the
// wall clock may be set back meanwhile.
func TestSuppressedAreCounted(t *testing.T) {
	set, _ := rule.Load()
	at := time.Unix(1_700_000_000, 0)
	d := New(Config{Ruleset: set, Wall: func(uint64) time.Time { return at }, DenyWindow: time.Second})
	d.Observe(denied("/a", 0), subject(), nil)
	for i := range 7 {
		if got := d.Observe(denied("/a", uint64(i)), subject(), nil); len(got) != 0 {
			t.Fatalf("%+v", got)
		}
	}
	at = at.Add(-time.Hour)
	got := d.Observe(denied("/a", 1_000_000_000), subject(), nil)
	if len(got) != 1 || got[0].Fields["alert.suppressed"] != int64(7) {
		t.Errorf("%+v", got)
	}
	if got := d.Observe(denied("/a", 3_000_000_000), subject(), nil); len(got) != 1 || got[0].Fields["alert.suppressed"] != nil {
		t.Errorf("%+v", got)
	}
}

// A flood of denials that are told already costs no allocation.
func TestSuppressedDoesNotAllocate(t *testing.T) {
	d := New(Config{Ruleset: builtIn(t), Wall: wall, DenyWindow: time.Minute})
	ev, w, out := denied("/usr/bin/dash", 1), subject(), []alert.Alert(nil)
	d.Observe(ev, w, nil)
	if n := testing.AllocsPerRun(1000, func() { out = d.Observe(ev, w, out[:0]) }); n != 0 || len(out) != 0 {
		t.Errorf("%v allocations, %d alerts", n, len(out))
	}
}

// Handshakes are told apart by the peer.
func TestHandshakeKeys(t *testing.T) {
	d := New(Config{Ruleset: builtIn(t), Wall: wall, Window: time.Hour})
	keys := map[string]int{}
	for _, h := range []event.HandshakeInfo{
		{ServerName: "a"}, {ServerName: "b"}, {PeerSPIFFEID: "spiffe://d/p"}, {}, {ServerName: "a"},
	} {
		h.OK, h.Version = true, 0x0301
		ev := &event.Event{Kind: event.Handshake, Handshake: h, Process: event.Process{Path: "/usr/bin/shop"}}
		for _, a := range d.Observe(ev, subject(), nil) {
			keys[a.Detail.Key]++
		}
	}
	if want := map[string]int{"a": 1, "b": 1, "spiffe://d/p": 1, "/usr/bin/shop": 1}; !maps.Equal(keys, want) {
		t.Errorf("%v, want %v", keys, want)
	}
}

// Within the window the same thing is told once; another file, or a later time, is told again.
func TestWindow(t *testing.T) {
	set, _ := rule.Load()
	d := New(Config{Ruleset: set, Wall: wall, DenyWindow: time.Second})
	total := 0
	for _, ev := range []*event.Event{
		denied("/a", 0), denied("/a", 999_999_999), denied("/b", 1), denied("/a", 1_000_000_000),
	} {
		total += len(d.Observe(ev, subject(), nil))
	}
	if s := d.Stats(); total != 3 || s.Alerts != 3 || s.Suppressed != 1 {
		t.Errorf("%d alerts, %+v", total, s)
	}
}

func TestMemoryIsBounded(t *testing.T) {
	set, _ := rule.Load()
	d := New(Config{Ruleset: set, Wall: wall, DenyWindow: time.Hour})
	for i := range 3 * maxRecent {
		d.Observe(denied(fmt.Sprintf("/%d", i), uint64(i)), subject(), nil)
	}
	if len(d.recent) > maxRecent {
		t.Errorf("%d remembered", len(d.recent))
	}
	if d.Stats().Alerts != 3*maxRecent {
		t.Errorf("%+v", d.Stats())
	}
}

// What the alerts hold must survive the reuse of the event's buffers.
func TestAlertKeepsNothing(t *testing.T) {
	set, _ := rule.Load()
	path := []byte("/usr/bin/dash")
	ev := denied("", 1)
	ev.Exec.Path = unsafe.String(&path[0], len(path))
	a := New(Config{Ruleset: set, Wall: wall}).Observe(ev, subject(), nil)[0]
	copy(path, "XXXXXXXXXXXXX")
	if a.Detail.Key != "/usr/bin/dash" || a.Fields["proc.exepath"] != "/usr/bin/dash" || strings.Contains(a.Output, "X") {
		t.Errorf("%+v", a)
	}
}

func TestBuiltInRules(t *testing.T) {
	now := time.Unix(1_700_000_000, 0).Unix()
	exec := func(path, parent string) *event.Event {
		return &event.Event{Kind: event.Exec, Process: event.Process{Parent: parent}, Exec: event.ExecInfo{Path: path}}
	}
	handshake := func(h event.HandshakeInfo) *event.Event {
		return &event.Event{Kind: event.Handshake, Handshake: h}
	}
	good := event.HandshakeInfo{OK: true, Version: 0x0304, Suite: 0x1301, Role: event.Server}
	with := func(change func(*event.HandshakeInfo)) *event.Event {
		h := good
		change(&h)
		return handshake(h)
	}
	for name, tc := range map[string]struct {
		ev   *event.Event
		want []string
	}{
		"ordinary exec":        {exec("/usr/bin/date", "/usr/sbin/nginx"), nil},
		"shell by a shell":     {exec("/usr/bin/dash", "/usr/bin/bash"), nil},
		"shell by web server":  {exec("/usr/bin/dash", "/usr/sbin/nginx"), []string{"Web server spawns shell"}},
		"shell by database":    {exec("/usr/bin/bash", "/usr/lib/postgresql/15/bin/postgres"), []string{"Database or JVM spawns shell"}},
		"exec from /dev/shm":   {exec("/dev/shm/x", "/usr/bin/bash"), []string{"Exec from shared memory"}},
		"exec from /tmp":       {exec("/tmp/x", "/usr/bin/bash"), []string{"Exec from temporary directory"}},
		"memfd":                {&event.Event{Kind: event.Exec, Exec: event.ExecInfo{Path: "/memfd:x", Detached: true, Unlinked: true}}, []string{"Fileless execution"}},
		"deleted":              {&event.Event{Kind: event.Exec, Exec: event.ExecInfo{Path: "/usr/bin/x", Unlinked: true}}, []string{"Fileless execution"}},
		"good handshake":       {handshake(good), nil},
		"TLS 1.2":              {with(func(h *event.HandshakeInfo) { h.Version = 0x0303 }), nil},
		"TLS 1.1":              {with(func(h *event.HandshakeInfo) { h.Version = 0x0302 }), []string{"TLS version below 1.2"}},
		"certificate for long": {with(func(h *event.HandshakeInfo) { h.PeerNotAfter = now + 400*86400 }), nil},
		"certificate expires":  {with(func(h *event.HandshakeInfo) { h.PeerNotAfter = now + 3600 }), nil}, // short-lived ones are good practice
		"certificate expired":  {with(func(h *event.HandshakeInfo) { h.PeerNotAfter = now - 10 }), []string{"Peer certificate expired"}},
		"short pause":          {&event.Event{Kind: event.Pause, Pause: event.PauseInfo{GC: true, Total: 50_000}}, nil},
		"long pause":           {&event.Event{Kind: event.Pause, Pause: event.PauseInfo{GC: true, Total: 150_000_000}}, []string{"Long stop-the-world pause"}},
		"fork":                 {&event.Event{Kind: event.Fork}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			d := New(Config{Ruleset: builtIn(t), Wall: func(uint64) time.Time { return time.Unix(now, 0) }})
			var names []string
			for _, a := range d.Observe(tc.ev, subject(), nil) {
				names = append(names, a.Rule)
			}
			if !slices.Equal(names, tc.want) {
				t.Errorf("got %q, want %q", names, tc.want)
			}
		})
	}
}

func quiet() *event.Event {
	return &event.Event{
		Kind: event.Exec, Ktime: 7, Process: event.Process{Path: "/usr/bin/date", Parent: "/usr/sbin/nginx"},
		Exec: event.ExecInfo{Path: "/usr/bin/date", Args: "date -u"},
	}
}

func TestQuietEventDoesNotAllocate(t *testing.T) {
	d := New(Config{Ruleset: builtIn(t), Wall: wall, Window: time.Minute})
	ev, w, out := quiet(), subject(), []alert.Alert(nil)
	if n := testing.AllocsPerRun(1000, func() { out = d.Observe(ev, w, out[:0]) }); n != 0 || len(out) != 0 {
		t.Errorf("%v allocations, %d alerts", n, len(out))
	}
}

func BenchmarkObserveQuiet(b *testing.B) {
	d := New(Config{Ruleset: builtIn(b), Wall: wall, Window: time.Minute})
	ev, w, out := quiet(), subject(), []alert.Alert(nil)
	b.ReportAllocs()
	for b.Loop() {
		out = d.Observe(ev, w, out[:0])
	}
}

func BenchmarkObserveSuppressed(b *testing.B) {
	d := New(Config{Ruleset: builtIn(b), Wall: wall, DenyWindow: time.Minute})
	ev, w, out := denied("/usr/bin/dash", 1), subject(), []alert.Alert(nil)
	b.ReportAllocs()
	for b.Loop() {
		out = d.Observe(ev, w, out[:0])
	}
}

func BenchmarkObserveDenied(b *testing.B) {
	d := New(Config{Ruleset: builtIn(b), Wall: wall})
	ev, w, out := denied("/usr/bin/dash", 1), subject(), []alert.Alert(nil)
	b.ReportAllocs()
	for b.Loop() {
		out = d.Observe(ev, w, out[:0])
	}
}

// An alert says what its rule is about and asks for. The techniques are among its tags too, each once.
func TestAttackAndAction(t *testing.T) {
	const rest = "\n  condition: evt.type = execve\n  output: o\n  priority: error\n"
	for name, tc := range map[string]struct{ text, attack, action, tags string }{
		"both":    {"  tags: [x, T1611]\n  attack: [T1611, T1562.001]\n  action: deny\n", "T1611 T1685", "deny", "x T1611 T1685"},
		"kill":    {"  tags: [x]\n  action: kill\n", "", "kill", "x"},
		"alert":   {"  attack: T1059\n  action: alert\n", "T1059", "", "T1059"},
		"tags":    {"  tags: [T1059, T1562.001, maturity_sandbox, T1555]\n", "T1059 T1685 T1003.008", "", "T1059 T1562.001 maturity_sandbox T1555 T1685 T1003.008"},
		"neither": {"  tags: [x]\n", "", "", "x"},
	} {
		t.Run(name, func(t *testing.T) {
			set, problems := rule.Load(rule.File{Name: "r.yaml", Data: []byte("- rule: r" + rest + tc.text)})
			if len(problems) > 0 {
				t.Fatal(problems)
			}
			got := New(Config{Ruleset: set, Wall: wall}).Observe(&event.Event{Kind: event.Exec}, subject(), nil)
			if len(got) != 1 {
				t.Fatalf("%+v", got)
			}
			d := got[0].Detail
			if strings.Join(d.Attack, " ") != tc.attack || d.Action != tc.action || strings.Join(got[0].Tags, " ") != tc.tags {
				t.Errorf("%q %q %q", d.Attack, d.Action, got[0].Tags)
			}
		})
	}
}
