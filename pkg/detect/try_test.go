package detect

import (
	"slices"
	"testing"

	"github.com/plumbline-io/plumbline/pkg/rule"
)

func checkAll(t *testing.T, set *rule.Ruleset, tests []rule.Test) {
	t.Helper()
	for i := range tests {
		o := Try(set, &tests[i])
		if err := o.Check(&tests[i]); err != nil {
			t.Error(err)
		}
	}
}

// Operations are written down as they are in baselines.
func TestAccessTrials(t *testing.T) {
	set, problems := rule.Load(rule.File{Name: "r.yaml", Data: []byte(`
- rule: file
  condition: evt.type = openat and fd.name = /etc/shadow and proc.name = cat and user.uid = 5
  priority: error
  output: x
- rule: net
  condition: evt.type = connect and fd.sip = 10.0.0.1 and fd.sport = 22 and fd.l4proto = tcp
  priority: error
  output: x
- rule: bpf
  condition: evt.type = bpf and evt.arg.cmd = BPF_PROG_LOAD
  priority: error
  output: x
- rule: name
  condition: evt.type = connect and fd.sip.name = api.example.org
  priority: error
  output: to %fd.sip.name
- rule: preload
  condition: evt.type = execve and proc.env[LD_PRELOAD] startswith /tmp/ and proc.env contains TOKEN
  priority: error
  output: preloaded %proc.env[LD_PRELOAD]
- rule: client
  condition: evt.type = accept and fd.cnet = 192.0.2.0/24 and fd.lport = 22
  priority: error
  output: "%fd.name %fd.cip %fd.cport %fd.sip"
`)})
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	tests, err := rule.ParseTests(rule.File{Name: "t.yaml", Data: []byte(`
- {test: a, event: access, process: {comm: cat, uid: 5}, access: {op: read, path: /etc/shadow}, alerts: [file]}
- {test: b, event: access, access: {op: connect, protocol: tcp, address: 10.0.0.1, port: 22}, alerts: [net]}
- {test: c, event: access, access: {op: bpf, value: "5"}, alerts: [bpf]}
- {test: d, event: access, access: {op: delete, path: /etc/shadow}}
- {test: e, event: access, access: {op: connect, address: 10.0.0.9}, names: {api.example.org: [10.0.0.8, 10.0.0.9]}, alerts: [{rule: name, output: to api.example.org}]}
- {test: f, event: access, access: {op: connect, address: 10.0.0.9}, names: {api.example.org: [10.0.0.8]}}
- {test: h, event: access, access: {op: accept, protocol: tcp, address: 192.0.2.9, port: 22, local: 10.0.0.1, client_port: 7}, alerts: [{rule: client, output: "192.0.2.9:7->10.0.0.1:22 192.0.2.9 7 10.0.0.1"}]}
- {test: i, event: access, access: {op: accept, address: 10.0.0.1, port: 22, local: 192.0.2.9}}
- {test: j, event: exec, exec: {path: /bin/true}, env: {LD_PRELOAD: /tmp/x.so, TOKEN: x}, alerts: [{rule: preload, output: preloaded <withheld>}]}
- {test: k, event: exec, exec: {path: /bin/true}, env: {LD_PRELOAD: /usr/lib/x.so, TOKEN: x}}
- {test: l, event: exec, exec: {path: /bin/true}}
- {test: g, event: access, access: {op: connect, address: 10.0.0.9}}
`)})
	if err != nil {
		t.Fatal(err)
	}
	checkAll(t, set, tests)
	if first, last := Try(set, &tests[0]), Try(set, &tests[3]); !slices.Contains(first.Asked, "file") || slices.Contains(last.Asked, "file") {
		t.Error("a rule is asked about the wrong operations")
	}
}

// A test that says the wrong thing fails, with its place.
func TestCheckCanFail(t *testing.T) {
	set, problems := rule.Load(rule.File{Name: "r.yaml", Data: []byte("- rule: r\n  condition: evt.type = execve and proc.name = sh\n  priority: error\n  output: x\n")})
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	tests, err := rule.ParseTests(rule.File{Name: "t.yaml", Data: []byte("- test: right\n  exec: {comm: sh}\n  alerts: [r]\n\n- test: wrong\n  exec: {comm: ls}\n  alerts: [r]\n")})
	if err != nil || len(tests) != 2 {
		t.Fatalf("%+v, %v", tests, err)
	}
	checkAll(t, set, tests[:1])
	wrong := Try(set, &tests[1])
	if err := wrong.Check(&tests[1]); err == nil || err.Error() != `t.yaml:5: test "wrong": got [], want ["r"]` {
		t.Errorf("got %v", err)
	}
}

// An operation has all that a rule may ask about it.
func TestAccessTrial(t *testing.T) {
	text := ""
	for _, r := range []string{
		`{rule: file, output: o, priority: error, condition: 'evt.operation = read and fd.name = /x and proc.name = cat and proc.exepath = /bin/busybox and evt.verdict = audit'}`,
		`{rule: network, output: o, priority: error, condition: 'evt.operation = connect and fd.l4proto = udp and fd.sip = "::1" and fd.sport = 53 and proc.name = p'}`,
		`{rule: number, output: o, priority: error, condition: 'evt.operation = capability and evt.value = CAP_SYS_ADMIN'}`,
	} {
		text += "- " + r + "\n"
	}
	set, problems := rule.Load(rule.File{Name: "r.yaml", Data: []byte(text)})
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	tests, err := rule.ParseTests(rule.File{Name: "t.yaml", Data: []byte(`
- test: file
  event: access
  verdict: audit
  access: {op: read, path: /x, comm: cat}
  process: {path: /bin/busybox, comm: busybox}
  alerts: [file]
- test: network
  event: access
  access: {op: connect, protocol: udp, address: "::1", port: 53}
  process: {path: /bin/p}
  alerts: [network]
- test: number
  event: access
  access: {op: capability, value: CAP_SYS_ADMIN}
  alerts: [number]
`)})
	if err != nil {
		t.Fatal(err)
	}
	checkAll(t, set, tests)
}

// Names of users and images are known to tests that give them; without, an event does not have them.
func TestFacts(t *testing.T) {
	set, problems := rule.Load(rule.File{Name: "r.yaml", Data: []byte(`
- rule: user
  condition: evt.type = execve and user.name = root and group.name = wheel and group.gid = 10 and user.loginuid >= 0 and user.loginname = root
  priority: error
  output: x
- rule: image
  condition: evt.type = execve and container.image.repository = docker.io/library/nginx and container.image.tag = "1.27" and k8s.ns.name = shop and k8s.pod.name startswith web- and container.type = containerd
  priority: error
  output: x
- rule: host
  condition: evt.type = execve and container.name = host and not container.image.repository exists
  priority: error
  output: x
- rule: nobody
  condition: evt.type = execve and user.loginuid = -1 and not user.loginname exists and not user.name exists
  priority: error
  output: x
`)})
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	tests, err := rule.ParseTests(rule.File{Name: "t.yaml", Data: []byte(`
- {test: a, user: {name: root, group: wheel, gid: 10, login_uid: 0}, exec: {path: /x}, alerts: [user, host]}
- test: b
  exec: {path: /x}
  workload: {container_id: c1}
  container: {runtime: containerd, image: "docker.io/library/nginx:1.27@sha256:00", namespace: shop, pod: web-0}
  alerts: [image, nobody]
- {test: c, exec: {path: /x}, workload: {container_id: c1}, alerts: [nobody]}
`)})
	if err != nil {
		t.Fatal(err)
	}
	checkAll(t, set, tests)

	d := New(Config{Ruleset: set, Wall: wall})
	if got := names(d, execAt("/x", 0)); !slices.Equal(got, []string{"host"}) {
		t.Errorf("without facts: %q", got)
	}
}

// A test may want to know what is said, not only by which rule.
func TestCheckAlerts(t *testing.T) {
	set, problems := rule.Load(rule.File{Name: "r.yaml", Data: []byte("- rule: r\n  condition: evt.type = execve\n  priority: warning\n  output: \"%proc.name of %user.uid in %container.name\"\n")})
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	for name, tc := range map[string]struct{ want, message string }{
		"name":          {"r", ""},
		"all":           {`{rule: r, output: sh of 5 in <NA>, severity: WARNING, fields: {proc.name: sh, user.uid: 5, container.name: null}}`, ""},
		"output":        {`{rule: r, output: sh of 5}`, `rule "r": output is "sh of 5 in <NA>", want "sh of 5"`},
		"severity":      {`{rule: r, severity: error}`, `rule "r": severity is Warning, want Error`},
		"text field":    {`{rule: r, fields: {proc.name: bash}}`, `rule "r": proc.name is "sh", want "bash"`},
		"number":        {`{rule: r, fields: {user.uid: 6}}`, `rule "r": user.uid is "5", want "6"`},
		"no value":      {`{rule: r, fields: {user.uid: null}}`, `rule "r": user.uid is "5", want none`},
		"value":         {`{rule: r, fields: {container.name: web}}`, `rule "r": container.name is not there, want "web"`},
		"not in output": {`{rule: r, fields: {proc.pid: 1}}`, `rule "r": proc.pid is not in the output of the rule`},
		"other rule":    {`{rule: q, output: x}`, `got ["r"], want ["q"]`},
	} {
		t.Run(name, func(t *testing.T) {
			tests, err := rule.ParseTests(rule.File{Name: "t.yaml", Data: []byte(
				"- test: a\n  exec: {path: /x, comm: sh, uid: 5}\n  workload: {container_id: c1}\n  alerts: [" + tc.want + "]\n",
			)})
			if err != nil {
				t.Fatal(err)
			}
			got, o := "", Try(set, &tests[0])
			if err := o.Check(&tests[0]); err != nil {
				got = err.Error()
			}
			if want := tc.message; want != "" && got != `t.yaml:1: test "a": `+want || want == "" && got != "" {
				t.Errorf("got %s\nwant %s", got, want)
			}
		})
	}
}
