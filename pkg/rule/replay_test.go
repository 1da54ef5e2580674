package rule

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/plumbline-io/plumbline/pkg/event"
)

const recordHead = `{"time":"2026-01-02T03:04:05.000000006Z","verdict":"allow","hook":"tracepoint","workload":"web","pid":7,"exe":"/bin/x",`

func TestParseEvent(t *testing.T) {
	process := event.Process{PID: 7, Path: "/bin/x"}
	for name, tc := range map[string]struct {
		line string
		want event.Event
	}{
		"exec": {
			`"kind":"exec","exec":{"Path":"/usr/bin/dash","Filename":"/bin/sh","Unlinked":true}`,
			event.Event{Kind: event.Exec, Exec: event.ExecInfo{Path: "/usr/bin/dash", Filename: "/bin/sh", Unlinked: true}},
		},
		"attempt": {
			`"kind":"exec_check","exec":{"Path":"/x"},"later":{"a":[1]}`,
			event.Event{Kind: event.ExecCheck, Exec: event.ExecInfo{Path: "/x"}},
		},
		"fork": {`"kind":"fork","fork":{"Child":9}`, event.Event{Kind: event.Fork, Fork: event.ForkInfo{Child: 9}}},
		"exit": {`"kind":"exit","exit":{"Code":-1,"Signal":9}`, event.Event{Kind: event.Exit, Exit: event.ExitInfo{Code: -1, Signal: 9}}},
		"access": {
			`"kind":"access","access":{"Op":5,"Path":"/etc/x","Address":""}`,
			event.Event{Kind: event.Access, Access: event.AccessInfo{Key: event.Key{Op: event.OpCreate, Path: "/etc/x"}}},
		},
		"cgroup": {`"kind":"cgroup","cgroup":"/a"`, event.Event{Kind: event.Cgroup, Cgroup: event.CgroupInfo{Path: "/a"}}},
		"pause": {
			`"kind":"pause","pause":{"gc":true,"reason":3,"total_us":12.345,"stopping_us":0.5}`,
			event.Event{Kind: event.Pause, Pause: event.PauseInfo{GC: true, Reason: 3, Total: 12345, Stopping: 500}},
		},
		"handshake": {
			`"kind":"handshake","handshake":{"library":"go","role":"server","ok":true,"version":"TLS 1.3","suite":"TLS_AES_128_GCM_SHA256",` +
				`"peer_sha256":"` + strings.Repeat("ab", 32) + `","peer_not_after":"2026-01-01T00:00:00Z","duration_ms":1.5}`,
			event.Event{Kind: event.Handshake, Handshake: event.HandshakeInfo{
				Library: event.LibraryGo, Role: event.Server, OK: true, Version: 0x0304, Suite: 0x1301, Alert: -1, Duration: 1_500_000,
				HasPeer: true, PeerNotAfter: 1767225600, PeerFingerprint: [32]byte([]byte(strings.Repeat("\xab", 32))),
			}},
		},
		"numbers": {
			`"kind":"handshake","handshake":{"library":"openssl","role":"client","version":"0x7F1C","suite":"0xc0b4","alert":42,"verify_result":20,"reason":5}`,
			event.Event{Kind: event.Handshake, Handshake: event.HandshakeInfo{
				Library: event.LibraryOpenSSL, Role: event.Client, Version: 0x7f1c, Suite: 0xc0b4, Alert: 42, VerifyResult: 20, Reason: 5,
			}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, w, at, err := ParseEvent([]byte(recordHead + tc.line + "}"))
			if err != nil {
				t.Fatal(err)
			}
			tc.want.Hook, tc.want.Tgid, tc.want.Tid, tc.want.Process = event.HookTracepoint, 7, 7, process
			if !reflect.DeepEqual(*got, tc.want) {
				t.Errorf("got\n%+v\nwant\n%+v", *got, tc.want)
			}
			if w.Name != "web" || !at.Equal(time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)) {
				t.Errorf("workload %+v at %v", w, at)
			}
		})
	}
}

func TestParseEventWorkload(t *testing.T) {
	ev, w, _, err := ParseEvent([]byte(recordHead + `"workload_kind":"container","container_id":"c1","spiffe_id":"spiffe://d/x","kind":"cgroup",` +
		`"process":{"PID":7,"Lineage":["/usr/sbin/nginx"],"UID":33}}`))
	if err != nil {
		t.Fatal(err)
	}
	if (w != Workload{Name: "web", Kind: "container", ContainerID: "c1", SPIFFEID: "spiffe://d/x"}) {
		t.Errorf("%+v", w)
	}
	if p := ev.Process; p.UID != 33 || len(p.Lineage) != 1 || p.Lineage[0] != "/usr/sbin/nginx" {
		t.Errorf("%+v", p)
	}
}

func TestParseEventRefuses(t *testing.T) {
	shake := recordHead + `"kind":"handshake","handshake":{"library":"go","role":"client",`
	for name, tc := range map[string]struct{ line, want string }{
		"nothing":       {``, "column 1: "},
		"no JSON":       {`{"time":x}`, "column 9: "},
		"two objects":   {`{} {}`, "column 4: "},
		"no object":     {`[1]`, "expected an object, not array"},
		"wrong type":    {`{"pid":"x"}`, "pid: string does not fit here"},
		"out of range":  {`{"pid":-1}`, "pid: number -1 does not fit here"},
		"bad time":      {`{"time":"yesterday"}`, "yesterday"},
		"no time":       {`{"kind":"fork","fork":{},"verdict":"allow","hook":"lsm"}`, "time: missing"},
		"kind":          {recordHead + `"kind":"dance"}`, `kind: unknown value "dance"`},
		"no kind":       {recordHead + `"fork":{}}`, `kind: unknown value ""`},
		"verdict":       {`{"kind":"fork","verdict":"maybe"}`, `verdict: unknown value "maybe"`},
		"hook":          {`{"kind":"fork","verdict":"deny","hook":"line"}`, `hook: unknown value "line"`},
		"no part":       {recordHead + `"kind":"exec","fork":{}}`, "exec: missing in an event of kind exec"},
		"no handshake":  {recordHead + `"kind":"handshake"}`, "handshake: missing"},
		"pause":         {recordHead + `"kind":"pause","pause":{"total_us":-1}}`, "pause.total_us: -1 is no duration"},
		"long pause":    {recordHead + `"kind":"pause","pause":{"stopping_us":1e300}}`, "pause.stopping_us: 1e+300 is no duration"},
		"library":       {recordHead + `"kind":"handshake","handshake":{"library":"nss"}}`, `handshake.library: unknown value "nss"`},
		"version":       {shake + `"version":"TLS 9"}}`, `handshake.version: unknown value "TLS 9"`},
		"suite":         {shake + `"suite":"0x10000"}}`, `handshake.suite: unknown value "0x10000"`},
		"fingerprint":   {shake + `"peer_sha256":"abcd"}}`, "not 64 hexadecimal digits"},
		"too long":      {strings.Repeat(" ", MaxEventBytes+1), "more than"},
		"nested deeply": {strings.Repeat("[", 100_000), "exceeded max depth"},
	} {
		t.Run(name, func(t *testing.T) {
			ev, _, _, err := ParseEvent([]byte(tc.line))
			if err == nil || ev != nil || !strings.HasPrefix(err.Error(), "read event: ") || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
}

func TestParseEventGap(t *testing.T) {
	_, _, _, err := ParseEvent([]byte(`{"kind":"missed","missed":5}`))
	var gap Gap
	if !errors.As(err, &gap) || gap.Missed != 5 {
		t.Errorf("got %v", err)
	}
}

// What was read can be asked, and names come out as they went in.
func FuzzParseEvent(f *testing.F) {
	for _, part := range []string{
		`"kind":"exec","exec":{"Path":"/x"}`, `"kind":"pause","pause":{"total_us":1.5}`, `"kind":"cgroup","cgroup":"/"`,
		`"kind":"handshake","handshake":{"library":"go","role":"client","version":"TLS 1.2","suite":"0xc0b4"}`,
		`"kind":"fork","fork":{},"process":{"Lineage":["/a"]}`,
	} {
		f.Add([]byte(recordHead + part + "}"))
	}
	f.Add([]byte(`{"kind":"missed","missed":18446744073709551615}`))
	set, problems := Load(File{Name: "r.yaml", Data: []byte(ruleOf("proc.aname[2] = a or not evt.hook = lsm"))})
	if len(errorsIn(problems)) > 0 {
		f.Fatal(problems)
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		ev, w, at, err := ParseEvent(line)
		if err != nil {
			if ev != nil || !strings.HasPrefix(err.Error(), "read event: ") {
				t.Errorf("%v, %v", ev, err)
			}
			return
		}
		var raw struct{ Kind, Verdict, Hook string }
		if json.Unmarshal(line, &raw) == nil && (ev.Kind.String() != raw.Kind || ev.Verdict.String() != raw.Verdict || ev.Hook.String() != raw.Hook) {
			t.Errorf("%s became %s, %s, %s", line, ev.Kind, ev.Verdict, ev.Hook)
		}
		e := Env{Event: ev, Workload: w, Wall: at.UnixNano()}
		for _, r := range set.For(ev.Kind) {
			r.Match(&e)
			r.AppendOutput(nil, &e)
		}
	})
}
