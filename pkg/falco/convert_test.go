package falco

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/falcosecurity/client-go/pkg/api/outputs"
	"github.com/falcosecurity/client-go/pkg/api/schema"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/plumbline-io/plumbline/pkg/alert"
)

func TestConvert(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	got, err := Convert(&outputs.Response{
		Time: timestamppb.New(at), Priority: schema.Priority_NOTICE, Rule: "Terminal shell in container",
		Output: "03:04:05.000000006: Notice A shell", Hostname: "n1", Tags: []string{"container", "shell"}, Source: "syscall",
		OutputFields: map[string]string{
			"container.id": "3ad7b26ded6d", "proc.exepath": "/bin/sh", "proc.pid": "4711", "fd.name": "<NA>", "proc.tty": "0",
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	want := alert.Alert{
		Time: at, Rule: "Terminal shell in container", Severity: alert.Notice, Source: "syscall", Hostname: "n1",
		Output: "03:04:05.000000006: Notice A shell", Tags: []string{"container", "shell"},
		Fields: map[string]any{
			"container.id": "3ad7b26ded6d", "proc.exepath": "/bin/sh", "proc.pid": "4711", "fd.name": nil, "proc.tty": "0",
		},
		Detail: alert.Detail{
			Workload: "3ad7b26ded6d", WorkloadKind: "container", Verdict: "allow", Hook: "falco", Key: "/bin/sh", PID: 4711,
			Fingerprint: alert.Fingerprint("Terminal shell in container", "n1/3ad7b26ded6d", "/bin/sh", "allow"),
		},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestConvertWorkload(t *testing.T) {
	for name, tc := range map[string]struct {
		fields     map[string]string
		name, kind string
		pid        uint32
	}{
		"none":      {nil, "", "", 0},
		"host":      {map[string]string{"container.id": "host", "proc.pid": "1"}, "host", "host", 1},
		"container": {map[string]string{"container.id": "abc"}, "abc", "container", 0},
		"missing":   {map[string]string{"container.id": "<NA>", "proc.pid": "<NA>"}, "", "", 0},
		"no pid":    {map[string]string{"proc.pid": "-1"}, "", "", 0},
		"huge pid":  {map[string]string{"proc.pid": "4294967296"}, "", "", 0},
	} {
		t.Run(name, func(t *testing.T) {
			r := response("r")
			r.OutputFields = tc.fields
			a, err := Convert(r)
			if d := a.Detail; err != nil || d.Workload != tc.name || d.WorkloadKind != tc.kind || d.PID != tc.pid {
				t.Errorf("got %+v, %v", d, err)
			}
		})
	}
}

func TestConvertErrors(t *testing.T) {
	now := timestamppb.Now()
	for name, tc := range map[string]struct {
		r    *outputs.Response
		want string
	}{
		"nothing":      {nil, "no rule"},
		"no rule":      {&outputs.Response{Time: now}, "no rule"},
		"no time":      {&outputs.Response{Rule: "r"}, "no valid time"},
		"zero time":    {&outputs.Response{Rule: "r", Time: timestamppb.New(time.Time{})}, "no valid time"},
		"far time":     {&outputs.Response{Rule: "r", Time: &timestamppb.Timestamp{Seconds: 1 << 60}}, "no valid time"},
		"bad priority": {&outputs.Response{Rule: "r", Time: now, Priority: 99}, "unknown priority"},
		"below zero":   {&outputs.Response{Rule: "r", Time: now, Priority: -1}, "unknown priority"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := Convert(tc.r); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
}

// Every priority of Falco's is one of ours.
func TestConvertPriorities(t *testing.T) {
	for number := range int32(8) {
		r := response("r")
		r.Priority = schema.Priority(number)
		if a, err := Convert(r); err != nil || a.Severity != alert.Severity(number) {
			t.Errorf("%d: %v, %v", number, a.Severity, err)
		}
	}
}

// What is accepted can be stored: it is an alert in the eyes of the control plane.
func FuzzConvert(f *testing.F) {
	for _, r := range []*outputs.Response{
		response("r"),
		{Rule: "r", Time: &timestamppb.Timestamp{Seconds: 253402300799, Nanos: 999999999}},
		{Rule: "r", Time: timestamppb.Now(), OutputFields: map[string]string{"a": "<NA>", "proc.pid": "7"}, Tags: []string{""}},
	} {
		b, err := proto.Marshal(r)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var r outputs.Response
		if proto.Unmarshal(b, &r) != nil {
			return
		}
		a, err := Convert(&r)
		if err != nil {
			return
		}
		line, err := json.Marshal(a)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := alert.Parse(line); err != nil {
			t.Fatal(err)
		}
	})
}
