package rule

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/plumbline-io/plumbline/pkg/alert"
)

// Wanted is an alert that a test expects: the first one of a rule. Beside the rule, what is not given may be any.
type Wanted struct {
	Rule     string
	Output   *string // without time and priority
	Severity *alert.Severity
	Fields   map[string]*string // of the output; nil: the alert has no value
}

// UnmarshalYAML reads the name of a rule, or {rule: NAME, output: TEXT, severity: WORD, fields: {NAME: VALUE}}.
func (w *Wanted) UnmarshalYAML(n *yaml.Node) error {
	if n.Kind == yaml.ScalarNode {
		return n.Decode(&w.Rule)
	}
	if n.Kind != yaml.MappingNode {
		return fmt.Errorf("line %d: alerts: expected the name of a rule, or rule, output, severity and fields", n.Line)
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		var err error
		switch key.Value {
		case "rule":
			err = value.Decode(&w.Rule)
		case "output":
			err = value.Decode(&w.Output)
		case "severity":
			w.Severity = new(alert.Severity)
			if err = value.Decode(w.Severity); err != nil {
				err = fmt.Errorf("line %d: %w", value.Line, err)
			}
		case "fields":
			err = value.Decode(&w.Fields)
		default:
			err = fmt.Errorf("line %d: alerts: unknown key %.60q: want rule, output, severity and fields", key.Line, key.Value)
		}
		if err != nil {
			return err
		}
	}
	if w.Rule == "" {
		return fmt.Errorf("line %d: alerts: the rule is not named", n.Line)
	}
	return nil
}

// Differs says what of an alert is not as it is wanted, "" if all is.
func (w *Wanted) Differs(a *alert.Alert) string {
	if w.Severity != nil && a.Severity != *w.Severity {
		return fmt.Sprintf("severity is %s, want %s", a.Severity, *w.Severity)
	}
	if told := strings.TrimPrefix(a.Output, alert.Text(a.Time, a.Severity, "")); w.Output != nil && told != *w.Output {
		return fmt.Sprintf("output is %q, want %q", told, *w.Output)
	}
	for _, name := range slices.Sorted(maps.Keys(w.Fields)) {
		want := w.Fields[name]
		switch value, there := a.Fields[name]; {
		case !there:
			return name + " is not in the output of the rule"
		case want == nil && value != nil:
			return fmt.Sprintf("%s is %q, want none", name, fmt.Sprint(value))
		case want != nil && value == nil:
			return fmt.Sprintf("%s is not there, want %q", name, *want)
		case want != nil && fmt.Sprint(value) != *want:
			return fmt.Sprintf("%s is %q, want %q", name, fmt.Sprint(value), *want)
		}
	}
	return ""
}

// Names are those of the rules that a test wants to hear of.
func (t *Test) Names() []string {
	names := make([]string, len(t.Want))
	for i := range t.Want {
		names[i] = t.Want[i].Rule
	}
	return names
}
