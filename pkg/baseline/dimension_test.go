package baseline

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"github.com/plumbline-io/plumbline/pkg/event"
)

func access(k event.Key) *event.Event {
	return &event.Event{Kind: event.Access, Access: event.AccessInfo{Key: k}}
}

func on(op event.Operation, path string) event.Key { return event.Key{Op: op, Path: path} }

// to is a key of the network; "" is any address.
func to(op event.Operation, protocol event.Protocol, address string, port uint16) event.Key {
	k := event.Key{Op: op, Protocol: protocol, Port: port}
	if address != "" {
		k.Address, _ = parseAddress(address)
	}
	return k
}

func use(op event.Operation, value uint32) event.Key { return event.Key{Op: op, Value: value} }

const (
	tcp = event.ProtocolTCP
	udp = event.ProtocolUDP
)

func TestObserveAccess(t *testing.T) {
	with := func(k event.Key, change func(*event.AccessInfo)) *event.Event {
		ev := access(k)
		change(&ev.Access)
		return ev
	}
	partial := func(a *event.AccessInfo) { a.Partial = true }
	unlinked := func(a *event.AccessInfo) { a.Unlinked = true }
	detached := func(a *event.AccessInfo) { a.Detached = true }
	setUp := func(a *event.AccessInfo) { a.SetUp = true }
	for name, tc := range map[string]struct {
		ev   *event.Event
		want Outcome
	}{
		"library":             {access(on(event.OpLibrary, "/lib/libc.so.6")), Learned},
		"deleted library":     {with(on(event.OpLibrary, "/lib/x.so"), unlinked), Refused},
		"library elsewhere":   {with(on(event.OpLibrary, "/lib/x.so"), detached), Refused},
		"nameless library":    {access(on(event.OpLibrary, "[unlinked]")), Refused},
		"nameless executable": {access(on(event.OpExec, "[unlinked]")), Refused},
		"deleted file":        {with(on(event.OpRead, "[unlinked]"), unlinked), Learned},
		"pipe":                {access(on(event.OpWrite, "[pipefs]")), Learned},
		"file elsewhere":      {with(on(event.OpRead, "/x"), detached), Learned},
		"partial path":        {with(on(event.OpRead, "/x"), partial), Refused},
		"partial, not held":   {with(use(event.OpBPF, 1), partial), Known},
		"abstract socket":     {access(on(event.OpUnixConnect, "@bus")), Learned},
		"abstract file":       {access(on(event.OpRead, "@bus")), Refused},
		"file called **":      {access(on(event.OpCreate, "/tmp/**")), Refused},
		"executable **":       {exec("/tmp/**"), Refused},
		"connection":          {access(to(event.OpConnect, tcp, "10.1.2.3", 443)), Learned},
		"port 0":              {access(to(event.OpBind, udp, "::", 0)), Learned},
		"unmasked address":    {access(event.Key{Op: event.OpConnect, Address: netip.MustParsePrefix("10.1.2.3/8")}), Refused},
		"not held":            {access(use(event.OpCapability, 21)), Known},
		"no operation":        {access(event.Key{Path: "/x"}), Refused},
		"rights":              {access(on(event.OpExecAsRoot, "/bin/su")), Known},
		"known":               {access(on(event.OpRead, "/known")), Known},
		"init's":              {with(on(event.OpMount, "/proc"), setUp), Known},
		"other access":        {access(on(event.OpWrite, "/known")), Learned},
	} {
		t.Run(name, func(t *testing.T) {
			p := New("w", "unit", event.AllDimensions&^(1<<event.DimPrivilege))
			p.Add(on(event.OpRead, "/known"), false, noon)
			if got := p.Observe(tc.ev, noon); got != tc.want {
				t.Errorf("got %d, want %d", got, tc.want)
			}
			if want := tc.want == Learned; p.Has(tc.ev.Access.Key) != want && tc.want != Known && tc.ev.Kind == event.Access {
				t.Errorf("has it: %t", !want)
			}
		})
	}
}

// What is kept must not change with the reader's buffer.
func TestObserveClones(t *testing.T) {
	p := New("w", "unit", event.AllDimensions)
	buffer := []byte("/etc/passwd")
	p.Observe(access(on(event.OpRead, unsafe.String(&buffer[0], len(buffer)))), noon)
	copy(buffer, "/xxxxxxxxxx")
	k := on(event.OpRead, "/etc/passwd")
	if got := p.Keys(); !slices.Equal(got, []event.Key{k}) || !p.Has(k) {
		t.Fatalf("%v", got)
	}
	a := testing.AllocsPerRun(100, func() { p.Add(k, false, noon) })
	if a != 0 {
		t.Errorf("%v allocations for a known key", a)
	}
}

func TestHold(t *testing.T) {
	p := New("w", "unit", event.AllDimensions)
	p.Add(binary("/bin/a"), false, noon)
	p.Add(use(event.OpUserns, 0), false, noon)
	if p.Count(event.DimPrivilege) != 1 || p.Count(event.DimExec) != 1 || p.Count(event.DimFile) != 0 || p.Len() != 2 {
		t.Errorf("counts of\n%s", p.Canonical())
	}
	if err := p.Hold(execOnly); err != nil || p.Held() != execOnly || p.Len() != 1 {
		t.Errorf("%v, held %b, %d entries", err, p.Held(), p.Len())
	}
	for _, k := range []event.Key{use(event.OpUserns, 0), on(event.OpRead, "/etc/shadow")} {
		if p.Add(k, false, noon) != Known || p.Has(k) || !p.Allows(k) {
			t.Errorf("%s: not held, and still judged", k)
		}
	}
	if p.Allows(binary("/bin/b")) {
		t.Error("what is held allows what it does not list")
	}
	p.Freeze()
	if err := p.Hold(event.AllDimensions); err == nil || p.Held() != execOnly {
		t.Errorf("changed while frozen: %v", err)
	}
}

// Without executables nothing would start; the other dimensions may well be empty.
func TestPromoteEmptyDimensions(t *testing.T) {
	file := event.Dimensions(1 << event.DimFile)
	for name, tc := range map[string]struct {
		held  event.Dimensions
		key   event.Key
		ready bool
	}{
		"only executables":     {event.AllDimensions, binary("/bin/a"), true},
		"no executables":       {event.AllDimensions, on(event.OpRead, "/a"), false},
		"executables not held": {file, on(event.OpRead, "/a"), true},
		"nothing done":         {file, binary("/bin/a"), true},
		"nothing held":         {0, binary("/bin/a"), false},
	} {
		t.Run(name, func(t *testing.T) {
			p := New("w", "unit", tc.held)
			p.Add(tc.key, false, noon)
			if err := p.Promote(event.Enforce, "because"); (err == nil) != tc.ready {
				t.Errorf("%v", err)
			}
		})
	}
}

// everything is one key of every operation, and of every form.
func everything() []event.Key {
	keys := []event.Key{
		binary("/bin/a b"), on(event.OpLibrary, "/lib/libc.so.6"), on(event.OpRead, "[pipefs]"), on(event.OpRead, "/var/log/**"),
		on(event.OpUnixConnect, "@bus"), on(event.OpUnixBind, "@bus"), on(event.OpUnixConnect, "/run/x\xff\n.sock"),
		to(event.OpConnect, tcp, "10.0.0.0/8", 443), to(event.OpConnect, tcp, "10.0.0.1", 0), to(event.OpConnect, udp, "", 53),
		to(event.OpBind, 132, "::ffff:1.2.3.4", 1), to(event.OpSend, udp, "", 0), to(event.OpListen, tcp, "::", 65535),
		to(event.OpListen, tcp, "0.0.0.0/0", 80), use(event.OpCapability, 10), use(event.OpCapability, 200),
		use(event.OpPtrace, event.PtraceAttach|event.PtraceOther), use(event.OpSetuid, 0), use(event.OpSocket, 1<<31),
		use(event.OpNamespace, 0), use(event.OpNamespace, event.NamespaceEntered|28), on(event.OpExecAsGroup, "/opt/app/**"),
	}
	for o := event.OpRead; o <= event.OpMount; o++ {
		keys = append(keys, on(o, "/srv/data"))
	}
	for o := event.OpExecAsRoot; o < event.OpCount; o++ {
		keys = append(keys, on(o, "/usr/bin/x"))
	}
	for o := event.OpUserns; o < event.OpSyscall; o++ {
		if !hasValue(o) {
			keys = append(keys, use(o, 0))
		}
	}
	return keys
}

// list makes a profile of exactly these keys.
func list(t testing.TB, keys ...event.Key) *Profile {
	t.Helper()
	p := New("w", "unit", event.AllDimensions)
	for i, k := range keys {
		if err := check(k); err != nil || !p.insert(k, entry{count: 1, partial: i%5 == 3, first: secondOf(noon), last: secondOf(noon)}) {
			t.Fatalf("insert %s: %v", k, err)
		}
	}
	return p
}

func TestEveryKey(t *testing.T) {
	for _, k := range everything() {
		if again, err := ParseKey(k.String()); err != nil || again != k {
			t.Errorf("%q is read as %+v, %v", k, again, err)
		}
	}
	p := list(t, everything()...)
	again, err := Parse("f", p.Marshal())
	if err != nil {
		t.Fatalf("%v\n%s", err, p.Marshal())
	}
	if !slices.Equal(again.Keys(), p.Keys()) || !bytes.Equal(again.Marshal(), p.Marshal()) || again.Held() != p.Held() {
		t.Errorf("got\n%s\nwant\n%s", again.Marshal(), p.Marshal())
	}
	for _, k := range everything() {
		if !p.Has(k) || !again.Allows(k) {
			t.Errorf("%s is lost", k)
		}
	}
	copied := p.Clone()
	copied.Add(on(event.OpRead, "/new"), false, noon)
	copied.Add(on(event.OpLibrary, "/lib/libc.so.6"), false, noon)
	if !bytes.Equal(again.Marshal(), p.Marshal()) || bytes.Equal(copied.Marshal(), p.Marshal()) {
		t.Error("a clone is not independent")
	}
}

func TestParseKeyErrors(t *testing.T) {
	for _, text := range []string{
		"", "/" + strings.Repeat("x", 255), "exec /bin/a", "library lib.so", "read", "read ", "connect tcp 10.0.0.1/32 port 1",
		"connect tcp 10.0.0.1/8 port 1", "connect tcp any port 0", "connect tcp any", "connect tcp any  port 1",
		"connect 6 any port any", "send tcp fe80::1%eth0 port 1", "capability 10", "capability CAP_NONE", "ptrace 6", "userns", "userns 1", "unspecified 0",
		"namespace", "namespace net", "namespace new user net", "namespace 30", "exec_as_root", "exec_as_root sudo", "exec_as_root [tmpfs]",
	} {
		if k, err := ParseKey(text); err == nil {
			t.Errorf("%q is read as %+v", text, k)
		}
	}
}

// The order in which things were seen does not show, whatever they are.
func TestCanonicalOrder(t *testing.T) {
	keys := slices.DeleteFunc(everything(), func(k event.Key) bool { return isPattern(k.Path) })
	keys = append(keys, to(event.OpBind, tcp, "0.0.0.0", 0), to(event.OpBind, tcp, "0.0.0.0", 40000))
	want := ""
	for seed := range uint64(20) {
		rand.New(rand.NewPCG(seed, 1)).Shuffle(len(keys), func(i, j int) { keys[i], keys[j] = keys[j], keys[i] })
		p := New("w", "unit", event.AllDimensions)
		for _, k := range keys {
			p.Add(k, false, noon)
		}
		if want == "" {
			want = p.Digest()
		}
		if p.Digest() != want {
			t.Fatalf("seed %d:\n%s", seed, p.Canonical())
		}
	}
}

func TestSections(t *testing.T) {
	p := New("w", "unit", event.AllDimensions&^(1<<event.DimUnix))
	for _, k := range []event.Key{
		binary("/usr/sbin/nginx"), on(event.OpWrite, "/var/log/a"), on(event.OpRead, "/var/log/a"), on(event.OpRead, "/etc/passwd"),
		to(event.OpConnect, tcp, "10.0.0.1", 443), to(event.OpConnect, tcp, "2001:db8::", 0), to(event.OpBind, 132, "0.0.0.0", 80),
		use(event.OpCapability, 10), use(event.OpSetuid, 33), use(event.OpUserns, 0), use(event.OpPtrace, event.PtraceRead),
		on(event.OpExecAsRoot, "/usr/bin/sudo"), use(event.OpNamespace, 30), use(event.OpNamespace, 17|event.NamespaceEntered),
	} {
		p.Add(k, false, noon)
	}
	p.Add(on(event.OpDelete, "/var/log/a"), true, noon)
	const want = `exec:
  - path: /usr/sbin/nginx
library: []
file:
  - path: /etc/passwd
    access: [read]
  - path: /var/log/a
    access: [read, write]
  - path: /var/log/a
    access: [delete]
    partial: true
network:
  - access: connect
    protocol: tcp
    address: 10.0.0.1
    port: 443
  - access: connect
    protocol: tcp
    address: '2001:db8::'
  - access: bind
    protocol: 132
    address: 0.0.0.0
    port: 80
privilege:
  - use: capability
    value: CAP_NET_BIND_SERVICE
  - use: ptrace
    value: read
  - use: userns
  - use: setuid
    value: 33
  - use: namespace
    value: new net
  - use: namespace
    value: enter mount
  - use: exec_as_root
    path: /usr/bin/sudo
`
	if _, got, _ := strings.Cut(string(p.Canonical()), "mode: learn\n"); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// Files from when there were only executables mean what they meant.
func TestOldForm(t *testing.T) {
	p, err := Parse("f", []byte(`apiVersion: plumbline.io/v1
kind: Baseline
workload: w
workloadKind: unit
mode: enforce
exec:
  - path: /bin/a
observed:
  runs: 2
  exec:
    - path: /bin/a
      count: 7
      first: 2026-01-02T12:00:00Z
`))
	if err != nil {
		t.Fatal(err)
	}
	if p.Held() != execOnly || p.Mode() != event.Enforce || p.runs != 2 || p.entries.get(binary("/bin/a")).count != 7 {
		t.Errorf("read as\n%s", p.Marshal())
	}
	if !p.Allows(on(event.OpRead, "/x")) || p.Allows(binary("/bin/b")) {
		t.Error("more is held than executables, or less")
	}
}

func TestSectionErrors(t *testing.T) {
	for name, tc := range map[string]struct{ text, want string }{
		"no path":              {"library: [{partial: true}]\n", "f:6: library: no path"},
		"relative file":        {"file: [{path: etc, access: [read]}]\n", `f:6: file: "etc" is no absolute path`},
		"nameless library":     {"library: [{path: '[pipefs]'}]\n", `f:6: library: "[pipefs]" is no absolute path`},
		"no access":            {"file:\n  - path: /a\n", "f:7: file: no access: want some of read, write, create"},
		"empty access":         {"unix:\n  - path: /a\n    access: []\n", "f:7: unix: no access: want some of connect, bind"},
		"access of others":     {"file:\n  - path: /a\n    access:\n    - read\n    - connect\n", `f:10: file: unknown operation "connect": want one of read`},
		"access with prefix":   {"unix: [{path: /a, access: [unix_connect]}]\n", `f:6: unix: unknown operation "unix_connect"`},
		"access no list":       {"file: [{path: /a, access: read}]\n", "f:6: expected a list"},
		"access an alias":      {"file:\n- {path: /a, access: [&r read]}\n- path: /b\n  access: [*r]\n", "f:9: expected one value"},
		"twice":                {"file:\n- {path: /a, access: [read]}\n- {path: /a, access: [write, read]}\n", `f:8: file: "read /a" is listed twice`},
		"library twice":        {"library: [{path: /a}, {path: /a}]\n", `f:6: library: "/a" is listed twice`},
		"network field":        {"network: [{access: connect, protocol: tcp, adress: 10.0.0.1}]\n", `f:6: unknown field "adress"`},
		"no protocol":          {"network: [{access: connect}]\n", "f:6: network: no protocol"},
		"bad protocol":         {"network:\n- access: connect\n  protocol: 256\n", `f:8: network: protocol: unknown protocol "256"`},
		"bad address":          {"network: [{access: connect, protocol: tcp, address: localhost}]\n", `f:6: network: address: "localhost" is no address or prefix`},
		"empty address":        {"network: [{access: connect, protocol: tcp, address: }]\n", `f:6: network: address: "" is no address or prefix`},
		"unmasked address":     {"network: [{access: connect, protocol: tcp, address: 10.0.0.1/8}]\n", "f:6: network: address: 10.0.0.1/8 has bits behind its length: want 10.0.0.0/8"},
		"port 0":               {"network: [{access: connect, protocol: tcp, port: 0}]\n", `f:6: network: port: "0" is no number from 1 to 65535`},
		"port too large":       {"network: [{access: connect, protocol: tcp, port: 65536}]\n", `f:6: network: port: "65536" is no number`},
		"network access":       {"network: [{access: read, protocol: tcp}]\n", `f:6: network: unknown operation "read": want one of connect, bind, listen, send`},
		"no use":               {"privilege: [{value: 1}]\n", "f:6: privilege: no use"},
		"no value":             {"privilege: [{use: setuid}]\n", "f:6: privilege: no value"},
		"value of none":        {"privilege: [{use: userns, value: 0}]\n", "f:6: privilege: value: userns has none"},
		"bad value":            {"privilege: [{use: capability, value: CAP_X}]\n", `f:6: privilege: value: unknown value "CAP_X"`},
		"no ptrace value":      {"privilege: [{use: ptrace, value: 7}]\n", "f:6: privilege: value: 7 is no value of ptrace"},
		"path of a number":     {"privilege: [{use: namespace, value: new net, path: /x}]\n", "f:6: privilege: path: namespace has none"},
		"value of a path":      {"privilege: [{use: exec_as_root, path: /x, value: 0}]\n", "f:6: privilege: value: exec_as_root has none"},
		"no path of rights":    {"privilege: [{use: exec_as_user}]\n", "f:6: privilege: no path"},
		"relative path":        {"privilege: [{use: exec_as_user, path: x}]\n", `f:6: privilege: "x" is no absolute path`},
		"no namespace":         {"privilege: [{use: namespace, value: net}]\n", `f:6: privilege: value: unknown value "net" of namespace`},
		"use of others":        {"privilege: [{use: connect}]\n", `f:6: privilege: unknown operation "connect"`},
		"long pattern":         {"file: [{path: /" + strings.Repeat("x", 240) + "/**, access: [read]}]\n", `f:6: file: "/xxx`},
		"pattern of no path":   {"unix: [{path: '@a/**', access: [bind]}]\n", `f:6: unix: "@a/**" is no pattern`},
		"observed twice":       {"exec: [{path: /a}]\nobserved:\n  entries:\n  - key: /a\n  - key: /a\n", `f:10: observed: "/a" stands here twice`},
		"observed, not listed": {"exec: []\nobserved:\n  entries:\n  - key: read /a\n", `f:9: observed: "read /a" is not in file`},
		"observed, no key":     {"observed:\n  entries:\n  - key: readx /a\n", `f:8: observed: parse key "readx /a": unknown operation`},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Parse("f", []byte("apiVersion: plumbline.io/v1\nkind: Baseline\nworkload: w\nworkloadKind: unit\nmode: learn\n"+tc.text))
			if err == nil || !strings.HasPrefix(err.Error(), tc.want) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
}

// covers says whether wide stands for k, too.
func covers(wide, k event.Key) bool {
	if wide.Op != k.Op {
		return false
	}
	if isPattern(wide.Path) {
		dir := directory(wide.Path)
		return len(k.Path) > len(dir) && strings.HasPrefix(k.Path, dir)
	}
	if !wide.Op.OnAddress() {
		return wide == k
	}
	a, b := wide.Address, k.Address
	return wide.Protocol == k.Protocol && (wide.Port == 0 || wide.Port == k.Port) &&
		(!a.IsValid() || b.IsValid() && a.Bits() <= b.Bits() && a.Contains(b.Addr()))
}

func TestAllows(t *testing.T) {
	p := list(
		t, on(event.OpRead, "/var/log/**"), on(event.OpWrite, "/etc/x"), binary("/opt/app/**"),
		to(event.OpConnect, tcp, "10.0.0.0/8", 443), to(event.OpConnect, tcp, "10.1.2.3", 0), to(event.OpSend, udp, "", 53),
		to(event.OpListen, tcp, "::/0", 0), use(event.OpCapability, 10),
	)
	for name, tc := range map[string]struct {
		key  event.Key
		want bool
	}{
		"below":                {on(event.OpRead, "/var/log/nginx/a"), true},
		"directory itself":     {on(event.OpRead, "/var/log"), false},
		"directory with slash": {on(event.OpRead, "/var/log/"), false},
		"pattern itself":       {on(event.OpRead, "/var/log/**"), true},
		"narrower pattern":     {on(event.OpRead, "/var/log/a/**"), true},
		"wider pattern":        {on(event.OpRead, "/var/**"), false},
		"beside":               {on(event.OpRead, "/var/logs/a"), false},
		"other access below":   {on(event.OpWrite, "/var/log/a"), false},
		"listed":               {on(event.OpWrite, "/etc/x"), true},
		"below a file":         {on(event.OpWrite, "/etc/x/y"), false},
		"executable below":     {binary("/opt/app/bin/x"), true},
		"library below":        {on(event.OpLibrary, "/opt/app/bin/x"), false},
		"in prefix":            {to(event.OpConnect, tcp, "10.9.9.9", 443), true},
		"in prefix, narrower":  {to(event.OpConnect, tcp, "10.9.0.0/16", 443), true},
		"prefix wider":         {to(event.OpConnect, tcp, "8.0.0.0/6", 443), false},
		"in prefix, other":     {to(event.OpConnect, tcp, "10.9.9.9", 80), false},
		"in prefix, any port":  {to(event.OpConnect, tcp, "10.9.9.9", 0), false},
		"any port":             {to(event.OpConnect, tcp, "10.1.2.3", 80), true},
		"other protocol":       {to(event.OpConnect, udp, "10.1.2.3", 80), false},
		"other operation":      {to(event.OpBind, tcp, "10.1.2.3", 80), false},
		"mapped":               {to(event.OpConnect, tcp, "::ffff:10.1.2.3", 80), false},
		"any address":          {to(event.OpSend, udp, "::1", 53), true},
		"asks for any":         {to(event.OpConnect, tcp, "", 443), false},
		"all of one version":   {to(event.OpListen, tcp, "2001:db8::1", 5), true},
		"not of the other":     {to(event.OpListen, tcp, "1.2.3.4", 5), false},
		"capability":           {use(event.OpCapability, 10), true},
		"other capability":     {use(event.OpCapability, 11), false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := p.Allows(tc.key); got != tc.want {
				t.Errorf("%s: allowed %t", tc.key, got)
			}
			covered := slices.ContainsFunc(p.Keys(), func(wide event.Key) bool { return covers(wide, tc.key) })
			if covered != tc.want {
				t.Errorf("%s: covered %t", tc.key, covered)
			}
		})
	}
	before := p.Len()
	if got := p.Add(on(event.OpRead, "/var/log/x"), false, noon); got != Known || p.Len() != before {
		t.Errorf("learnt %d what a pattern stands for", got)
	}
	if e := p.entries.get(on(event.OpRead, "/var/log/**")); e.count != 2 {
		t.Errorf("the pattern counts %d", e.count)
	}
}

func TestMergeDimensions(t *testing.T) {
	a, b := New("w", "unit", execOnly), New("w", "unit", event.AllDimensions)
	if err := a.Merge(b); err == nil || !strings.HasSuffix(err.Error(), "only one of them holds library, file, unix, network, privilege") {
		t.Errorf("%v", err)
	}
	if d := Diff(a, b); d.Held != b.held&^execOnly || d.Released != 0 || d.Empty() {
		t.Errorf("%+v", d)
	}
	if d := Diff(b, a); d.Released != b.held&^execOnly || d.Held != 0 {
		t.Errorf("%+v", d)
	}
}

// What a pattern stands for is no news, and is listed once whichever side has the pattern.
func TestMergePatterns(t *testing.T) {
	wide, narrow := list(t, on(event.OpRead, "/tmp/**")), list(t, on(event.OpRead, "/tmp/a"), on(event.OpRead, "/tmp/b"))
	for name, order := range map[string][2]*Profile{"into wide": {wide.Clone(), narrow}, "into narrow": {narrow.Clone(), wide}} {
		t.Run(name, func(t *testing.T) {
			p := order[0]
			if err := p.Merge(order[1]); err != nil {
				t.Fatal(err)
			}
			if e := p.entries.get(on(event.OpRead, "/tmp/**")); p.Len() != 1 || e.count != 3 {
				t.Errorf("merged:\n%s", p.Marshal())
			}
			if news := name == "into narrow"; p.novelty != news {
				t.Errorf("novelty %t", p.novelty)
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	p := New("w", "unit", event.AllDimensions)
	p.Add(binary("/bin/a"), false, noon)
	f.Add(p.Marshal())
	f.Add(list(f, everything()...).Marshal())
	f.Add(calling(f, "read", "read (32-bit)", "400").Marshal())
	f.Add([]byte("a: &a [*a, *a]\n"))
	f.Add([]byte("apiVersion: plumbline.io/v1\nkind: Baseline\nworkload: w\nmode: audit\nforced: x\nfrozen: true\nexec: [{path: /a, partial: true}, {path: !!binary L/8=}]\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := Parse("f", data)
		if err != nil {
			return
		}
		again, err := Parse("f", p.Marshal())
		if err != nil || !bytes.Equal(again.Canonical(), p.Canonical()) || !bytes.Equal(again.Marshal(), p.Marshal()) {
			t.Fatalf("round trip: %v\n%s", err, p.Marshal())
		}
		if !slices.Equal(again.Keys(), p.Keys()) || again.Held() != p.Held() {
			t.Errorf("other keys:\n%s", p.Marshal())
		}
	})
}

func FuzzParseKey(f *testing.F) {
	for _, k := range everything() {
		f.Add(k.String())
	}
	f.Fuzz(func(t *testing.T, text string) {
		k, err := ParseKey(text)
		if err == nil && (k.String() != text || check(k) != nil) {
			t.Errorf("%q is read as %+v", text, k)
		}
	})
}

// BenchmarkObserve is the cost of what happens again and again: 0 allocations.
func BenchmarkObserve(b *testing.B) {
	p := New("w", "unit", event.AllDimensions)
	for i := range MaxEntries / 2 {
		p.Add(on(event.OpRead, fmt.Sprintf("/srv/data/%d", i)), false, noon)
	}
	p.insert(on(event.OpRead, "/var/log/**"), entry{})
	p.insert(to(event.OpConnect, tcp, "10.0.0.0/8", 0), entry{})
	for name, ev := range map[string]*event.Event{
		"executable": exec("/bin/a"), "file": access(on(event.OpRead, "/srv/data/17")), "pattern": access(on(event.OpRead, "/var/log/a/b")),
		"address": access(to(event.OpConnect, tcp, "192.0.2.1", 443)), "prefix": access(to(event.OpConnect, tcp, "10.1.2.3", 443)),
	} {
		b.Run(name, func(b *testing.B) {
			p.Observe(ev, noon)
			b.ReportAllocs()
			for b.Loop() {
				p.Observe(ev, noon)
			}
		})
	}
}
