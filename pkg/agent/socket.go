package agent

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// listenSocket listens on a Unix socket that only root may open.
func listenSocket(socket string) (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(socket), 0o755); err != nil {
		return nil, fmt.Errorf("make socket directory: %w", err)
	}
	if c, err := net.Dial("unix", socket); err == nil {
		_ = c.Close()
		return nil, fmt.Errorf("listen on %s: %w: another agent answers there", socket, unix.EADDRINUSE)
	}
	// A socket that nobody answers is left from an agent that was killed.
	if err := removeSocket(socket); err != nil {
		return nil, fmt.Errorf("remove stale socket: %w", err)
	}
	listener, err := net.Listen("unix", socket)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", socket, err)
	}
	if err := os.Chmod(socket, 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("protect %s: %w", socket, err), listener.Close())
	}
	return listener, nil
}

// removeSocket removes a socket, and nothing else: its name comes from a configuration.
func removeSocket(name string) error {
	info, err := os.Lstat(name)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.Mode().Type() != os.ModeSocket:
		return fmt.Errorf("%s is no socket", name)
	}
	return os.Remove(name)
}
