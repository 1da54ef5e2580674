package agent

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// lastPause remembers what the kernel was told.
type lastPause struct {
	until uint64
	told  int
}

func (l *lastPause) Pause(until uint64) error {
	l.until = until
	l.told++
	return nil
}

// pausable agent, with a break-glass file that is not there yet.
func newPausable(t *testing.T, dir string) (*Agent, *lastPause) {
	t.Helper()
	kernel, log := &lastPause{}, slog.New(slog.DiscardHandler)
	a := &Agent{cfg: Config{BreakGlass: filepath.Join(dir, "break-glass"), Log: log}, sink: &sink{log: log}}
	a.pause.kernel, a.pause.kept.name = kernel, filepath.Join(dir, "state", "pause.json")
	return a, kernel
}

func touch(t *testing.T, file string, at time.Time) {
	t.Helper()
	if err := errors.Join(os.WriteFile(file, nil, 0o600), os.Chtimes(file, at, at)); err != nil {
		t.Fatal(err)
	}
}

func look(t *testing.T, a *Agent, paused bool) {
	t.Helper()
	if err := a.lookAtBreakGlass(); err != nil {
		t.Fatal(err)
	}
	if got := a.isPaused(); got != paused {
		t.Fatalf("paused: %t, want %t", got, paused)
	}
}

// The file pauses once, for what is left of an hour since it was made, and its removal ends that.
func TestBreakGlassFile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, kernel := newPausable(t, t.TempDir())
		look(t, a, false)
		touch(t, a.cfg.BreakGlass, time.Now().Add(-50*time.Minute))
		look(t, a, true)
		if left := time.Until(a.pause.Until(time.Now())); left != 10*time.Minute || kernel.until == 0 {
			t.Errorf("paused for %s, kernel until %d", left, kernel.until)
		}
		look(t, a, true)
		if err := a.Pause(0, "enough"); err == nil || !strings.Contains(err.Error(), "remove it") || !a.isPaused() {
			t.Errorf("resumed although the file is there: %v", err)
		}
		time.Sleep(10*time.Minute + 1)
		look(t, a, false)
		touch(t, a.cfg.BreakGlass, time.Now())
		look(t, a, true)
		if err := os.Remove(a.cfg.BreakGlass); err != nil {
			t.Fatal(err)
		}
		look(t, a, false)
		if kernel.until != 0 || kernel.told != 3 || a.sink.raised.Load() != 3 {
			t.Errorf("kernel %+v, %d alerts", kernel, a.sink.raised.Load())
		}
	})
}

// A pause that somebody asked for is not the file's to end.
func TestBreakGlassFileAndPause(t *testing.T) {
	for name, before := range map[string]func(t *testing.T, a *Agent){
		"the file has run out": func(t *testing.T, a *Agent) {
			touch(t, a.cfg.BreakGlass, time.Now().Add(-maxPause+time.Minute))
			look(t, a, true)
			time.Sleep(time.Minute + 1)
			look(t, a, false)
		},
		"the file is removed": func(t *testing.T, a *Agent) {
			touch(t, a.cfg.BreakGlass, time.Now())
			look(t, a, true)
		},
		"the file is old": func(t *testing.T, a *Agent) { touch(t, a.cfg.BreakGlass, time.Now().Add(-2*maxPause)) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, kernel := newPausable(t, t.TempDir())
				before(t, a)
				if err := a.Pause(30*time.Minute, "incident 4711"); err != nil {
					t.Fatal(err)
				}
				look(t, a, true)
				if err := os.Remove(a.cfg.BreakGlass); err != nil {
					t.Fatal(err)
				}
				look(t, a, true)
				if left := time.Until(a.pause.Until(time.Now())); left != 30*time.Minute || kernel.until == 0 {
					t.Errorf("%s left, kernel until %d", left, kernel.until)
				}
				if err := a.Pause(0, "over"); err != nil || a.isPaused() {
					t.Errorf("resume: %v", err)
				}
			})
		})
	}
}

// A file from the future would pause for ever.
func TestBreakGlassFileFromTheFuture(t *testing.T) {
	a, kernel := newPausable(t, t.TempDir())
	touch(t, a.cfg.BreakGlass, time.Now().Add(100*365*24*time.Hour))
	if err := a.lookAtBreakGlass(); err == nil || a.isPaused() || kernel.told != 0 {
		t.Errorf("%v, kernel %+v", err, kernel)
	}
}

// The next agent goes on with a pause, and ends that of a file that is gone.
func TestPauseOutlivesTheAgent(t *testing.T) {
	for name, tc := range map[string]struct {
		do   func(a *Agent) error
		left time.Duration // 0: no pause
	}{
		"paused":  {func(a *Agent) error { return a.Pause(20*time.Minute, "x") }, 20 * time.Minute},
		"resumed": {func(a *Agent) error { return errors.Join(a.Pause(20*time.Minute, "x"), a.Pause(0, "x")) }, 0},
		"nothing": {func(*Agent) error { return nil }, 0},
		"file is gone": {func(a *Agent) error {
			return errors.Join(os.WriteFile(a.cfg.BreakGlass, nil, 0o600), a.lookAtBreakGlass(), os.Remove(a.cfg.BreakGlass))
		}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			first, _ := newPausable(t, dir)
			if err := tc.do(first); err != nil {
				t.Fatal(err)
			}
			next, kernel := newPausable(t, dir)
			now, err := monotonic()
			if err != nil {
				t.Fatal(err)
			}
			if _, err := next.pause.Restore(); err != nil {
				t.Fatal(err)
			}
			look(t, next, tc.left > 0)
			if (kernel.until > now) != (tc.left > 0) || kernel.until > now+uint64(tc.left) {
				t.Errorf("kernel until %d, now %d, want %s from the pause on", kernel.until, now, tc.left)
			}
		})
	}
}

func TestKeptPause(t *testing.T) {
	for name, tc := range map[string]struct {
		kept keptPause
		want time.Duration
	}{
		"goes on":            {keptPause{Boot: "this", Until: 1_000}, 100},
		"is over":            {keptPause{Boot: "this", Until: 900}, 0},
		"of another boot":    {keptPause{Boot: "that", Until: 1_000}, 0},
		"there is none":      {keptPause{Boot: "this"}, 0},
		"longer than it can": {keptPause{Boot: "this", Until: 1 << 63}, maxPause},
	} {
		if got := tc.kept.left("this", 900); got != tc.want {
			t.Errorf("%s: %s, want %s", name, got, tc.want)
		}
	}
}

// Whatever stands in the file, a pause is never longer than one can be asked for.
func FuzzKeptPause(f *testing.F) {
	boot, err := bootID()
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(`{"boot":"` + boot + `","until":18446744073709551615,"file":true}`))
	f.Add([]byte(`{"until":-1}`))
	f.Add([]byte("\x00"))
	file := filepath.Join(f.TempDir(), "pause.json")
	f.Fuzz(func(t *testing.T, data []byte) {
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
		kernel := &lastPause{}
		p := pauser{kernel: kernel, kept: stateFile[keptPause]{file}}
		left, err := p.Restore()
		if left < 0 || left > maxPause || err != nil && kernel.told != 0 {
			t.Errorf("%s, %v, kernel %+v", left, err, kernel)
		}
	})
}
