package telemetry

import (
	"context"
	"errors"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

func scrape(t *testing.T, tel *Telemetry) (int, string) {
	t.Helper()
	w := httptest.NewRecorder()
	tel.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	return w.Code, w.Body.String()
}

// The names, types and labels are what dashboards rely on.
func TestScrape(t *testing.T) {
	tel, err := New("v1", func() (Snapshot, error) {
		return Snapshot{
			Events: map[string]uint64{"exec": 23, "fork": 29}, Lost: map[string]uint64{"ring_full_exec": 2},
			Workloads: map[string]int{"enforce": 3}, Denied: 5, Audited: 11, Alerts: 7, Spooled: 13, Connected: true, RSS: 1 << 20,
			Rules: 17, RuleReloads: map[string]uint64{"used": 3, "refused": 2},
			Responses: []Responses{{"quarantine", "taken", 19}, {"evict", "refused", 31}}, Quarantined: 37,
		}, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	code, body := scrape(t, tel)
	if code != http.StatusOK {
		t.Fatal(code, body)
	}
	scope := regexp.MustCompile(`,?otel_scope_\w+="[^"]*"`)
	got := map[string]string{}
	for line := range strings.Lines(body) {
		line = strings.TrimSpace(strings.ReplaceAll(scope.ReplaceAllString(line, ""), "{,", "{"))
		if name, value, ok := strings.Cut(line, " "); ok && name != "#" {
			got[strings.TrimSuffix(name, "{}")] = value
		}
		if rest, ok := strings.CutPrefix(line, "# TYPE "); ok {
			name, kind, _ := strings.Cut(rest, " ")
			got["type of "+name] = kind
		}
	}
	want := map[string]string{
		`agent_events_total{kind="exec"}`: "23", `agent_events_total{kind="fork"}`: "29", "type of agent_events_total": "counter",
		`agent_events_lost_total{reason="ring_full_exec"}`: "2", "type of agent_events_lost_total": "counter",
		`agent_alerts_total`: "7", "type of agent_alerts_total": "counter",
		`enforce_verdicts_total{verdict="deny"}`: "5", `enforce_verdicts_total{verdict="audit"}`: "11",
		"type of enforce_verdicts_total":  "counter",
		`agent_workloads{mode="enforce"}`: "3", "type of agent_workloads": "gauge",
		`agent_responses_total{action="quarantine",outcome="taken"}`: "19", `agent_responses_total{action="evict",outcome="refused"}`: "31",
		"type of agent_responses_total": "counter",
		`agent_workloads_quarantined`:   "37", "type of agent_workloads_quarantined": "gauge",
		`agent_rules`: "17", "type of agent_rules": "gauge",
		`agent_rules_reloads_total{result="used"}`: "3", `agent_rules_reloads_total{result="refused"}`: "2",
		"type of agent_rules_reloads_total": "counter",
		`agent_alerts_spooled`:              "13", "type of agent_alerts_spooled": "gauge",
		`agent_control_plane_connected`: "1", "type of agent_control_plane_connected": "gauge",
		`process_memory_usage_bytes`: "1.048576e+06", "type of process_memory_usage_bytes": "gauge",
		`target_info{service_name="plumbline-agent",service_version="v1"}`: "1", "type of target_info": "gauge",
	}
	if !maps.Equal(got, want) {
		for _, name := range slices.Sorted(maps.Keys(got)) {
			if got[name] != want[name] {
				t.Errorf("got %s %s, want %q", name, got[name], want[name])
			}
		}
		t.Error(body)
	}
}

// A scrape sees the state of its own moment.
func TestScrapeIsFresh(t *testing.T) {
	n := uint64(0)
	tel, err := New("v1", func() (Snapshot, error) {
		n++
		return Snapshot{Events: map[string]uint64{"exec": n}}, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"} 1\n", "} 2\n", "} 3\n"} {
		if _, body := scrape(t, tel); !strings.Contains(body, want) {
			t.Errorf("no %q in\n%s", want, body)
		}
	}
}

func TestNoSnapshot(t *testing.T) {
	var fail error
	tel, err := New("v1", func() (Snapshot, error) { return Snapshot{Alerts: 1}, fail })
	if err != nil {
		t.Fatal(err)
	}
	if code, body := scrape(t, tel); code != http.StatusOK || !strings.Contains(body, "agent_alerts_total") {
		t.Error(code, body)
	}
	fail = errors.New("map is gone")
	if code, body := scrape(t, tel); code != http.StatusInternalServerError || body != "read state of agent: map is gone\n" {
		t.Error(code, body)
	}
}

func TestServe(t *testing.T) {
	tel, err := New("v1", func() (Snapshot, error) { return Snapshot{}, nil })
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- tel.Serve(ctx, listener) }()
	for path, want := range map[string]int{"/metrics": http.StatusOK, "/": http.StatusNotFound, "/debug/pprof/": http.StatusNotFound} {
		resp, err := http.Get("http://" + listener.Addr().String() + path)
		if err != nil {
			t.Fatal(err)
		}
		_, err = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != want {
			t.Errorf("%s: %d, %v, want %d", path, resp.StatusCode, err, want)
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if _, err := net.Dial("tcp", listener.Addr().String()); err == nil {
		t.Error("the listener is still open")
	}
}

func TestServeWithoutListener(t *testing.T) {
	tel, err := New("v1", func() (Snapshot, error) { return Snapshot{}, nil })
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	listener.Close()
	if err := tel.Serve(context.Background(), listener); err == nil || !strings.HasPrefix(err.Error(), "serve metrics: ") {
		t.Errorf("got %v", err)
	}
}

// Whoever makes a dashboard finds every metric on the page, and no other one.
func TestMetricsAreDocumented(t *testing.T) {
	page, err := os.ReadFile("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	tel, err := New("v1", func() (Snapshot, error) {
		return Snapshot{
			Events: map[string]uint64{"exec": 1}, Lost: map[string]uint64{"x": 1}, Workloads: map[string]int{"learn": 1},
			RuleReloads: map[string]uint64{"used": 1}, Responses: []Responses{{"drain", "taken", 1}},
		}, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	_, body := scrape(t, tel)
	var got, want []string
	for _, m := range regexp.MustCompile("(?m)^\\| `((?:agent|enforce|process|target)_[a-z_]+)` \\| (\\w+) ").FindAllStringSubmatch(string(page), -1) {
		got = append(got, m[1]+" "+m[2])
	}
	for _, m := range regexp.MustCompile(`(?m)^# TYPE (\S+) (\S+)$`).FindAllStringSubmatch(body, -1) {
		want = append(want, m[1]+" "+m[2])
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("docs/metrics.md has %q, want %q", got, want)
	}
}
