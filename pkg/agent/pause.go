package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/plumbline-io/plumbline/pkg/detect"
	"github.com/plumbline-io/plumbline/pkg/event"
)

// maxPause bounds a pause of enforcement: whoever needs a longer one takes the workload out of enforce.
const maxPause = time.Hour

// Names of the alerts about pauses.
const (
	pausedRule  = "Enforcement paused"
	resumedRule = "Enforcement resumed"
)

// pausable is what a pause needs of the kernel: nothing is denied until this time of CLOCK_MONOTONIC.
type pausable interface{ Pause(until uint64) error }

// pauser lets the kernel deny nothing for a while. The kernel ends the pause by itself; the next agent, whose
// programs know nothing of it, reads of it in a file. Safe for concurrent use.
type pauser struct {
	kernel pausable // nil: there is no enforcement
	kept   stateFile[keptPause]

	mu    sync.Mutex
	until time.Time // not after now: there is no pause
	file  bool      // it was the break-glass file that asked for it
}

// keptPause is a pause as the next agent reads of it.
type keptPause struct {
	Boot  string `json:"boot"`  // the kernel's clock begins anew with each
	Until uint64 `json:"until"` // ns of CLOCK_MONOTONIC; 0: there is none
	File  bool   `json:"file"`  // the break-glass file asked for it
}

// left is how long it lasts from a time of the clock on.
func (k keptPause) left(boot string, now uint64) time.Duration {
	if k.Boot != boot || k.Until <= now {
		return 0
	}
	return time.Duration(min(k.Until-now, uint64(maxPause)))
}

// Until is when the pause ends; the zero time if there is none.
func (p *pauser) Until(now time.Time) time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.until.After(now) {
		return p.until
	}
	return time.Time{}
}

// ByFile says whether there is a pause that the break-glass file asked for.
func (p *pauser) ByFile(now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.file && p.until.After(now)
}

// Set begins a pause of that length from now on, in the place of any other; 0 ends it.
func (p *pauser) Set(length time.Duration, file bool) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	until := uint64(0)
	if length > 0 {
		now, err := monotonic()
		if err != nil {
			return err
		}
		until = now + uint64(length)
	}
	if err := p.kernel.Pause(until); err != nil {
		return err
	}
	p.until, p.file = time.Now().Add(length), file
	return nil
}

// Keep lets the next agent know of the pause, or that there is none.
func (p *pauser) Keep() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	var k keptPause
	if left := time.Until(p.until); left > 0 {
		now, err := monotonic()
		if err != nil {
			return err
		}
		boot, err := bootID()
		if err != nil {
			return err
		}
		k = keptPause{Boot: boot, Until: now + uint64(left), File: p.file}
	}
	return p.kept.Save(k)
}

// Restore goes on with the pause that an earlier agent has kept, and tells how long it lasts yet.
func (p *pauser) Restore() (time.Duration, error) {
	k, err := p.kept.Load()
	if err != nil || k.Until == 0 {
		return 0, err
	}
	boot, err := bootID()
	if err != nil {
		return 0, err
	}
	now, err := monotonic()
	if err != nil {
		return 0, err
	}
	left := k.left(boot, now)
	if left == 0 {
		return 0, nil
	}
	return left, p.Set(left, k.File)
}

// monotonic is the clock that the kernel's programs read, in nanoseconds.
func monotonic() (uint64, error) {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		return 0, fmt.Errorf("read clock: %w", err)
	}
	return uint64(now.Nano()), nil
}

func bootID() (string, error) {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("read boot id: %w", err)
	}
	return strings.TrimSpace(string(id)), nil
}

// openPause goes on with a pause, before anything is denied: neither an agent that is started anew nor a
// machine whose break-glass file is there may come up with enforcement.
func (a *Agent) openPause() error {
	if a.kernel.enforcer == nil {
		return nil
	}
	a.pause.kernel, a.pause.kept.name = a.kernel.enforcer, filepath.Join(a.cfg.StateDir, "pause.json")
	left, err := a.pause.Restore()
	if err != nil {
		a.cfg.Log.Error("go on with the pause of an earlier agent", "error", err)
	}
	if left > 0 {
		a.cfg.Log.Warn("enforcement stays paused", "for", left)
	}
	if err := a.lookAtBreakGlass(); err != nil {
		a.cfg.Log.Error("obey break-glass file", "error", err)
	}
	return nil
}

// Pause stops enforcement of all workloads for a time, at once, and lets go what is quarantined; 0 ends it. It is told as an alert, and goes on
// if the agent is started anew meanwhile.
func (a *Agent) Pause(length time.Duration, reason string) error {
	switch {
	case a.pause.kernel == nil:
		return errors.New("pause enforcement: there is none")
	case length < 0 || length > maxPause:
		return fmt.Errorf("pause enforcement: %s is not within %s", length, maxPause)
	case reason == "":
		return errors.New("pause enforcement: it needs a reason")
	}
	if left, err := a.breakGlass(); length == 0 && err == nil && left > 0 {
		return fmt.Errorf("resume enforcement: the file %s asks for a pause: remove it", a.cfg.BreakGlass)
	}
	return a.setPause(length, reason, false)
}

// isPaused says whether nothing is denied, and nobody is to be touched.
func (a *Agent) isPaused() bool { return !a.pause.Until(time.Now()).IsZero() }

func (a *Agent) setPause(length time.Duration, reason string, file bool) error {
	if err := a.pause.Set(length, file); err != nil {
		return err
	}
	a.tellPause(length, reason)
	if length > 0 {
		a.releaseAll("enforcement is paused: " + reason)
	}
	if err := a.pause.Keep(); err != nil {
		return fmt.Errorf("done, but an agent that is started anew will not know of it: %w", err)
	}
	return nil
}

func (a *Agent) tellPause(length time.Duration, reason string) {
	name, text := pausedRule, fmt.Sprintf("Enforcement of all workloads paused for %s: %s", length, reason)
	if length == 0 {
		name, text = resumedRule, "Enforcement of all workloads resumed: "+reason
	}
	a.cfg.Log.Warn("enforcement paused", "for", length, "reason", reason)
	a.tell(notice{
		rule: name, text: text, reason: reason, tag: "break_glass",
		subject: detect.Subject{Mode: event.AuditMode}, fields: map[string]any{"plumbline.seconds": length.Seconds()},
	})
}

// watchBreakGlass pauses while the file is there, which needs neither control plane nor this agent's
// socket.
func (a *Agent) watchBreakGlass(ctx context.Context) error {
	return a.lookAgain(ctx, "obey break-glass file", a.lookAtBreakGlass)
}

// lookAgain does something every second until ctx ends. A problem is logged once, and anew when it is another one.
func (a *Agent) lookAgain(ctx context.Context, what string, look func() error) error {
	const every = time.Second
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	told := ""
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
			problem := ""
			if err := look(); err != nil {
				problem = err.Error()
			}
			if problem != "" && problem != told {
				a.cfg.Log.Error(what, "error", problem)
			}
			told = problem
		}
	}
}

// lookAtBreakGlass begins a pause if the file asks for one and there is none, and ends the pause of a file
// that is gone.
func (a *Agent) lookAtBreakGlass() error {
	left, err := a.breakGlass()
	switch {
	case errors.Is(err, fs.ErrNotExist) && a.pause.ByFile(time.Now()):
		return a.setPause(0, "the file "+a.cfg.BreakGlass+" is gone", false)
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case left > 0 && a.pause.Until(time.Now()).IsZero():
		return a.setPause(left, "the file "+a.cfg.BreakGlass+" is there", true)
	}
	return nil
}

// breakGlass is how long the file asks for a pause yet: one that stays is good for one pause of the longest
// kind, from its modification on. One from the future would be good for ever.
func (a *Agent) breakGlass() (time.Duration, error) {
	info, err := os.Stat(a.cfg.BreakGlass)
	if err != nil {
		return 0, fmt.Errorf("look at break-glass file: %w", err)
	}
	age := time.Since(info.ModTime())
	if age < 0 {
		return 0, fmt.Errorf("look at break-glass file %s: it was modified in the future: touch it", a.cfg.BreakGlass)
	}
	return maxPause - age, nil
}
