// Package alertstore keeps alerts, and what is known of each agent, in one SQLite file. An alert is
// stored once, however often it arrives. What Insert has returned survives a power cut. It must never
// decide what an alert means, and it is the only importer of modernc.org/sqlite.
//
//	st, err := alertstore.Open(ctx, "/var/lib/plumbline-controlplane/alerts.db")
//	n, err := st.Insert(ctx, []alertstore.Entry{{Alert: a, Body: line}}, time.Now())
//	found, err := st.Query(ctx, alertstore.Filter{Rule: "Exec outside baseline", Limit: 10})
package alertstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"

	_ "modernc.org/sqlite" // the driver "sqlite"
)

// schemaVersion is SQLite's user_version of a file that this code understands.
const schemaVersion = 1

const schema = `
CREATE TABLE alerts (
	cursor    INTEGER PRIMARY KEY AUTOINCREMENT, -- order of storing
	node      TEXT    NOT NULL,
	epoch     TEXT    NOT NULL,
	seq       INTEGER NOT NULL,
	time      INTEGER NOT NULL, -- at the hook, Unix ns
	stored    INTEGER NOT NULL, -- Unix ns
	severity  INTEGER NOT NULL, -- 0 is the most severe
	rule      TEXT    NOT NULL,
	workload  TEXT    NOT NULL,
	spiffe_id TEXT    NOT NULL,
	body      BLOB    NOT NULL, -- JSON, as the agent sent it
	UNIQUE (node, epoch, seq)
) STRICT;
CREATE INDEX alerts_time     ON alerts (time);
CREATE INDEX alerts_rule     ON alerts (rule, time);
CREATE INDEX alerts_workload ON alerts (workload, time);
CREATE TABLE epochs ( -- stored < last means that alerts are missing or on their way
	node   TEXT    NOT NULL,
	epoch  TEXT    NOT NULL,
	stored INTEGER NOT NULL,
	last   INTEGER NOT NULL,
	PRIMARY KEY (node, epoch)
) STRICT;
CREATE TABLE rejected ( -- what arrived on an alert subject and is no alert
	id     TEXT    PRIMARY KEY,
	stored INTEGER NOT NULL,
	reason TEXT    NOT NULL,
	body   BLOB    NOT NULL
) STRICT;
CREATE TABLE agents (
	tenant    TEXT    NOT NULL,
	cluster   TEXT    NOT NULL,
	node      TEXT    NOT NULL,
	last_seen INTEGER NOT NULL, -- Unix ns, the control plane's clock
	heartbeat BLOB    NOT NULL, -- JSON, the newest
	PRIMARY KEY (tenant, cluster, node)
) STRICT;
PRAGMA user_version = 1;
`

// Store is safe for concurrent use. Writers wait for each other, readers for nobody.
type Store struct {
	write *sql.DB // one connection
	read  *sql.DB
}

// Open opens or makes the file at path; its directory must exist.
func Open(ctx context.Context, path string) (*Store, error) {
	s := &Store{}
	var err error
	// FULL: a commit is on the medium, so that the agent may forget the alert.
	if s.write, err = sql.Open("sqlite", dsn(path, "journal_mode(WAL)", "synchronous(FULL)", "busy_timeout(5000)")); err != nil {
		return nil, fmt.Errorf("open alert store: %w", err)
	}
	s.write.SetMaxOpenConns(1)
	if s.read, err = sql.Open("sqlite", dsn(path, "query_only(1)", "busy_timeout(5000)")); err != nil {
		return nil, errors.Join(fmt.Errorf("open alert store: %w", err), s.Close())
	}
	s.read.SetMaxOpenConns(4)
	if err := s.migrate(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("open alert store %s: %w", path, err), s.Close())
	}
	return s, nil
}

func dsn(path string, pragmas ...string) string {
	return (&url.URL{Scheme: "file", Opaque: (&url.URL{Path: path}).EscapedPath(), RawQuery: url.Values{"_pragma": pragmas}.Encode()}).String()
}

func (s *Store) migrate(ctx context.Context) error {
	var version int
	if err := s.write.QueryRowContext(ctx, "PRAGMA user_version").Scan(&version); err != nil {
		return err
	}
	switch version {
	case schemaVersion:
		return nil
	case 0:
		return s.inTx(ctx, func(tx *sql.Tx) error {
			_, err := tx.ExecContext(ctx, schema)
			return err
		})
	}
	return fmt.Errorf("schema version %d, this program knows %d", version, schemaVersion)
}

func (s *Store) inTx(ctx context.Context, do func(*sql.Tx) error) error {
	tx, err := s.write.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	if err := do(tx); err != nil {
		return errors.Join(err, tx.Rollback())
	}
	return tx.Commit()
}

// Close ends both connections.
func (s *Store) Close() error {
	var err error
	for _, db := range [...]*sql.DB{s.read, s.write} { // the writer last: it merges the log
		if db != nil {
			err = errors.Join(err, db.Close())
		}
	}
	return err
}
