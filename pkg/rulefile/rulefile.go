// Package rulefile finds and reads the files that rules are written in, and notices when they change. It
// must never look into them: that is pkg/rule's. What it reads is bounded, and it opens nothing but regular
// files below a directory.
//
//	var files rulefile.Files
//	err := files.Add("/etc/plumbline/rules")
//	set, problems := rule.Load(files.Rules...)
package rulefile

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/plumbline-io/plumbline/pkg/rule"
)

// Bounds of what is read at once. pkg/rule has narrower ones of its own, and says where.
const (
	maxFileBytes = 16 << 20
	maxBytes     = 64 << 20
	maxFiles     = 2000
)

// Parts of the names of files.
const (
	Suffix     = ".yaml"
	TestSuffix = "_test.yaml" // of the tests beside the rules
	BuiltIn    = "built-in/"  // before those that ship with Plumbline
)

// ErrNone means that a directory has no rule files.
var ErrNone = errors.New("no rule files")

// Files are rule files and their tests, in the order in which they were added. A file that is added twice is
// there once. The zero value is empty and ready.
type Files struct {
	Rules, Tests []rule.File

	seen         map[string]bool
	found, bytes int
}

// Add reads a file, or of a directory every *.yaml below it in the order of their names, but what is hidden.
// ErrNone: the directory has none.
func (f *Files) Add(path string) error {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return fmt.Errorf("read rules: %w", err)
	case !info.IsDir():
		return f.read(os.DirFS(filepath.Dir(path)), filepath.Base(path), path)
	}
	before := f.found
	prefix := strings.TrimSuffix(filepath.ToSlash(path), "/") + "/"
	if err := f.AddFS(os.DirFS(path), prefix); err != nil {
		return err
	}
	if f.found == before {
		return fmt.Errorf("read rules: %s has %w", path, ErrNone)
	}
	return nil
}

// AddFS reads the rule files of a file system, as Add those of a directory. Their names get a prefix.
func (f *Files) AddFS(dir fs.FS, prefix string) error {
	return fs.WalkDir(dir, ".", func(name string, d fs.DirEntry, err error) error {
		switch hidden := strings.HasPrefix(d.Name(), ".") && name != "."; {
		case err != nil:
			return fmt.Errorf("read rules: %w", err)
		case hidden && d.IsDir(): // such as the versions of a mounted ConfigMap, which links lead to
			return fs.SkipDir
		case hidden, d.IsDir(), filepath.Ext(name) != Suffix:
			return nil
		}
		if info, err := fs.Stat(dir, name); err == nil && !info.Mode().IsRegular() {
			return nil
		}
		return f.read(dir, name, prefix+name)
	})
}

// read takes in one file under the name that is shown, once.
func (f *Files) read(dir fs.FS, name, shown string) error {
	f.found++
	key := filepath.Clean(shown)
	if f.seen[key] {
		return nil
	}
	if f.seen == nil {
		f.seen = map[string]bool{}
	}
	f.seen[key] = true
	in, err := dir.Open(name)
	if err != nil {
		return fmt.Errorf("read rules: %w", renamed(err, shown))
	}
	defer in.Close()
	return f.AddReader(in, shown)
}

// AddReader reads one file under the name that is shown.
func (f *Files) AddReader(in io.Reader, shown string) error {
	data, err := readBounded(in, shown)
	if err != nil {
		return err
	}
	f.bytes += len(data)
	if f.bytes > maxBytes || len(f.Rules)+len(f.Tests) == maxFiles {
		return fmt.Errorf("read rules: more than %d files or %d MiB in all", maxFiles, maxBytes>>20)
	}
	if strings.HasSuffix(shown, TestSuffix) {
		f.Tests = append(f.Tests, rule.File{Name: shown, Data: data})
	} else {
		f.Rules = append(f.Rules, rule.File{Name: shown, Data: data})
	}
	return nil
}

// renamed tells of the path that the user wrote.
func renamed(err error, shown string) error {
	var path *fs.PathError
	if errors.As(err, &path) {
		return &fs.PathError{Op: path.Op, Path: shown, Err: path.Err}
	}
	return err
}

func readBounded(in io.Reader, shown string) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(in, maxFileBytes+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("read rules: %w", renamed(err, shown))
	case len(data) > maxFileBytes:
		return nil, fmt.Errorf("read rules: %s has more than %d MiB", shown, maxFileBytes>>20)
	}
	return data, nil
}
