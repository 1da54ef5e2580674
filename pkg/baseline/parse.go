package baseline

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/plumbline-io/plumbline/pkg/event"
)

// maxFile has room for MaxBytes twice, each byte escaped, and for what is told of MaxEntries.
const maxFile = 2*4*MaxBytes + 256*MaxEntries

// Parse reads a profile. Errors name file and line. Unknown fields are errors: a misspelt one must
// not loosen a baseline in silence.
func Parse(file string, data []byte) (*Profile, error) {
	r := &reader{file: file}
	root, err := r.root(data)
	if err != nil {
		return nil, err
	}
	m := r.mapping(root, "apiVersion", "kind", "workload", "workloadKind", "mode", "forced", "frozen",
		"exec", "library", "file", "unix", "network", "privilege", "syscalls", "observed")
	if r.err != nil {
		return nil, r.err
	}
	if version, is := r.text(m["apiVersion"]), r.text(m["kind"]); version != apiVersion || is != kind {
		return nil, fmt.Errorf("%s:%d: apiVersion %.60q and kind %.60q are not %q and %q", file, root.Line, version, is, apiVersion, kind)
	}
	p := New(r.text(m["workload"]), r.text(m["workloadKind"]), 0)
	if p.workload == "" {
		r.fail(root, "no workload")
	}
	for d := range event.DimCount {
		if section := m[d.String()]; section != nil {
			p.held = p.held.With(d)
			r.section(p, d, section)
		}
	}
	p.lacks = event.AllAdditions &^ learntWith(data)
	r.observed(p, m["observed"])
	p.force = r.text(m["forced"])
	r.decode(m["frozen"], &p.frozen)
	if p.mode, err = event.ParseMode(r.text(m["mode"])); err != nil {
		at := root
		if m["mode"] != nil {
			at = m["mode"]
		}
		r.fail(at, "mode: %v", err)
	}
	if r.err != nil {
		return nil, r.err
	}
	return p, nil
}

// reader keeps the first error; after it, what it returns is empty.
type reader struct {
	file string
	err  error
}

func (r *reader) fail(n *yaml.Node, format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf("%s:%d: %s", r.file, n.Line, fmt.Sprintf(format, args...))
	}
}

// root is the one document of a file.
func (r *reader) root(data []byte) (*yaml.Node, error) {
	if len(data) > maxFile {
		return nil, fmt.Errorf("%s: baseline of more than %d bytes", r.file, maxFile)
	}
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var doc, more yaml.Node
	switch err := dec.Decode(&doc); {
	case errors.Is(err, io.EOF) || err == nil && doc.Content[0].Tag == "!!null":
		return nil, fmt.Errorf("%s: baseline is empty", r.file)
	case err != nil:
		return nil, r.syntax(err)
	}
	switch err := dec.Decode(&more); {
	case err == nil:
		return nil, fmt.Errorf("%s:%d: a second document: one file holds one baseline", r.file, more.Line)
	case !errors.Is(err, io.EOF):
		return nil, r.syntax(err)
	}
	return doc.Content[0], nil
}

// syntax turns "yaml: line 3: ..." into "file:3: ...".
func (r *reader) syntax(err error) error {
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	if line, ok := strings.CutPrefix(text, "line "); ok {
		return fmt.Errorf("%s:%s", r.file, line)
	}
	return fmt.Errorf("%s: %s", r.file, text)
}

// mapping reads the known keys of a mapping.
func (r *reader) mapping(n *yaml.Node, known ...string) map[string]*yaml.Node {
	if n.Kind != yaml.MappingNode {
		r.fail(n, "expected %s and so on", known[0])
		return nil
	}
	m := make(map[string]*yaml.Node, len(known))
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		switch {
		case !slices.Contains(known, key.Value):
			r.fail(key, "unknown field %.60q", key.Value)
		case m[key.Value] != nil:
			r.fail(key, "%s stands here twice", key.Value)
		case value.Kind == yaml.AliasNode:
			r.fail(value, "%s: aliases are not allowed", key.Value)
		}
		m[key.Value] = value
	}
	return m
}

// sequence is what a list holds; no list is an empty one.
func (r *reader) sequence(n *yaml.Node) []*yaml.Node {
	if n == nil || n.Tag == "!!null" {
		return nil
	}
	if n.Kind != yaml.SequenceNode {
		r.fail(n, "expected a list")
		return nil
	}
	return n.Content
}

func (r *reader) decode(n *yaml.Node, into any) {
	if n == nil || r.err != nil {
		return
	}
	if n.Kind != yaml.ScalarNode {
		r.fail(n, "expected one value")
		return
	}
	if err := n.Decode(into); err != nil {
		r.fail(n, "%.60q is not of the right type", n.Value)
	}
}

// text reads a string. Bytes that are no text stand there as !!binary.
func (r *reader) text(n *yaml.Node) string {
	var s string
	r.decode(n, &s)
	return s
}
