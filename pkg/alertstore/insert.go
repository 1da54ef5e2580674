package alertstore

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/plumbline-io/plumbline/pkg/alert"
)

// Entry is one alert as it arrived.
type Entry struct {
	Alert alert.Alert
	Body  []byte // its JSON
}

// Rejected is a message that could not be read as an alert. It is kept for a person to look at.
type Rejected struct {
	ID     string // as the sender named it
	Reason string
	Body   []byte
}

const insertAlert = `INSERT INTO alerts
	(node, epoch, seq, time, stored, severity, rule, workload, spiffe_id, body)
	VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (node, epoch, seq) DO NOTHING`

const countEpoch = `INSERT INTO epochs (node, epoch, stored, last) VALUES (?, ?, ?, ?)
	ON CONFLICT (node, epoch) DO UPDATE SET
		stored = stored + excluded.stored, last = max(last, excluded.last)`

type epochKey struct{ node, epoch string }

type epochCount struct{ stored, last uint64 }

// Insert stores a batch, all or nothing, and returns how many were new. When it returns without an
// error, every alert of the batch is stored, by this call or an earlier one. now becomes their
// stored time; the commit follows it by as long as the disk needs.
func (s *Store) Insert(ctx context.Context, batch []Entry, now time.Time) (int, error) {
	if len(batch) == 0 {
		return 0, nil
	}
	fresh := 0
	err := s.inTx(ctx, func(tx *sql.Tx) error {
		counts, err := insertAll(ctx, tx, batch, now.UnixNano())
		if err != nil {
			return err
		}
		for k, c := range counts {
			fresh += int(c.stored)
			if _, err := tx.ExecContext(ctx, countEpoch, k.node, k.epoch, c.stored, c.last); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("store %d alerts: %w", len(batch), err)
	}
	return fresh, nil
}

func insertAll(ctx context.Context, tx *sql.Tx, batch []Entry, now int64) (map[epochKey]epochCount, error) {
	stmt, err := tx.PrepareContext(ctx, insertAlert)
	if err != nil {
		return nil, err
	}
	defer stmt.Close()
	counts := make(map[epochKey]epochCount)
	for i := range batch {
		a := &batch[i].Alert
		id := a.Detail.ID
		res, err := stmt.ExecContext(ctx, id.Node, id.Epoch, int64(id.Seq), a.Time.UnixNano(), now,
			int64(a.Severity), a.Rule, a.Detail.Workload, a.Detail.SPIFFEID, batch[i].Body)
		if err != nil {
			return nil, fmt.Errorf("alert %s: %w", id, err)
		}
		n, err := res.RowsAffected()
		if err != nil {
			return nil, err
		}
		k := epochKey{id.Node, id.Epoch}
		c := counts[k]
		counts[k] = epochCount{c.stored + uint64(n), max(c.last, id.Seq)}
	}
	return counts, nil
}

// Reject keeps what is no alert.
func (s *Store) Reject(ctx context.Context, r Rejected, now time.Time) error {
	_, err := s.write.ExecContext(ctx, `INSERT INTO rejected (id, stored, reason, body) VALUES (?, ?, ?, ?)
		ON CONFLICT (id) DO NOTHING`, r.ID, now.UnixNano(), r.Reason, r.Body)
	if err != nil {
		return fmt.Errorf("store rejected message %q: %w", r.ID, err)
	}
	return nil
}

// Has returns those of the ids that are stored, or rejected for good.
func (s *Store) Has(ctx context.Context, ids []alert.ID) ([]alert.ID, error) {
	var have []alert.ID
	stmt, err := s.read.PrepareContext(ctx, `SELECT EXISTS (SELECT 1 FROM alerts WHERE node = ? AND epoch = ? AND seq = ?)
		OR EXISTS (SELECT 1 FROM rejected WHERE id = ?)`)
	if err != nil {
		return nil, fmt.Errorf("look up alerts: %w", err)
	}
	defer stmt.Close()
	for _, id := range ids {
		var found bool
		if err := stmt.QueryRowContext(ctx, id.Node, id.Epoch, int64(id.Seq), id.String()).Scan(&found); err != nil {
			return nil, fmt.Errorf("look up alert %s: %w", id, err)
		}
		if found {
			have = append(have, id)
		}
	}
	return have, nil
}
