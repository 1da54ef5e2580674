package response

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/plumbline-io/plumbline/pkg/workload"
)

func at(seconds int64) time.Time {
	if seconds == 0 {
		return time.Time{}
	}
	return time.Unix(1_800_000_000+seconds, 0)
}

// What systemd shows of a service, as its versions 247 to 257 do, and whether that is a service that stopped working by itself.
func TestServiceLook(t *testing.T) {
	const exited, killed, dumped = 1, 2, 3
	type s = service
	// Its start began at 9, its program was started at 10, active at 11, and left that at 50; the last change was at 60.
	was := func(change s) s {
		change.mainStarted, change.leftInactive, change.becameActive, change.leftActive, change.changed = at(10), at(9), at(11), at(50), at(60)
		if change.sub == "auto-restart" { // it was failed for a moment
			change.leftInactive = change.changed
		}
		return change
	}
	// The same, with its program ended at a time.
	ended := func(seconds int64, change s) s {
		change = was(change)
		change.mainEnded = at(seconds)
		return change
	}
	// The same, and a start began at 54.
	before := func(change s) s {
		change = ended(51, change)
		change.leftInactive = at(54)
		return change
	}
	// The same, started again at 55.
	again := func(change s) s {
		change = was(change)
		change.mainStarted = at(55)
		if change.sub != "auto-restart" {
			change.leftInactive = at(54)
		}
		return change
	}
	for name, tc := range map[string]struct {
		service service
		want    Readiness
		since   int64
	}{
		"runs":                       {s{active: "active", sub: "running"}, Ready, 0},
		"oneshot that stays":         {s{active: "active", sub: "exited"}, Ready, 0},
		"reloads":                    {was(s{active: "reloading", sub: "reload", result: "success"}), Changing, 0},
		"nobody has it":              {s{active: "inactive", sub: "dead"}, Unknown, 0},
		"was stopped":                {was(s{active: "inactive", sub: "dead", result: "success", mainCode: killed, mainStatus: 15}), Changing, 0},
		"is being stopped":           {was(s{active: "deactivating", sub: "stop-sigterm", job: "stop", result: "success"}), Changing, 0},
		"ends by itself":             {was(s{active: "deactivating", sub: "stop-sigterm", result: "success"}), Changing, 0},
		"failed":                     {was(s{active: "failed", sub: "failed", result: "exit-code", mainCode: exited, mainStatus: 1}), NotReady, 50},
		"failed, to be started":      {was(s{active: "failed", sub: "failed", job: "start", result: "exit-code", mainCode: exited, mainStatus: 1}), Changing, 0},
		"killed":                     {was(s{active: "failed", sub: "failed", result: "signal", mainCode: killed, mainStatus: 9}), NotReady, 50},
		"dumped":                     {was(s{active: "failed", sub: "failed", result: "core-dump", mainCode: dumped, mainStatus: 11}), NotReady, 50},
		"stopped, said 143":          {was(s{active: "failed", sub: "failed", result: "exit-code", mainCode: exited, mainStatus: 143}), Changing, 0},
		"stopped, ExecStop failed":   {was(s{active: "failed", sub: "failed", result: "exit-code", mainCode: killed, mainStatus: 15}), Changing, 0},
		"stopped, took too long":     {was(s{active: "failed", sub: "failed", result: "timeout", mainCode: killed, mainStatus: 9}), Changing, 0},
		"out of memory":              {was(s{active: "failed", sub: "failed", result: "oom-kill", mainCode: killed, mainStatus: 9}), Changing, 0},
		"systemd could not":          {was(s{active: "failed", sub: "failed", result: "resources"}), Changing, 0},
		"watchdog, ends":             {was(s{active: "deactivating", sub: "stop-watchdog", result: "success"}), NotReady, 50},
		"watchdog, ended":            {was(s{active: "failed", sub: "failed", result: "watchdog", mainCode: killed, mainStatus: 6}), NotReady, 50},
		"waits for its next start":   {was(s{active: "activating", sub: "auto-restart", result: "exit-code", mainCode: exited, mainStatus: 1}), NotReady, 50},
		"waits, had done its work":   {was(s{active: "activating", sub: "auto-restart", result: "success", mainCode: exited}), Changing, 0},
		"starts again":               {again(s{active: "activating", sub: "start", result: "success"}), Changing, 0},
		"hung in its start":          {again(s{active: "failed", sub: "failed", result: "timeout", mainCode: killed, mainStatus: 15}), NotReady, 60},
		"hung, and is started again": {again(s{active: "activating", sub: "auto-restart", result: "timeout", mainCode: killed, mainStatus: 9}), NotReady, 60},
		"ended before it was ready":  {again(s{active: "failed", sub: "failed", result: "protocol", mainCode: exited}), NotReady, 60},
		"started too often":          {again(s{active: "failed", sub: "failed", result: "start-limit-hit", mainCode: exited, mainStatus: 203}), NotReady, 60},
		"start was cancelled":        {again(s{active: "failed", sub: "failed", result: "exit-code", mainCode: exited, mainStatus: 143}), Changing, 0},
		"crashed":                    {ended(50, s{active: "failed", sub: "failed", result: "exit-code", mainCode: exited, mainStatus: 1}), NotReady, 50},
		"stopped, said 1":            {ended(51, s{active: "failed", sub: "failed", result: "exit-code", mainCode: exited, mainStatus: 1}), Changing, 0},
		"stopped, dumped":            {ended(51, s{active: "failed", sub: "failed", result: "core-dump", mainCode: dumped, mainStatus: 11}), Changing, 0},
		"watchdog, waits":            {ended(51, s{active: "activating", sub: "auto-restart", result: "watchdog", mainCode: killed, mainStatus: 6}), NotReady, 50},
		"command before it failed":   {before(s{active: "failed", sub: "failed", result: "exit-code", mainCode: killed, mainStatus: 15}), NotReady, 60},
		"the same, had ended well":   {before(s{active: "failed", sub: "failed", result: "exit-code", mainCode: exited}), NotReady, 60},
		"the same, had said 143":     {before(s{active: "failed", sub: "failed", result: "exit-code", mainCode: exited, mainStatus: 143}), NotReady, 60},
		"command before it killed":   {before(s{active: "failed", sub: "failed", result: "signal", mainCode: killed, mainStatus: 15}), NotReady, 60},
		"command before it hung":     {before(s{active: "failed", sub: "failed", result: "timeout", mainCode: killed, mainStatus: 15}), NotReady, 60},
		"command after it failed":    {again(s{active: "failed", sub: "failed", result: "exit-code", mainCode: killed, mainStatus: 15}), NotReady, 60},
		"the same, ends well":        {again(s{active: "failed", sub: "failed", result: "exit-code", mainCode: exited}), NotReady, 60},
		"no memory for its start":    {before(s{active: "failed", sub: "failed", result: "oom-kill", mainCode: killed, mainStatus: 15}), Changing, 0},
		"systemd could not start it": {before(s{active: "failed", sub: "failed", result: "resources", mainCode: killed, mainStatus: 15}), Changing, 0},
		"somebody killed it, waits":  {ended(50, s{active: "activating", sub: "auto-restart", result: "exit-code", mainCode: exited, mainStatus: 143}), Changing, 0},
		"never was active":           {s{active: "failed", sub: "failed", result: "exit-code", mainCode: exited, mainStatus: 1, mainStarted: at(10), changed: at(11)}, Changing, 0},
	} {
		look := tc.service.look()
		if look.Readiness != tc.want || !look.Since.Equal(at(tc.since)) || look.WasReady != (tc.want == NotReady) {
			t.Errorf("%s: %s since %s, was ready: %t", name, look, look.Since, look.WasReady)
		}
	}
}

// A start that may have been made because another one failed is told from others by its number.
func TestServiceStart(t *testing.T) {
	const wait, begin = 51, 54
	for name, tc := range map[string]struct {
		active, sub, job string
		leftInactive     int64
		want             Start
	}{
		"starts":                 {"activating", "start", "start", begin, Start{at(50), at(begin), 3}},
		"runs what is before it": {"activating", "start-pre", "start", begin, Start{at(50), at(begin), 3}},
		"is ended after it hung": {"deactivating", "stop-sigterm", "", begin, Start{at(50), at(begin), 3}},
		"waits for the next":     {"activating", "auto-restart", "", wait, Start{at(50), at(wait), 4}},
		"its wait is over":       {"activating", "auto-restart-queued", "start", wait, Start{at(50), at(wait), 3}},
		"direct":                 {"activating", "start", "start", 9, Start{at(50), at(60), 3}},
		"is stopped meanwhile":   {"deactivating", "stop-sigterm", "stop", begin, Start{}},
		"is restarted meanwhile": {"deactivating", "stop-sigterm", "restart", begin, Start{}},
		"ends, was active":       {"deactivating", "stop-sigterm", "", 9, Start{}},
		"runs":                   {"active", "running", "", begin, Start{}},
		"reloads":                {"reloading", "reload", "reload", begin, Start{}},
	} {
		s := service{active: tc.active, sub: tc.sub, job: tc.job, result: "success", restarts: 3, becameActive: at(11), leftActive: at(50), leftInactive: at(tc.leftInactive), changed: at(60)}
		if got := s.look(); got.Start != tc.want || got.Readiness == NotReady {
			t.Errorf("%s: %s, %+v", name, got, got.Start)
		}
	}
	if got := (service{active: "activating", sub: "start", job: "start", leftInactive: at(1), changed: at(1)}).look().Start; got != (Start{}) {
		t.Errorf("its first start is %+v", got)
	}
}

// systemd is asked about all units at once, and more about those that are not active.
func TestLookAtUnits(t *testing.T) {
	m, socket := newManager(t)
	e := &Executor{Config{DBus: socket}}
	unit := func(name string) workload.Workload { return workload.NewResolver().Resolve("/system.slice/" + name) }
	all := []workload.Workload{unit("mail.service"), unit("shop.service"), unit("a.scope"), workload.NewResolver().Resolve("/user.slice/user-1.slice/user@1.service/app.slice/x.service"), unit("gone.service")}
	m.mu.Lock()
	m.rows = []unitRow{
		{Name: "mail.service", LoadState: "loaded", ActiveState: "active", SubState: "running", Path: "/a", JobPath: "/"},
		{Name: "shop.service", LoadState: "loaded", ActiveState: "failed", SubState: "failed", Path: "/b", JobPath: "/"},
		{Name: "gone.service", LoadState: "not-found", ActiveState: "inactive", SubState: "dead", Path: "/c", JobPath: "/"},
	}
	m.values = map[string]any{
		"Result": "core-dump", "ExecMainCode": int32(3), "ExecMainStatus": int32(11), "ExecMainStartTimestamp": uint64(1_000_000),
		"ExecMainExitTimestamp": uint64(3_000_000), "NRestarts": uint32(2), "InactiveExitTimestamp": uint64(500_000),
		"ActiveEnterTimestamp": uint64(2_000_000), "ActiveExitTimestamp": uint64(3_000_000), "StateChangeTimestamp": uint64(3_000_001),
	}
	m.mu.Unlock()
	looks := e.Look(context.Background(), all)
	want := []string{
		"ready", "not ready: failed (failed): core-dump", "not known: not possible: a.scope is no .service",
		"not known: not possible: the unit user@1.service/x.service belongs to another manager than the system's", "not known: systemd has no such service",
	}
	for i, l := range looks {
		if l.String() != want[i] {
			t.Errorf("%s: %q, want %q", all[i].Name, l, want[i])
		}
	}
	if since := looks[1].Since; !since.Equal(time.Unix(3, 0)) {
		t.Errorf("not ready since %s", since)
	}
	if got, want := m.wasAsked(), "mail.service shop.service gone.service, Service.Result, Service.ExecMainCode, Service.ExecMainStatus, "+
		"Service.ExecMainStartTimestamp, Service.ExecMainExitTimestamp, Service.NRestarts, Unit.ActiveEnterTimestamp, Unit.ActiveExitTimestamp, "+
		"Unit.InactiveExitTimestamp, Unit.StateChangeTimestamp"; got != want {
		t.Errorf("asked %s", got)
	}

	// A property that this systemd lacks, and no systemd at all: nothing is known, of whom it was asked.
	m.mu.Lock()
	delete(m.values, "Result")
	m.mu.Unlock()
	looks = e.Look(context.Background(), all[:2])
	if looks[0].Readiness != Ready || looks[1].Readiness != Unknown || !strings.Contains(looks[1].Why, "read Result: Unknown property") {
		t.Errorf("%s, %s", looks[0], looks[1])
	}
	e.DBus = "/nonexistent"
	if looks = e.Look(context.Background(), all[:2]); looks[0].Readiness != Unknown || !strings.Contains(looks[1].Why, "connect to D-Bus at /nonexistent") {
		t.Errorf("%s, %s", looks[0], looks[1])
	}
}

// podText is an answer of the API server, with what tests change: the container's ready, the condition's time, and more.
func podText(ready, since, more string) string {
	return `{"kind":"Pod","metadata":{"name":"shop-0","namespace":"prod"` + more + `},"status":{"phase":"Running","startTime":"2026-01-01T00:00:00Z","conditions":[
		{"type":"Initialized","status":"True","lastProbeTime":null,"lastTransitionTime":"2026-01-01T00:00:00Z"},
		{"type":"ContainersReady","status":"False","reason":"ContainersNotReady","lastProbeTime":null,"lastTransitionTime":"` + since + `"}],
		"containerStatuses":[{"name":"side","containerID":"containerd://22","ready":true,"started":true,"state":{"running":{"startedAt":"2026-01-01T00:00:02Z"}}},
		{"name":"shop","containerID":"containerd://11","ready":` + ready + `,"restartCount":0,"started":true,"state":{"running":{"startedAt":"2026-01-01T00:00:02Z"}}}]}}`
}

func TestPodLook(t *testing.T) {
	for name, tc := range map[string]struct {
		text, id string
		want     Readiness
		was      bool
	}{
		"ready":               {podText("true", "2026-01-01T00:01:00Z", ""), "11", Ready, false},
		"the other one":       {podText("false", "2026-01-01T00:01:00Z", ""), "22", Ready, false},
		"not ready any more":  {podText("false", "2026-01-01T00:01:00Z", ""), "11", NotReady, true},
		"not ready yet":       {podText("false", "2026-01-01T00:00:00Z", ""), "11", NotReady, false},
		"is to be deleted":    {podText("false", "2026-01-01T00:01:00Z", `,"deletionTimestamp":"2026-01-01T00:00:50Z"`), "11", Changing, false},
		"was replaced":        {podText("false", "2026-01-01T00:01:00Z", ""), "33", Changing, false},
		"starts":              {strings.ReplaceAll(podText("false", "2026-01-01T00:01:00Z", ""), `"started":true`, `"started":false`), "11", Changing, false},
		"ended":               {strings.ReplaceAll(podText("false", "2026-01-01T00:01:00Z", ""), `"running"`, `"terminated"`), "11", Changing, false},
		"beside, from before": {strings.ReplaceAll(podText("false", "2026-01-01T00:01:00Z", ""), `"containerStatuses"`, `"initContainerStatuses"`), "11", NotReady, true},
	} {
		var p podState
		if err := json.Unmarshal([]byte(tc.text), &p); err != nil {
			t.Fatal(err)
		}
		if look := p.look(tc.id); look.Readiness != tc.want || look.WasReady != tc.was || look.WasReady == look.Since.IsZero() {
			t.Errorf("%s: %+v", name, look)
		}
	}
}

// The container's pod is asked for by the names that its runtime has written down.
func TestLookAtContainer(t *testing.T) {
	id := strings.Repeat("1", 64)
	s, api := newAPIServer(t, answer{200, strings.Replace(podText("false", "2026-01-01T00:01:00Z", ""), "//11", "//"+id, 1)}, answer{404, notThere}, answer{200, "[]"}, answer{200, `{"kind":`})
	e := &Executor{Config{
		API: func() (*API, error) { return api, nil },
		Pod: func(got workload.Workload) (workload.Info, bool) {
			return workload.Info{Pod: "shop-0", Namespace: "prod"}, got.ContainerID == id
		},
	}}
	w := workload.Workload{Kind: workload.Container, ContainerID: id}
	ctx, cancel := context.WithCancel(context.Background())
	for _, want := range []string{"not ready: container shop is not ready", "not known: read pod prod/shop-0: 404 Not Found: pods", "not known: read pod prod/shop-0: the answer is none", "the answer is none"} {
		if looks := e.Look(ctx, []workload.Workload{w}); len(looks) != 1 || !strings.Contains(looks[0].String(), want) {
			t.Errorf("%q, want %q", looks, want)
		}
	}
	if want := slices.Repeat([]string{"GET /api/v1/namespaces/prod/pods/shop-0?resourceVersion=0"}, 4); !slices.Equal(s.requests, want) {
		t.Errorf("asked for %q", s.requests)
	}

	for name, tc := range map[string]struct {
		pod  workload.Info
		api  error
		kind workload.Kind
		want string
	}{
		"no pod":             {workload.Info{Name: "x"}, nil, workload.Container, "not known: it is neither a unit nor of a pod"},
		"a cgroup":           {workload.Info{}, nil, workload.Cgroup, "not known: it is neither a unit nor of a pod"},
		"name of nobody":     {workload.Info{PodUID: "u-1"}, nil, workload.Container, "not known: find its pod: the runtime has not written down"},
		"another's resource": {workload.Info{Pod: "..", Namespace: "prod"}, nil, workload.Container, "these are no names of Kubernetes"},
		"no cluster":         {workload.Info{Pod: "a", Namespace: "b"}, errors.New("the agent is not a pod"), workload.Container, "not known: the agent is not a pod"},
	} {
		e.Pod = func(workload.Workload) (workload.Info, bool) { return tc.pod, true }
		e.API = func() (*API, error) { return api, tc.api }
		if looks := e.Look(ctx, []workload.Workload{{Kind: tc.kind, ContainerID: id}}); !strings.Contains(looks[0].String(), tc.want) {
			t.Errorf("%s: %q, want %q", name, looks[0], tc.want)
		}
	}
	cancel()
	if looks := e.Look(ctx, []workload.Workload{w}); looks[0].Readiness != NotAsked || looks[0].String() != "not asked" {
		t.Errorf("after its time: %s", looks[0])
	}
	if len(s.requests) != 4 {
		t.Errorf("asked for %q", s.requests)
	}
}

// A system bus that hangs keeps no pod from being asked about, and what it did not say is not told as unknown.
func TestBusThatHangs(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "bus")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	id := strings.Repeat("1", 64)
	_, api := newAPIServer(t, answer{200, strings.Replace(podText("true", "2026-01-01T00:01:00Z", ""), "//11", "//"+id, 1)})
	e := &Executor{Config{
		DBus: socket,
		API:  func() (*API, error) { return api, nil },
		Pod: func(workload.Workload) (workload.Info, bool) {
			return workload.Info{Pod: "shop-0", Namespace: "prod"}, true
		},
	}}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	looks := e.Look(ctx, []workload.Workload{workload.NewResolver().Resolve("/system.slice/shop.service"), {Kind: workload.Container, ContainerID: id}})
	if looks[0].Readiness != NotAsked || looks[1].Readiness != Ready {
		t.Errorf("%s; %s", looks[0], looks[1])
	}
}

func FuzzPodLook(f *testing.F) {
	f.Add([]byte(podText("false", "2026-01-01T00:01:00Z", "")), "11")
	f.Add([]byte(`{"status":{"conditions":null,"containerStatuses":[{}]}}`), "")
	f.Fuzz(func(t *testing.T, text []byte, id string) {
		var p podState
		if json.Unmarshal(text, &p) != nil {
			return
		}
		if look := p.look(id); look.Readiness == NotAsked || look.WasReady && look.Readiness != NotReady {
			t.Errorf("%+v", look)
		}
	})
}
