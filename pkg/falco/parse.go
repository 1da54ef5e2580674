package falco

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"time"

	"github.com/plumbline-io/plumbline/pkg/alert"
)

// message is Falco's JSON. What else is in it is not ours to read: nobody may claim a verdict or a SPIFFE
// ID by writing it there.
type message struct {
	Time      time.Time       `json:"time"`
	Rule      string          `json:"rule"`
	Priority  string          `json:"priority"`
	Source    string          `json:"source"`
	Hostname  string          `json:"hostname"`
	Output    string          `json:"output"`
	Tags      []string        `json:"tags"`
	Fields    map[string]any  `json:"output_fields"`
	Plumbline json.RawMessage `json:"plumbline"`
}

// errOwn ends a circle of agents that send their alerts to each other.
var errOwn = errors.New("read Falco's alert: it is one of Plumbline, which would go in circles")

// Parse makes an alert of the JSON that Falco posts, as Convert does of its other form. What it accepts
// can be stored.
func Parse(b []byte) (alert.Alert, error) {
	var m message
	if err := decode(b, &m); err != nil {
		return alert.Alert{}, fmt.Errorf("read Falco's alert: %w", err)
	}
	switch {
	case m.Plumbline != nil:
		return alert.Alert{}, errOwn
	case m.Rule == "":
		return alert.Alert{}, errors.New("read Falco's alert: it has no rule")
	case m.Time.IsZero():
		return alert.Alert{}, fmt.Errorf("read Falco's alert %q: it has no time", m.Rule)
	}
	severity, err := alert.ParseSeverity(m.Priority)
	if err != nil {
		return alert.Alert{}, fmt.Errorf("read Falco's alert %q: %w", m.Rule, err)
	}
	a := alert.Alert{
		Time: m.Time.UTC(), Rule: m.Rule, Severity: severity, Source: m.Source, Hostname: m.Hostname,
		Output: m.Output, Tags: m.Tags, Fields: m.Fields,
	}
	complete(&a)
	// Numbers are kept as they were written, which allows some that nobody can read.
	line, err := json.Marshal(a)
	if err == nil {
		_, err = alert.Parse(line)
	}
	if err != nil {
		return alert.Alert{}, fmt.Errorf("read Falco's alert %q: it cannot be stored: %w", m.Rule, err)
	}
	return a, nil
}

// decode reads one JSON value and says where it is wrong.
func decode(b []byte, m *message) error {
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.UseNumber() // evt.time has more digits than a float64
	err := dec.Decode(m)
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	switch {
	case errors.Is(err, io.EOF):
		return errors.New("nothing there")
	case errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("byte %d: it ends too early", len(b))
	case errors.As(err, &syntax):
		return fmt.Errorf("byte %d: %w", syntax.Offset, err)
	case errors.As(err, &kind):
		return fmt.Errorf("byte %d: field %q: want %s, not %s", kind.Offset, kind.Field, nameOf(kind.Type), kind.Value)
	case err != nil:
		return err
	}
	if err := dec.Decode(new(json.RawMessage)); !errors.Is(err, io.EOF) {
		return fmt.Errorf("byte %d: more than one value", dec.InputOffset())
	}
	return nil
}

// nameOf is what JSON calls a type of message.
func nameOf(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Struct, reflect.Map:
		return "object"
	case reflect.Slice:
		return "array"
	}
	return "string"
}
