package detect

import (
	"fmt"
	"time"

	"github.com/plumbline-io/plumbline/pkg/alert"
	"github.com/plumbline-io/plumbline/pkg/event"
)

// InternalSource is the source of what the agent tells of itself.
const InternalSource = "internal"

// SteppedDownRule names the alert about enforcement that stepped down by itself.
const SteppedDownRule = "Enforcement stepped down"

// SteppedDown is the alert that a workload has used up its budget of denials in a dimension, which is only
// audited from now on. ev is the denial that was one too many.
func (d *Detector) SteppedDown(ev *event.Event, w *Subject, dim event.Dimension, denials int) alert.Alert {
	return d.steppedDown(d.cfg.Wall(ev.Ktime), ev, w, step{
		dim: dim, why: fmt.Sprintf("%d denials within a minute", denials), last: key(ev), field: DenialsField, value: denials,
	})
}

// CrashLoop is the alert that a workload's main process has ended again and again after denials in a
// dimension, which is only audited from now on. ev is the last exit.
func (d *Detector) CrashLoop(ev *event.Event, w *Subject, dim event.Dimension, crashes int) alert.Alert {
	how := fmt.Sprintf("exit code %d", ev.Exit.Code)
	if ev.Exit.Signal != 0 {
		how = fmt.Sprintf("signal %d", ev.Exit.Signal)
	}
	return d.steppedDown(d.cfg.Wall(ev.Ktime), ev, w, step{
		dim: dim, why: fmt.Sprintf("the main process has ended %d times after denials", crashes), last: how, field: CrashesField, value: crashes,
	})
}

// NotReady is the alert that a workload is not ready any more after denials in a dimension, which is only audited from
// now on. state is what was found, in words. It is safe for concurrent use.
func (d *Detector) NotReady(now time.Time, w *Subject, dim event.Dimension, state string) alert.Alert {
	a := d.steppedDown(now, &event.Event{}, w, step{
		dim: dim, why: "it was ready, and is not any more after denials", last: state, field: ReadinessField, value: state,
	})
	a.Detail.Hook = "agent"
	return a
}

// Fields of an alert about enforcement that stepped down: why it did.
const (
	DenialsField   = "plumbline.denials"
	CrashesField   = "plumbline.crashes"
	ReadinessField = "plumbline.readiness" // in words
)

// step is what stepped down, and why.
type step struct {
	dim              event.Dimension
	why, last, field string
	value            any // of the field
}

func (d *Detector) steppedDown(at time.Time, ev *event.Event, w *Subject, s step) alert.Alert {
	at = at.UTC()
	about := "dimension " + s.dim.String()
	who := fmt.Sprintf("workload=%s spiffe_id=%s", w.Name, w.SPIFFEID)
	if w.Baseline != "" {
		who += " and all of baseline=" + w.Baseline
	}
	text := fmt.Sprintf("Enforcement stepped down to audit: %s (dimension=%s %s last=%s)", s.why, s.dim, who, s.last)
	d.alerts.Add(1)
	return alert.Alert{
		Time: at, Rule: SteppedDownRule, Severity: alert.Critical, Source: InternalSource, Hostname: d.cfg.Hostname,
		Output: alert.Text(at, alert.Critical, text), Tags: []string{"baseline", "healing"},
		Fields: map[string]any{"evt.time": at.UnixNano(), "workload.name": w.Name, "plumbline.dimension": s.dim.String(), s.field: s.value},
		Detail: alert.Detail{
			SPIFFEID: w.SPIFFEID, IdentitySource: w.IdentitySource, Workload: w.Name, WorkloadKind: w.Kind, Baseline: w.Baseline, Cgroup: w.Cgroup,
			Verdict: event.Audit.String(), Hook: ev.Hook.String(), Mode: w.Mode.String(), Key: about, PID: ev.Tgid, KernelTime: ev.Ktime,
			Fingerprint: alert.Fingerprint(SteppedDownRule, w.Name, about, at.Truncate(time.Minute).String()),
		},
	}
}
