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
	return d.steppedDown(ev, w, step{
		dim: dim, why: fmt.Sprintf("%d denials within a minute", denials), last: key(ev), field: DenialsField, count: denials,
	})
}

// CrashLoop is the alert that a workload's main process has ended again and again after denials in a
// dimension, which is only audited from now on. ev is the last exit.
func (d *Detector) CrashLoop(ev *event.Event, w *Subject, dim event.Dimension, crashes int) alert.Alert {
	how := fmt.Sprintf("exit code %d", ev.Exit.Code)
	if ev.Exit.Signal != 0 {
		how = fmt.Sprintf("signal %d", ev.Exit.Signal)
	}
	return d.steppedDown(ev, w, step{
		dim: dim, why: fmt.Sprintf("the main process has ended %d times after denials", crashes), last: how, field: CrashesField, count: crashes,
	})
}

// Fields of an alert about enforcement that stepped down: what there were too many of.
const (
	DenialsField = "plumbline.denials"
	CrashesField = "plumbline.crashes"
)

// step is what stepped down, and why.
type step struct {
	dim              event.Dimension
	why, last, field string
	count            int
}

func (d *Detector) steppedDown(ev *event.Event, w *Subject, s step) alert.Alert {
	at := d.cfg.Wall(ev.Ktime).UTC()
	about := "dimension " + s.dim.String()
	text := fmt.Sprintf("Enforcement stepped down to audit: %s (dimension=%s workload=%s spiffe_id=%s last=%s)",
		s.why, s.dim, w.Name, w.SPIFFEID, s.last)
	d.alerts.Add(1)
	return alert.Alert{
		Time: at, Rule: SteppedDownRule, Severity: alert.Critical, Source: InternalSource, Hostname: d.cfg.Hostname,
		Output: alert.Text(at, alert.Critical, text), Tags: []string{"baseline", "healing"},
		Fields: map[string]any{"evt.time": at.UnixNano(), "workload.name": w.Name, "plumbline.dimension": s.dim.String(), s.field: s.count},
		Detail: alert.Detail{
			SPIFFEID: w.SPIFFEID, IdentitySource: w.IdentitySource, Workload: w.Name, WorkloadKind: w.Kind, Cgroup: w.Cgroup,
			Verdict: event.Audit.String(), Hook: ev.Hook.String(), Mode: w.Mode.String(), Key: about, PID: ev.Tgid, KernelTime: ev.Ktime,
			Fingerprint: alert.Fingerprint(SteppedDownRule, w.Name, about, at.Truncate(time.Minute).String()),
		},
	}
}
