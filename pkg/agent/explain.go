package agent

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/plumbline-io/plumbline/pkg/alert"
	"github.com/plumbline-io/plumbline/pkg/baseline"
	"github.com/plumbline-io/plumbline/pkg/detect"
	"github.com/plumbline-io/plumbline/pkg/event"
	"github.com/plumbline-io/plumbline/pkg/rule"
)

// AlertExplanation says why there is an alert, and what it would take that there is none.
type AlertExplanation struct {
	ID       string           `json:"id,omitempty"`
	Time     time.Time        `json:"time"`
	Node     string           `json:"node"`
	Workload string           `json:"workload"`
	Common   string           `json:"common_baseline,omitempty"` // that the workload had in common with others
	Mode     string           `json:"mode"`
	Rule     string           `json:"rule"`
	Also     []string         `json:"also,omitempty"` // other rules that match
	Key      string           `json:"key"`
	Verdict  string           `json:"verdict"`
	Hook     string           `json:"hook"`
	Process  any              `json:"process,omitempty"` // command line
	PID      uint32           `json:"pid,omitempty"`
	Lineage  []string         `json:"lineage,omitempty"`
	Decided  string           `json:"decided"` // by whom or what, in words
	Baseline *BaselineVerdict `json:"baseline,omitempty"`
	Unknown  string           `json:"baseline_unknown,omitempty"` // why nothing is said about a baseline that is concerned
}

// BaselineVerdict is what a baseline says now about an alert's key.
type BaselineVerdict struct {
	From    string    `json:"from"` // a file, or the running agent
	Allowed bool      `json:"allowed"`
	Held    bool      `json:"held"`         // false: the baseline does not speak about the dimension
	By      string    `json:"by,omitempty"` // the entry that allows it
	Nearest []NearKey `json:"nearest,omitempty"`
	Command string    `json:"command,omitempty"` // adds the entry on a running agent
	YAML    string    `json:"yaml,omitempty"`    // the lines that would allow it
}

// NearKey is an entry that resembles the key.
type NearKey struct {
	Key string `json:"key"`
	Why string `json:"why"`
}

// IsDrift says whether an alert is about a deviation from a baseline.
func IsDrift(a alert.Alert) bool {
	for d := range event.DimSyscalls {
		if a.Rule == rule.DriftName(d) {
			return true
		}
	}
	return false
}

// ExplainAlert explains an alert with what it says itself; see Against for the baseline.
func ExplainAlert(a alert.Alert) AlertExplanation {
	d := a.Detail
	x := AlertExplanation{
		Time: a.Time, Node: a.Hostname, Workload: d.Workload, Common: d.Baseline, Mode: d.Mode, Rule: a.Rule, Also: d.Also, Key: d.Key,
		Verdict: d.Verdict, Hook: d.Hook, Process: a.Fields["proc.cmdline"], PID: d.PID, Lineage: d.Lineage,
	}
	if d.ID != (alert.ID{}) {
		x.ID = d.ID.String()
	}
	switch {
	case IsDrift(a) && d.Verdict == event.Deny.String():
		x.Decided = fmt.Sprintf("the kernel, at %s: no entry of the baseline held %s, and the mode was enforce", d.Hook, d.Key)
	case IsDrift(a):
		x.Decided = fmt.Sprintf("the kernel, at %s: no entry of the baseline held %s; it was allowed, enforce would have denied it", d.Hook, d.Key)
	case a.Rule == detect.SteppedDownRule && a.Fields[detect.CrashesField] != nil:
		x.Decided = "the agent: the main process was denied something and ended, and again, more often than the budget allows; the dimension is audited until the mode is set again"
	case a.Rule == detect.SteppedDownRule && a.Fields[detect.ReadinessField] != nil:
		x.Decided = fmt.Sprintf("the agent: it was ready, and is not any more after denials (%v); the dimension is audited until the mode is set again", a.Fields[detect.ReadinessField])
	case a.Rule == detect.SteppedDownRule:
		x.Decided = "the agent: more denials within a minute than the budget allows; the dimension is audited until the mode is set again"
	case a.Rule == detect.ExecutableChangedRule:
		x.Decided = "the agent: the file is not the one, or not as, that was executed under this name before; a baseline holds names, and nothing was denied"
	case a.Rule == UnreadableRule:
		x.Decided = fmt.Sprintf("the agent: %v; the workload is held to nothing until its mode is set", a.Fields["plumbline.error"])
	case a.Rule == BaselineChangedRule:
		x.Decided = fmt.Sprintf("a person: %v", a.Fields["plumbline.reason"])
	case a.Source == detect.InternalSource && d.Hook == ownHook:
		x.Decided = "the agent, of itself: " + a.Output
	case (d.Action == rule.Deny.String() || d.Action == rule.Kill.String()) && d.Verdict == event.Deny.String():
		x.Decided = fmt.Sprintf("the kernel, at %s: the rule %q denies it", d.Hook, a.Rule)
		if d.Why != "" {
			x.Decided += ", because of another name: " + d.Why
		}
	default:
		x.Decided = fmt.Sprintf("the rule %q (source %s), which only tells; `plumbline rules explain` shows its condition", a.Rule, a.Source)
	}
	return x
}

// Against adds what a baseline says about the key now.
func (x *AlertExplanation) Against(from string, p *baseline.Profile) error {
	k, err := baseline.ParseKey(x.Key)
	if err != nil {
		return fmt.Errorf("explain alert: no baseline can hold it: %w", err)
	}
	if baseline.IsPattern(k) {
		return fmt.Errorf("explain alert: no baseline can hold it: the file %q is called like a pattern", x.Key)
	}
	e := baseline.Explain(p, k)
	v := &BaselineVerdict{From: from, Allowed: e.Allowed, Held: e.Held}
	x.Baseline = v
	if e.Allowed {
		if e.Held {
			v.By = e.By.String()
		}
		return nil
	}
	for _, n := range e.Nearest {
		v.Nearest = append(v.Nearest, NearKey{n.Key.String(), n.Why})
	}
	v.YAML = e.Add
	v.Command = fmt.Sprintf("plumbline-agent baseline allow %s %s --reason TEXT", quote(p.Workload()), quote(k.String()))
	return nil
}

// quote makes one word of a shell of a text.
func quote(text string) string {
	plain := func(c rune) bool {
		return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.ContainsRune("/._-:@%+,", c)
	}
	if text != "" && strings.IndexFunc(text, func(c rune) bool { return !plain(c) }) < 0 {
		return text
	}
	return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'"
}

// maxAlertBytes bounds one alert.
const maxAlertBytes = 1 << 20

// ReadAlert reads one alert, and nothing else may follow. name is for errors.
func ReadAlert(name string, r io.Reader) (alert.Alert, error) {
	var one, more json.RawMessage
	dec := json.NewDecoder(io.LimitReader(r, maxAlertBytes))
	if err := dec.Decode(&one); err != nil {
		return alert.Alert{}, fmt.Errorf("%s: read alert: %w", name, err)
	}
	if err := dec.Decode(&more); !errors.Is(err, io.EOF) {
		return alert.Alert{}, fmt.Errorf("%s: more than one alert: name one by its ID, and the file with --alerts", name)
	}
	a, err := alert.Parse(one)
	if err != nil {
		return alert.Alert{}, fmt.Errorf("%s: %w", name, err)
	}
	return a, nil
}

// FindAlert reads JSON lines and returns the last alert with that ID. Without a control plane alerts have no
// ID; their fingerprint does as well.
func FindAlert(name string, r io.Reader, id string) (found alert.Alert, err error) {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxAlertBytes)
	number, known := 0, false
	for lines.Scan() {
		number++
		if len(bytes.TrimSpace(lines.Bytes())) == 0 {
			continue
		}
		a, err := alert.Parse(lines.Bytes())
		if err != nil {
			return found, fmt.Errorf("%s:%d: %w", name, number, err)
		}
		if a.Detail.ID.String() == id || a.Detail.Fingerprint == id {
			found, known = a, true
		}
	}
	switch err := lines.Err(); {
	case errors.Is(err, bufio.ErrTooLong):
		return found, fmt.Errorf("%s:%d: a line of more than %d bytes", name, number+1, maxAlertBytes)
	case err != nil:
		return found, fmt.Errorf("read %s: %w", name, err)
	case !known:
		return found, fmt.Errorf("find alert %.80q: it is not among the %d lines of %s", id, number, name)
	}
	return found, nil
}
