package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/plumbline-io/plumbline/pkg/detect"
	"github.com/plumbline-io/plumbline/pkg/response"
	"github.com/plumbline-io/plumbline/pkg/rule"
	"github.com/plumbline-io/plumbline/pkg/workload"
)

// stoppable makes a cgroup with a process of ours in it, and what it takes to stop it.
func stoppable(t *testing.T) (job, response.Target, func() bool) {
	t.Helper()
	mount, err := workload.Version2Mount("")
	if err != nil {
		t.Skip(err)
	}
	dir := filepath.Join(mount, fmt.Sprintf("plumbline-quarantine-%d", os.Getpid()))
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Skip(err)
	}
	sleeper := exec.Command("sleep", "1000")
	if err := sleeper.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = os.WriteFile(filepath.Join(dir, "cgroup.freeze"), []byte("0"), 0)
		_ = sleeper.Process.Kill()
		_ = sleeper.Wait()
		for deadline := time.Now().Add(10 * time.Second); os.Remove(dir) != nil; time.Sleep(5 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Errorf("%s stays", dir)
				return
			}
		}
	})
	if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(fmt.Sprint(sleeper.Process.Pid)), 0); err != nil {
		t.Fatal(err)
	}
	h, err := workload.Detect(workload.Config{Scope: dir})
	if err != nil {
		t.Fatal(err)
	}
	n, err := h.Node(dir)
	if err != nil {
		t.Fatal(err)
	}
	target := response.Target{Workload: h.Resolve(n.Path), Hierarchy: h, Tops: []workload.Node{n}}
	return job{rule.Quarantine, 1, detect.Subject{Name: target.Name}, "Some rule", "cause"}, target, func() bool {
		text, err := os.ReadFile(filepath.Join(dir, "cgroup.events"))
		if err != nil {
			t.Fatal(err)
		}
		return bytes.Contains(text, []byte("frozen 1"))
	}
}

// next is the agent that comes after this one, with the same state directory.
func next(t *testing.T, a *Agent) (*Agent, *alertFile) {
	t.Helper()
	return newResponding(t, func(c *Config) { c.StateDir = a.cfg.StateDir })
}

func released(alerts *alertFile) int {
	return strings.Count(alerts.String(), `"rule":"`+releasedRule+`"`)
}

// A quarantine outlives the agent, and ends at its time, once.
func TestQuarantineEndsInTime(t *testing.T) {
	a, _ := newResponding(t, func(*Config) {})
	j, target, frozen := stoppable(t)
	done, err := a.quarantine(context.Background(), j, target)
	if err != nil || !frozen() || !strings.HasPrefix(done, "its processes are stopped until 2") {
		t.Fatalf("%q, %v, %t", done, err, frozen())
	}
	if _, err := a.quarantine(context.Background(), j, target); err == nil {
		t.Error("it was stopped twice")
	}
	second, alerts := next(t, a)
	all := second.responder.quarantines.List()
	if len(all) != 1 || all[0].Workload != target.Name || all[0].Rule != "Some rule" || all[0].Until.Sub(all[0].Since) != time.Hour {
		t.Fatalf("%+v", all)
	}
	if err := second.endQuarantines(all[0].Until.Add(-time.Second)); err != nil || !frozen() || released(alerts) != 0 {
		t.Errorf("%v, it goes on before its time", err)
	}
	for range 2 {
		if err := second.endQuarantines(all[0].Until); err != nil || frozen() || released(alerts) != 1 {
			t.Errorf("%v, frozen: %t, alerts:\n%s", err, frozen(), alerts)
		}
	}
	third, _ := next(t, a)
	if all := third.responder.quarantines.List(); len(all) != 0 {
		t.Errorf("%+v", all)
	}
}

// Without a limit it is for somebody to say; a pause, and unloading, say so for all.
func TestQuarantineIsReleased(t *testing.T) {
	j, target, frozen := stoppable(t)
	for name, end := range map[string]func(a *Agent) error{
		"release": func(a *Agent) error { return a.release(target.Name, "test") },
		"next agent, paused": func(a *Agent) error {
			a.pause.until = time.Now().Add(time.Minute)
			return a.openResponses()
		},
		"pause": func(a *Agent) error {
			a.pause.kernel, a.pause.kept.name = pausableKernel{}, filepath.Join(a.cfg.StateDir, "pause.json")
			return a.Pause(time.Minute, "test")
		},
		"unload": func(a *Agent) error {
			names, err := ReleaseAll(Config{StateDir: a.cfg.StateDir})
			if err == nil && (len(names) != 1 || names[0] != target.Name) {
				err = fmt.Errorf("released %q", names)
			}
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			a, _ := newResponding(t, func(c *Config) { c.QuarantineLimit = "0" })
			done, err := a.quarantine(context.Background(), j, target)
			if err != nil || !frozen() || done != "its processes are stopped until it is released" {
				t.Fatalf("%q, %v", done, err)
			}
			a, alerts := next(t, a)
			if err := a.endQuarantines(time.Now().Add(1000 * time.Hour)); err != nil || !frozen() {
				t.Fatalf("%v, frozen: %t", err, frozen())
			}
			if err := end(a); err != nil || frozen() {
				t.Errorf("%v, frozen: %t", err, frozen())
			}
			if want := name != "unload"; want != (released(alerts) == 1) {
				t.Errorf("alerts:\n%s", alerts)
			}
			if again, _ := next(t, a); len(again.responder.quarantines.List()) != 0 {
				t.Error("the next agent still knows of it")
			}
		})
	}
}

type pausableKernel struct{}

func (pausableKernel) Pause(uint64) error { return nil }

// What is not quarantined is not released, and a pause that came meanwhile stops nobody.
func TestQuarantineRefuses(t *testing.T) {
	a, _ := newResponding(t, func(*Config) {})
	j, target, frozen := stoppable(t)
	if err := a.release("nobody.service", "test"); !errors.Is(err, errUnknownWorkload) {
		t.Error(err)
	}
	if err := a.registry.Join(7, detect.Subject{Name: "shop.service", Kind: "unit"}); err != nil {
		t.Fatal(err)
	}
	if err := a.release("shop.service", "test"); !errors.Is(err, errNotQuarantined) {
		t.Error(err)
	}
	a.pause.until = time.Now().Add(time.Minute)
	if _, err := a.quarantine(context.Background(), j, target); err == nil || frozen() || len(a.responder.quarantines.List()) != 0 {
		t.Errorf("%v, frozen: %t", err, frozen())
	}
	a.pause.until = time.Time{}
	// Nobody could let it go if it were written down nowhere.
	a.responder.quarantines.kept.name = "/proc/nowhere/quarantine.json"
	if _, err := a.quarantine(context.Background(), j, target); err == nil || frozen() || len(a.responder.quarantines.List()) != 0 {
		t.Errorf("%v, frozen: %t", err, frozen())
	}
}

// After the machine was started anew nothing is stopped, and a cgroup that is gone needs no release.
func TestQuarantineIsGone(t *testing.T) {
	a, alerts := newResponding(t, func(*Config) {})
	k := Quarantine{Workload: "shop.service", Since: time.Now(), Until: time.Now().Add(time.Hour), Cgroups: []response.Frozen{{Dir: "/sys/fs/cgroup/gone", Inode: 1}}}
	if err := a.responder.quarantines.set([]Quarantine{k}); err != nil {
		t.Fatal(err)
	}
	if err := a.endQuarantines(time.Now()); err != nil || len(a.responder.quarantines.List()) != 0 || !strings.Contains(alerts.String(), "its cgroup is gone") {
		t.Errorf("%v, %s", err, alerts)
	}
	if err := a.responder.quarantines.kept.Save(quarantineState{"another boot", []Quarantine{k}}); err != nil {
		t.Fatal(err)
	}
	if again, _ := next(t, a); len(again.responder.quarantines.List()) != 0 {
		t.Error("it outlives a boot")
	}
}
