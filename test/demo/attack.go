package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"time"
)

func (s *stage) learn(ctx context.Context) error {
	explain("The service's normal work executes one program. It is asked to do that three times.")
	for range 3 {
		if err := s.get("/report"); err != nil {
			return fmt.Errorf("ask for a report: %w", err)
		}
	}
	var yaml string
	if err := s.until(ctx, "the baseline", func() bool {
		out, err := s.tool("plumbline-agent", "baseline", "show", "--socket", s.socket, s.shop())
		yaml = out
		return err == nil && strings.Contains(out, "uname")
	}); err != nil {
		return err
	}
	explain("plumbline-agent baseline show %s", s.shop())
	quote(yaml)
	if strings.Contains(yaml, "/dash") || strings.Contains(yaml, "/plugin") {
		return fmt.Errorf("read baseline: it holds what was never executed:\n%s", yaml)
	}
	if _, err := s.tool("plumbline-agent", "baseline", "promote", "--socket", s.socket, s.shop(), "--mode", "enforce", "--force", "demo: one run is all there is"); err != nil {
		return err
	}
	var st status
	if err := s.status(&st); err != nil {
		return err
	}
	for _, w := range st.Workloads {
		if w.Name == s.shop() && w.Mode == "enforce" {
			explain("Promoted: the kernel now holds %s to it.", s.shop())
			return nil
		}
	}
	return fmt.Errorf("promote baseline: %s is not in mode enforce: %+v", s.shop(), st.Workloads)
}

func (s *stage) attack(context.Context) error {
	var st status
	if err := s.status(&st); err != nil {
		return err
	}
	want := "operation not permitted"
	if st.Strength == "signal" {
		want = "signal: killed"
	}
	mark := s.file("mark")
	out, err := s.fetch("/search?q=x;echo+pwned+%3E" + mark)
	if err == nil || !strings.Contains(out, want) {
		return fmt.Errorf("attack through the shell: the service answered %q (%v), want %q", out, err, want)
	}
	explain("The search field takes a shell command. The service says: %s", lineWith(out, want))
	if _, err := os.Stat(mark); err == nil {
		return fmt.Errorf("attack through the shell: it ran, %s exists", mark)
	}
	program, err := os.ReadFile("/bin/true")
	if err == nil {
		err = os.WriteFile(s.file("plugin"), program, 0o755)
	}
	if err != nil {
		return fmt.Errorf("drop a binary: %w", err)
	}
	out, err = s.fetch("/plugin")
	if err == nil || !strings.Contains(out, want) {
		return fmt.Errorf("attack through a dropped binary: the service answered %q (%v), want %q", out, err, want)
	}
	explain("A dropped binary is started. The service says: %s", lineWith(out, want))
	explain("Both were stopped inside the kernel: %s (%s).", st.Means, st.Strength)
	if err := s.get("/report"); err != nil {
		return fmt.Errorf("the service's normal work was hurt: %w", err)
	}
	explain("The service's normal work goes on.")
	return nil
}

// lineWith is the line of a text that holds a word.
func lineWith(text, word string) string {
	for _, line := range strings.Split(text, "\n") {
		if strings.Contains(line, word) {
			return line
		}
	}
	return text
}

// stored is one line of `plumbline alerts -o json`.
type stored struct {
	Time   time.Time      `json:"time"`
	Rule   string         `json:"rule"`
	Fields map[string]any `json:"output_fields"`
	Detail struct {
		SPIFFEID string    `json:"spiffe_id"`
		Workload string    `json:"workload"`
		Verdict  string    `json:"verdict"`
		Hook     string    `json:"hook"`
		Key      string    `json:"key"`
		Stored   time.Time `json:"stored_time"`
	} `json:"plumbline"`
}

func (s *stage) readAlerts(ctx context.Context) error {
	login := []string{"--server", s.bus, "--password-file", s.file("control/operator.password")}
	var denied []stored
	if err := s.until(ctx, "the alerts", func() bool {
		out, err := s.tool("plumbline", append([]string{"alerts", "-o", "json"}, login...)...)
		if err != nil {
			return false
		}
		denied = denied[:0]
		for _, line := range strings.Split(out, "\n") {
			var a stored
			if json.Unmarshal([]byte(line), &a) == nil && a.Detail.Verdict == "deny" {
				denied = append(denied, a)
			}
		}
		return len(denied) >= 2
	}); err != nil {
		return err
	}
	if len(denied) != 2 {
		return fmt.Errorf("count alerts: %d were denied, want exactly 2", len(denied))
	}
	for _, a := range denied {
		if !strings.HasPrefix(a.Detail.SPIFFEID, "spiffe://plumbline.local/") || a.Detail.Workload != s.shop() || a.Detail.Hook == "" || a.Detail.Stored.IsZero() {
			return fmt.Errorf("compare alert: %+v", a)
		}
	}
	for _, show := range []struct{ verb, want string }{{"alerts", "Exec outside baseline"}, {"agents", "enforce=1"}} {
		var out string
		if err := s.until(ctx, fmt.Sprintf("%q in plumbline %s", show.want, show.verb), func() bool {
			var err error
			out, err = s.tool("plumbline", append([]string{show.verb}, login...)...)
			return err == nil && strings.Contains(out, show.want)
		}); err != nil {
			return err
		}
		explain("plumbline %s", show.verb)
		quote(out)
	}
	for _, a := range denied {
		explain("%s: %.1f ms from the kernel's timestamp to the control plane's store.", a.Detail.Key, float64(a.Detail.Stored.Sub(a.Time).Microseconds())/1e3)
	}
	var st status
	if err := s.status(&st); err != nil {
		return err
	}
	for reason, n := range st.Lost {
		if n > 0 {
			return fmt.Errorf("count losses: %s %d", reason, n)
		}
	}
	explain("Nothing was lost on the way: every loss counter is zero. The agent uses %.1f MiB.", float64(st.RSS)/(1<<20))
	return s.unheard()
}
