package alertstore

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/plumbline-io/plumbline/pkg/alert"
)

// MaxLimit is the most alerts that one query returns.
const MaxLimit = 10_000

// Filter says which alerts are wanted; a zero field does not filter.
type Filter struct {
	Since    time.Time // at the hook
	Until    time.Time
	Severity *alert.Severity // at least this severe
	Workload string          // part of the workload's name or of its SPIFFE ID
	Rule     string          // exact
	Node     string          // exact
	// After selects alerts that were stored after this cursor, oldest first; without it the newest
	// Limit alerts are returned.
	After *int64
	Limit int // 0: 100; at most MaxLimit
}

// Found is a stored alert and its place in the order of storing.
type Found struct {
	Cursor int64
	Alert  alert.Alert // with Detail.StoredTime
}

// where returns the condition of f and its arguments.
func (f Filter) where() (string, []any) {
	conds, args := []string{"1"}, []any(nil)
	add := func(cond string, a ...any) {
		conds = append(conds, cond)
		args = append(args, a...)
	}
	if !f.Since.IsZero() {
		add("time >= ?", f.Since.UnixNano())
	}
	if !f.Until.IsZero() {
		add("time < ?", f.Until.UnixNano())
	}
	if f.Severity != nil {
		add("severity <= ?", int64(*f.Severity))
	}
	if f.Workload != "" {
		add("(instr(workload, ?) OR instr(spiffe_id, ?))", f.Workload, f.Workload)
	}
	if f.Rule != "" {
		add("rule = ?", f.Rule)
	}
	if f.Node != "" {
		add("node = ?", f.Node)
	}
	if f.After != nil {
		add("cursor > ?", *f.After)
	}
	return strings.Join(conds, " AND "), args
}

// Query returns the alerts that f selects. With Filter.After they come in the order of storing,
// otherwise in the order of time.
func (s *Store) Query(ctx context.Context, f Filter) ([]Found, error) {
	where, args := f.where()
	order := "time DESC, cursor DESC"
	if f.After != nil {
		order = "cursor"
	}
	limit := min(f.Limit, MaxLimit)
	if limit <= 0 {
		limit = 100
	}
	rows, err := s.read.QueryContext(ctx,
		"SELECT cursor, stored, body FROM alerts WHERE "+where+" ORDER BY "+order+" LIMIT ?", append(args, limit)...)
	if err != nil {
		return nil, fmt.Errorf("query alerts: %w", err)
	}
	found, err := readFound(rows)
	if err != nil {
		return nil, fmt.Errorf("query alerts: %w", err)
	}
	if f.After == nil {
		slices.Reverse(found)
	}
	return found, nil
}

func readFound(rows *sql.Rows) (found []Found, err error) {
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var f Found
		var stored int64
		var body []byte
		if err := rows.Scan(&f.Cursor, &stored, &body); err != nil {
			return nil, err
		}
		if f.Alert, err = decode(body); err != nil {
			return nil, err
		}
		at := time.Unix(0, stored).UTC()
		f.Alert.Detail.StoredTime = &at
		found = append(found, f)
	}
	return found, rows.Err()
}

// decode keeps numbers as they were written: a time in nanoseconds does not fit a float.
func decode(body []byte) (alert.Alert, error) {
	var a alert.Alert
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.UseNumber()
	if err := dec.Decode(&a); err != nil {
		return a, fmt.Errorf("read stored alert: %w", err)
	}
	return a, nil
}

// Last is the newest cursor, 0 if nothing is stored.
func (s *Store) Last(ctx context.Context) (int64, error) {
	var last int64
	if err := s.read.QueryRowContext(ctx, "SELECT coalesce(max(cursor), 0) FROM alerts").Scan(&last); err != nil {
		return 0, fmt.Errorf("query alerts: %w", err)
	}
	return last, nil
}

// Epoch says how complete the alerts of one epoch of a node are.
type Epoch struct {
	Node   string `json:"node"`
	Epoch  string `json:"epoch"`
	Stored uint64 `json:"stored"`
	Last   uint64 `json:"last"` // highest sequence number; Last-Stored are missing or on their way
}

// Epochs lists all epochs of a node, or of all nodes for "".
func (s *Store) Epochs(ctx context.Context, node string) (list []Epoch, err error) {
	rows, err := s.read.QueryContext(ctx,
		"SELECT node, epoch, stored, last FROM epochs WHERE ? IN ('', node) ORDER BY node, epoch", node)
	if err != nil {
		return nil, fmt.Errorf("query epochs: %w", err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var e Epoch
		if err := rows.Scan(&e.Node, &e.Epoch, &e.Stored, &e.Last); err != nil {
			return nil, fmt.Errorf("query epochs: %w", err)
		}
		list = append(list, e)
	}
	return list, rows.Err()
}
