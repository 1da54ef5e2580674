package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/plumbline-io/plumbline/test/bench/report"
	vm "github.com/plumbline-io/plumbline/test/vm"
)

// comparison is the benchmark in a VM: the same loads with and without an agent in one boot, counted in
// instructions.
type comparison struct {
	bin     string
	kernels string // comma-separated lines
	agent   string // script; its programs are beside it or in bin
	with    string // further programs of this machine for the guest, comma-separated
	loads   string // only those that match
	boots   int    // of each kernel: where things lie in memory differs, and with it what a load costs
	profile bool   // tell what the agent's BPF programs do meanwhile
}

const guestReport = "/tmp/report.json"

func (c comparison) measure(ctx context.Context) ([]row, error) {
	dir, err := os.MkdirTemp("", "plumbline-bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	guest := filepath.Join(dir, "guest")
	if err := vm.Build(ctx, "amd64", guest, "./test/bench/guest"); err != nil {
		return nil, err
	}
	var rows []row
	for _, kernel := range strings.Split(c.kernels, ",") {
		reports, version := make([]report.Report, c.boots), ""
		for i := range reports {
			if reports[i], version, err = c.boot(ctx, kernel, guest); err != nil {
				return nil, err
			}
		}
		rows = append(rows, c.rows(version, reports)...)
	}
	return rows, nil
}

func (c comparison) boot(ctx context.Context, kernel, guest string) (r report.Report, version string, err error) {
	m := vm.Machine{CountInstructions: true, Timeout: 40 * time.Minute}
	if m.Kernel, err = vm.Fetch(kernel); err != nil {
		return r, "", err
	}
	if m.Init, err = vm.BuildInit(ctx, m.Kernel.Arch); err != nil {
		return r, "", err
	}
	defer os.Remove(m.Init)
	programs := []string{"sh", "true", "cat", "sleep", "rm"}
	if c.with != "" {
		programs = append(programs, strings.Split(c.with, ",")...)
	}
	if m.Files, err = vm.Userland(m.Kernel, programs); err != nil {
		return r, "", err
	}
	m.Files = append(m.Files,
		vm.File{Path: "/opt/bench/guest", From: guest},
		vm.File{Path: "/opt/bench/agent.sh", From: c.agent, Mode: 0o755},
		vm.File{Path: "/opt/bench/plumbline-agent", From: filepath.Join(c.bin, "plumbline-agent")})
	m.Plan.Steps = []vm.Step{{
		Name: "bench", Args: []string{"/opt/bench/guest", "-agent", "/opt/bench/agent.sh", "-loads", c.loads, "-programs=" + strconv.FormatBool(c.profile), "-o", guestReport},
		Timeout: m.Timeout, Fetch: []string{guestReport},
	}}
	results, _, err := vm.Boot(ctx, m, os.Stderr)
	if err != nil {
		return r, "", err
	}
	if len(results) != 1 || results[0].Code != 0 {
		return r, "", fmt.Errorf("run the loads on %s: %d results, the guest's exit code is not 0", m.Kernel.Version, len(results))
	}
	return r, m.Kernel.Version, json.Unmarshal(results[0].Files[guestReport], &r)
}

func (c comparison) rows(version string, boots []report.Report) []row {
	rows := []row{{fmt.Sprintf("Linux %s, %s, in instructions; at the median of %d boots", version, filepath.Base(c.agent), len(boots)), "", ""}}
	for i := range boots[0].Loads {
		l, least, most := report.Median(boots, i)
		events := 0.0
		for _, n := range l.Beside.Events {
			events += n
		}
		rows = append(rows, row{
			fmt.Sprintf("  %s (%s), %.0f without an agent: all-in ratio", l.Name, l.What, l.None(report.Cost.AllIn)),
			fmt.Sprintf("%.4f (%.4f to %.4f; inline %.4f, agent %.0f, threads %.0f, events %.2f, spread %.4f)", l.Ratio(report.Cost.AllIn), least, most, l.Ratio(report.Cost.InlineOnly),
				l.Beside.Agent, l.Beside.Threads-l.None(func(c report.Cost) float64 { return c.Threads }), events, l.Spread()),
			fmt.Sprint(l.Goal),
		})
	}
	last := boots[len(boots)-1]
	beside, without := last.Idle()
	return append(rows,
		row{"  a second without a load, agent and kernel threads", fmt.Sprintf("%.2f M instructions (without an agent %.2f M)", beside/1e6, without/1e6), ""},
		row{"  agent start", fmt.Sprintf("%.0f M instructions, %.0f M of them in the kernel", last.Start/1e6, last.StartKernel/1e6), ""},
		row{"  agent's resident memory", fmt.Sprintf("%.1f MiB", float64(last.RSS)/(1<<20)), ""})
}
