package rule

import (
	"strings"
	"testing"

	"github.com/plumbline-io/plumbline/pkg/event"
)

// A problem is where the eye looks for it, however the condition was written down.
func TestPositions(t *testing.T) {
	for name, tc := range map[string]struct{ text, want string }{
		"plain":             {"- rule: r\n  condition: proc.name = a and procc.x = 1\n  output: o\n  priority: error\n", "r.yaml:2:32: "},
		"quoted":            {"- rule: r\n  condition: \"proc.name = \\\"a\\\" and procc.x = 1\"\n  output: o\n  priority: error\n", "r.yaml:2:37: "},
		"single quoted":     {"- rule: r\n  condition: 'proc.name = ''a'' and procc.x = 1'\n  output: o\n  priority: error\n", "r.yaml:2:37: "},
		"folded":            {"- rule: r\n  condition: >\n    proc.name = a\n    and procc.x = 1\n  output: o\n  priority: error\n", "r.yaml:4:9: "},
		"literal":           {"- rule: r\n  condition: |-\n\n    proc.name = a\n      and\n    procc.x = 1\n  output: o\n  priority: error\n", "r.yaml:6:5: "},
		"over lines":        {"- rule: r\n  condition: proc.name = a\n    and procc.x = 1\n  output: o\n  priority: error\n", "r.yaml:3:9: "},
		"characters":        {"- rule: r\n  condition: proc.name = äöü and procc.x = 1\n  output: o\n  priority: error\n", "r.yaml:2:34: "},
		"the end":           {"- rule: r\n  condition: proc.name = a and\n  output: o\n  priority: error\n", "r.yaml:2:31: "},
		"escaped by number": {"- rule: r\n  condition: \"proc.name = \\x61 and procc.x = 1\"\n  output: o\n  priority: error\n", "r.yaml:2:14: "},
		"output":            {"- rule: r\n  condition: proc.name = a\n  output: a %procc.x\n  priority: error\n", "r.yaml:3:13: "},
		"macro":             {"- macro: m\n  condition: procc.x = 1\n- rule: r\n  condition: proc.name = a and m\n  output: o\n  priority: error\n", `r.yaml:2:14: rule "r": macro m: `},
		"yaml":              {"- rule: r\n  desc: [\n", "r.yaml:2:1: "},
	} {
		t.Run(name, func(t *testing.T) {
			_, problems := load(t, tc.text)
			problems = errorsIn(problems)
			if len(problems) != 1 || !strings.HasPrefix(problems[0].Error(), tc.want) {
				t.Errorf("got %v, want %s", problems, tc.want)
			}
		})
	}
}

// Falco's keys and sources are known; what we cannot do is said, once, and nothing else suffers.
func TestFalcoFiles(t *testing.T) {
	const rest = "  output: o\n  priority: error\n"
	for name, tc := range map[string]struct {
		text, want string
		rules      int
		warning    bool
	}{
		"requirements":   {"- required_engine_version: 0.57.0\n- required_plugin_versions:\n  - {name: container, version: 0.4.0}\n", "", 0, false},
		"documents":      {ruleOf("evt.type = execve") + "---\n" + strings.Replace(ruleOf("evt.type = execve"), "rule: r", "rule: s", 1), "", 2, false},
		"empty document": {"---\n---\n" + ruleOf("evt.type = execve"), "", 1, false},
		"settings":       {ruleOf("proc.name = a") + "  warn_evttypes: false\n  capture: false\n", "", 1, false},
		"no type":        {ruleOf("proc.name = a"), "names no evt.type", 1, true},
		"other event":    {ruleOf("evt.num = 0"), "holds for no event that is observed", 1, true},
		"misspelt key":   {ruleOf("evt.type = execve") + "  colour: red\n", `r.yaml:5:3: rule "r": unknown key "colour"`, 1, true},
		"other source":   {ruleOf("evt.type = execve") + "  source: k8s_audit\n", `no sensor supplies the source "k8s_audit"`, 0, true},
		"wrong source":   {ruleOf("tls.ok = true"), "set source to tls", 0, false},
		"skipped":        {ruleOf("fd.colour = a") + "  skip-if-unknown-filter: true\n", "unknown field", 0, true},
		"action":         {ruleOf("evt.type = execve") + "  action: alert\n", "", 1, false},
		"other action":   {ruleOf("evt.type = execve") + "  action: deny\n", "", 1, false},
		"unknown action": {ruleOf("evt.type = execve") + "  action: explode\n", `unknown action "explode"`, 0, false},
		"append":         {ruleOf("evt.type = execve") + "- list: l\n  items: [a]\n  append: true\n", "list l: there is no such list to change", 1, false},
		"toggle off":     {ruleOf("evt.type = execve") + "- rule: r\n  enabled: false\n", "", 0, false},
		"toggle on":      {ruleOf("evt.type = execve") + "  enabled: false\n- rule: r\n  enabled: true\n", "", 1, false},
		"toggle nothing": {"- rule: r\n  enabled: true\n", "priority is missing", 0, false},
		"twice a key":    {"- rule: r\n  desc: a\n  desc: b\n" + rest, `"desc" stands here twice`, 0, false},
		"alias":          {"- list: l\n  items: &i [a, &s sh]\n- rule: r\n  condition: evt.type = execve and proc.name in (l)\n  tags: *i\n  output: *s\n  priority: error\n", "", 1, false},
		"no name":        {"- rule:\n" + rest, "a rule needs a name", 0, false},
		"long name":      {"- rule: " + strings.Repeat("x", 201) + "\n" + rest, "at most 200 bytes", 0, false},
		"tags":           {ruleOf("evt.type = execve") + "  tags: x\n", "tags: expected a list", 0, false},
		"other source later": {
			ruleOf("evt.type = execve") + strings.Replace(ruleOf("tls.ok = true"), "output: o", "output: o\n  source: tls", 1),
			"source tls is not that of the first", 1, false,
		},
		"drift disabled":  {"- rule: " + DriftRule + "\n  output: o\n  priority: error\n  enabled: false\n", "cannot be disabled", 0, true},
		"drift condition": {"- rule: " + DriftRule + "\n  condition: x\n  output: o\n  priority: error\n", "is not used", 0, true},
	} {
		t.Run(name, func(t *testing.T) {
			set, problems := load(t, tc.text)
			if len(set.Rules()) != tc.rules {
				t.Errorf("%d rules, want %d; %v", len(set.Rules()), tc.rules, problems)
			}
			switch {
			case tc.want == "" && len(problems) > 0:
				t.Error(problems)
			case tc.want != "" && (len(problems) != 1 || !strings.Contains(problems[0].Error(), tc.want) || problems[0].Warning != tc.warning):
				t.Errorf("got %+v, want %q", problems, tc.want)
			}
		})
	}
}

// A redefinition takes the place of the first definition, and a wrong one leaves that in force.
func TestRedefinition(t *testing.T) {
	a := "- rule: a\n  condition: evt.type = execve\n  output: first\n  priority: error\n"
	set, _ := load(t, a+ruleOf("evt.type = execve")+strings.Replace(a, "first", "second", 1)+strings.Replace(a, "execve", "execve and", 1))
	if rules := set.Rules(); len(rules) != 2 || rules[0].Name != "a" || string(rules[0].AppendOutput(nil, shell())) != "second" {
		t.Errorf("%+v", rules)
	}
}

func TestAppendPrintable(t *testing.T) {
	for in, want := range map[string]string{
		"plain ä €":    "plain ä €",
		"a\nb\x1b[2J":  `a\x0ab\x1b[2J`,
		"\xff\xc3":     `\xff\xc3`,
		"\u0085\u202e": `\u0085\u202e`,
		"\ufffd":       "\ufffd",
	} {
		if got := string(appendPrintable(nil, in)); got != want {
			t.Errorf("%q: got %s, want %s", in, got, want)
		}
	}
}

func TestOutput(t *testing.T) {
	for in, want := range map[string]string{
		"100% of %proc.name":       "100% of sh",
		"%proc.name%user.uid%":     "sh33%",
		"%% %proc.name.":           "%% sh.",
		"*%proc.name":              "sh",
		"%proc.aname[2]/%tls.ok":   "systemd/<NA>",
		"%proc.is_exe_unlinked %5": "false %5",
	} {
		r := &Rule{}
		if m := testScope().setOutput(r, textOf(in)); m != nil {
			t.Errorf("%q: %+v", in, m)
		} else if got := string(r.AppendOutput(nil, shell())); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}

// An output is written without panic or control characters, whatever the values are.
func FuzzOutput(f *testing.F) {
	f.Add("a %proc.name%user.uid% %proc.aname[2] %% *%tls.sni.", "/bin/x")
	f.Add("*%toupper(proc.exepath) %join(\",\", (proc.name, fd.sip))", "a\nb\xff")
	f.Add("%proc.env[HOME] %evt.buffer %fd.num %proc.aname %getopt(proc.args, \"a:\")", "")
	f.Fuzz(func(t *testing.T, output, path string) {
		r := &Rule{}
		if m := testScope().setOutput(r, textOf(output)); m != nil {
			if m.at < 0 || m.at > len(output) || m.message == "" {
				t.Fatalf("%q: %+v", output, m)
			}
			return
		}
		e := shell()
		e.Event.Exec.Path, e.Event.Access.Path = path, path
		(allClasses &^ 1).each(func(class int) {
			setClass(e.Event, class)
			text := string(r.AppendOutput(nil, e))
			fields := map[string]any{}
			r.AddFields(fields, e)
			if !strings.ContainsAny(output, "\n\r\x1b") && strings.ContainsAny(text, "\n\r\x1b") {
				t.Fatalf("%q writes %q", output, text)
			}
		})
	})
}

func FuzzLoad(f *testing.F) {
	f.Add([]byte(ruleOf("proc.name = a and (user.uid > 5 or not tls.sni exists)")))
	f.Add([]byte("- list: a\n  items: [a, a]\n- macro: m\n  condition: a\n"))
	f.Add([]byte(fine + "- rule: r\n  condition: or m\n  exceptions:\n  - {name: a, fields: [proc.name], comps: [in], values: [[[a, l]]]}\n  override: {condition: append, exceptions: append}\n"))
	f.Add([]byte(fine + "  exceptions:\n  - {name: a, fields: [proc.name], values: [[[]]]}\n"))
	f.Add([]byte(fine + "  window: {count: 2, within: 1s, by: [fd.name]}\n  attack: [T1059]\n- list: l\n  items: [l, '\"a b\"']\n  append: true\n- required_engine_version: 5\n"))
	f.Add([]byte("- rule: r\n  condition: >\n    evt.type = execve\n    and x\n  output: \"%proc.aname[1] \\x41\"\n  priority: info\n---\n- &a\n  rule: *a\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		set, problems := Load(File{Name: "f", Data: data})
		for _, r := range append(set.Rules(), set.Drift(event.DimExec), set.Drift(event.DimFile)) {
			fields := map[string]any{}
			r.Match(shell())
			r.AppendOutput(nil, shell())
			r.AddFields(fields, shell())
			r.Window.AppendKey(nil, shell())
			for _, c := range r.Checks() {
				if c.Line < 1 || c.Column < 1 || c.Operator == "" {
					t.Errorf("%+v", c)
				}
			}
		}
		for _, p := range problems {
			if p.Error() == "" || p.Line < 1 || p.Column < 1 {
				t.Errorf("%+v", p)
			}
		}
	})
}

func TestWindows(t *testing.T) {
	rule := func(window string) string {
		return "- rule: r\n  desc: d\n  condition: evt.type = execve\n  output: o\n  priority: ERROR\n  window: " + window + "\n"
	}
	for name, tc := range map[string]struct{ window, want string }{
		"plain":            {"{count: 5, within: 10s}", ""},
		"all keys":         {"{count: 1000, within: 24h, by: [proc.name, user.uid], distinct: [proc.cmdline]}", ""},
		"transformed":      {"{count: 2, within: 1s, by: ['basename(proc.exepath)']}", ""},
		"one":              {"{count: 1, within: 10s}", "r.yaml:6:19: rule \"r\": window: count is a number from 2 to 10000"},
		"too many":         {"{count: 10001, within: 10s}", "count is a number from 2 to 10000"},
		"too many values":  {"{count: 1001, within: 10s, distinct: [proc.name]}", "with distinct, count is a number from 2 to 1000"},
		"no time":          {"{count: 5}", "window: count and within are needed"},
		"too long":         {"{count: 5, within: 25h}", "within is a duration of at most 24h, such as 10s"},
		"unknown field":    {"{count: 5, within: 10s, by: [proc.nam]}", "by: unknown field"},
		"unknown key":      {"{count: 5, within: 10s, every: 3}", `"every" is unknown: want count, within, by and distinct`},
		"too many fields":  {"{count: 5, within: 10s, by: [proc.pid, proc.pid, proc.pid, proc.pid, proc.pid, proc.pid, proc.pid, proc.pid, proc.pid]}", "by is a list of at most 8 fields"},
		"its own count":    {"{count: 5, within: 10s, by: [window.count]}", "by: window.count is known only in outputs"},
		"not supplied":     {"{count: 5, within: 10s, by: [evt.arg.fd]}", "r.yaml:6:40: rule \"r\": evt.arg.fd is not supplied: the hooks are told the file or the socket"},
		"no map":           {"5", "window: expected count, within, by and distinct"},
		"in the condition": {"{count: 5, within: 10s}\n- macro: m\n  condition: window.count > 3", "window.count is known only in outputs"},
	} {
		t.Run(name, func(t *testing.T) {
			set, problems := Load(File{Name: "r.yaml", Data: []byte(rule(tc.window))})
			got := ""
			if len(problems) > 0 {
				got = problems[0].Error()
			}
			if (tc.want == "") != (got == "") || !strings.Contains(got, tc.want) {
				t.Errorf("got %q, want %q", got, tc.want)
			}
			if tc.want == "" && (len(set.Rules()) != 1 || set.Rules()[0].Window.Count == 0) {
				t.Errorf("%+v", set.Rules())
			}
		})
	}
}

// Every problem has a kind that is described.
func TestProblemIDs(t *testing.T) {
	described := map[string]bool{}
	for _, kind := range ProblemIDs() {
		if described[kind.ID] || kind.Description == "" {
			t.Errorf("%+v is there twice, or not described", kind)
		}
		described[kind.ID] = true
	}
	rest := "\n  desc: d\n  output: o\n  priority: ERROR\n"
	for text, want := range map[string]string{
		"a: b": "invalid-file",
		"- rule: r\n  condition: evt.type = execve\n  output: o\n  priority: loud\n": "invalid-entry",
		"- rule: r\n  condition: evt.type =" + rest:                                  "invalid-condition",
		"- rule: r\n  condition: evt.tipe = execve" + rest:                           "unknown-name",
		"- rule: r\n  condition: evt.buffer contains x" + rest:                       "refused-field",
		"- required_engine_version: 1000\n":                                          "unmet-requirement",
		"- required_plugin_versions: [{name: k8saudit, version: 0.1.0}]\n":           "unmet-requirement",
		strings.Repeat("- x: y\n", maxProblems+1):                                    "more-problems",
		"- rule: r\n  colour: red\n  condition: evt.type = execve" + rest:            "unknown-key",
		"- rule: r\n  source: k8s_audit\n  condition: evt.type = execve" + rest:      "unknown-source",
		"- macro: m\n  condition: evt.type = execve\n":                               "unused",
		"- rule: r\n  condition: evt.num = 0" + rest:                                 "never-asked",
		"- rule: r\n  condition: evt.type = execve and not evt.arg.fd = 1" + rest:    "not-supplied",
		"- rule: r\n  condition: evt.type in (execve, pipe)" + rest:                  "unobserved-type",
		"- rule: r\n  condition: proc.name = x" + rest:                               "always-asked",
		"- rule: Exec outside baseline\n  condition: evt.type = execve" + rest:       "no-effect",
	} {
		_, problems := Load(File{Name: "r.yaml", Data: []byte(text)})
		if len(problems) == 0 || problems[len(problems)-1].ID != want || !described[want] {
			t.Errorf("%s: %+v, want %s", text[:min(len(text), 80)], problems[max(0, len(problems)-1):], want)
		}
	}
}
