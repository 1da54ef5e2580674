package rule

import (
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/plumbline-io/plumbline/pkg/event"
)

// is and isNot are tests of one trait.
func is(t Trait, names ...string) TraitTest { return TraitTest{Trait: t, Names: names} }

func isNot(t Trait, names ...string) TraitTest { return TraitTest{Trait: t, Names: names, Not: true} }

const runtimeAtWork = `(basename(proc.exepath) in (runc, crun) or proc.exepath in ("/memfd:runc_cloned:/proc/self/exe"))`

// What a rule asks of who acts, as the kernel is to test it: one of some products.
func TestDenials(t *testing.T) {
	long := strings.Repeat("x", MaxFile)
	for condition, want := range map[string][][]TraitTest{
		`evt.operation = link`:                                                      {nil},
		`evt.operation = link and proc.name = sh`:                                   {{is(ActorName, "sh")}},
		`evt.operation = link and proc.name != sh`:                                  {{isNot(ActorName, "sh")}},
		`evt.operation = link and proc.name = anyof (b, a)`:                         {{is(ActorName, "a", "b")}},
		`evt.operation = link and not proc.name in (b, a, b, "", sixteen-letters-)`: {{isNot(ActorName, "a", "b")}},
		`evt.operation = link and proc.name in ("", sixteen-letters-)`:              nil,
		`evt.operation = link and not proc.name = ""`:                               {nil},
		`evt.operation = link and basename(proc.exepath) = sh`:                      {{is(ActorFile, "sh")}},
		`evt.operation = link and basename(proc.exepath) in (` + long + `)`:         {{is(ActorFile, long)}},
		`evt.operation = link and basename(proc.exepath) = a/b`:                     nil,
		`evt.operation = link and proc.exepath = "/memfd:a:/b"`:                     {{is(ActorFile, "memfd:a:/b")}},
		`evt.operation = link and proc.pname in (sh, containerd-shim-runc-v2)`:      {{is(ParentName, "sh")}},
		`evt.operation = link and basename(proc.pexepath) = containerd-shim-runc`:   {{is(ParentFile, "containerd-shim-runc")}},
		`evt.operation = link and proc.pexepath = "/memfd:a:/b"`:                    {{is(ParentFile, "memfd:a:/b")}},
		`evt.operation = link and not proc.aname in (apt, dpkg)`:                    {{isNot(AncestorName, "apt", "dpkg")}},
		`evt.operation = link and evt.verdict in (audit, deny)`:                     {{is(OutsideBaseline)}},
		`evt.operation = link and not evt.verdict != allow`:                         {{isNot(OutsideBaseline)}},
		`evt.operation = link and not evt.in_baseline = true`:                       {{isNot(InBaseline)}},
		`evt.operation = link and evt.verdict in (audit, deny, allow)`:              {nil},
		`evt.type = execve and proc.is_exe_from_memfd = true`:                       {{is(ExecMemory)}},
		`evt.type = execve and not proc.is_exe_unlinked = true`:                     {{isNot(ExecUnlinked)}},
		`evt.type = execve and proc.is_exe_detached != true`:                        {{isNot(ExecDetached)}},
		`evt.type = execve and not proc.is_exe_upper_layer in (false)`:              {{is(ExecUpper)}},
		`evt.type = execve and proc.stdio_inet = true`:                              {{is(ExecSocket)}},
		`evt.type = execve and not proc.is_cwd_detached = true`:                     {{isNot(ExecCwd)}},
		`evt.operation = ptrace and evt.by_ancestor = false`:                        {{isNot(ByAncestor)}},
		`evt.operation = read and evt.is_host_namespace = true`:                     {{is(HostNamespace)}},

		// Tests of one trait become one, but of ancestors there are many.
		`evt.operation = link and not (proc.name = a or proc.name = b)`:            {{isNot(ActorName, "a", "b")}},
		`evt.operation = link and (proc.name = b or proc.name = a)`:                {{is(ActorName, "a", "b")}},
		`evt.operation = link and proc.name in (a, b, c) and not proc.name = a`:    {{is(ActorName, "b", "c")}},
		`evt.operation = link and not proc.name = a and proc.name in (a, b)`:       {{is(ActorName, "b")}},
		`evt.operation = link and proc.name in (a, b) and proc.name in (b, c)`:     {{is(ActorName, "b")}},
		`evt.operation = link and proc.name = a and proc.name = b`:                 nil,
		`evt.operation = link and proc.aname = a and proc.aname = b`:               {{is(AncestorName, "a"), is(AncestorName, "b")}},
		`evt.operation = link and not proc.aname = a and not proc.aname = b`:       {{isNot(AncestorName, "a", "b")}},
		`evt.type = execve and proc.stdio_inet = true and proc.stdio_inet = false`: nil,

		// Products.
		`evt.operation = link and not (proc.name = a and proc.pname = b)`:                                                              {{isNot(ActorName, "a")}, {isNot(ParentName, "b")}},
		`evt.operation = link and (proc.name = a or proc.aname = a)`:                                                                   {{is(ActorName, "a")}, {is(AncestorName, "a")}},
		`evt.operation = link and not (proc.name = a or proc.aname = a)`:                                                               {{isNot(ActorName, "a"), isNot(AncestorName, "a")}},
		`evt.operation = link and not ` + runtimeAtWork:                                                                                {{isNot(ActorFile, "crun", "memfd:runc_cloned:/proc/self/exe", "runc")}},
		`evt.operation = link and ` + runtimeAtWork:                                                                                    {{is(ActorFile, "crun", "memfd:runc_cloned:/proc/self/exe", "runc")}},
		`evt.operation = link and (evt.path = /a or evt.path = /b)`:                                                                    {nil},
		`evt.operation = link and (container.id = host or proc.name = a)`:                                                              {nil, {is(ActorName, "a")}},
		`evt.type = execve and proc.exepath = /a and not proc.name = a`:                                                                {{isNot(ActorName, "a")}},
		`evt.operation = create and not proc.name = a`:                                                                                 {{isNot(ActorName, "a")}},
		`evt.operation = link and not (container.id = host and proc.args contains x) and container.id = host and container.id != host`: nil,
	} {
		t.Run(condition, func(t *testing.T) {
			set, problems := load(t, ruleOf(condition)+"  action: deny\n")
			if bad := errorsIn(problems); len(bad) > 0 {
				t.Fatal(bad)
			}
			var got [][]TraitTest
			for _, i := range set.Rules()[0].Denials() {
				if !i.Exact {
					t.Errorf("not exact: %+v", i)
				}
				if i.Kind != event.Exec { // as ExecCheck
					got = append(got, i.Traits)
				}
			}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("got %+v, want %+v", got, want)
			}
		})
	}
}

// The other tests go with those of who acts.
func TestDenialsAreWhole(t *testing.T) {
	set, problems := load(t, ruleOf(`evt.operation = write and container.id != host and (evt.path startswith /a or basename(evt.path) = b) and (evt.verdict != allow or proc.name = sh)`)+"  action: deny\n")
	paths := []PathTest{{Text: "/a", Prefix: true}, {Text: "b"}, {Text: "/b", Suffix: true}}
	want := []Interest{
		{Kind: event.Access, Op: event.OpWrite, Paths: paths, Where: InContainers, Traits: []TraitTest{is(OutsideBaseline)}, Exact: true},
		{Kind: event.Access, Op: event.OpWrite, Paths: paths, Where: InContainers, Traits: []TraitTest{is(ActorName, "sh")}, Exact: true},
	}
	if got := set.Rules()[0].Denials(); !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v", got, problems)
	}
	// What leaves the kernel says nothing of who acts.
	want = []Interest{{Kind: event.Access, Op: event.OpWrite, Paths: paths, Where: InContainers}}
	if got := set.Plan(); !reflect.DeepEqual(got, want) {
		t.Errorf("plan: got %+v", got)
	}
}

// Two products of the same tests are not changed with each other.
func TestDenialsAreApart(t *testing.T) {
	set, problems := load(t, ruleOf(`evt.operation = connect
		and ((fd.sip = 10.0.0.1 or fd.sip = 10.0.0.2 or fd.sip = 10.0.0.3) and (container.id = host or fd.sport = 1)
			or fd.sip = 10.0.0.9 and container.id = host or fd.sip = 10.0.0.10 and container.id != host)`)+"  action: deny\n")
	networks := func(last ...string) (all []netip.Prefix) {
		for _, n := range last {
			all = append(all, netip.MustParsePrefix("10.0.0."+n+"/32"))
		}
		return all
	}
	connect := Interest{Kind: event.Access, Op: event.OpConnect, Exact: true}
	onHost, toPort, inContainer := connect, connect, connect
	onHost.Networks, onHost.Where = networks("1", "2", "3", "9"), OnHost
	toPort.Networks, toPort.Ports, toPort.Where = networks("1", "2", "3"), []PortRange{{1, 1}}, Anywhere
	inContainer.Networks, inContainer.Where = networks("10"), InContainers
	if got, want := set.Rules()[0].Denials(), []Interest{onHost, toPort, inContainer}; !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v", got, problems)
	}
}

// Who only alerts denies nothing, and the kernel is told of no part of a rule.
func TestNoDenials(t *testing.T) {
	for condition, part := range map[string]string{
		`evt.operation = link and proc.args contains x`:                                       "proc.args contains x",
		`evt.operation = link and proc.name startswith x`:                                     "proc.name startswith x",
		`evt.operation = link and proc.exepath = /usr/bin/x`:                                  "proc.exepath = /usr/bin/x",
		`evt.operation = link and proc.exepath in ("/memfd:x")`:                               `proc.exepath in ("/memfd:x")`,
		`evt.operation = link and not proc.pexepath in (/usr/bin/x)`:                          "proc.pexepath in (/usr/bin/x)",
		`evt.operation = link and proc.aname[2] = x`:                                          "proc.aname[2] = x",
		`evt.operation = link and proc.pname != x`:                                            "proc.pname != x",
		`evt.operation = link and proc.name = oneof (a, b)`:                                   "proc.name = oneof (a, b)",
		`evt.operation = link and evt.verdict = deny`:                                         "evt.verdict = deny",
		`evt.operation = link and proc.name = val(proc.pname)`:                                "proc.name = val(proc.pname)",
		`evt.operation = link and basename(proc.exepath) = ` + strings.Repeat("x", MaxFile+1): "basename(proc.exepath) = " + strings.Repeat("x", MaxFile+1),
		`evt.type = execve and not basename(proc.exepath) = x`:                                "basename(proc.exepath) = x",
		`evt.type = execve and not (proc.name = a and proc.exepath = /x)`:                     "proc.exepath = /x",
	} {
		t.Run(condition, func(t *testing.T) {
			set, problems := load(t, ruleOf(condition)+"  action: deny\n")
			if bad := errorsIn(problems); len(bad) != 1 || !strings.HasSuffix(bad[0].Message, "the kernel cannot decide "+shorten(part)) || len(set.Rules()) != 0 {
				t.Errorf("%v", bad)
			}
			set, _ = load(t, ruleOf(condition))
			if r := set.Rules()[0]; r.Denials() != nil || r.InKernel() || len(r.Undecided()) != 1 {
				t.Errorf("of an alert: %+v, %+v", r.Denials(), r.Undecided())
			}
		})
	}
}

// A rule that the kernel decides matches what a denial is about, and nothing else.
func TestDenialsAreTheCondition(t *testing.T) {
	g := chance{Rand: rand.New(rand.NewPCG(5, 6))}
	var rules, actors, matches, others int
	for range 6000 {
		text := g.condition(3)
		set, problems := load(t, ruleOf(text)+"  warn_evttypes: false\n")
		if bad := errorsIn(problems); len(bad) > 0 {
			t.Fatal(bad)
		}
		r := set.Rules()[0]
		d := r.decide()
		if !d.exact {
			continue
		}
		rules++
		actors += index(slices.ContainsFunc(d.all, func(i Interest) bool { return i.Traits != nil }))
		for range 50 {
			e := g.event(r)
			match := r.Match(e) && slices.Contains(set.ForEvent(e.Event), r)
			if passes := slices.ContainsFunc(d.all, func(i Interest) bool { return i.Passes(e) }); passes != match {
				t.Fatalf("%s\nmatches: %t, is denied: %t: %s %+v\n%+v", text, match, passes, describe(e), e.Event.Process, d.all)
			}
			matches, others = matches+index(match), others+index(!match)
		}
	}
	t.Logf("%d rules are decided, %d of them by who acts; %d matches, %d others", rules, actors, matches, others)
	if rules < 1000 || actors < 200 || matches < 1000 || others < 1000 {
		t.Error("that tests little")
	}
}
