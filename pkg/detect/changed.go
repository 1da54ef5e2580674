package detect

import (
	"fmt"
	"strings"
	"time"

	"github.com/plumbline-io/plumbline/pkg/alert"
	"github.com/plumbline-io/plumbline/pkg/event"
)

// ExecutableChangedRule names the alert about another file in the place of a known one.
const ExecutableChangedRule = "Executable changed"

// ExecutableChanged is the alert that a file of a baseline was executed that has been changed since it was
// executed last; before is when it had been changed then. It was allowed: its name is known.
func (d *Detector) ExecutableChanged(ev *event.Event, w *Subject, before time.Time) alert.Alert {
	at, x, now := d.cfg.Wall(ev.Ktime).UTC(), &ev.Exec, time.Unix(0, int64(ev.Exec.Changed)).UTC()
	text := fmt.Sprintf("An executable of the baseline was written, replaced or given other attributes (file=%s changed=%s before=%s command=%s workload=%s spiffe_id=%s)",
		x.Path, now.Format(time.RFC3339Nano), before.Format(time.RFC3339Nano), x.Args, w.Name, w.SPIFFEID)
	d.alerts.Add(1)
	const technique = "T1554" // compromise host software binary
	told := alert.Alert{
		Time: at, Rule: ExecutableChangedRule, Severity: alert.Warning, Source: InternalSource, Hostname: d.cfg.Hostname,
		Output: alert.Text(at, alert.Warning, text), Tags: []string{"baseline", "mitre_persistence", technique},
		Fields: map[string]any{
			"evt.time": at.UnixNano(), "workload.name": w.Name, "proc.exepath": strings.Clone(x.Path), "proc.cmdline": strings.Clone(x.Args),
			"proc.exe_ino.ctime": now.UnixNano(), "plumbline.changed_before": before.UnixNano(),
		},
		Detail: detail(ExecutableChangedRule, ev, ev.Verdict, w, strings.Clone(x.Path)),
	}
	told.Detail.Attack = []string{technique}
	return told
}
