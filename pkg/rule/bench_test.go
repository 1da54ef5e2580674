package rule

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/plumbline-io/plumbline/pkg/event"
)

// everythingLoaded is the rules that ship with the agent, after Falco's stable set where that is at hand.
func everythingLoaded(tb testing.TB) *Ruleset {
	tb.Helper()
	var files []File
	if f, err := readStable(); err == nil {
		files = append(files, f)
	} else {
		tb.Log("without Falco's stable rules: ", err)
	}
	names, err := filepath.Glob("../../rules/*.yaml")
	if err != nil || len(names) == 0 {
		tb.Fatal(names, err)
	}
	for _, name := range names {
		if strings.HasSuffix(name, "_test.yaml") {
			continue
		}
		data, err := os.ReadFile(name)
		if err != nil {
			tb.Fatal(err)
		}
		files = append(files, File{Name: name, Data: data})
	}
	set, problems := Load(files...)
	if bad := errorsIn(problems); len(bad) > 0 {
		tb.Fatal(bad)
	}
	return set
}

// benign are ordinary events of a container, which no rule is about.
func benign() map[string]*Env {
	execs := shell()
	execs.Event.Exec = event.ExecInfo{
		Path: "/usr/bin/python3.11", Filename: "/usr/bin/python3", Comm: "python3", UID: 1000, Start: 100, Cwd: "/srv/app",
		Args: "python3 -m gunicorn --workers 4 --bind 0.0.0.0:8000 app.wsgi:application",
	}
	open := access(event.Key{Op: event.OpRead, Path: "/usr/lib/python3.11/site-packages/django/db/models/query.py"})
	open.Event.Access.Comm = "python3"
	connect := onAddress(event.OpConnect, event.ProtocolTCP, "10.2.3.4", 5432)
	connect.Event.Process.Args = execs.Event.Exec.Args
	all := map[string]*Env{"exec": execs, "open": open, "connect": connect}
	for _, e := range all {
		e.Workload.ContainerID = "0123456789ab"
		e.Event.Process.Parent = "/usr/bin/containerd-shim-runc-v2"
		e.Event.Process.Lineage = []string{"/usr/bin/python3.11", "/usr/bin/containerd-shim-runc-v2", "/usr/lib/systemd/systemd"}
	}
	return all
}

// An event that no rule is about costs at most two microseconds and no memory.
func BenchmarkNoMatch(b *testing.B) {
	set := everythingLoaded(b)
	for name, e := range benign() {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			var matching []*Rule
			for b.Loop() {
				matching = set.Match(e, All, matching[:0])
			}
			if len(matching) > 0 {
				b.Fatal(matching[0].Name)
			}
		})
	}
}

// What a rule needs is looked up, so that ten times the rules cost about the same.
func BenchmarkNoMatchOfMany(b *testing.B) {
	set, _ := Load(fiveHundred())
	e := benign()["exec"]
	b.ReportAllocs()
	var matching []*Rule
	for b.Loop() {
		matching = set.Match(e, All, matching[:0])
	}
	if len(matching) > 0 {
		b.Fatal(matching[0].Name)
	}
}

// One that some rule is about costs at most ten, its output included.
func BenchmarkMatching(b *testing.B) {
	set := everythingLoaded(b)
	e := shell()
	b.ReportAllocs()
	var matching []*Rule
	var out []byte
	for b.Loop() {
		matching = set.Match(e, All, matching[:0])
		out = matching[0].AppendOutput(out[:0], e)
	}
}

func TestNoMatchAllocatesNothing(t *testing.T) {
	set := everythingLoaded(t)
	for name, e := range benign() {
		var matching []*Rule
		if n := testing.AllocsPerRun(100, func() { matching = set.Match(e, All, matching[:0]) }); n != 0 || len(matching) > 0 {
			t.Errorf("%s: %v allocations, %d matches", name, n, len(matching))
		}
	}
}

// fiveHundred is a file of as many rules, with macros and lists as users write them.
func fiveHundred() File {
	var b strings.Builder
	b.WriteString("- list: shells\n  items: [sh, bash, dash, zsh, ksh]\n- macro: spawned\n  condition: evt.type in (execve, execveat)\n")
	for i := range 500 {
		fmt.Fprintf(&b, "- macro: known_%d\n  condition: (proc.pname in (a%d, b%d) or proc.cmdline startswith \"run %d\")\n", i, i, i, i)
		fmt.Fprintf(&b, "- rule: Rule %d\n  desc: One of many\n  condition: >\n    spawned and proc.name in (shells, x%d) and not known_%d\n    and (user.uid > %d or proc.exepath pmatch (/opt/%d, /srv/*/%d)) and proc.args regex \"-[a-z]+ %d\"\n", i, i, i, i, i, i, i)
		b.WriteString("  output: Something happened | process=%proc.name exe=%proc.exepath command=%proc.cmdline user=%user.uid parent=%proc.pname\n  priority: warning\n  tags: [a, b, T1059]\n")
	}
	return File{Name: "many.yaml", Data: []byte(b.String())}
}

func BenchmarkLoad(b *testing.B) {
	f := fiveHundred()
	b.ReportAllocs()
	for b.Loop() {
		if set, problems := Load(f); len(set.Rules()) != 500 || len(problems) > 0 {
			b.Fatal(problems[0])
		}
	}
}

// A hundred times what it should take, for the race detector and machines that do something else besides: what would
// fail is work that grows with the square of the rules. BenchmarkLoad measures.
func TestLoadIsQuick(t *testing.T) {
	f := fiveHundred()
	start := time.Now()
	if _, problems := Load(f); len(problems) > 0 {
		t.Fatal(problems)
	}
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("500 rules took %v", took)
	}
}
