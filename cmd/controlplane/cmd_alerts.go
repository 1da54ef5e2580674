package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/plumbline-io/plumbline/cmd/internal/cli"
	"github.com/plumbline-io/plumbline/pkg/alert"
	"github.com/plumbline-io/plumbline/pkg/alertstore"
	"github.com/plumbline-io/plumbline/pkg/bus"
	"github.com/plumbline-io/plumbline/pkg/controlplane"
)

// pollEvery bounds the delay of a follower that missed the news.
const pollEvery = 2 * time.Second

type alertsOptions struct {
	clientOptions
	follow                          bool
	since, severity, workload, rule string
	limit                           int
}

func newAlerts() *cobra.Command {
	var o alertsOptions
	cmd := &cobra.Command{
		Use:   "alerts",
		Short: "Show alerts",
		Long: `Show the newest alerts, oldest first: at most --limit of them, also with --since. MS is the time from the
kernel's timestamp at the hook to the store, in milliseconds. Times are UTC. With -o wide, ACTION is what the
rule asks for, ATTACK which techniques of MITRE ATT&CK it is about, and KEY what a baseline would have to hold.`,
		Example: `  plumbline alerts --since 1h --severity warning
  plumbline alerts -f --workload payments
  plumbline alerts -o json --limit 1000 | jq .output`,
		Args: cobra.NoArgs,
		RunE: work(func(cmd *cobra.Command) error { return runAlerts(cmd, o) }),
	}
	o.register(cmd, "wide")
	f := cmd.Flags()
	f.BoolVarP(&o.follow, "follow", "f", false, "go on with alerts as they are stored")
	f.StringVar(&o.since, "since", "", "only alerts since: a duration like 90m, or a time like 2026-01-02T15:04:05Z")
	f.StringVar(&o.severity, "severity", "", "only alerts at least this severe: emergency, alert, critical, error, warning, notice, informational, debug")
	cli.Choice(cmd, "severity", "emergency", "alert", "critical", "error", "warning", "notice", "informational", "debug")
	f.StringVar(&o.workload, "workload", "", "only workloads with this in their name or SPIFFE ID")
	f.StringVar(&o.rule, "rule", "", "only this rule")
	_ = cmd.RegisterFlagCompletionFunc("rule", completeRuleName)
	f.IntVar(&o.limit, "limit", 100, fmt.Sprintf("at most so many, from 1 to %d", alertstore.MaxLimit))
	return cmd
}

func (o *alertsOptions) request(now time.Time) (r controlplane.AlertsRequest, err error) {
	r = controlplane.AlertsRequest{Workload: o.workload, Rule: o.rule, Limit: o.limit}
	if o.limit < 1 || o.limit > alertstore.MaxLimit {
		return r, usageError{fmt.Errorf("read --limit: %d is not within 1 and %d", o.limit, alertstore.MaxLimit)}
	}
	if o.severity != "" {
		s, err := alert.ParseSeverity(o.severity)
		if err != nil {
			return r, usageError{fmt.Errorf("read --severity: %w", err)}
		}
		r.Severity = &s
	}
	if o.since != "" {
		if r.Since, err = parseSince(o.since, now); err != nil {
			return r, usageError{fmt.Errorf("read --since: %w", err)}
		}
	}
	return r, nil
}

func parseSince(text string, now time.Time) (time.Time, error) {
	if d, err := time.ParseDuration(text); err == nil && d >= 0 {
		return now.Add(-d), nil
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return t, fmt.Errorf("%q is neither a duration like 90m nor a time like 2026-01-02T15:04:05Z", text)
	}
	return t, nil
}

func runAlerts(cmd *cobra.Command, o alertsOptions) error {
	req, err := o.request(time.Now())
	if err != nil {
		return err
	}
	c, err := o.dial()
	if err != nil {
		return err
	}
	defer c.Close()
	p := newAlertPrinter(cmd.OutOrStdout(), o.output)
	if o.follow {
		return follow(cmd, c, req, p)
	}
	page, err := fetch(cmd.Context(), c, req)
	if err != nil {
		return err
	}
	return p.print(page)
}

// rawAlert keeps the alert as the control plane wrote it: its numbers may not fit a float.
type rawAlert struct {
	Cursor int64           `json:"cursor"`
	Alert  json.RawMessage `json:"alert"`
}

func fetch(ctx context.Context, c *bus.Client, req controlplane.AlertsRequest) (page []rawAlert, err error) {
	err = c.Request(ctx, "alerts", req, func(item json.RawMessage) error {
		var a rawAlert
		if err := json.Unmarshal(item, &a); err != nil {
			return fmt.Errorf("read alert: %w", err)
		}
		page = append(page, a)
		return nil
	})
	return page, err
}

// follow shows the newest alerts and then each that is stored, once, until ctx ends. It survives a
// control plane that restarts.
func follow(cmd *cobra.Command, c *bus.Client, req controlplane.AlertsRequest, p *alertPrinter) error {
	ctx := cmd.Context()
	news, err := c.Watch()
	if err != nil {
		return err
	}
	var after int64
	err = c.Request(ctx, "cursor", nil, func(item json.RawMessage) error { return json.Unmarshal(item, &after) })
	if err != nil {
		return err
	}
	page, err := fetch(ctx, c, req)
	if err != nil {
		return err
	}
	shown := make(map[int64]bool) // stored between the two requests
	for _, a := range page {
		shown[a.Cursor] = a.Cursor > after
	}
	if err := p.print(page); err != nil {
		return err
	}
	req.After, req.Limit = &after, 1000
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	waiting := false
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-news:
		case <-tick.C:
		}
		err := followOnce(ctx, c, req, shown, p)
		switch {
		case errors.Is(err, bus.ErrUnreachable):
			if !waiting {
				cmd.PrintErrf("plumbline: %v; waiting for it\n", err)
			}
			waiting = true
		case ctx.Err() != nil:
			return nil
		case err != nil:
			return err
		default:
			waiting = false
		}
	}
}

// followOnce prints all that was stored after *req.After, and moves it.
func followOnce(ctx context.Context, c *bus.Client, req controlplane.AlertsRequest, shown map[int64]bool, p *alertPrinter) error {
	for {
		page, err := fetch(ctx, c, req)
		if err != nil {
			return err
		}
		fresh := page[:0:0]
		for _, a := range page {
			*req.After = a.Cursor
			if !shown[a.Cursor] {
				fresh = append(fresh, a)
			}
		}
		if err := p.print(fresh); err != nil {
			return err
		}
		if len(page) < req.Limit {
			return nil
		}
	}
}

type alertPrinter struct {
	out        io.Writer
	json, wide bool
	table      *table
}

func newAlertPrinter(out io.Writer, output string) *alertPrinter {
	p := &alertPrinter{out: out, json: output == "json", wide: output == "wide"}
	head := []string{"TIME", "SEVERITY", "WORKLOAD", "SPIFFE ID", "RULE", "VERDICT", "HOOK", "MS"}
	if p.wide {
		head = append(head, "ACTION", "ATTACK", "KEY")
	}
	p.table = newTable(out, head...)
	return p
}

func (p *alertPrinter) print(page []rawAlert) error {
	var rows [][]string
	for _, raw := range page {
		if p.json {
			if err := writeLine(p.out, raw.Alert); err != nil {
				return err
			}
			continue
		}
		var a alert.Alert
		if err := json.Unmarshal(raw.Alert, &a); err != nil {
			return fmt.Errorf("read alert: %w", err)
		}
		row := alertRow(a)
		if p.wide {
			row = append(row, actionText(&a.Detail), strings.Join(a.Detail.Attack, ","), a.Detail.Key)
		}
		rows = append(rows, row)
	}
	if p.json {
		return nil
	}
	return p.table.print(rows)
}

// actionText is what the rule asked for, and in a word what became of a response.
func actionText(d *alert.Detail) string {
	outcome, _, _ := strings.Cut(d.Outcome, ":")
	return strings.TrimSpace(cmp.Or(d.Action, "alert") + " " + outcome)
}

func alertRow(a alert.Alert) []string {
	took := "-"
	if a.Detail.StoredTime != nil {
		took = strconv.FormatFloat(a.Detail.StoredTime.Sub(a.Time).Seconds()*1000, 'f', 1, 64)
	}
	return []string{
		a.Time.UTC().Format("2006-01-02T15:04:05.000Z"), a.Severity.String(), a.Detail.Workload,
		a.Detail.SPIFFEID, a.Rule, a.Detail.Verdict, a.Detail.Hook, took,
	}
}
