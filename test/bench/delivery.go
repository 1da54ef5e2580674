package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// denials is how many executions are denied, and so how many alerts must arrive: once at a rate that no
// quiet node has, and once as fast as they come, which shows what waits in the queues.
const (
	denials = 500
	pace    = 5 * time.Millisecond
)

// delivery measures, with the real programs on this machine, how long an alert takes from the kernel's
// time stamp to the control plane's store, and what the agent needs.
func delivery(ctx context.Context, bin string) (rows []row, err error) {
	s, err := newScope()
	if err != nil {
		return nil, err
	}
	defer func() {
		if e := s.remove(); err == nil {
			err = e
		}
	}()
	dir, err := os.MkdirTemp("", "plumbline-bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	url := "nats://" + listener.Addr().String()
	data := filepath.Join(dir, "control")
	if err := listener.Close(); err != nil {
		return nil, err
	}
	control, err := start(filepath.Join(dir, "control.log"), filepath.Join(bin, "plumbline"), "serve", "--data-dir", data, "--listen", strings.TrimPrefix(url, "nats://"))
	if err != nil {
		return nil, err
	}
	defer func() { _ = control.stop() }()
	if err := until(ctx, "the control plane", func() bool {
		out, err := os.ReadFile(control.log)
		return err == nil && strings.Contains(string(out), "ready")
	}); err != nil {
		return nil, err
	}
	// So many denials would step enforcement down.
	a, err := startAgent(ctx, bin, dir, s, "--mode", "enforce", "--deny-budget", "0", "--crash-budget", "0", "--control-plane", url, "--password-file", filepath.Join(data, "agent.password"))
	if err != nil {
		return nil, err
	}
	defer func() { _ = a.stop() }()
	if err := until(ctx, "the connection", func() bool { st, err := a.status(); return err == nil && st.ControlPlane.Connected }); err != nil {
		return nil, err
	}
	stored := func(n uint64) error {
		return until(ctx, "the alerts", func() bool { st, err := a.status(); return err == nil && st.ControlPlane.Stored >= n })
	}
	if err := errors.Join(deny(s, filepath.Join(dir, "paced"), pace), stored(denials)); err != nil {
		return nil, err
	}
	delays, err := storedDelays(bin, url, filepath.Join(data, "operator.password"))
	if err != nil {
		return nil, err
	}
	if len(delays) != denials {
		return nil, fmt.Errorf("%d alerts are stored, want exactly %d", len(delays), denials)
	}
	begin := time.Now()
	if err := errors.Join(deny(s, filepath.Join(dir, "burst"), 0), stored(2*denials)); err != nil {
		return nil, err
	}
	burst := time.Since(begin)
	st, err := a.status()
	if err != nil {
		return nil, err
	}
	at := func(q float64) string {
		return fmt.Sprintf("%.1f ms", delays[min(int(q*float64(len(delays))), len(delays)-1)])
	}
	return []row{
		{fmt.Sprintf("kernel time stamp to store, %d alerts, one each %s: p50", denials, pace), at(0.5), ""},
		{"  p99", at(0.99), "15 ms"},
		{"  the slowest", at(1), ""},
		{fmt.Sprintf("%d denials as fast as they come, until all are stored", denials), fmt.Sprintf("%.0f ms", burst.Seconds()*1e3), ""},
		{"agent start to all hooks attached", fmt.Sprintf("%.0f ms", st.AttachedMs), "1000 ms"},
		{"agent's resident memory after that", fmt.Sprintf("%.1f MiB", float64(st.RSS)/(1<<20)), "40 MiB"},
	}, nil
}

// deny executes files that no baseline holds, each under a name of its own that begins with prefix.
func deny(s *scope, prefix string, pace time.Duration) error {
	data, err := os.ReadFile(program)
	if err != nil {
		return err
	}
	if err := os.WriteFile(prefix, data, 0o755); err != nil {
		return err
	}
	next := time.Now()
	for i := range denials {
		name := fmt.Sprintf("%s%d", prefix, i)
		if err := os.Link(prefix, name); err != nil {
			return err
		}
		time.Sleep(time.Until(next))
		next = next.Add(pace)
		if err := s.run(name); err != nil {
			return err
		}
	}
	return nil
}

// storedDelays are the milliseconds from the hook to the store of every denial, sorted.
func storedDelays(bin, url, password string) ([]float64, error) {
	out, err := exec.Command(filepath.Join(bin, "plumbline"), "alerts", "-o", "json", "--limit", fmt.Sprint(2*denials),
		"--server", url, "--password-file", password).Output()
	if err != nil {
		return nil, fmt.Errorf("plumbline alerts: %w", err)
	}
	var delays []float64
	for _, line := range strings.Split(string(out), "\n") {
		var a struct {
			Time   time.Time `json:"time"`
			Detail struct {
				Verdict string    `json:"verdict"`
				Stored  time.Time `json:"stored_time"`
			} `json:"plumbline"`
		}
		if json.Unmarshal([]byte(line), &a) == nil && a.Detail.Verdict == "deny" {
			delays = append(delays, float64(a.Detail.Stored.Sub(a.Time).Microseconds())/1e3)
		}
	}
	slices.Sort(delays)
	return delays, nil
}
