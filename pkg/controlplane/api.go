package controlplane

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/plumbline-io/plumbline/pkg/alert"
	"github.com/plumbline-io/plumbline/pkg/alertstore"
	"github.com/plumbline-io/plumbline/pkg/bus"
)

// AlertsRequest is the question of verb "alerts"; a zero field does not filter. The answer's items
// are AlertItem.
type AlertsRequest struct {
	Since    time.Time       `json:"since,omitzero"`
	Severity *alert.Severity `json:"severity,omitempty"` // at least this severe
	Workload string          `json:"workload,omitempty"` // part of its name or SPIFFE ID
	Rule     string          `json:"rule,omitempty"`
	Node     string          `json:"node,omitempty"`
	After    *int64          `json:"after,omitempty"` // cursor; then the oldest come first, otherwise the newest are chosen
	Limit    int             `json:"limit,omitempty"` // 0: 100, at most alertstore.MaxLimit
}

// AlertItem is one alert and its place in the order of storing.
type AlertItem struct {
	Cursor int64       `json:"cursor"`
	Alert  alert.Alert `json:"alert"`
}

// AgentItem is one node of the inventory, the answer to verb "agents".
type AgentItem struct {
	State     string        `json:"state"` // healthy, late (missed two heartbeats), lost (missed ten)
	LastSeen  time.Time     `json:"last_seen"`
	Stored    uint64        `json:"alerts_stored"`
	Missing   uint64        `json:"alerts_missing"` // gaps in the sequence: lost, or on their way
	Heartbeat bus.Heartbeat `json:"heartbeat"`
}

func (c *ControlPlane) alerts(ctx context.Context, request []byte) ([]json.RawMessage, error) {
	var r AlertsRequest
	if err := json.Unmarshal(request, &r); err != nil {
		return nil, fmt.Errorf("read request: %w", err)
	}
	found, err := c.store.Query(ctx, alertstore.Filter{
		Since: r.Since, Severity: r.Severity, Workload: r.Workload, Rule: r.Rule, Node: r.Node,
		After: r.After, Limit: r.Limit,
	})
	if err != nil {
		return nil, err
	}
	return encode(found, func(f alertstore.Found) (AlertItem, error) { return AlertItem(f), nil })
}

// cursor answers with the newest cursor.
func (c *ControlPlane) cursor(ctx context.Context, _ []byte) ([]json.RawMessage, error) {
	last, err := c.store.Last(ctx)
	if err != nil {
		return nil, err
	}
	return encode([]int64{last}, func(v int64) (int64, error) { return v, nil })
}

func (c *ControlPlane) agents(ctx context.Context, _ []byte) ([]json.RawMessage, error) {
	list, err := c.store.Agents(ctx)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	return encode(list, func(a alertstore.Agent) (AgentItem, error) {
		item := AgentItem{LastSeen: a.LastSeen, Stored: a.Stored, Missing: a.Missing}
		if err := json.Unmarshal(a.Heartbeat, &item.Heartbeat); err != nil {
			return item, fmt.Errorf("read heartbeat of %s: %w", a.Node, err)
		}
		item.State = state(now.Sub(a.LastSeen), item.Heartbeat.Every)
		return item, nil
	})
}

// state of an agent that was silent for so long and promised a heartbeat every so many seconds.
func state(silent time.Duration, every float64) string {
	missed := silent.Seconds() / max(every, 1)
	switch {
	case missed < 2.5:
		return "healthy"
	case missed < 10.5:
		return "late"
	}
	return "lost"
}

func encode[T, I any](list []T, item func(T) (I, error)) ([]json.RawMessage, error) {
	out := make([]json.RawMessage, 0, len(list))
	for _, v := range list {
		it, err := item(v)
		if err != nil {
			return nil, err
		}
		b, err := json.Marshal(it)
		if err != nil {
			return nil, fmt.Errorf("write answer: %w", err)
		}
		out = append(out, b)
	}
	return out, nil
}
