package controlplane

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"time"

	"github.com/plumbline-io/plumbline/pkg/alert"
	"github.com/plumbline-io/plumbline/pkg/alertstore"
	"github.com/plumbline-io/plumbline/pkg/bus"
)

// storeAlerts stores one batch. What is no alert, or claims to come from another node than the
// server let in, is put aside, so that it neither blocks the stream nor vanishes.
func (c *ControlPlane) storeAlerts(ctx context.Context, batch []bus.Delivery) error {
	entries := make([]alertstore.Entry, 0, len(batch))
	for _, d := range batch {
		a, err := alert.Parse(d.Data)
		if err == nil {
			err = checkOrigin(d, a.Detail.ID)
		}
		if err != nil {
			if err := c.reject(ctx, d, err); err != nil {
				return err
			}
			continue
		}
		entries = append(entries, alertstore.Entry{Alert: a, Body: d.Data})
	}
	_, err := c.store.Insert(ctx, entries, time.Now())
	return err
}

func checkOrigin(d bus.Delivery, id alert.ID) error {
	switch {
	case id.Node != d.Node:
		return fmt.Errorf("alert of node %q came from %q", id.Node, d.Node)
	case id.Epoch == "" || id.Seq == 0:
		return fmt.Errorf("alert without an id")
	case id.String() != d.ID:
		return fmt.Errorf("alert %s was sent as %q", id, d.ID)
	}
	return nil
}

func (c *ControlPlane) reject(ctx context.Context, d bus.Delivery, why error) error {
	c.cfg.Logger.Warn("message is no alert", "node", d.Node, "message", d.ID, "error", why)
	return c.store.Reject(ctx, alertstore.Rejected{ID: rejectedID(d), Reason: why.Error(), Body: d.Data}, time.Now())
}

// rejectedID is the message's own ID only if it is one of the sender's: nobody can have another
// node's alerts count as seen.
func rejectedID(d bus.Delivery) string {
	if id, err := bus.ParseID(d.ID); err == nil && id.Node == d.Node {
		return d.ID
	}
	return fmt.Sprintf("%s/%s/%s!%x", d.Tenant, d.Cluster, d.Node, sha256.Sum256(d.Data))
}

func (c *ControlPlane) storeHeartbeat(ctx context.Context, hb bus.Heartbeat) error {
	b, err := json.Marshal(hb)
	if err != nil {
		return fmt.Errorf("keep heartbeat: %w", err)
	}
	return c.store.SaveHeartbeat(ctx, alertstore.Agent{
		Tenant: hb.Tenant, Cluster: hb.Cluster, Node: hb.Node, LastSeen: time.Now(), Heartbeat: b,
	})
}
