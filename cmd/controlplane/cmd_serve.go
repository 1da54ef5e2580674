package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/plumbline-io/plumbline/cmd/internal/cli"
	"github.com/plumbline-io/plumbline/pkg/bus"
	"github.com/plumbline-io/plumbline/pkg/controlplane"
)

const defaultDataDir = "/var/lib/plumbline-controlplane"

var errDataDir = errors.New("data directory cannot be used")

type serveOptions struct {
	dataDir, listen, tenant, logLevel string
}

func newServe() *cobra.Command {
	var o serveOptions
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run the control plane",
		Long: `Run the control plane: an embedded NATS server with JetStream, the store of alerts and the
inventory of agents. It prints one line when it is ready, and ends with SIGINT or SIGTERM.

The passwords for agents and for operators are made once, in the data directory. The connections
are not encrypted: listen beyond this host only on a network that you trust.`,
		Example: `  plumbline serve --data-dir /var/lib/plumbline-controlplane
  plumbline serve --data-dir ./data --listen 127.0.0.1:0 --log-level debug`,
		Args: cobra.NoArgs,
		RunE: work(func(cmd *cobra.Command) error { return runServe(cmd, o) }),
	}
	f := cmd.Flags()
	f.StringVar(&o.dataDir, "data-dir", defaultDataDir, "directory for alerts, streams and passwords; made if needed")
	f.StringVar(&o.listen, "listen", "127.0.0.1:4222", "host:port for agents and operators; port 0 takes a free one")
	f.StringVar(&o.tenant, "tenant", "default", "tenant whose agents may report")
	f.StringVar(&o.logLevel, "log-level", "info", "debug, info, warn or error; the log goes to stderr")
	_ = cmd.MarkFlagDirname("data-dir")
	cli.Choice(cmd, "log-level", "debug", "info", "warn", "error")
	return cmd
}

func runServe(cmd *cobra.Command, o serveOptions) error {
	logger, err := newLogger(cmd, o.logLevel)
	if err != nil {
		return err
	}
	if err := checkListen(o.listen); err != nil {
		return err
	}
	for flag, value := range map[string]string{"tenant": o.tenant, "data-dir": o.dataDir} {
		if value == "" {
			return usageError{fmt.Errorf("read --%s: it is empty", flag)}
		}
	}
	cp, err := controlplane.New(controlplane.Config{
		DataDir: o.dataDir, Listen: o.listen, Tenant: o.tenant, Logger: logger,
	})
	if err != nil {
		return dataDirError(err)
	}
	ctx, cancel := context.WithCancel(cmd.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- cp.Run(ctx) }()
	select {
	case err := <-ended:
		if ctx.Err() != nil { // told to end before it was ready
			return nil
		}
		return dataDirError(err)
	case <-cp.Ready():
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "ready: %s, passwords in %s (agents) and %s (operators)\n",
		cp.URL(), bus.PasswordFile(o.dataDir, bus.AgentUser), bus.PasswordFile(o.dataDir, bus.OperatorUser))
	if err != nil {
		cancel()
		return errors.Join(err, <-ended)
	}
	return <-ended
}

// dataDirError marks errors about paths, so that they get the right hint and code.
func dataDirError(err error) error {
	var path *os.PathError
	if errors.As(err, &path) {
		return usageError{fmt.Errorf("%w: %w", errDataDir, err)}
	}
	return err
}

func checkListen(listen string) error {
	_, port, err := net.SplitHostPort(listen)
	if err == nil {
		_, err = net.LookupPort("tcp", port)
	}
	if err != nil {
		return usageError{fmt.Errorf("read --listen: %w", err)}
	}
	return nil
}

func newLogger(cmd *cobra.Command, level string) (*slog.Logger, error) {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		return nil, usageError{fmt.Errorf("read --log-level: %q is none of debug, info, warn, error", level)}
	}
	return slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), &slog.HandlerOptions{Level: l})), nil
}

func defaultPasswordFile() string { return filepath.Join(defaultDataDir, "operator.password") }
