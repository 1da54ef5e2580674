package agent

import (
	"fmt"

	"github.com/plumbline-io/plumbline/pkg/alert"
	"github.com/plumbline-io/plumbline/pkg/detect"
)

// byHandRule names the alert about a stored baseline that is in a mode that nobody could have promoted it to.
const byHandRule = "Baseline promoted by hand"

// maxByHand bounds what is remembered of whom it was told of.
const maxByHand = 1024

// checkByHand tells of a stored baseline whose mode somebody has written into its file, without the conditions of a promotion. It is in
// force all the same: who may write there may do more. That of containers is read again and again, and told once.
func (r *registry) checkByHand(k *kin, first detect.Subject) {
	k.byHand = k.profile.Unready()
	if k.byHand == nil {
		delete(r.byHand, k.name)
		return
	}
	why := fmt.Sprintf("%s: %s", k.mode, k.byHand)
	if r.byHand[k.name] == why || r.ByHand == nil {
		return
	}
	if len(r.byHand) == maxByHand {
		clear(r.byHand)
	}
	r.byHand[k.name] = why
	first.Mode = k.mode
	r.ByHand(k.name, first, k.byHand)
}

func (a *Agent) tellByHand(name string, w detect.Subject, why error) {
	file := a.store.file(name)
	a.cfg.Log.Warn("stored baseline is in a mode that it would not have been promoted to", "workload", w.Name, "mode", w.Mode.String(), "file", file, "error", why)
	a.tell(notice{
		rule: byHandRule, severity: alert.Warning, reason: why.Error(), tag: "audit", subject: w, fields: map[string]any{"plumbline.file": file},
		text: fmt.Sprintf("Mode %s stands in the file of a baseline that promote would have refused (workload=%s baseline=%s spiffe_id=%s file=%s): %s",
			w.Mode, w.Name, w.Baseline, w.SPIFFEID, file, why),
	})
}
