// Package falco is the bridge to Falco, in both directions. In: a Client reads the gRPC outputs of a Falco
// that runs beside us, a Receiver takes what its http_output posts, so that one control plane shows both.
// Out: a Server speaks Falco's gRPC protocol, so that its clients read our alerts. It is the only importer
// of Falco's client and of gRPC. It must never write to Falco, and marks what it brings: such an alert's
// hook is "falco", and whether its workload is known here is for the caller to find out.
//
// Falco declared its gRPC outputs deprecated in 0.43 and removed them in 0.44; versions that still
// have them are read by the Client, newer ones post to the Receiver.
//
//	c, err := falco.New(falco.Config{Socket: "/run/falco/falco.sock"})
//	err = c.Run(ctx, func(a alert.Alert) error { ... })
package falco

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"github.com/falcosecurity/client-go/pkg/api/outputs"
	"github.com/falcosecurity/client-go/pkg/client"

	"github.com/plumbline-io/plumbline/pkg/alert"
)

// Hook is the hook of every alert that came from Falco.
const Hook = "falco"

// ContainerField is the field in which Falco names the container.
const ContainerField = "container.id"

// Config says where Falco listens: a Socket, or a Host with a Port and certificates for mutual TLS.
type Config struct {
	Socket string // absolute path of the Unix socket
	Host   string // has to be in Falco's certificate
	Port   uint16
	// Files in PEM form; read anew for every connection, so that they may be renewed.
	CertFile, KeyFile, CAFile string
	// Poll is how often Falco is asked for what it has; it sends nothing unasked. Default: 1 s.
	Poll time.Duration
	Log  *slog.Logger
}

// The wait before the next attempt doubles from the first to the second.
const (
	firstWait = time.Second
	lastWait  = 30 * time.Second
)

// Client reads one Falco.
type Client struct {
	cfg   Config
	mu    sync.Mutex
	stats Stats
}

// Stats of a client.
type Stats struct {
	Alerts    uint64 // handed on
	Refused   uint64 // lost: what Falco sent was no complete alert
	Connects  uint64 // streams that brought at least one message
	LastError string // why the last stream ended; empty once another one brought something
}

// New checks the configuration. It does not connect.
func New(cfg Config) (*Client, error) {
	switch {
	case (cfg.Socket == "") == (cfg.Host == ""):
		return nil, errors.New("check Falco's address: want a socket or a host")
	case cfg.Socket != "" && !filepath.IsAbs(cfg.Socket):
		return nil, fmt.Errorf("check Falco's address: socket %s is not an absolute path", cfg.Socket)
	case cfg.Host != "" && cfg.Port == 0:
		return nil, fmt.Errorf("check Falco's address: %s has no port", cfg.Host)
	case cfg.Host != "" && (cfg.CertFile == "" || cfg.KeyFile == "" || cfg.CAFile == ""):
		return nil, errors.New("check Falco's address: mutual TLS needs a certificate, a key and a CA")
	case cfg.Poll < 0:
		return nil, fmt.Errorf("check Falco's poll interval: %s is negative", cfg.Poll)
	}
	if cfg.Poll == 0 {
		cfg.Poll = time.Second
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Client{cfg: cfg}, nil
}

// Stats is safe for concurrent use.
func (c *Client) Stats() Stats {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stats
}

// handleError is an error of the caller's function: it ends Run, whatever ctx says.
type handleError struct{ error }

// Run gives every alert to handle until ctx ends, which is no error, or handle fails. A Falco that is
// away is waited for.
func (c *Client) Run(ctx context.Context, handle func(alert.Alert) error) error {
	wait := firstWait
	for {
		connects := c.Stats().Connects
		err := c.read(ctx, handle)
		var own handleError
		switch {
		case errors.As(err, &own):
			return own.error
		case ctx.Err() != nil:
			return nil
		case c.Stats().Connects > connects:
			wait = firstWait
		}
		c.noteError(err)
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		}
		wait = min(2*wait, lastWait)
	}
}

// noteError logs a reason once, not at every attempt.
func (c *Client) noteError(err error) {
	c.mu.Lock()
	known := c.stats.LastError == err.Error()
	c.stats.LastError = err.Error()
	c.mu.Unlock()
	if !known {
		c.cfg.Log.Warn("no alerts from Falco", "error", err)
	}
}

// read is one connection.
func (c *Client) read(ctx context.Context, handle func(alert.Alert) error) error {
	ctx, cancel := context.WithCancel(ctx)
	conn, err := client.NewForConfig(ctx, c.dial())
	if err != nil {
		cancel()
		return fmt.Errorf("connect to Falco: %w", err)
	}
	defer conn.Close()
	defer cancel()
	api, err := conn.Outputs()
	if err != nil {
		return fmt.Errorf("open Falco's outputs: %w", err)
	}
	stream, err := api.Sub(ctx)
	if err != nil {
		return fmt.Errorf("subscribe to Falco's outputs: %w", err)
	}
	asked := make(chan struct{})
	go func() {
		c.ask(ctx, stream)
		close(asked)
	}()
	err = c.receive(stream, handle)
	cancel()
	<-asked
	return err
}

func (c *Client) dial() *client.Config {
	if c.cfg.Socket != "" {
		return &client.Config{UnixSocketPath: "unix://" + c.cfg.Socket}
	}
	return &client.Config{
		Hostname: c.cfg.Host, Port: c.cfg.Port,
		CertFile: c.cfg.CertFile, KeyFile: c.cfg.KeyFile, CARootFile: c.cfg.CAFile,
	}
}

// ask requests what Falco has, again and again: it answers each request with what is in its queue
// and then waits for the next one.
func (c *Client) ask(ctx context.Context, stream outputs.Service_SubClient) {
	ticker := time.NewTicker(c.cfg.Poll)
	defer ticker.Stop()
	for stream.Send(&outputs.Request{}) == nil {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

func (c *Client) receive(stream outputs.Service_SubClient, handle func(alert.Alert) error) error {
	for first := true; ; first = false {
		response, err := stream.Recv()
		if err != nil {
			return fmt.Errorf("read Falco's outputs: %w", err)
		}
		if first {
			c.noteConnect()
		}
		a, err := Convert(response)
		if err != nil {
			c.noteRefused(err)
			continue
		}
		if err := handle(a); err != nil {
			return handleError{err}
		}
		c.mu.Lock()
		c.stats.Alerts++
		c.mu.Unlock()
	}
}

func (c *Client) noteConnect() {
	c.mu.Lock()
	c.stats.Connects++
	c.stats.LastError = ""
	c.mu.Unlock()
	c.cfg.Log.Info("alerts from Falco")
}

func (c *Client) noteRefused(err error) {
	c.mu.Lock()
	c.stats.Refused++
	first := c.stats.Refused == 1
	c.mu.Unlock()
	if first {
		c.cfg.Log.Warn("alert from Falco refused; further ones are only counted", "error", err)
	}
}
