package rule

import (
	"maps"
	"slices"
	"strings"
	"testing"
)

// environment is known as a whole.
type environment struct {
	names  string
	values map[string][]string
}

func environmentOf(values map[string][]string) environment {
	return environment{strings.Join(slices.Sorted(maps.Keys(values)), " "), values}
}

func (v environment) VariableNames(*Env) (string, bool) { return v.names, true }

func (v environment) Variable(_ *Env, name string) []string { return v.values[name] }

// A variable is compared by its name: without one, proc.env is what names there are.
func TestEnvironment(t *testing.T) {
	e := shell()
	e.Variables = environmentOf(map[string][]string{"LD_PRELOAD": {"/tmp/x.so"}, "TOKEN": {"secret"}})
	holds(t, e, map[string]bool{
		`proc.env[LD_PRELOAD] startswith /tmp/ and proc.env[LD_PRELOAD] = /tmp/x.so and proc.env[TOKEN] exists`: true,
		`proc.env icontains ld_preload and proc.env contains TOKEN and proc.env exists`:                         true,
		`proc.env contains secret or proc.env contains "=" or proc.env[HOME] exists or proc.env[HOME] != x`:     false,
		`basename(proc.env[LD_PRELOAD]) = x.so and proc.env["TOKEN"] in (secret)`:                               true,
		`len(proc.env[TOKEN]) = 6`: true,
	})
	e.Variables = nil
	holds(t, e, map[string]bool{`proc.env exists or proc.env[TOKEN] exists or proc.env[TOKEN] != x`: false})
}

// A variable that stands there twice is a way around no rule, whichever of its values the program takes.
func TestVariableTwice(t *testing.T) {
	for _, values := range [][]string{{"/tmp/x.so", "/lib/y.so"}, {"/lib/y.so", "/tmp/x.so"}} {
		e := shell()
		e.Variables = environmentOf(map[string][]string{"LD_PRELOAD": values, "NAME": {"x", "sh"}, "ONCE": {"sh"}})
		holds(t, e, map[string]bool{
			`proc.env[LD_PRELOAD] startswith /tmp/ and proc.env[LD_PRELOAD] startswith /lib/`:              true,
			`proc.env[LD_PRELOAD] = /tmp/x.so and proc.env[LD_PRELOAD] in (/a, /lib/y.so)`:                 true,
			`basename(proc.env[LD_PRELOAD]) = x.so and basename(proc.env[LD_PRELOAD]) = y.so`:              true,
			`proc.env[LD_PRELOAD] != /tmp/x.so and proc.env[LD_PRELOAD] != /lib/y.so`:                      true,
			`proc.name = val(proc.env[NAME]) and proc.env[NAME] = val(proc.name)`:                          true,
			`proc.env[ONCE] = val(proc.env[NAME]) and concat(proc.env[ONCE], proc.env[NAME]) = shsh`:       true,
			`proc.env[LD_PRELOAD] exists and len(proc.env[LD_PRELOAD]) = 9 and proc.env[ONCE] = sh`:        true,
			`proc.env[LD_PRELOAD] = /z or proc.env[LD_PRELOAD] startswith /usr or proc.env[NAME] = X`:      false,
			`not proc.env[LD_PRELOAD] startswith /tmp/ or proc.name != sh and proc.env[LD_PRELOAD] exists`: false,
		})
		if e.rest != 0 || e.turns != 0 {
			t.Errorf("after it: rest %d, turns %d", e.rest, e.turns)
		}
	}
}

// Two variables that stand there twice are compared in each way: the program may take the first of the one and the last
// of the other.
func TestVariablesTwice(t *testing.T) {
	e := shell()
	e.Variables = environmentOf(map[string][]string{"A": {"x", "y"}, "B": {"y", "x"}, "C": {"p", "q"}, "D": {"no base64!", "djEK"}, "E": {"other", "v1\n"}})
	holds(t, e, map[string]bool{
		`proc.env[A] = val(proc.env[B]) and proc.env[A] != val(proc.env[B])`: true,
		`proc.env[A] = val(proc.env[C]) or proc.env[C] = val(proc.env[A])`:   false,
		`concat(proc.env[A], proc.env[B], proc.env[C]) in (xyp)`:             true,
		`concat(proc.env[A], proc.env[B], proc.env[C]) in (yxq)`:             true,
		`b64(proc.env[D]) = val(proc.env[E])`:                                true,
		`concat(proc.env[A], proc.env[B], proc.env[C]) = xxq`:                true,
		`concat(proc.env[A], proc.env[B], proc.env[C]) = yyp`:                true,
		`concat(proc.env[A], proc.env[B], proc.env[C]) = ypx `:               false,
	})
}

// A value is shown nowhere, however it is written.
func TestEnvironmentIsWithheld(t *testing.T) {
	set, problems := load(t, ruleOf("evt.type = execve and proc.env[TOKEN] = secret and basename(proc.env[LD_PRELOAD]) = x.so")+
		"- rule: s\n  condition: evt.type = execve and proc.name = val(proc.env[SHELL_NAME])\n  priority: warning\n"+
		"  output: \"%proc.env %proc.env[TOKEN] %toupper(proc.env[TOKEN]) %len(proc.env[TOKEN]) %concat(proc.env[TOKEN], \\\"x\\\") %join(\\\",\\\", (proc.env[TOKEN])) %proc.env[HOME]\"\n")
	if len(problems) != 1 || !strings.Contains(problems[0].Error(), `r.yaml:8:151: rule "s": proc.env["HOME"] is always <NA>`) {
		t.Fatal(problems)
	}
	e := shell()
	e.Variables = environmentOf(map[string][]string{"TOKEN": {"secret", ""}, "SHELL_NAME": {"bash", "sh"}, "LD_PRELOAD": {"/tmp/x.so"}})
	if n := len(set.Match(e, All, nil)); n != 2 {
		t.Errorf("%d matches", n)
	}
	want := "<withheld> <withheld> <withheld> <withheld> <withheld> <withheld> <NA>"
	if got := string(set.Rules()[1].AppendOutput(nil, e)); got != want {
		t.Errorf("got %q", got)
	}
	fields := map[string]any{}
	set.Rules()[1].AddFields(fields, e)
	if len(fields) != 7 {
		t.Errorf("%v", fields)
	}
	for name, value := range fields {
		if want := map[bool]any{true: nil, false: "<withheld>"}[name == "proc.env[HOME]"]; value != want {
			t.Errorf("%s is %v", name, value)
		}
	}
	if got, want := set.Variables(), []string{"LD_PRELOAD", "SHELL_NAME", "TOKEN"}; !slices.Equal(got, want) {
		t.Errorf("asked for are %q", got)
	}
	for _, key := range []string{`by: ["proc.env[TOKEN]"]`, "by: [proc.pid], distinct: [proc.env]", `by: ["tolower(proc.env[TOKEN])"]`} {
		_, problems := load(t, ruleOf("evt.type = execve")+"  window: {count: 2, within: 1s, "+key+"}\n")
		if bad := errorsIn(problems); len(bad) != 1 || !strings.Contains(bad[0].Message, "is compared, and nothing is counted by it") {
			t.Errorf("%s: %v", key, problems)
		}
	}
}

// Who looks for a value among names is told so.
func TestEnvironmentRemark(t *testing.T) {
	set, problems := load(t, ruleOf(`evt.type = execve and proc.env contains "LD_PRELOAD=/tmp"`))
	if len(set.Rules()) != 1 || len(problems) != 1 || !problems[0].Warning || problems[0].ID != noEffect || !strings.Contains(problems[0].Message, "ask for proc.env[NAME]") {
		t.Errorf("%v", problems)
	}
	if _, problems := load(t, ruleOf(`evt.type = execve and proc.env[A] contains "a=b"`)); len(problems) != 0 {
		t.Errorf("%v", problems)
	}
}

// Who shows a variable that no condition names is told that it is not read.
func TestVariableThatIsNotRead(t *testing.T) {
	rule := func(name, condition, output, keys string) string {
		return "- rule: " + name + "\n  condition: evt.type = execve and " + condition + "\n  output: \"" + output + "\"\n  priority: warning\n" + keys
	}
	set, problems := load(t, "- macro: marked\n  condition: proc.env[MARK] exists\n"+
		rule("a", "proc.env[A] = x", "%proc.env %proc.env[A] %proc.env[B] %proc.env[MARK]", "")+
		rule("b", "marked", "%toupper(proc.env[A])%concat(proc.name, proc.env[C]) %proc.env[OFF]", "")+
		rule("off", "proc.env[OFF] = x", "%proc.env[OFF] %proc.env[D]", "  enabled: false\n")+
		"- rule: Network outside baseline\n  output: \"%proc.env[A] %proc.env[E]\"\n  priority: warning\n")
	var got []string
	for _, p := range problems {
		if p.ID != noEffect || !p.Warning {
			t.Errorf("%v", p)
		}
		name, _, _ := strings.Cut(p.Message, " ")
		got = append(got, p.Rule+": "+name)
	}
	want := []string{"a: proc.env[\"B\"]", "b: proc.env[\"C\"]", "b: proc.env[\"OFF\"]", "off: proc.env[\"D\"]", "Network outside baseline: proc.env[\"E\"]"}
	if !slices.Equal(got, want) || len(set.Rules()) != 2 {
		t.Errorf("got %q, want %q", got, want)
	}
	if p := problems[0]; p.Line != 5 || p.Column != 35 {
		t.Errorf("%v", p)
	}
}
