package alert

import (
	"encoding/json"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

func full() Alert {
	at := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	return Alert{
		Time: at, Rule: "exec outside baseline", Severity: Warning, Source: "syscall", Hostname: "n1",
		Output: Text(at, Warning, "dropper ran"), Tags: []string{"process"},
		Fields: map[string]any{"proc.name": "dropper", "fd.name": nil},
		Detail: Detail{
			ID: ID{Node: "n1", Epoch: "e", Seq: 7}, SPIFFEID: "spiffe://x/y", Workload: "shop.service",
			WorkloadKind: "unit", Verdict: "deny", Hook: "lsm", Mode: "enforce", PID: 4711,
			Fingerprint: Fingerprint("r", "w", "k", "deny"),
		},
	}
}

// What a Falco consumer demands: these keys and no others but ours, a priority that it knows, a time
// in RFC 3339 with nanoseconds.
func TestFalcoForm(t *testing.T) {
	line, err := json.Marshal(full())
	if err != nil {
		t.Fatal(err)
	}
	var raw map[string]json.RawMessage
	if err := json.Unmarshal(line, &raw); err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]string{
		"time":     `"2026-01-02T03:04:05.000000006Z"`,
		"rule":     `"exec outside baseline"`,
		"priority": `"Warning"`, "source": `"syscall"`, "hostname": `"n1"`,
		"output":        `"03:04:05.000000006: Warning dropper ran"`,
		"tags":          `["process"]`,
		"output_fields": `{"fd.name":null,"proc.name":"dropper"}`,
	} {
		if got := string(raw[key]); got != want {
			t.Errorf("%s is %s, want %s", key, got, want)
		}
		delete(raw, key)
	}
	if _, ok := raw["plumbline"]; !ok || len(raw) != 1 {
		t.Errorf("beside Falco's keys there are %v, want only plumbline", raw)
	}
}

// An alert of a rule without tags, at a round time, has the same form.
func TestFalcoFormOfLittle(t *testing.T) {
	line, err := json.Marshal(&Alert{Time: time.Date(2026, 1, 2, 3, 4, 5, 120_000_000, time.UTC), Rule: "r"})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`{"time":"2026-01-02T03:04:05.120000000Z",`, `"tags":[],"output_fields":{},`} {
		if !strings.Contains(string(line), want) {
			t.Errorf("%s has no %s", line, want)
		}
	}
}

func TestRoundTrip(t *testing.T) {
	want := full()
	stored := want.Time.Add(time.Second)
	want.Detail.StoredTime = &stored
	line, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	got, err := Parse(line)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
}

func TestParse(t *testing.T) {
	const head = `{"rule":"r","time":"2026-01-02T03:04:05Z"`
	for name, tc := range map[string]struct{ in, want string }{
		"complete":         {head + `,"priority":"notice"}`, ""},
		"of Falco":         {head + `,"priority":"Critical","output_fields":{"evt.time":1,"fd.name":null},"uuid":"x"}`, ""},
		"empty":            {``, "unexpected end"},
		"cut":              {head, "unexpected end"},
		"two":              {head + `}` + head + `}`, "after top-level value"},
		"no object":        {`[]`, "cannot unmarshal"},
		"null":             {`null`, "no rule"},
		"no rule":          {`{"time":"2026-01-02T03:04:05Z"}`, "no rule"},
		"no time":          {`{"rule":"r"}`, "no time"},
		"wrong time":       {`{"rule":"r","time":"yesterday"}`, "cannot parse"},
		"unknown priority": {head + `,"priority":"loud"}`, `unknown priority "loud"`},
		"wrong type":       {`{"rule":5}`, "cannot unmarshal"},
		"seq not a count":  {head + `,"plumbline":{"id":{"seq":-1}}}`, "cannot unmarshal"},
	} {
		t.Run(name, func(t *testing.T) {
			a, err := Parse([]byte(tc.in))
			switch {
			case tc.want == "" && (err != nil || a.Rule != "r"):
				t.Errorf("got %+v, %v", a, err)
			case tc.want != "" && (err == nil || !strings.HasPrefix(err.Error(), "read alert") || !strings.Contains(err.Error(), tc.want)):
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
}

func TestSeverity(t *testing.T) {
	names := severityNames()
	for i, name := range names {
		for _, in := range []string{name, strings.ToLower(name), strings.ToUpper(name)} {
			if got, err := ParseSeverity(in); err != nil || got != Severity(i) {
				t.Errorf("%s: %v, %v", in, got, err)
			}
		}
		if got := Severity(i).String(); got != name {
			t.Errorf("%d is %s, want %s", i, got, name)
		}
	}
	if got, err := ParseSeverity("info"); err != nil || got != Informational {
		t.Errorf("info: %v, %v", got, err)
	}
	for _, in := range []string{"", "Unknown(9)", "warn", " error"} {
		if _, err := ParseSeverity(in); err == nil {
			t.Errorf("%q: no error", in)
		}
	}
	if got := Severity(9).String(); got != "Unknown(9)" {
		t.Error(got)
	}
}

func TestFingerprint(t *testing.T) {
	seen := map[string][]string{}
	for _, in := range [][]string{
		{"r", "w", "k", "deny"},
		{"r2", "w", "k", "deny"},
		{"r", "w2", "k", "deny"},
		{"r", "w", "k2", "deny"},
		{"r", "w", "k", "audit"},
		{"rw", "", "k", "deny"},
		{"", "rw", "k", "deny"},
		{"", "", "", ""},
	} {
		fp := Fingerprint(in[0], in[1], in[2], in[3])
		if other, ok := seen[fp]; ok {
			t.Errorf("%q and %q share %s", in, other, fp)
		}
		seen[fp] = in
		if len(fp) != 32 || fp != Fingerprint(in[0], in[1], in[2], in[3]) {
			t.Errorf("%q: %q is not stable or not 32 digits", in, fp)
		}
	}
	// Stored alerts are grouped by it: it must not change from one version to the next.
	if got := Fingerprint("r", "w", "k", "deny"); got != "b1591cb97c1fbfe833ec8b0c242583c5" {
		t.Error(got)
	}
}

func TestTextIsUTC(t *testing.T) {
	at := time.Date(2026, 1, 2, 1, 0, 0, 0, time.FixedZone("east", 2*3600))
	if got := Text(at, Error, "x"); got != "23:00:00.000000000: Error x" {
		t.Error(got)
	}
}

func FuzzParse(f *testing.F) {
	line, err := json.Marshal(full())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(line)
	f.Add([]byte(`{"rule":"r","time":"2026-01-02T03:04:05Z","priority":"info","output_fields":{"a":1e999}}`))
	f.Add([]byte(`{"rule":"r","time":"9999-12-31T23:59:59.999999999+23:59"}`))
	f.Fuzz(func(t *testing.T, in []byte) {
		a, err := Parse(in)
		if err != nil {
			return
		}
		if a.Rule == "" || a.Time.IsZero() || !slices.Contains(arr(severityNames()), a.Severity.String()) {
			t.Fatalf("accepted an incomplete alert: %+v", a)
		}
		out, err := json.Marshal(a)
		if err != nil {
			t.Fatalf("what was read cannot be written: %v", err)
		}
		if _, err := Parse(out); err != nil {
			t.Fatalf("what was written cannot be read: %v", err)
		}
	})
}

// Who reads our part of the JSON finds every key on the page.
func TestKeysAreDocumented(t *testing.T) {
	page, err := os.ReadFile("../../docs/alerts.md")
	if err != nil {
		t.Fatal(err)
	}
	var got, want []string
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z_]+)` \\|").FindAllStringSubmatch(string(page), -1) {
		got = append(got, m[1])
	}
	for f := range reflect.TypeFor[Detail]().Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		want = append(want, name)
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("docs/alerts.md has %q, want %q", got, want)
	}
}
