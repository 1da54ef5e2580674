package rule

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Bounds of a rule file, and of all files together. A node of YAML takes two bytes of text and two hundred of
// memory.
const (
	maxFileBytes = 1 << 20
	maxNodes     = 150_000
	maxExpanded  = 2 << 20 // bytes and nodes of a file in which each alias is what it stands for
	maxAllBytes  = 4 << 20
	maxAllNodes  = 300_000
	maxName      = 200
	maxVersions  = 8 // of a rule: older ones are forgotten
)

// item is one entry of a rule file: a rule, macro, list or requirement. A rule's values may come from
// several entries: each key has one place, or several where it was appended to.
type item struct {
	place
	name   string
	keys   []place // in the order in which they are written down
	values map[string][]place
}

// value is the place of a key's value; its node is nil if the key is not there.
func (it *item) value(key string) place {
	if all := it.values[key]; len(all) > 0 {
		return all[len(all)-1]
	}
	return place{file: it.file}
}

func (it *item) has(key string) bool { return len(it.values[key]) > 0 }

// read takes in one file, unless it requires a version that this is not.
func (l *loader) read(data []byte) {
	entries := l.entries(data)
	l.unmet = false
	for _, requires := range []bool{true, false} { // those first, wherever they stand
		for _, n := range entries {
			if isRequirement(n) == requires {
				l.step++
				l.item(n)
			}
		}
		if l.unmet {
			return
		}
	}
}

// isRequirement says whether an entry says what the file was written for.
func isRequirement(n *yaml.Node) bool {
	for i := 0; n.Kind == yaml.MappingNode && i < len(n.Content); i += 2 {
		if key := n.Content[i].Value; key == "required_engine_version" || key == "required_plugin_versions" {
			return true
		}
	}
	return false
}

// entries of a file, which may hold several documents.
func (l *loader) entries(data []byte) (entries []*yaml.Node) {
	none := l.at(&yaml.Node{})
	wrong := func(at place, format string, args ...any) {
		l.tell(Problem{ID: invalidFile, Message: fmt.Sprintf(format, args...)}, at)
	}
	if len(data) > maxFileBytes {
		wrong(none, "the file has more than %d bytes", maxFileBytes)
		return nil
	}
	n := nodes(data)
	if n > maxNodes {
		wrong(none, "the file has more than %d elements", maxNodes)
		return nil
	}
	if l.bytes, l.nodes = l.bytes+len(data), l.nodes+n; l.bytes > maxAllBytes || l.nodes > maxAllNodes {
		wrong(none, "it and the files before it have more than %d bytes or %d elements", maxAllBytes, maxAllNodes)
		return nil
	}
	left := maxExpanded
	dec := yaml.NewDecoder(bytes.NewReader(data))
	for {
		var doc yaml.Node
		err := dec.Decode(&doc)
		switch {
		case errors.Is(err, io.EOF):
			return entries
		case err != nil:
			wrong(l.at(&yaml.Node{Line: yamlLine(err)}), "%v", err)
			return entries
		case len(doc.Content) == 0 || doc.Content[0].Tag == "!!null":
			continue
		case doc.Content[0].Kind != yaml.SequenceNode:
			wrong(l.at(&doc), "a rule file is a list of rules, macros and lists")
			continue
		}
		known := map[*yaml.Node]int{}
		for _, n := range doc.Content[0].Content {
			if left -= expanded(n, known); left < 0 {
				wrong(l.at(n), "up to here, aliases make the file larger than %d bytes", maxExpanded)
				return entries
			}
			entries = append(entries, resolved(n))
		}
	}
}

// nodes estimates how many nodes a text may become, before it does.
func nodes(data []byte) int {
	n := 0
	for _, c := range data {
		switch c {
		case ',', '[', '{', ':', '?', '-', '\n':
			n++
		}
	}
	return n
}

// expanded is the size of a tree in which each alias is what it stands for: bytes of text and nodes, more than
// maxExpanded if it is larger. known holds that of the anchors. One that stands for itself counts once.
func expanded(n *yaml.Node, known map[*yaml.Node]int) int {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if size, ok := known[n]; ok {
		return size
	}
	if n.Anchor != "" {
		known[n] = 0
	}
	size := 1 + len(n.Value)
	for _, kid := range n.Content {
		size = min(size+expanded(kid, known), maxExpanded+1)
	}
	if n.Anchor != "" {
		known[n] = size
	}
	return size
}

// yamlLine is the line that an error of the YAML reader names.
func yamlLine(err error) int {
	_, after, _ := strings.Cut(err.Error(), "line ")
	digits := 0
	for digits < len(after) && after[digits] >= '0' && after[digits] <= '9' {
		digits++
	}
	n, _ := strconv.Atoi(after[:digits])
	return n
}

// item takes in one entry.
func (l *loader) item(n *yaml.Node) {
	it, ok := l.mapping(n)
	if !ok {
		return
	}
	for _, kind := range []struct {
		key  string
		read func(*item)
	}{
		{"rule", l.rule},
		{"macro", l.macro},
		{"list", l.list},
		{"required_engine_version", l.requiredEngine},
		{"required_plugin_versions", l.requiredPlugins},
	} {
		if it.has(kind.key) {
			l.named(it, kind.key, kind.read)
			return
		}
	}
	l.problem(l.at(n), "", "expected a rule, a macro or a list")
}

func (l *loader) named(it *item, kind string, read func(*item)) {
	if kind == "rule" || kind == "macro" || kind == "list" {
		n := it.value(kind).node
		switch {
		case n.Kind != yaml.ScalarNode || n.Value == "":
			l.problem(l.at(n), "", "a %s needs a name", kind)
			return
		case len(n.Value) > maxName:
			l.problem(l.at(n), "", "a %s's name has at most %d bytes", kind, maxName)
			return
		}
		it.name = n.Value
	}
	rule := ""
	if kind == "rule" {
		rule = it.name
	}
	for _, key := range it.keys {
		if !slices.Contains(knownKeys(kind), key.node.Value) {
			l.doubt(unknownKey, key, rule, "unknown key %.60q", key.node.Value)
		}
	}
	read(it)
}

// knownKeys are those of an entry.
func knownKeys(kind string) []string {
	switch kind {
	case "macro":
		return []string{"macro", "condition", "append", "override"}
	case "list":
		return []string{"list", "items", "append", "override"}
	case "rule":
		return []string{
			"rule", "desc", "condition", "output", "priority", "source", "tags", "enabled", "exceptions", "append", "override",
			"warn_evttypes", "skip-if-unknown-filter", "capture", "capture_duration", // Falco's; a capture is never made
			"action", "window", "attack", "mode", // ours
		}
	}
	return []string{kind}
}

func (l *loader) mapping(n *yaml.Node) (*item, bool) {
	if n.Kind != yaml.MappingNode {
		l.problem(l.at(n), "", "expected a rule, a macro or a list")
		return nil, false
	}
	it := &item{place: l.at(n), values: map[string][]place{}}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], resolved(n.Content[i+1])
		if it.has(key.Value) {
			l.problem(l.at(key), "", "%.60q stands here twice", key.Value)
			return nil, false
		}
		it.keys = append(it.keys, l.at(key))
		it.values[key.Value] = []place{l.at(value)}
	}
	return it, true
}

// resolved is what an alias stands for.
func resolved(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode {
		return n.Alias
	}
	return n
}

func isScalar(n *yaml.Node) bool { return n != nil && n.Kind == yaml.ScalarNode && n.Tag != "!!null" }

func (l *loader) boolean(rule string, at place, otherwise bool) (value, ok bool) {
	if at.node == nil {
		return otherwise, true
	}
	if at.node.Kind != yaml.ScalarNode || at.node.Decode(&value) != nil {
		l.problem(at, rule, "expected true or false")
		return false, false
	}
	return value, true
}
