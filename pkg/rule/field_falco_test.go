package rule

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// falcoField is a field as Falco has it.
type falcoField struct {
	name, kind string
	argument   string // allowed, required
}

func readFalcoFields(t *testing.T) []falcoField {
	t.Helper()
	data, err := os.ReadFile("testdata/falco_fields.txt")
	if err != nil {
		t.Fatal(err)
	}
	var all []falcoField
	for line := range strings.Lines(string(data)) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		words := append(strings.Fields(line), "")
		all = append(all, falcoField{words[0], words[1], words[2]})
	}
	return all
}

// uses are the ways in which a rule may name the field.
func (f falcoField) uses() []string {
	switch {
	case f.name == "evt.arg" || f.name == "evt.rawarg":
		return []string{f.name + ".fd1", f.name + ".res", f.name + ".path", f.name + "[0]"}
	case f.name == "evt.type.is":
		return []string{"evt.type.is.31"}
	case f.name == "evt.abspath":
		return []string{"evt.abspath.src", "evt.abspath.dst", "evt.abspath"}
	case f.name == "evt.around":
		return []string{"evt.around[100]"}
	case f.argument == "required" && strings.Contains(f.name, ".mount"):
		return []string{f.name + "[0]", f.name + "[/host*]"}
	case f.argument == "required":
		return []string{f.name + ".app", f.name + "[app]"}
	case f.argument == "allowed":
		return []string{f.name, f.name + "[1]"}
	}
	return []string{f.name}
}

// Every field that Falco has is known, by its type, in conditions and outputs: none loses a rule, but for the one that
// is refused. Of what is not supplied a warning says why, in its place.
func TestEveryFalcoField(t *testing.T) {
	known := map[string]FieldInfo{}
	for _, f := range Fields() {
		known[f.Name] = f
	}
	all := readFalcoFields(t)
	if len(all) != 384 {
		t.Errorf("%d fields", len(all))
	}
	missing := 0
	for _, f := range all {
		info, is := known[f.name]
		if !is {
			t.Errorf("%s is not known", f.name)
			continue
		}
		if !info.Supplied {
			missing++
			kinds := map[string]string{"fd.proto": "any"}
			if want := kinds[f.name]; info.Type != f.kind && info.Type != want {
				t.Errorf("%s is a %s, not a %s", f.name, f.kind, info.Type)
			}
		}
		for _, use := range f.uses() {
			text := fmt.Sprintf("- rule: r\n  condition: evt.type = execve and not %s exists\n  output: of %%%s.\n  priority: error\n", use, use)
			set, problems := Load(File{Name: "r.yaml", Data: []byte(text)})
			if f.name == "evt.buffer" || use == "evt.buffer" {
				if len(set.Rules()) != 0 || len(problems) != 1 || problems[0].ID != refusedField || !problems[0].Warning {
					t.Errorf("%s: %d rules, %v", use, len(set.Rules()), problems)
				}
				continue
			}
			if len(set.Rules()) != 1 {
				t.Errorf("%s: %v", use, problems)
				continue
			}
			e := shell()
			if got := string(set.Rules()[0].AppendOutput(nil, e)); !strings.HasSuffix(got, ".") || len(problems) > 0 && got != "of <NA>." {
				t.Errorf("%s: output %q with %v", use, got, problems)
			}
			supplied := info.Supplied && use != "proc.args[1]" || use == "evt.arg.path"
			if want := map[bool]int{true: 0, false: 2}[supplied]; len(problems) != want {
				t.Errorf("%s: supplied %t, %v", use, supplied, problems)
			}
			for _, p := range problems {
				if p.ID != notSupplied || !p.Warning || p.Line != 2 && p.Line != 3 || !strings.Contains(p.Message, use+" is not supplied: ") {
					t.Errorf("%s: %+v", use, p)
				}
			}
		}
	}
	if missing != 255 {
		t.Errorf("%d fields of Falco's are not supplied", missing)
	}
}

// A field that nobody has is an error, which offers one that is alike.
func TestUnknownFalcoField(t *testing.T) {
	for field, hint := range map[string]string{
		"proc.nmae": "proc.name", "fd.nam": "fd.name", "evt.arg.fooflags": "evt.arg.flags", "evt.latncy": "evt.latency",
		"thread.cap_permited": "thread.cap_permitted", "evt.rawarg.nosuch": "evt.rawres", "container.lable.app": "", "zz.top": "", "k8s.pod.nmae": "k8s.pod.name",
	} {
		for _, text := range []string{
			"- rule: r\n  condition: evt.type = execve and " + field + " = 1\n  output: o\n  priority: error\n",
			"- rule: r\n  condition: evt.type = execve\n  output: o %" + field + "\n  priority: error\n",
		} {
			set, problems := Load(File{Name: "r.yaml", Data: []byte(text)})
			if len(set.Rules()) != 0 || len(problems) != 1 || problems[0].ID != unknownName || problems[0].Warning {
				t.Errorf("%s: %v", field, problems)
				continue
			}
			if want := "(did you mean " + hint + "?)"; hint != "" && !strings.Contains(problems[0].Message, want) {
				t.Errorf("%s: %s, want %s", field, problems[0].Message, want)
			}
		}
	}
}

// What a missing field is compared with must be of its type; any value goes for those that Falco types by the event.
func TestMissingFieldTypes(t *testing.T) {
	for condition, right := range map[string]bool{
		"evt.rawarg.res >= 0": true, "evt.rawarg.addr = 0xffff": true, "evt.rawarg.flags contains x": true, "evt.rawarg[2] in (1, a)": true,
		"proc.fdusage > 0.9": true, "fd.proto = http": true, "fd.types intersects (ipv4, ipv6)": true, "fd.types[0] in (ipv4)": true,
		"evt.rawarg.res = val(evt.rawres)": true, "evt.cpu = 3": true, "proc.is_exe_writable = true": true,
		"evt.cpu = x": false, "proc.is_exe_writable = 3": false, "fd.types = file": false, "evt.arg.res >= 0": false,
	} {
		set, problems := Load(File{Name: "r.yaml", Data: []byte("- rule: r\n  condition: evt.type = execve and (" + condition + " or proc.name = bash)\n  output: o\n  priority: error\n")})
		if got := len(set.Rules()) == 1; got != right {
			t.Errorf("%s: %v", condition, problems)
		}
		for _, r := range set.Rules() {
			if e := shell(); r.Match(e) {
				t.Errorf("%s holds for %s", condition, name(e))
			}
		}
	}
}

// Falco's own words for what is supplied.
func TestTimesAndSources(t *testing.T) {
	e := shell()
	e.Wall = 1_700_000_000_012_345_678
	e.Event.Tgid, e.Event.Tid = 7, 8
	for output, want := range map[string]string{
		"%evt.time.iso8601": "2023-11-14T22:13:20.012345678+0000", "%evt.time.s": "22:13:20", "%evt.datetime": "2023-11-14 22:13:20.012345678",
		"%evt.datetime.s": "2023-11-14 22:13:20", "%evt.rawtime.s": "1700000000", "%evt.rawtime.ns": "12345678", "%evt.source": "syscall",
		"%thread.ismain": "false", "%evt.count": "1", "%evt.is_async": "false", "%syscall.type": "execve",
	} {
		set, problems := Load(File{Name: "r.yaml", Data: []byte("- rule: r\n  condition: syscall.type = execveat and evt.source = syscall\n  output: \"" + output + "\"\n  priority: error\n")})
		if len(problems) != 0 || len(set.Rules()) != 1 {
			t.Fatal(problems)
		}
		r := set.Rules()[0]
		if got := string(r.AppendOutput(nil, e)); got != want || !r.Match(e) {
			t.Errorf("%s: %q, want %q", output, got, want)
		}
	}
	set, problems := Load(File{Name: "r.yaml", Data: []byte(ruleOf("evt.source = k8s_audit"))})
	if len(set.Rules()) != 1 || len(problems) != 1 || problems[0].ID != neverAsked {
		t.Errorf("%v", problems)
	}
}

// Looking for what an unknown name is like must not take long, however many there are.
func TestHintsAreBounded(t *testing.T) {
	s := newScope()
	for range 3 * maxProblems {
		s.nearestField("proc.nmae")
	}
	if s.hinted != 3*maxProblems || s.nearestField("proc.nmae") != "" {
		t.Error("hints are given without end")
	}
}
