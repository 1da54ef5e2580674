package falco

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/plumbline-io/plumbline/pkg/alert"
)

func recorded(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name+".json"))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestParseRecorded(t *testing.T) {
	for name, want := range map[string]struct {
		rule, source, hostname string
		severity               alert.Severity
		at                     time.Time
		fields, tags           int
		detail                 alert.Detail // but for what is the same for all
	}{
		"terminal_shell": {
			"Terminal shell in container", "syscall", "worker-2", alert.Notice, time.Date(2025, 11, 24, 9, 14, 51, 238711620, time.UTC), 18, 5,
			alert.Detail{Workload: "3ad7b26ded6d", WorkloadKind: "container", Key: "/usr/bin/bash", PID: 48211},
		},
		"sensitive_file_host": {
			"Read sensitive file untrusted", "syscall", "db-1", alert.Warning, time.Date(2025, 11, 24, 22, 3, 10, 417003, time.UTC), 17, 6,
			alert.Detail{Workload: "host", WorkloadKind: "host", Key: "/usr/bin/cat", PID: 9917},
		},
		"drop_and_execute": {
			"Drop and execute new binary in container", "syscall", "worker-7", alert.Critical, time.Date(2025, 11, 25, 1, 40, 2, 911004812, time.UTC), 18, 6,
			alert.Detail{Workload: "9f86d081884c", WorkloadKind: "container", Key: "/tmp/.x/kworker", PID: 71024},
		},
		"internal_drop": {
			"Falco internal: syscall event drop", "internal", "worker-2", alert.Debug, time.Date(2025, 11, 24, 9, 15, 2, 0, time.UTC), 8, 0,
			alert.Detail{},
		},
		"k8s_audit": {
			"K8s Deployment Created", "k8s_audit", "audit-0", alert.Informational, time.Date(2025, 11, 24, 10, 0, 0, 125000192, time.UTC), 7, 1,
			alert.Detail{},
		},
		"no_output": {
			"Contact K8S API Server From Container", "syscall", "", alert.Notice, time.Date(2025, 11, 24, 9, 14, 51, 238711620, time.UTC), 9, 0,
			alert.Detail{Workload: "e3b0c44298fc", WorkloadKind: "container", Key: "/usr/local/bin/kubectl", PID: 5120},
		},
	} {
		t.Run(name, func(t *testing.T) {
			a, err := Parse(recorded(t, name))
			if err != nil {
				t.Fatal(err)
			}
			if a.Rule != want.rule || a.Source != want.source || a.Hostname != want.hostname || a.Severity != want.severity ||
				!a.Time.Equal(want.at) || len(a.Fields) != want.fields || len(a.Tags) != want.tags {
				t.Errorf("got %+v, %d fields, %d tags", a, len(a.Fields), len(a.Tags))
			}
			d := want.detail
			d.Verdict, d.Hook = "allow", "falco"
			d.Fingerprint = alert.Fingerprint(a.Rule, a.Hostname+"/"+d.Workload, d.Key, "allow")
			if !reflect.DeepEqual(a.Detail, d) {
				t.Errorf("got  %+v\nwant %+v", a.Detail, d)
			}
		})
	}
}

// Numbers keep every digit, and what Falco could not read stays null.
func TestParseKeepsFields(t *testing.T) {
	a, err := Parse(recorded(t, "sensitive_file_host"))
	if err != nil {
		t.Fatal(err)
	}
	line, err := json.Marshal(a)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"evt.time":1764021790000417003`, `"proc.aname[4]":null`, `"user.loginuid":1001`, `"output":"22:03:10.000417003: Warning Sensitive`} {
		if !strings.Contains(string(line), want) {
			t.Errorf("no %s in %s", want, line)
		}
	}
}

func TestParseErrors(t *testing.T) {
	const head = `{"rule":"r","time":"2025-11-24T09:14:51Z","priority":"Notice"`
	for name, tc := range map[string]struct{ body, want string }{
		"empty":        {"", "nothing there"},
		"text":         {"09:14:51: Notice A shell", `byte 1: field "": want object, not number`},
		"cut":          {`{"rule":"r"`, "byte 11: it ends too early"},
		"syntax":       {`{"rule":"r",}`, "byte 13: invalid character '}'"},
		"wrong kind":   {`{"rule":7}`, `byte 9: field "rule": want string, not number`},
		"list":         {`[]`, "want object, not array"},
		"tags":         {`{"tags":"a"}`, `field "tags": want array, not string`},
		"fields":       {`{"output_fields":[]}`, `field "output_fields": want object, not array`},
		"two":          {head + "}{}", "more than one value"},
		"rest":         {head + "} rest", "more than one value"},
		"null":         {"null", "no rule"},
		"no rule":      {`{"time":"2025-11-24T09:14:51Z","priority":"Notice"}`, "no rule"},
		"no time":      {`{"rule":"r","priority":"Notice"}`, "no time"},
		"bad time":     {`{"rule":"r","priority":"Notice","time":"yesterday"}`, `parsing time`},
		"no priority":  {`{"rule":"r","time":"2025-11-24T09:14:51Z"}`, `"r": unknown priority ""`},
		"bad priority": {`{"rule":"r","time":"2025-11-24T09:14:51Z","priority":"High"}`, `"r": unknown priority "High"`},
		"huge number":  {head + `,"output_fields":{"n":1e999}}`, "cannot be stored"},
		"our own":      {head + `,"plumbline":{"verdict":"deny","spiffe_id":"spiffe://a/b"}}`, "circles"},
		"our own null": {head + `,"plumbline":null}`, "circles"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Parse([]byte(tc.body))
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
}

// What is accepted can be stored, is Falco's, and claims nothing of ours; and our gRPC clients get it.
func FuzzParse(f *testing.F) {
	for _, name := range []string{"terminal_shell", "sensitive_file_host", "internal_drop", "no_output"} {
		f.Add(recorded(f, name))
	}
	f.Add([]byte(`{"rule":"r","time":"2025-11-24T09:14:51Z","priority":"info","output_fields":{"a":[1e400,{"b":null}]}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := Parse(b)
		if err != nil {
			return
		}
		if a.Detail.Hook != Hook || a.Detail.Verdict != "allow" || a.Detail.SPIFFEID != "" {
			t.Errorf("claims %+v", a.Detail)
		}
		line, err := json.Marshal(a)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := alert.Parse(line); err != nil {
			t.Fatal(err)
		}
		if _, err := Convert(encode(a)); err != nil {
			t.Fatal(err)
		}
	})
}
