package enforce

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/plumbline-io/plumbline/pkg/event"
	"github.com/plumbline-io/plumbline/pkg/rule"
	"github.com/plumbline-io/plumbline/pkg/sensor/sensortest"
)

// ruling is what the kernel makes of an operation.
type ruling struct {
	told  bool   // it leaves the kernel
	rule  uint32 // that denies it, 0: none does
	kills bool
}

// judge does as the kernel does: decide_path and decide_fact of bpf/policy.h, and judge of bpf/deed.h.
func (w *wishes) judge(e *rule.Env) ruling {
	made := ruling{told: e.Event.Kind == event.ExecCheck}
	for _, wish := range w.find(e.Event) {
		where, set := rule.OnHost, wish.DenyHost
		if e.Workload.ContainerID != "" {
			where, set = rule.InContainers, wish.DenyContainer
		}
		made.told = made.told || wish.Watch&uint32(where) != 0
		if set == 0 {
			continue
		}
		denials := w.denials.value(set)
		for _, d := range denials.Of {
			has := w.properties(e, d.Ask)
			if d.Rule == 0 || d.Require&^has != 0 || d.Forbid&has != 0 {
				continue
			}
			made.rule = cmp.Or(made.rule, d.Rule)
			made.kills = made.kills || d.Ask&kills != 0
		}
	}
	return made
}

// properties of a deed that hang on some traits.
func (w *wishes) properties(e *rule.Env, ask uint32) uint64 {
	ev, has := e.Event, uint64(0)
	is := func(t rule.Trait, yes bool) {
		if yes {
			has |= 1 << (t - rule.ExecMemory)
		}
	}
	named := func(t rule.Trait, path string, most int) {
		name := path[strings.LastIndex(path, "/")+1:]
		if ask&(1<<t) != 0 {
			has |= w.denials.names[traitName{t, name[:min(len(name), most)]}]
		}
	}
	is(rule.OutsideBaseline, ev.Verdict != event.Allow)
	is(rule.InBaseline, ev.Kind == event.Access && ev.Access.Known)
	if x := &ev.Exec; ev.Kind == event.ExecCheck {
		named(rule.ActorName, x.Filename, rule.MaxName)
		is(rule.ExecMemory, x.Detached && strings.HasPrefix(x.Path, "/memfd:"))
		is(rule.ExecUnlinked, x.Unlinked)
		is(rule.ExecDetached, x.Detached)
		is(rule.ExecUpper, x.Upper)
		is(rule.ExecSocket, x.StdioInet)
		is(rule.ExecCwd, x.CwdDetached)
	} else {
		is(rule.ByAncestor, ev.Access.ByAncestor)
		is(rule.HostNamespace, ev.Access.HostNamespace)
		named(rule.ActorName, ev.Access.Comm, rule.MaxName)
		named(rule.ActorFile, ev.Process.Path, rule.MaxFile+1)
	}
	for i, path := range ev.Process.Lineage {
		if i == 0 {
			named(rule.ParentName, path, rule.MaxName)
			named(rule.ParentFile, path, rule.MaxFile+1)
		}
		named(rule.AncestorName, path, rule.MaxName)
	}
	return has
}

// find are the wishes that the kernel finds of an event.
func (w *wishes) find(ev *event.Event) []bpfWish {
	op := event.OpExec
	if ev.Kind == event.Access {
		op = ev.Access.Op
	}
	if w.ops&(1<<op) == 0 {
		return nil
	}
	switch {
	case op.OnPath():
		path := ev.Access.Path
		if ev.Kind == event.ExecCheck {
			path = ev.Exec.Path
		}
		wish, ok := w.paths[textWish{op, path}]
		if !ok {
			wish = longest(w.prefixes, op, path[:min(len(path), rule.MaxPrefix)])
		}
		return []bpfWish{wish, longest(w.suffixes, op, reversed(path[max(0, len(path)-rule.MaxSuffix):]))}
	case op.OnNumber():
		return []bpfWish{w.longestFact(factWish{op: op, value: ev.Access.Value, bits: 32})}
	}
	if name := len(ev.Access.Question.Name); op == event.OpDNSQuery && uint32(name+6) < w.leastQuestion() {
		return nil // the length of the first label, that of the root, type and class
	}
	fact := factWish{op: op, bits: 128, address: ev.Access.Address.Addr().As16()}
	protocol, port := uint32(ev.Access.Protocol)<<16, uint32(ev.Access.Port)
	var all []bpfWish
	for _, fact.value = range []uint32{protocol | port, protocol, port, 0} {
		all = append(all, w.longestFact(fact))
	}
	return all
}

func longest(in map[textWish]bpfWish, op event.Operation, text string) bpfWish {
	for n := len(text); n >= 0; n-- {
		if wish, ok := in[textWish{op, text[:n]}]; ok {
			return wish
		}
	}
	return bpfWish{}
}

func (w *wishes) longestFact(f factWish) bpfWish {
	for {
		if wish, ok := w.facts[f]; ok || f.bits == 0 {
			return wish
		}
		f = f.cut(f.bits - 1)
	}
}

// chance makes random rules and events of a small world, in which they meet often.
type chance struct{ *rand.Rand }

func (g chance) pick(from ...string) string { return from[g.IntN(len(from))] }

func (g chance) path() string {
	return g.pick("/", "/a", "/a/b", "/a/b/c", "/ab", "/ab/c.key", "/c", "@x", "[pipefs]", "/"+strings.Repeat("d", 250), "/"+strings.Repeat("d", 254))
}

func (g chance) check() string {
	switch g.IntN(8) {
	case 0, 1:
		return "evt.operation in (" + g.pick("read", "link", "connect, send", "capability", "read, socket", "ptrace", "write, create") + ")"
	case 2:
		return g.pick("evt.path", "evt.path", "proc.exepath") + g.pick(" = ", " startswith ", " endswith ") + g.path()
	case 3:
		return g.pick("evt.path", "proc.exepath") + g.pick(" in ", " pmatch ") + "(" + g.path() + ", " + g.pick("/a", "/a/b", "/zz") + ")"
	case 4:
		return "container.id " + g.pick("= host", "!= host", "= abc")
	case 5:
		return g.pick("fd.sip = 10.0.0.0/8", "fd.sip in (10.0.0.1, ::1)", "fd.sip = ::/0", "fd.sport = 22", "fd.sport < 3", "fd.sport > 100", "fd.l4proto = tcp", "fd.l4proto = 0")
	case 6:
		return g.pick("evt.value = CAP_CHOWN", "evt.value startswith attach", "evt.arg.domain = AF_PACKET", "evt.value = 1114115")
	}
	return g.pick("proc.name = sh", "basename(evt.path) = b", "evt.type = execve")
}

// actor is a check of who acts, or of the file that is executed.
func (g chance) actor() string {
	names := " in (" + g.pick("sh", "nginx", "a-name-of-15-by") + ", " + g.pick("x", "runc", "boss") + ")"
	switch g.IntN(6) {
	case 0:
		return "proc.name" + names
	case 1:
		return "basename(proc.exepath)" + names
	case 2:
		return g.pick("proc.pname", "basename(proc.pexepath)") + names
	case 3:
		return "proc.aname" + names
	case 4:
		return g.pick("evt.verdict in (audit, deny)", "evt.in_baseline = true", "evt.by_ancestor = true", "evt.is_host_namespace = true")
	}
	return g.pick("proc.is_exe_from_memfd", "proc.is_exe_unlinked", "proc.is_exe_detached", "proc.is_exe_upper_layer", "proc.stdio_inet", "proc.is_cwd_detached") + " = true"
}

func (g chance) condition(depth int) string {
	switch {
	case depth == 0 && g.IntN(3) == 0:
		return g.actor()
	case depth == 0 || g.IntN(4) == 0:
		return g.check()
	}
	parts := make([]string, 2)
	for i := range parts {
		parts[i] = g.pick("", "", "", "not ") + "(" + g.condition(depth-1) + ")"
	}
	return strings.Join(parts, g.pick(" and ", " and ", " or "))
}

func (g chance) event() *rule.Env {
	program := func() string {
		return g.pick("/bin/sh", "/usr/sbin/nginx", "/x", "/bin/runc", "/opt/boss", "/memfd:x", "/a-name-of-16-byt")
	}
	ev := &event.Event{Kind: event.Access, Process: event.Process{Path: program(), Lineage: []string{program(), program(), program()}}}
	ev.Verdict = []event.Verdict{event.Allow, event.Allow, event.Audit, event.Deny}[g.IntN(4)]
	ev.Access.Known = ev.Verdict == event.Allow && g.IntN(2) == 0
	ops := []event.Operation{event.OpRead, event.OpWrite, event.OpCreate, event.OpLink, event.OpConnect, event.OpSend, event.OpCapability, event.OpSocket, event.OpPtrace}
	if n := g.IntN(len(ops) + 1); n < len(ops) {
		ev.Access.Op = ops[n]
	} else {
		ev.Kind, ev.Exec.Path, ev.Exec.Filename = event.ExecCheck, g.path(), g.pick("", "/bin/")+g.pick("sh", "x", "a-name-of-15-byte")
		x := &ev.Exec
		for i, flag := range []*bool{&x.Unlinked, &x.Detached, &x.Upper, &x.StdioInet, &x.CwdDetached} {
			*flag = g.IntN(8) == i
		}
		if x.Detached && g.IntN(2) == 0 {
			x.Path = "/memfd:x"
		}
	}
	ev.Access.ByAncestor, ev.Access.HostNamespace = g.IntN(3) == 0, g.IntN(3) == 0
	ev.Access.Comm = g.pick("sh", "x", "runc")
	switch a := &ev.Access; {
	case a.Op.OnPath():
		a.Path = g.path()
	case a.Op.OnAddress():
		address := netip.MustParseAddr(g.pick("10.0.0.1", "10.9.9.9", "192.0.2.1", "::1", "2001:db8::1"))
		a.Address, a.Port = netip.PrefixFrom(address, address.BitLen()), []uint16{1, 2, 22, 443}[g.IntN(4)]
		a.Protocol = []event.Protocol{event.ProtocolTCP, event.ProtocolUDP, 132}[g.IntN(3)]
	case a.Op == event.OpPtrace:
		a.Value = []uint32{1, 2, 257, 258}[g.IntN(4)]
	case a.Op.OnNumber():
		a.Value = []uint32{0, 1, 21, 17<<16 | 3, 2<<16 | 3}[g.IntN(5)]
	}
	return &rule.Env{Event: ev, Workload: rule.Workload{ContainerID: g.pick("", "abc", "def")}}
}

// What the kernel's tables let out, and the rules asked about that, is what the rules say of everything; and
// what the tables deny is what the rules that deny match, in the same workloads and with the same action.
func TestWishesAndRulesAgree(t *testing.T) {
	sensortest.ByHand(t) // no kernel has a part in it
	g := chance{rand.New(rand.NewPCG(5, 6))}
	var matched, withheld, denied, killed int
	for range 1500 {
		set := g.ruleset()
		w, err := compileWishes(set)
		if err != nil {
			t.Fatal(err)
		}
		for range 60 {
			e := g.event()
			made := w.judge(e)
			matching := set.Match(e, rule.All, nil)
			stopping := slices.DeleteFunc(slices.Clone(matching), func(r *rule.Rule) bool { return !Denies(r) })
			by := set.ByID(made.rule)
			switch {
			case len(matching) > 0 && !made.told:
				t.Fatalf("%s\nmatches what stays in the kernel: %+v", matching[0].Condition(), e.Event.Access)
			case made.rule == 0 && len(stopping) > 0:
				t.Fatalf("%s\nis not denied: %+v", stopping[0].Condition(), e.Event)
			case made.rule != 0 && !slices.Contains(stopping, by):
				t.Fatalf("%s\ndenies what it does not match: %+v", by.Condition(), e.Event)
			case made.rule != 0 && made.kills != slices.ContainsFunc(stopping, func(r *rule.Rule) bool { return r.Action == rule.Kill }):
				t.Fatalf("%s %s: %+v", by.Action, by.Condition(), made)
			}
			for n, counter := range map[bool]*int{len(matching) > 0: &matched, !made.told: &withheld, made.rule != 0: &denied, made.kills: &killed} {
				if n {
					*counter++
				}
			}
		}
	}
	t.Logf("%d events matched, %d stayed in the kernel, %d denied, %d kills", matched, withheld, denied, killed)
	if min(matched, withheld, denied, killed) < 500 {
		t.Error("that tests little")
	}
}

// ruleset makes three rules; those that cannot be decided in the kernel alert only.
func (g chance) ruleset() *rule.Ruleset {
	var text strings.Builder
	for i := range 3 {
		one := fmt.Sprintf("- rule: r%d\n  condition: %q\n  output: o\n  priority: warning\n  warn_evttypes: false\n  mode: %s\n", i, g.condition(2), g.pick("enforce", "enforce", "audit"))
		decided := one + "  action: " + g.pick("deny", "kill") + "\n"
		if set, _ := rule.Load(rule.File{Name: "r.yaml", Data: []byte(decided)}); len(set.Rules()) == 1 {
			one = decided
		}
		text.WriteString(one)
	}
	set, _ := rule.Load(rule.File{Name: "r.yaml", Data: []byte(text.String())})
	return set
}

// A ruleset that does not fit is refused as a whole: half of it would be a lie.
func TestTooManyWishes(t *testing.T) {
	var text strings.Builder
	for i := range 5 {
		fmt.Fprintf(&text, "- rule: r%d\n  condition: evt.operation = connect and fd.sport >= %d and fd.sport < %d and fd.l4proto in (tcp)\n  output: o\n  priority: warning\n", i, i*4000, i*4000+4000)
		fmt.Fprintf(&text, "- rule: s%d\n  condition: evt.operation = send and fd.sport in (%s)\n  output: o\n  priority: warning\n", i, numbers(i*4000, 4000))
	}
	set, problems := rule.Load(rule.File{Name: "r.yaml", Data: []byte(text.String())})
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	if _, err := compileWishes(set); err == nil || !strings.Contains(err.Error(), "more than 16384 addresses and numbers") {
		t.Error(err)
	}
}

func numbers(from, n int) string {
	list := make([]string, n)
	for i := range list {
		list[i] = fmt.Sprint(from + i)
	}
	return strings.Join(list, ", ")
}
