package rulefile

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"
)

// maxWatches bounds how many directories are watched. The kernel counts them for each user.
const maxWatches = 1000

// Watcher notices changes of rule files and directories. It is for one goroutine.
type Watcher struct {
	paths  []string
	settle time.Duration
	in     *fsnotify.Watcher
}

// NewWatcher watches files and directories, with what is below them, from now on; also such that go away
// and come back. A change is told once nothing has changed for settle, and after ten times that at the
// latest. File systems that tell the kernel nothing (NFS, FUSE) have no changes.
func NewWatcher(paths []string, settle time.Duration) (*Watcher, error) {
	in, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, fmt.Errorf("watch rules: %w", err)
	}
	w := &Watcher{paths: paths, settle: settle, in: in}
	if err := w.arm(); err != nil {
		return nil, errors.Join(err, w.Close())
	}
	return w, nil
}

// Close ends the watching of a Watcher that is not run any more.
func (w *Watcher) Close() error {
	if err := w.in.Close(); err != nil {
		return fmt.Errorf("close watch of rules: %w", err)
	}
	return nil
}

// Run calls changed after each change until ctx ends. An error means that changes are not noticed any more.
func (w *Watcher) Run(ctx context.Context, changed func()) error {
	quiet := time.NewTimer(w.settle)
	quiet.Stop()
	var first time.Time // of the changes that were not told; zero: none
	for {
		select {
		case <-ctx.Done():
			return nil
		case ev, ok := <-w.in.Events:
			if !ok {
				return nil
			}
			if !matters(ev) {
				continue
			}
		case err, ok := <-w.in.Errors:
			if !ok {
				return nil
			}
			if !errors.Is(err, fsnotify.ErrEventOverflow) { // then something has changed
				return fmt.Errorf("watch rules: %w", err)
			}
		case <-quiet.C:
			first = time.Time{}
			// Before the files are read: what changes from here on is told again.
			if err := w.arm(); err != nil {
				return err
			}
			changed()
			continue
		}
		if first.IsZero() {
			first = time.Now()
		}
		quiet.Reset(min(w.settle, max(0, 10*w.settle-time.Since(first))))
	}
}

// matters leaves out what the neighbours of a rule file write, and every change of mode and time.
func matters(ev fsnotify.Event) bool {
	if ev.Op == fsnotify.Chmod {
		return false
	}
	return !ev.Has(fsnotify.Write) || strings.HasSuffix(ev.Name, Suffix)
}

// arm watches the directories in which something can change which rules there are. To watch one that is
// watched changes nothing, and the kernel forgets those that are gone.
func (w *Watcher) arm() error {
	var dirs []string
	for _, path := range w.paths {
		// Its parent too: an editor replaces the file, and a directory may be made anew.
		dirs = append(dirs, filepath.Dir(path))
		dirs = appendTargets(dirs, path)
		info, err := os.Stat(path)
		if err != nil || !info.IsDir() {
			continue
		}
		err = filepath.WalkDir(path, func(name string, d fs.DirEntry, err error) error {
			switch {
			case err != nil:
				return nil // gone meanwhile; reading the rules tells of what cannot be read
			case d.IsDir():
				dirs = append(dirs, name)
			case d.Type()&fs.ModeSymlink != 0:
				dirs = appendTargets(dirs, name)
			}
			if len(dirs) > 4*maxWatches {
				return fs.SkipAll
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("watch rules: %w", err)
		}
	}
	slices.Sort(dirs)
	if dirs = slices.Compact(dirs); len(dirs) > maxWatches {
		return fmt.Errorf("watch rules: more than %d directories", maxWatches)
	}
	for _, dir := range dirs {
		if err := w.in.Add(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("watch rules in %s: %w", dir, err)
		}
	}
	return nil
}

// appendTargets adds the directory that a link leads to.
func appendTargets(dirs []string, path string) []string {
	target, err := filepath.EvalSymlinks(path)
	if err != nil || target == filepath.Clean(path) {
		return dirs
	}
	return append(dirs, filepath.Dir(target))
}
