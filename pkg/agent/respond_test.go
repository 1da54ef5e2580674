package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/plumbline-io/plumbline/pkg/alert"
	"github.com/plumbline-io/plumbline/pkg/detect"
	"github.com/plumbline-io/plumbline/pkg/event"
	"github.com/plumbline-io/plumbline/pkg/response"
	"github.com/plumbline-io/plumbline/pkg/rule"
	"github.com/plumbline-io/plumbline/pkg/workload"
)

// alertFile is a file of alerts in memory.
type alertFile struct{ bytes.Buffer }

func (*alertFile) Close() error { return nil }

// newResponding is an agent that may respond, without a kernel side and without anybody who does it.
func newResponding(t *testing.T, change func(*Config)) (*Agent, *alertFile) {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	cfg := Config{Log: log, StateDir: t.TempDir(), Node: "node", Responses: on, ResponsesPerNode: 3, QuarantineLimit: "1h", DBusSocket: "/x"}
	change(&cfg)
	store, err := openBaselineStore(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	clock, err := workload.NewClock()
	if err != nil {
		t.Fatal(err)
	}
	alerts := &alertFile{}
	a := &Agent{
		cfg: cfg, host: &host{clock: clock}, sink: &sink{log: log, file: alerts},
		registry: newRegistry(registryConfig{
			Kernel: noKernel{}, Enforcer: keptKeys{}, Store: store, Mode: event.Learn, Dimensions: event.AllDimensions, Now: time.Now, Log: log,
			Own: "agent.service", Protect: cfg.Protect, Unguarded: cfg.Unguarded,
		}),
	}
	if err := a.openResponses(); err != nil {
		t.Fatal(err)
	}
	return a, alerts
}

// deed is an event of a workload, now or a while ago.
func deed(t *testing.T, a *Agent, id uint32, ago time.Duration) *event.Event {
	t.Helper()
	now, err := monotonic()
	if err != nil {
		t.Fatal(err)
	}
	return &event.Event{Kind: event.Access, Workload: id, Ktime: now - uint64(ago)}
}

func asking(action rule.Action) *alert.Alert {
	return &alert.Alert{Rule: "r", Detail: alert.Detail{Action: action.String(), Fingerprint: "f"}}
}

// An alert says whether a response was begun, and what refused it.
func TestRespond(t *testing.T) {
	for name, tc := range map[string]struct {
		config func(*Config)
		do     func(t *testing.T, a *Agent) string // outcome
		want   string
	}{
		"protected":     {func(c *Config) { c.Protect = []string{"*"} }, func(t *testing.T, a *Agent) string { return outcomeOf(t, a, "shop.service", 0) }, "begun"},
		"enforced":      {func(*Config) {}, func(t *testing.T, a *Agent) string { return outcomeOf(t, a, "enforced.service", 0) }, "begun"},
		"not protected": {func(*Config) {}, func(t *testing.T, a *Agent) string { return outcomeOf(t, a, "shop.service", 0) }, "refused: the workload is not protected"},
		"off":           {func(c *Config) { c.Protect, c.Responses = []string{"*"}, "off" }, func(t *testing.T, a *Agent) string { return outcomeOf(t, a, "shop.service", 0) }, "refused: responses are off"},
		"guarded":       {func(c *Config) { c.Protect = []string{"*"} }, func(t *testing.T, a *Agent) string { return outcomeOf(t, a, "sshd.service", 0) }, "refused: the machine depends on this workload"},
		"unguarded":     {func(c *Config) { c.Protect, c.Unguarded = []string{"*"}, []string{"sshd.service"} }, func(t *testing.T, a *Agent) string { return outcomeOf(t, a, "sshd.service", 0) }, "begun"},
		"ourselves": {func(c *Config) { c.Protect, c.Unguarded = []string{"*"}, []string{"agent.service"} }, func(t *testing.T, a *Agent) string {
			return outcomeOf(t, a, "agent.service", 0)
		}, "refused: the machine depends on this workload"},
		"the root cgroup": {func(c *Config) { c.Protect, c.Unguarded = []string{"*"}, []string{"host"} }, func(t *testing.T, a *Agent) string {
			return outcomeOf(t, a, "host", 0)
		}, "refused: the machine depends on this workload"},
		"nobody": {func(*Config) {}, func(t *testing.T, a *Agent) string {
			told := asking(rule.Drain)
			a.respond(deed(t, a, 99, 0), told)
			return told.Detail.Outcome
		}, "refused: the workload is not known yet"},
		"long ago": {func(c *Config) { c.Protect = []string{"*"} }, func(t *testing.T, a *Agent) string {
			return outcomeOf(t, a, "shop.service", 2*time.Minute)
		}, "refused: it happened 2m0s ago"},
		"paused": {func(c *Config) { c.Protect = []string{"*"} }, func(t *testing.T, a *Agent) string {
			a.pause.until = time.Now().Add(time.Minute)
			return outcomeOf(t, a, "shop.service", 0)
		}, "refused: enforcement is paused"},
		"quarantined": {func(c *Config) { c.Protect = []string{"*"} }, func(t *testing.T, a *Agent) string {
			a.responder.quarantines.all = []Quarantine{{Workload: "shop.service"}}
			return outcomeOf(t, a, "shop.service", 0)
		}, "refused: the workload is quarantined"},
		"twice": {func(c *Config) { c.Protect = []string{"*"} }, func(t *testing.T, a *Agent) string {
			outcomeOf(t, a, "shop.service", 0)
			return outcomeOf(t, a, "shop.service", 0)
		}, "refused: the workload met a response"},
		"too many": {func(c *Config) { c.Protect = []string{"*"} }, func(t *testing.T, a *Agent) string {
			for i := range 3 {
				if got := outcomeOf(t, a, fmt.Sprintf("%d.service", i), 0); got != "begun" {
					return got
				}
			}
			return outcomeOf(t, a, "shop.service", 0)
		}, "refused: 3 workloads of this node met responses within 10m0s: see responses_per_node"},
		"queue full": {func(c *Config) { c.Protect, c.ResponsesPerNode = []string{"*"}, 100 }, func(t *testing.T, a *Agent) string {
			for i := range responseQueue {
				if got := outcomeOf(t, a, fmt.Sprintf("%d.service", i), 0); got != "begun" {
					return got
				}
			}
			got := outcomeOf(t, a, "shop.service", 0)
			if n := a.responder.full.Load(); n != 1 {
				t.Errorf("counted %d", n)
			}
			return got
		}, "refused: 16 other responses wait"},
		"the rule's mode": {func(c *Config) { c.Protect = []string{"*"} }, func(t *testing.T, a *Agent) string {
			told := asking(rule.Drain)
			told.Detail.Outcome = "refused: the rule's mode is audit"
			a.respond(deed(t, a, 1, 0), told)
			return told.Detail.Outcome
		}, "refused: the rule's mode is audit"},
		"deny": {func(c *Config) { c.Protect = []string{"*"} }, func(t *testing.T, a *Agent) string {
			told := asking(rule.Deny)
			a.respond(deed(t, a, 1, 0), told)
			return "no outcome" + told.Detail.Outcome
		}, "no outcome"},
	} {
		t.Run(name, func(t *testing.T) {
			a, _ := newResponding(t, tc.config)
			if err := a.registry.Join(1000, detect.Subject{Name: "first.service", Kind: "unit"}); err != nil {
				t.Fatal(err)
			}
			got := tc.do(t, a)
			if !strings.HasPrefix(got, tc.want) {
				t.Errorf("%q, want %q", got, tc.want)
			}
			refused := uint64(0)
			for _, c := range a.responder.Counts() {
				if c.Outcome == outcomeRefused {
					refused += c.Count
				}
			}
			if want := strings.HasPrefix(got, "refused"); want != (refused == 1) {
				t.Errorf("%d counted as refused", refused)
			}
		})
	}
}

// outcomeOf a rule's request for a workload, which the registry gets to know.
func outcomeOf(t *testing.T, a *Agent, name string, ago time.Duration) string {
	t.Helper()
	kind := "unit"
	if name == "host" {
		kind = "host"
	}
	if !a.registry.Knows(name) {
		if err := a.registry.Join(uint64(len(a.registry.byID)+100), detect.Subject{Name: name, Kind: kind}); err != nil {
			t.Fatal(err)
		}
	}
	if name == "enforced.service" {
		a.registry.Learn(a.registry.byName[name].id, &event.Event{Kind: event.ExecCheck, Exec: event.ExecInfo{Path: "/usr/bin/shop"}}, time.Now())
		if err := a.registry.SetMode(name, event.Enforce, "test"); err != nil {
			t.Fatal(err)
		}
	}
	told := asking(rule.Drain)
	a.respond(deed(t, a, a.registry.byName[name].id, ago), told)
	return told.Detail.Outcome
}

// How a response ended is told in another alert, which names the first. What was begun is told also if the agent ends.
func TestOutcomeIsTold(t *testing.T) {
	a, alerts := newResponding(t, func(*Config) {})
	j := job{rule.Restart, 1, detect.Subject{Name: "shop.service"}, "Some rule", "cause"}
	a.tellResponse(j, "systemd has done it", nil)
	a.tellResponse(j, "", errors.New("nobody answers"))
	a.responder.queue <- j
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	for range 100 { // which of the two is looked at first is open
		if err := a.failResponses(); err != nil || ctx.Err() == nil {
			t.Fatal(err)
		}
	}
	var got []string
	for line := range strings.Lines(alerts.String()) {
		var told alert.Alert
		if err := json.Unmarshal([]byte(line), &told); err != nil {
			t.Fatal(err)
		}
		got = append(got, fmt.Sprint(told.Rule, "; ", told.Detail.Action, " ", told.Detail.Outcome, "; ", told.Detail.Workload, " ", told.Fields["plumbline.rule"], " ", told.Fields["plumbline.cause"]))
	}
	want := []string{
		"Workload restarted; restart taken: systemd has done it; shop.service Some rule cause",
		"Response failed; restart failed: nobody answers; shop.service Some rule cause",
		"Response failed; restart failed: the agent was told to stop; shop.service Some rule cause",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if c := a.responder.Counts(); len(c) != 2 || c[0] != (ResponseCount{"restart", "taken", 1}) || c[1] != (ResponseCount{"restart", "failed", 2}) {
		t.Errorf("%+v", c)
	}
}

// What a response was admitted for has to be so when its turn comes.
func TestResponseIsCheckedAgain(t *testing.T) {
	a, _ := newResponding(t, func(*Config) {})
	if got := outcomeOf(t, a, "enforced.service", 0); got != "begun" {
		t.Fatal(got)
	}
	j := <-a.responder.queue
	a.pause.until = time.Now().Add(time.Minute)
	if _, err := a.do(context.Background(), j); err == nil || err.Error() != "enforcement is paused" {
		t.Error(err)
	}
	a.pause.until = time.Time{}
	if err := a.registry.SetMode("enforced.service", event.AuditMode, "test"); err != nil {
		t.Fatal(err)
	}
	if _, err := a.do(context.Background(), j); err == nil || err.Error() != "the workload is protected no more" {
		t.Error(err)
	}
}

// A workload's target holds all of it, and nobody else.
func TestTarget(t *testing.T) {
	h, err := workload.Detect(workload.Config{})
	if err != nil {
		t.Skip(err)
	}
	id := strings.Repeat("1", 64)
	box := "/system.slice/docker-" + id + ".scope"
	for name, tc := range map[string]struct {
		paths   []string
		members []int // of paths
		name    string
		tops    string
		want    string
	}{
		"a unit":       {[]string{"/", "/system.slice", "/system.slice/a.service", "/system.slice/a.service/sub", "/system.slice/b.service"}, []int{2, 3}, "a.service", "/system.slice/a.service", ""},
		"a container":  {[]string{"/", box, box + "/init.scope", box + "/x.service"}, []int{1, 2}, strings.Repeat("1", 12), box, ""},
		"a cgroup":     {[]string{"/", "/batch", "/other"}, []int{1}, "/batch", "/batch", ""},
		"others in it": {[]string{"/", "/batch", "/batch/deeper"}, []int{1}, "/batch", "", "its cgroup /batch holds another workload too: /batch/deeper"},
		"two":          {[]string{"/a.slice/x.service", "/b.slice/x.service"}, []int{0, 1}, "x.service", "/a.slice/x.service /b.slice/x.service", ""},
		"of one name":  {[]string{"/batch", "/batches"}, []int{0}, "/batch", "/batch", ""},
		"out of scope": {[]string{box + "/init.scope"}, []int{0}, strings.Repeat("1", 12), "", "a part of it is not in scope"},
		"gone":         {[]string{"/", "/batch"}, nil, "/batch", "", "it has no cgroup any more"},
		"the root":     {[]string{"/", "/batch"}, []int{0}, "host", "", "its cgroup / holds another workload too: /batch"},
	} {
		t.Run(name, func(t *testing.T) {
			var nodes []cgroup
			for i, p := range tc.paths {
				nodes = append(nodes, cgroup{ID: uint64(i), Path: p})
			}
			members := map[uint64]bool{}
			for _, i := range tc.members {
				members[uint64(i)] = true
			}
			got, err := targetAmong(nodes, h, members, tc.name)
			if tc.want != "" {
				if err == nil || err.Error() != tc.want {
					t.Errorf("%v, want %q", err, tc.want)
				}
				return
			}
			var tops []string
			for _, top := range got.Tops {
				tops = append(tops, top.Path)
			}
			if err != nil || strings.Join(tops, " ") != tc.tops || got.Name != tc.name {
				t.Errorf("%v, %v", tops, err)
			}
		})
	}
	if err := (response.Target{Tops: []cgroup{{Path: "/"}}}).Check(); err == nil {
		t.Error("the root cgroup may be touched")
	}
}
