// Package controlplane gathers what agents report: it runs the embedded NATS server, stores alerts
// and heartbeats, confirms alerts to the agents once they are stored, and answers operators. It must
// never touch the kernel, /proc or an agent's spool.
//
//	cp, err := controlplane.New(controlplane.Config{DataDir: "/var/lib/plumbline-controlplane", Listen: "127.0.0.1:4222"})
//	go func() { <-cp.Ready(); fmt.Println(cp.URL()) }()
//	err = cp.Run(ctx)
package controlplane

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"

	"github.com/plumbline-io/plumbline/pkg/alertstore"
	"github.com/plumbline-io/plumbline/pkg/bus"
	"github.com/plumbline-io/plumbline/pkg/bus/natsserver"
)

// Config of a ControlPlane.
type Config struct {
	DataDir string       // made (0700) if needed; holds alerts.db, nats/ and the passwords
	Listen  string       // host:port for agents and operators; port 0: any free one
	Tenant  string       // "": default
	Logger  *slog.Logger // nil: none
}

// ControlPlane is one control plane. Ready and URL are safe for concurrent use with Run.
type ControlPlane struct {
	cfg    Config
	server *natsserver.Server
	store  *alertstore.Store
	ready  chan struct{}
}

// New makes the data directory and the passwords. The caller must call Run or nothing else.
func New(cfg Config) (*ControlPlane, error) {
	if cfg.DataDir == "" {
		return nil, errors.New("start control plane: no data directory")
	}
	if cfg.Tenant == "" {
		cfg.Tenant = "default"
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if err := os.MkdirAll(cfg.DataDir, 0o700); err != nil {
		return nil, fmt.Errorf("make data directory: %w", err)
	}
	server, err := natsserver.New(natsserver.Config{
		DataDir: cfg.DataDir, Listen: cfg.Listen, Tenant: cfg.Tenant, Logger: cfg.Logger,
	})
	if err != nil {
		return nil, err
	}
	return &ControlPlane{cfg: cfg, server: server, ready: make(chan struct{})}, nil
}

// Ready is closed once agents can connect.
func (c *ControlPlane) Ready() <-chan struct{} { return c.ready }

// URL is where agents and operators connect, once Ready is closed.
func (c *ControlPlane) URL() string { return c.server.URL() }

// Run serves until ctx ends. It may be called once.
func (c *ControlPlane) Run(ctx context.Context) (err error) {
	unlock, err := lockDir(c.cfg.DataDir)
	if err != nil {
		return err
	}
	defer unlock()
	if c.store, err = alertstore.Open(ctx, filepath.Join(c.cfg.DataDir, "alerts.db")); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.store.Close()) }()
	if err := c.server.Start(); err != nil {
		return err
	}
	defer c.server.Stop()
	hub, err := bus.NewHub(ctx, bus.HubConfig{
		Server: c.server, Logger: c.cfg.Logger,
		Store: c.storeAlerts, Stored: c.store.Has, Heartbeat: c.storeHeartbeat,
		API: map[string]bus.Handler{"alerts": c.alerts, "cursor": c.cursor, "agents": c.agents},
	})
	if err != nil {
		return err
	}
	close(c.ready)
	return hub.Run(ctx) // nil once ctx has ended
}

// lockDir keeps a second control plane out of the same directory.
func lockDir(dir string) (unlock func(), err error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock data directory: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		if errors.Is(err, syscall.EWOULDBLOCK) {
			err = ErrInUse
		}
		return nil, errors.Join(fmt.Errorf("lock data directory %s: %w", dir, err), f.Close())
	}
	return func() { _ = f.Close() }, nil
}

// ErrInUse means that another control plane has the data directory.
var ErrInUse = errors.New("in use by another control plane")
