package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
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
	return replaceFile(f.name, append(data, '\n'))
}

// replaceFile writes a file as a whole: a crash leaves the old one or the new one.
func replaceFile(name string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(name), ".new-")
	if err != nil {
		return fmt.Errorf("replace %s: %w", name, err)
	}
	_, err = f.Write(data)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("replace %s: %w", name, err), os.Remove(f.Name()))
	}
	return nil
}
