package rule

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/plumbline-io/plumbline/pkg/event"
)

// Test is one case of a *_test.yaml file: events, and the rules that raise alerts, with what these say if that is
// wanted of them.
//
//   - test: nginx starts a shell
//     event: exec
//     exec: {path: /usr/bin/dash, filename: /bin/sh, args: sh -c id, comm: sh}
//     lineage: [/usr/sbin/nginx]
//     alerts:
//
//   - rule: Web server spawns shell
//     severity: critical
//     fields: {proc.name: sh}
//
//   - test: a scan of ports
//     steps:
//
//   - event: access
//     access: {op: connect, protocol: tcp, address: 10.0.0.7, port: 1}
//     repeat: {times: 50, every: 100ms, vary: [port]}
//     alerts: [Network scan]
type Test struct {
	Name  string
	File  string
	Line  int
	Want  []Wanted // each rule once, in the order in which they speak up for the first time
	Steps []Step
}

// Step is one event of a test.
type Step struct {
	Event     event.Event
	Workload  Workload
	At        time.Time
	User      User // of every user id
	Session   Session
	Container Container
	Names     *NameTable
	Variables map[string]string
}

// Bounds of the events of a test, and of a file.
const (
	maxRepeat = 10_000
	maxSteps  = 100_000
)

// trial is the text form of a Test: one event, or several steps.
type trial struct {
	Test   string   `yaml:"test"`
	Alerts []Wanted `yaml:"alerts"`
	Steps  []step   `yaml:"steps"`
	One    step     `yaml:",inline"`
}

// ParseTests reads a *_test.yaml file. Unknown keys are errors.
func ParseTests(f File) ([]Test, error) {
	if len(f.Data) > maxFileBytes || nodes(f.Data) > maxNodes {
		return nil, fmt.Errorf("%s: more than %d bytes or %d elements", f.Name, maxFileBytes, maxNodes)
	}
	var trials []trial
	dec := yaml.NewDecoder(bytes.NewReader(f.Data))
	dec.KnownFields(true)
	if err := dec.Decode(&trials); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%s:%d: %s", f.Name, max(yamlLine(err), 1), yamlProblem(err))
	}
	var items []yaml.Node // the same again, for the lines
	if err := yaml.Unmarshal(f.Data, &items); err != nil {
		return nil, fmt.Errorf("%s: %w", f.Name, err)
	}
	tests := make([]Test, len(trials))
	left := maxSteps
	for i := range trials {
		t, err := trials[i].test(&left)
		if err != nil {
			return nil, fmt.Errorf("%s:%d: test %q: %w", f.Name, items[i].Line, trials[i].Test, err)
		}
		t.File, t.Line = f.Name, items[i].Line
		tests[i] = t
	}
	return tests, nil
}

// test makes the steps of a test.
func (t *trial) test(left *int) (Test, error) {
	test := Test{Name: t.Test, Want: t.Alerts}
	steps := t.Steps
	switch {
	case len(steps) == 0:
		steps = []step{t.One}
	case !reflect.ValueOf(t.One).IsZero():
		return test, errors.New("its events are in steps: what is beside them belongs into one")
	}
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for i := range steps {
		var err error
		if at, err = steps[i].appendTo(&test, at, left); err != nil {
			return test, err
		}
	}
	return test, nil
}

// yamlProblem is what the YAML reader found first, without its line and without names of Go's types.
func yamlProblem(err error) string {
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	var wrong *yaml.TypeError
	if errors.As(err, &wrong) {
		text = wrong.Errors[0]
	}
	text = strings.TrimPrefix(text, fmt.Sprintf("line %d: ", yamlLine(err)))
	if field, _, is := strings.Cut(text, " not found in type "); is {
		return "unknown key " + strconv.Quote(strings.TrimPrefix(field, "field "))
	}
	got, kind, is := strings.Cut(strings.TrimPrefix(text, "cannot unmarshal "), " into ")
	if !is {
		return text
	}
	tag, value, _ := strings.Cut(got, " ")
	got = strconv.Quote(strings.Trim(value, "`"))
	switch tag {
	case "!!seq":
		got = "a list"
	case "!!map":
		got = "keys and values"
	}
	return "got " + got + ", want " + kindWanted(kind)
}

// kindWanted says in words what a value of one of Go's types is made of.
func kindWanted(kind string) string {
	switch {
	case kind == "string":
		return "a text"
	case kind == "bool":
		return "true or false"
	case kind == "time.Duration":
		return "a duration such as 5s"
	case kind == "time.Time":
		return "a time such as 2026-01-02T15:04:05Z"
	case strings.HasPrefix(kind, "[]"):
		return "a list"
	case strings.HasPrefix(kind, "uint"), strings.HasPrefix(kind, "int"):
		return "a number that fits"
	}
	return "keys and values"
}
