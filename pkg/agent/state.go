package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/plumbline-io/plumbline/pkg/wholefile"
)

// stateFile keeps a small value of type T for the next agent.
type stateFile[T any] struct{ name string }

// Load reads it; the zero value if there is none yet.
func (f stateFile[T]) Load() (T, error) {
	var value T
	data, err := os.ReadFile(f.name)
	if errors.Is(err, fs.ErrNotExist) {
		return value, nil
	}
	if err != nil {
		return value, fmt.Errorf("read state: %w", err)
	}
	if err := json.Unmarshal(data, &value); err != nil {
		return *new(T), fmt.Errorf("read state %s: %w", f.name, err)
	}
	return value, nil
}

// Save replaces it, and makes its directory if need be.
func (f stateFile[T]) Save(value T) error {
	data, err := json.Marshal(value)
	if err != nil {
		return fmt.Errorf("save state %s: %w", f.name, err)
	}
	if err := os.MkdirAll(filepath.Dir(f.name), 0o700); err != nil {
		return fmt.Errorf("make state directory: %w", err)
	}
	if err := wholefile.Write(f.name, append(data, '\n'), 0o600); err != nil {
		return fmt.Errorf("save state: %w", err)
	}
	return nil
}

// errStateInUse means that another agent has the state directory.
var errStateInUse = errors.New("in use by another agent")

// lockState keeps a second agent out of the same state directory: each would overwrite what the other keeps there.
func (a *Agent) lockState() error {
	dir := a.cfg.StateDir
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make state directory: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("lock state directory: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = errStateInUse
		}
		return errors.Join(fmt.Errorf("lock state directory %s: %w", dir, err), f.Close())
	}
	a.stateLock = f
	return nil
}
