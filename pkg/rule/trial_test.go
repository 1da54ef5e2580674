package rule

import (
	"slices"
	"strings"
	"testing"
)

func TestParseTestsRefuses(t *testing.T) {
	for name, tc := range map[string]struct{ text, want string }{
		"not YAML":          {"- test: [", "t.yaml:1: did not find"},
		"unknown key":       {"- test: a\n  exce: {path: /x}\n", `t.yaml:2: unknown key "exce"`},
		"unknown key below": {"- test: a\n  exec: {pth: /x}\n", `t.yaml:2: unknown key "pth"`},
		"list for a text":   {"- test: a\n  exec: {path: [/x]}\n", "t.yaml:2: got a list, want a text"},
		"word for a number": {"- test: a\n  access: {port: web}\n", `t.yaml:2: got "web", want a number that fits`},
		"text for a list":   {"- test: a\n  lineage: x\n", `t.yaml:2: got "x", want a list`},
		"number for keys":   {"- test: a\n  exec: 5\n", `t.yaml:2: got "5", want keys and values`},
		"word for a flag":   {"- test: a\n  exec: {script: perhaps}\n", `t.yaml:2: got "perhaps", want true or false`},
		"no duration":       {"- test: a\n  after: soon\n", `t.yaml:2: got "soon", want a duration such as 5s`},
		"unknown event":     {"- test: a\n- test: b\n  event: dance\n", `t.yaml:2: test "b": unknown event "dance"`},
		"unknown verdict":   {"- test: a\n  verdict: maybe\n", `unknown verdict "maybe"`},
		"unknown role":      {"- test: a\n  event: handshake\n  handshake: {role: judge}\n", `unknown role "judge"`},
		"unknown operation": {"- test: a\n  event: access\n  access: {op: dance}\n", `t.yaml:1: test "a": unknown operation "dance"`},
		"no operation":      {"- test: a\n  event: access\n  access: {path: /x}\n", `unknown operation ""`},
		"unknown protocol":  {"- test: a\n  event: access\n  access: {op: connect, protocol: icq}\n", `unknown protocol "icq"`},
		"unknown address":   {"- test: a\n  event: access\n  access: {op: connect, address: here}\n", `"here"`},
		"unknown value":     {"- test: a\n  event: access\n  access: {op: capability, value: CAP_ALL}\n", `unknown value "CAP_ALL" of capability`},
		"not of operation":  {"- test: a\n  event: access\n  access: {op: capability, path: /x}\n", "capability has no path"},
		"not an address":    {"- test: a\n  event: access\n  access: {op: read, path: /x, port: 80}\n", "read has no protocol, address and port"},
		"not a number":      {"- test: a\n  event: access\n  access: {op: read, path: /x, value: 1}\n", "read has no value"},
		"ends elsewhere":    {"- test: a\n  event: access\n  access: {op: connect, local: 10.0.0.1}\n", "connect has no local and client_port"},
		"call elsewhere":    {"- test: a\n  event: access\n  access: {op: accept, descriptor: 1}\n", "accept has no call, descriptor and local_port"},
		"no call":           {"- test: a\n  event: access\n  access: {op: dup, call: dup4}\n", `"dup4" is not dup, dup2 or dup3`},
		"no end":            {"- test: a\n  event: access\n  access: {op: accept, local: here}\n", `"here"`},
		"access elsewhere":  {"- test: a\n  access: {op: read, path: /x}\n", "access belongs to the event access"},
		"events and steps":  {"- {test: a, event: exec, steps: [{event: exec}]}", "its events are in steps"},
		"too often":         {"- {test: a, repeat: {times: 10001}}", "times is a number from 1 to 10000"},
		"too many":          {strings.Repeat("- {test: a, repeat: {times: 10000}}\n", 11), "t.yaml:11: test \"a\": more than 100000 events"},
		"back in time":      {"- {test: a, steps: [{}, {after: -1s}]}", "time goes forward"},
		"vary what":         {"- {test: a, repeat: {times: 2, vary: [mood]}}", `cannot vary "mood": want port, address, path or query`},
		"last address":      {"- {test: a, event: access, access: {op: connect, address: 255.255.255.255}, repeat: {times: 2, vary: [address]}}", "no address to vary, or none after it"},
		"name":              {"- test: a\n  names: {a b: []}\n", `names: "a b" is no name of a host`},
		"name's address":    {"- test: a\n  names: {a: [x]}\n", `names: ParseAddr("x")`},
		"alert of what":     {"- test: a\n  alerts: [{output: x}]\n", "t.yaml:2: alerts: the rule is not named"},
		"alert's key":       {"- test: a\n  alerts: [{rule: x, outputs: x}]\n", `unknown key "outputs"`},
		"alert's severity":  {"- test: a\n  alerts:\n  - rule: x\n    severity: loud\n", `t.yaml:4: unknown priority "loud"`},
		"alert's fields":    {"- test: a\n  alerts: [{rule: x, fields: [a]}]\n", "t.yaml:2"},
		"alert's list":      {"- test: a\n  alerts: [[x]]\n", "expected the name of a rule"},
		"too long":          {"# " + strings.Repeat("x", maxFileBytes), "more than"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := ParseTests(File{Name: "t.yaml", Data: []byte(tc.text)})
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
}

func FuzzParseTests(f *testing.F) {
	f.Add([]byte("- test: a\n  exec: {path: /x}\n  alerts: [b]\n"))
	f.Add([]byte("- test: a\n  event: handshake\n  at: 2026-06-01T00:00:00Z\n  handshake: {version: 0x0304, alert: 42}\n"))
	f.Add([]byte("- test: a\n  event: access\n  verdict: audit\n  access: {op: read, path: /x, comm: cat}\n  process: {path: /y}\n"))
	f.Add([]byte("- test: a\n  event: access\n  access: {op: connect, protocol: udp, address: \"::1\", port: 53}\n"))
	f.Add([]byte("- test: a\n  event: access\n  access: {op: capability, value: CAP_SYS_ADMIN}\n"))
	f.Add([]byte("- test: a\n  exec: {path: /x}\n  alerts: [b, {rule: c, output: o, severity: error, fields: {a.b: ~, c.d: 5}}]\n"))
	f.Add([]byte("- &a [*a]\n"))
	f.Add([]byte("a: b"))
	f.Add([]byte("- test: a\n  steps:\n    - event: access\n      access: {op: connect, address: 10.0.0.1}\n      repeat: {times: 3, every: 1s, vary: [port, address]}\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		tests, err := ParseTests(File{Name: "t.yaml", Data: data})
		if err != nil && !strings.HasPrefix(err.Error(), "t.yaml:") {
			t.Errorf("the error does not name the file: %v", err)
		}
		steps := 0
		for i := range tests {
			steps += len(tests[i].Steps)
		}
		if steps > maxSteps {
			t.Errorf("%d events", steps)
		}
	})
}

// Steps follow each other in time, and repetitions differ as they are told to.
func TestSteps(t *testing.T) {
	tests, err := ParseTests(File{Name: "t.yaml", Data: []byte(`
- test: a
  steps:
    - event: access
      at: 2026-06-01T00:00:00Z
      access: {op: connect, address: 10.0.0.254, port: 7}
      repeat: {times: 3, every: 100ms, vary: [address, port]}
    - event: access
      after: 2s
      access: {op: read, path: /x}
      repeat: {times: 2, vary: [path]}
`)})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, s := range tests[0].Steps {
		got = append(got, s.At.Format("5.0 ")+s.Event.Access.Key.String())
	}
	want := []string{
		"0.0 connect 0 10.0.0.254 port 7", "0.1 connect 0 10.0.0.255 port 8", "0.2 connect 0 10.0.1.0 port 9",
		"2.2 read /x", "2.2 read /x1",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}
