// Package alert is what is reported for a rule match or drift: one Alert, whose JSON is a valid
// Falco alert with our own fields beside it. It must never read a clock or do I/O; whoever makes an
// alert brings the time.
//
//	a := alert.Alert{Rule: "exec outside baseline", Severity: alert.High, Verdict: "deny"}
//	line, err := json.Marshal(a)
package alert

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// Severity is Falco's priority, most severe first.
type Severity uint8

// The severities, in Falco's order.
const (
	Emergency Severity = iota
	AlertSeverity
	Critical
	Error
	Warning
	Notice
	Informational
	Debug
)

func severityNames() [8]string {
	return [8]string{"Emergency", "Alert", "Critical", "Error", "Warning", "Notice", "Informational", "Debug"}
}

func (s Severity) String() string {
	if names := severityNames(); int(s) < len(names) {
		return names[s]
	}
	return fmt.Sprintf("Unknown(%d)", uint8(s))
}

// ParseSeverity reads a Falco priority, in any case; "info" is Informational.
func ParseSeverity(s string) (Severity, error) {
	if strings.EqualFold(s, "info") {
		return Informational, nil
	}
	for i, n := range severityNames() {
		if strings.EqualFold(n, s) {
			return Severity(i), nil
		}
	}
	return Debug, fmt.Errorf("unknown priority %q: want one of %s", s, strings.Join(arr(severityNames()), ", "))
}

func arr(a [8]string) []string { return a[:] }

// MarshalText writes the Falco priority.
func (s Severity) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads a Falco priority.
func (s *Severity) UnmarshalText(b []byte) error {
	v, err := ParseSeverity(string(b))
	*s = v
	return err
}

// ID names an alert in the fleet: the node, the spool it went through, its place there. Gaps in Seq
// mean loss.
type ID struct {
	Node  string `json:"node"`
	Epoch string `json:"epoch"` // random, made with the spool
	Seq   uint64 `json:"seq"`   // from 1
}

func (id ID) String() string { return fmt.Sprintf("%s.%s.%d", id.Node, id.Epoch, id.Seq) }

// Alert is one report. The first block is Falco's form; the fields under "plumbline" are ours.
type Alert struct {
	Time     time.Time      `json:"time"` // wall clock at the hook
	Rule     string         `json:"rule"`
	Severity Severity       `json:"priority"`
	Source   string         `json:"source"` // syscall, tls, gc, internal
	Hostname string         `json:"hostname"`
	Output   string         `json:"output"` // "HH:MM:SS.nnnnnnnnn: Priority text"
	Tags     []string       `json:"tags"`
	Fields   map[string]any `json:"output_fields"` // Falco's names: proc.name, evt.time, ...

	Detail Detail `json:"plumbline"`
}

// MarshalJSON writes what readers of Falco's alerts rely on: a time that always has nine digits after the second,
// and a list of tags, and fields, also where there are none.
func (a Alert) MarshalJSON() ([]byte, error) { return a.JSON() }

// JSON is what MarshalJSON writes, with <, > and & as they are: so Falco writes them, and so "->" can be looked for in a
// file of alerts. The functions of encoding/json would escape them.
func (a *Alert) JSON() ([]byte, error) {
	type plain Alert // without these methods
	c := *a
	if c.Tags == nil {
		c.Tags = []string{}
	}
	if c.Fields == nil {
		c.Fields = map[string]any{}
	}
	var line bytes.Buffer
	enc := json.NewEncoder(&line)
	enc.SetEscapeHTML(false)
	err := enc.Encode(struct {
		Time string `json:"time"`
		plain
	}{c.Time.Format("2006-01-02T15:04:05.000000000Z07:00"), plain(c)})
	return bytes.TrimSuffix(line.Bytes(), []byte("\n")), err
}

// Detail is what Falco has no place for.
type Detail struct {
	ID             ID         `json:"id,omitzero"` // not set where no control plane is
	SPIFFEID       string     `json:"spiffe_id,omitempty"`
	IdentitySource string     `json:"identity_source,omitempty"` // template, svid, broker
	Workload       string     `json:"workload,omitempty"`        // pod, container or unit name
	WorkloadKind   string     `json:"workload_kind,omitempty"`   // container, unit, cgroup, host
	Baseline       string     `json:"baseline,omitempty"`        // that the workload has in common with others
	Cgroup         string     `json:"cgroup,omitempty"`
	Attack         []string   `json:"attack,omitempty"`  // ids of MITRE ATT&CK techniques
	Action         string     `json:"action,omitempty"`  // that the rule asks for, if it is not just to alert: deny, kill, quarantine, drain, restart, evict
	Outcome        string     `json:"outcome,omitempty"` // of the last four: begun, taken: what, refused: why, failed: why
	Verdict        string     `json:"verdict"`           // allow, audit, deny
	Why            string     `json:"why,omitempty"`     // a rule denies what its condition does not say
	Hook           string     `json:"hook"`              // lsm, fmod_ret, signal, tracepoint, uprobe
	Mode           string     `json:"mode,omitempty"`
	Key            string     `json:"key,omitempty"`  // learning key: what a baseline would need to hold
	Also           []string   `json:"also,omitempty"` // other rules that the same event matches
	Lineage        []string   `json:"lineage,omitempty"`
	PID            uint32     `json:"pid,omitempty"`
	KernelTime     uint64     `json:"ktime_ns,omitempty"` // CLOCK_MONOTONIC at the hook
	Fingerprint    string     `json:"fingerprint"`
	StoredTime     *time.Time `json:"stored_time,omitempty"` // set by the control plane
}

// Fingerprint is the stable hash that groups repeated alerts: rule, workload, key and verdict.
func Fingerprint(rule, workload, key, verdict string) string {
	h := sha256.New()
	for _, s := range [...]string{rule, workload, key, verdict} {
		h.Write([]byte(s))
		h.Write([]byte{0})
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// Text is Falco's output line: time of day, priority, message.
func Text(at time.Time, s Severity, message string) string {
	return at.UTC().Format("15:04:05.000000000") + ": " + s.String() + " " + message
}

// Parse reads one alert and checks that it is complete enough to be stored.
func Parse(b []byte) (Alert, error) {
	var a Alert
	if err := json.Unmarshal(b, &a); err != nil {
		return Alert{}, fmt.Errorf("read alert: %w", err)
	}
	switch {
	case a.Rule == "":
		return Alert{}, fmt.Errorf("read alert: no rule")
	case a.Time.IsZero():
		return Alert{}, fmt.Errorf("read alert %q: no time", a.Rule)
	}
	return a, nil
}
