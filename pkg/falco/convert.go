package falco

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"github.com/falcosecurity/client-go/pkg/api/outputs"

	"github.com/plumbline-io/plumbline/pkg/alert"
)

// notAvailable is how Falco writes a field that it could not read; in JSON it is null.
const notAvailable = "<NA>"

// shortID is how many digits of a container's id people, Falco and pkg/workload use.
const shortID = 12

// Convert makes an alert of Falco's. Its verdict is allow: Falco observes. The workload is named as
// pkg/workload names it.
func Convert(r *outputs.Response) (alert.Alert, error) {
	if r.GetRule() == "" {
		return alert.Alert{}, errors.New("read Falco's alert: it has no rule")
	}
	if err := r.GetTime().CheckValid(); err != nil || r.GetTime().AsTime().IsZero() {
		return alert.Alert{}, fmt.Errorf("read Falco's alert %q: it has no valid time", r.GetRule())
	}
	severity, err := alert.ParseSeverity(r.GetPriority().String())
	if err != nil {
		return alert.Alert{}, fmt.Errorf("read Falco's alert %q: %w", r.GetRule(), err)
	}
	a := alert.Alert{
		Time: r.GetTime().AsTime(), Rule: r.GetRule(), Severity: severity, Source: r.GetSource(),
		Hostname: r.GetHostname(), Output: r.GetOutput(), Tags: r.GetTags(),
		Fields: make(map[string]any, len(r.GetOutputFields())),
	}
	for k, v := range r.GetOutputFields() {
		a.Fields[k] = v
	}
	complete(&a)
	return a, nil
}

// complete fills in our part of an alert from Falco's fields.
func complete(a *alert.Alert) {
	for k, v := range a.Fields {
		if v == notAvailable {
			a.Fields[k] = nil
		}
	}
	d := &a.Detail
	d.Verdict, d.Hook, d.Key = "allow", Hook, known(a, "proc.exepath")
	switch id := known(a, ContainerField); id {
	case "":
	case "host":
		d.Workload, d.WorkloadKind = id, "host"
	default:
		d.Workload, d.WorkloadKind = id[:min(len(id), shortID)], "container"
	}
	if pid, err := strconv.ParseUint(known(a, "proc.pid"), 10, 32); err == nil {
		d.PID = uint32(pid)
	}
	d.Fingerprint = alert.Fingerprint(a.Rule, a.Hostname+"/"+d.Workload, d.Key, d.Verdict)
}

// known is the text of a field, "" if Falco could not read it.
func known(a *alert.Alert, field string) string {
	switch v := a.Fields[field].(type) {
	case string:
		return v
	case json.Number:
		return v.String()
	}
	return ""
}
