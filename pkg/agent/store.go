package agent

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/plumbline-io/plumbline/pkg/baseline"
	"github.com/plumbline-io/plumbline/pkg/event"
	"github.com/plumbline-io/plumbline/pkg/wholefile"
	"github.com/plumbline-io/plumbline/pkg/workload"
)

// baselineStore keeps one YAML file for each workload.
type baselineStore struct{ dir string }

func openBaselineStore(dir string) (*baselineStore, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make baseline directory: %w", err)
	}
	return &baselineStore{dir: dir}, nil
}

const (
	maxNameBytes = 200 // of a file name; with the suffix below NAME_MAX
	fileSuffix   = ".yaml"
)

func (s *baselineStore) file(workload string) string {
	name := url.PathEscape(workload)
	if len(name) > maxNameBytes {
		sum := sha256.Sum256([]byte(workload))
		name = name[:maxNameBytes-33] + "-" + hex.EncodeToString(sum[:16])
	}
	return filepath.Join(s.dir, name+fileSuffix)
}

// Load reads a workload's baseline and the mode it was promoted to; nil if there is none.
func (s *baselineStore) Load(workload string) (*baseline.Profile, event.Mode, error) {
	file := s.file(workload)
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, event.Off, nil
	}
	if err != nil {
		return nil, event.Off, fmt.Errorf("read baseline: %w", err)
	}
	p, err := baseline.Parse(file, data)
	if err != nil {
		return nil, event.Off, err
	}
	return p, p.Mode(), nil
}

// Save replaces a workload's file as a whole: a crash leaves the old one or the new one.
func (s *baselineStore) Save(workload string, p *baseline.Profile) (digest string, err error) {
	text, digest := p.MarshalDigest()
	if err := wholefile.Write(s.file(workload), text, 0o600); err != nil {
		return "", fmt.Errorf("save baseline of %q: %w", workload, err)
	}
	return digest, nil
}

// unreadableSuffix marks a file that could not be read and was replaced.
const unreadableSuffix = ".unreadable"

// SetAside keeps a workload's file under another name, so that Save does not replace it. One that was set
// aside earlier is replaced.
func (s *baselineStore) SetAside(workload string) error {
	file := s.file(workload)
	if err := os.Rename(file, file+unreadableSuffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("set unreadable baseline of %q aside: %w", workload, err)
	}
	return nil
}

// Expire deletes what was learnt of containers and was saved last before a time, unless somebody needs it or
// has promoted it. It counts what it deleted.
func (s *baselineStore) Expire(before time.Time, needed func(workload string) bool) (n int, err error) {
	files, err := filepath.Glob(filepath.Join(s.dir, "*"+fileSuffix))
	if err != nil {
		return 0, fmt.Errorf("list baselines: %w", err)
	}
	var errs []error
	for _, file := range files {
		info, err := os.Stat(file)
		if err != nil || info.ModTime().After(before) {
			continue // or gone meanwhile
		}
		p := readContainer(file)
		if p == nil || p.Mode() == event.AuditMode || p.Mode() == event.Enforce || p.Mode() == event.Off && workload.IsKin(p.Workload()) {
			continue // somebody has decided about it
		}
		if needed(p.Workload()) { // it runs, and has learnt nothing new for as long: that must not make it old
			now := time.Now()
			errs = append(errs, os.Chtimes(file, now, now))
			continue
		}
		if err := os.Remove(file); err != nil {
			errs = append(errs, fmt.Errorf("expire baseline: %w", err))
			continue
		}
		n++
	}
	return n, errors.Join(errs...)
}

// headBytes of a stored baseline say whose it is.
const headBytes = 4096

// readContainer reads a container's baseline; nil: it is no such file. What kind it is stands in its first
// lines, and to parse those of everybody else would take seconds.
func readContainer(file string) *baseline.Profile {
	data, err := os.ReadFile(file)
	if err != nil || !bytes.Contains(data[:min(len(data), headBytes)], []byte("\nworkloadKind: "+string(workload.Container)+"\n")) {
		return nil
	}
	p, err := baseline.Parse(file, data)
	if err != nil || p.Kind() != string(workload.Container) {
		return nil
	}
	return p
}
