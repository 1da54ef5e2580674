package alertstore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// Agent is one node's newest heartbeat and what the store knows beside it.
type Agent struct {
	Tenant    string          `json:"tenant"`
	Cluster   string          `json:"cluster"`
	Node      string          `json:"node"`
	LastSeen  time.Time       `json:"last_seen"` // by the control plane's clock
	Stored    uint64          `json:"alerts_stored"`
	Missing   uint64          `json:"alerts_missing"` // gaps in the sequence: lost, or on their way
	Heartbeat json.RawMessage `json:"heartbeat"`
}

// SaveHeartbeat keeps the newest heartbeat of a node; Stored and Missing are not read.
func (s *Store) SaveHeartbeat(ctx context.Context, a Agent) error {
	_, err := s.write.ExecContext(ctx, `INSERT INTO agents (tenant, cluster, node, last_seen, heartbeat) VALUES (?, ?, ?, ?, ?)
		ON CONFLICT (tenant, cluster, node) DO UPDATE SET last_seen = excluded.last_seen, heartbeat = excluded.heartbeat`,
		a.Tenant, a.Cluster, a.Node, a.LastSeen.UnixNano(), []byte(a.Heartbeat))
	if err != nil {
		return fmt.Errorf("store heartbeat of %s: %w", a.Node, err)
	}
	return nil
}

// Agents lists every node that was ever heard of, by name.
func (s *Store) Agents(ctx context.Context) (list []Agent, err error) {
	rows, err := s.read.QueryContext(ctx, `SELECT tenant, cluster, a.node, last_seen, heartbeat,
			coalesce(sum(e.stored), 0), coalesce(sum(e.last - e.stored), 0)
		FROM agents a LEFT JOIN epochs e ON e.node = a.node
		GROUP BY tenant, cluster, a.node ORDER BY tenant, cluster, a.node`)
	if err != nil {
		return nil, fmt.Errorf("query agents: %w", err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var a Agent
		var seen int64
		var heartbeat []byte
		if err := rows.Scan(&a.Tenant, &a.Cluster, &a.Node, &seen, &heartbeat, &a.Stored, &a.Missing); err != nil {
			return nil, fmt.Errorf("query agents: %w", err)
		}
		a.LastSeen, a.Heartbeat = time.Unix(0, seen).UTC(), heartbeat
		list = append(list, a)
	}
	return list, rows.Err()
}
