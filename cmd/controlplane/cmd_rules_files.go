package main

import (
	"errors"

	"github.com/plumbline-io/plumbline/pkg/rulefile"
	"github.com/plumbline-io/plumbline/rules"
)

// gather reads the files, and the built-in ones before them if they are wanted or nothing else is.
func gather(paths []string, builtIn bool) (*rulefile.Files, error) {
	var f rulefile.Files
	if builtIn || len(paths) == 0 {
		if err := f.AddFS(rules.Files, rulefile.BuiltIn); err != nil {
			return nil, err
		}
	}
	for _, path := range paths {
		if err := addFiles(&f, path); err != nil {
			return nil, err
		}
	}
	return &f, nil
}

// gatherRules is gather for what needs rules, not only their tests.
func gatherRules(paths []string, builtIn bool) (*rulefile.Files, error) {
	f, err := gather(paths, builtIn)
	if err == nil && len(f.Rules) == 0 {
		err = hinted{usageError{errors.New("read rules: only tests are named, no rules")}, "name the rule files too; *_test.yaml are their tests"}
	}
	return f, err
}

func addFiles(f *rulefile.Files, path string) error {
	err := f.Add(path)
	switch {
	case errors.Is(err, rulefile.ErrNone):
		return hinted{usageError{err}, "their names end in " + rulefile.Suffix}
	case err != nil:
		return usageError{err}
	}
	return nil
}
