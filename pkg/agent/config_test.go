package agent

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestConfigErrorsNameFileAndLine(t *testing.T) {
	for name, tc := range map[string]struct{ yaml, want string }{
		"unknown field":  {"node: a\nscoop: [/x]\n", ":2: unknown field scoop"},
		"wrong type":     {"ring_bytes: many\n", `:1: ring_bytes is "many", want a number`},
		"not yaml":       {"node: [\n", ":1: "},
		"tab":            {"node: a\n\tmode: learn\n", ":2: "},
		"nested unknown": {"control_plane:\n  uri: x\n", ":2: unknown field uri"},
		"two documents":  {"node: a\n---\nnode: b\n", ": it holds more than one document"},
		"falco unknown":  {"falco:\n  listen: x\n", ":2: unknown field listen"},
		"a list":         {"node: a\nscope: x\n", `:2: scope is "x", want a list`},
		"no list":        {"node: [a]\n", ":1: node is a list, want a text"},
		"no keys":        {"falco:\n  [a]\n", ":2: falco is a list, want keys and values"},
		"keys":           {"mode: learn\nprotect: {a: b}\n", ":2: protect is keys and values, want a list"},
		"nested":         {"falco:\n  host: h\n  port: 70000\n", `:3: falco.port is "70000", want a number from 0 to 65535`},
		"one line":       {"falco: {host: h, port: x}\n", `:1: falco.port is "x", want a number from 0 to 65535`},
		"too large":      {"deny_budget: 99999999999999999999\n", `:1: deny_budget is "9999999", want a number`},
		"no map":         {"- a\n", ":1: the file is a list, want keys and values"},
		"alerts twice":   {"alerts: a\nalerts: b\n", `:2: mapping key "alerts" already defined at line 1`},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "agent.yaml")
			if err := os.WriteFile(path, []byte(tc.yaml), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := ReadConfig(path)
			if err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want file and %q", err, tc.want)
			}
			for _, leaked := range []string{"agent.", "!!", "[]", "uint16"} {
				if strings.Contains(strings.ReplaceAll(err.Error(), path, ""), leaked) {
					t.Errorf("%v has %s of Go or YAML", err, leaked)
				}
			}
		})
	}
}

func TestConfigChecks(t *testing.T) {
	for name, tc := range map[string]struct {
		config Config
		want   string
	}{
		"mode":       {Config{Mode: "watch"}, `unknown mode "watch"`},
		"strength":   {Config{Strength: "hard"}, `unknown strength "hard"`},
		"matching":   {Config{RuleMatching: "some"}, `check rule_matching: unknown "some": want first or all`},
		"ring":       {Config{RingBytes: 100000}, "not a power of two"},
		"paths":      {Config{BaselinePaths: 5}, "check baseline_paths: 5 is not from 1024 to 16777216"},
		"responses":  {Config{Responses: "yes"}, `check responses: unknown "yes": want on or off`},
		"readiness":  {Config{Readiness: "yes"}, `check readiness: unknown "yes": want on or off`},
		"per node":   {Config{ResponsesPerNode: -1}, "check responses_per_node: -1 is less than 1"},
		"limit":      {Config{QuarantineLimit: "-1h"}, `check quarantine_limit: "-1h" is no time like 90s, 30m or 1h`},
		"limit, day": {Config{QuarantineLimit: "1d"}, `check quarantine_limit: "1d" is no time`},
		"names":      {Config{NameInterval: "1s"}, `check name_interval: "1s" is no time from 10s to 24h, and not 0`},
		"clock":      {Config{ClockError: "soon"}, `check clock_error: "soon" is no time such as 100ms, and not 0`},
		"clock, ago": {Config{ClockError: "-1s"}, `check clock_error: "-1s" is no time`},
		"names, day": {Config{NameInterval: "1d"}, `check name_interval: "1d" is no time`},
		"server":     {Config{NameServer: "dns.example.org:53"}, `check name_server: "dns.example.org:53" is no ADDRESS:PORT`},
		"dbus":       {Config{DBusSocket: "bus"}, "check dbus_socket: bus is not an absolute path"},
		"spool":      {Config{SpoolBytes: 5}, "less than 1 MiB"},
		"scope":      {Config{Scope: []string{"/usr"}}, "check scope /usr: not a cgroup directory"},

		"alerts_format":     {Config{AlertsFormat: "xml"}, `check alerts_format: unknown format "xml": want json or text`},
		"priority":          {Config{Priority: "loud"}, `check priority: unknown priority "loud"`},
		"Falco's host":      {Config{Falco: FalcoInput{Host: "h", Port: 5060}}, "check falco: check Falco's address: mutual TLS needs a certificate, a key and a CA"},
		"Falco's port":      {Config{Falco: FalcoInput{Host: "h"}}, "check falco: check Falco's address: h has no port"},
		"two of Falco":      {Config{Falco: FalcoInput{Socket: "/f.sock", Host: "h"}}, "check falco: check Falco's address: want a socket or a host"},
		"certificate alone": {Config{Falco: FalcoInput{CertFile: "/c.pem"}}, "want a socket or a host"},
		"alerts_http":       {Config{AlertsHTTP: "sidekick:2801"}, "check alerts_http: "},
		"CA without https":  {Config{AlertsHTTP: "http://h/", AlertsHTTPCA: "/ca.pem"}, "check alerts_http_ca: alerts_http is no https:// URL"},
		"alerts_syslog":     {Config{AlertsSyslog: "/dev/log"}, "check alerts_syslog: "},
		"falco_socket":      {Config{FalcoSocket: "falco.sock"}, "check falco_socket: falco.sock is not an absolute path"},
		"falco.socket":      {Config{Falco: FalcoInput{Socket: "falco.sock"}}, "check falco.socket: falco.sock is not an absolute path"},
		"our socket":        {Config{Socket: "/run/a.sock", FalcoSocket: "/run//a.sock"}, "is the agent's own socket"},
		"circle":            {Config{FalcoSocket: "/run/f.sock", Falco: FalcoInput{Socket: "/run/./f.sock"}}, "in circles"},
		"no port":           {Config{Falco: FalcoInput{HTTPListen: "127.0.0.1"}}, "check falco.http_listen: "},
		"port out of range": {Config{Falco: FalcoInput{HTTPListen: "127.0.0.1:65536"}}, "no number from 0 to 65535"},
		"no cgroup":         {Config{Scope: []string{"/nonexistent"}}, "check scope /nonexistent: not a cgroup directory"},
		"trust domain":      {Config{TrustDomain: "a b"}, `check trust domain "a b"`},
		"rules":             {Config{Rules: []string{"/nonexistent"}}, "check rules: stat /nonexistent: no such file"},
		"metrics":           {Config{Metrics: "9100"}, `check metrics "9100": address 9100: missing port`},
		"port of metrics":   {Config{Metrics: ":99999"}, `check metrics ":99999": address 99999: invalid port`},
		"no URL":            {Config{ControlPlane: ControlPlane{URL: "localhost"}}, `check control plane "localhost": want nats://HOST:PORT`},
		"no password":       {Config{ControlPlane: ControlPlane{URL: "nats://h:1"}}, "check control plane nats://h:1: it needs a password file"},
	} {
		t.Run(name, func(t *testing.T) {
			err := tc.config.Complete()
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
}

func TestEmptyConfigIsAllDefaults(t *testing.T) {
	c, err := parseConfig("agent.yaml", nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Complete(); err != nil {
		t.Fatal(err)
	}
	if c.Responses != "off" || c.ResponsesPerNode != 3 || c.quarantineLimit() != time.Hour {
		t.Errorf("responses by default: %s, %d, %s", c.Responses, c.ResponsesPerNode, c.quarantineLimit())
	}
	if c.Mode != "learn" || c.Readiness != "on" || c.Strength != "auto" || c.Node == "" || c.RingBytes != 4<<20 {
		t.Errorf("defaults: %+v", c)
	}
}

// What YAML takes for booleans and numbers is meant here.
func TestResponsesAsWritten(t *testing.T) {
	c, err := parseConfig("agent.yaml", []byte("responses: on\nreadiness: off\nquarantine_limit: 0\n"))
	if err == nil {
		err = c.Complete()
	}
	if err != nil || c.Responses != "on" || c.Readiness != "off" || c.quarantineLimit() != 0 {
		t.Errorf("%+v, %v", c, err)
	}
}

// Strangers may post to us only if the configuration names an address that they reach.
func TestFalcoListensOnLoopback(t *testing.T) {
	for address, want := range map[string]string{
		":2801": "127.0.0.1:2801", "0.0.0.0:2801": "0.0.0.0:2801", "[::1]:2801": "[::1]:2801", "": "",
	} {
		c := Config{Falco: FalcoInput{HTTPListen: address}}
		if err := c.Complete(); err != nil || c.Falco.HTTPListen != want {
			t.Errorf("%q: got %q, %v", address, c.Falco.HTTPListen, err)
		}
	}
}

func FuzzConfig(f *testing.F) {
	f.Add([]byte("node: a\nscope: [/sys/fs/cgroup/x]\ncontrol_plane: {url: nats://h:4222}\n"))
	f.Add([]byte("a: &a [*a]\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := parseConfig("agent.yaml", data)
		if err == nil {
			_ = c.Complete()
		}
	})
}
