package main

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

const (
	layoutWidth = 120
	layoutDepth = 30
)

// layout writes the items of a rule file in one form. It returns lines without indentation; who asks
// puts them in their place.
type layout struct {
	source *source
	notes  map[*yaml.Node]*notes
}

var errLayout = errors.New("cannot be laid out without changing what it means")

// reformat lays out a rule file, or tests of rules: the keys of an item in one order, conditions folded
// before "and" and "or", lists filled. Comments stay with what they are about. The result means the same
// and is its own layout; where that cannot be had there is an error.
func reformat(data []byte) ([]byte, error) {
	out, before, err := layOut(data)
	if err != nil {
		return nil, err
	}
	again, after, err := layOut(out)
	if errors.Is(err, errTooLarge) {
		return nil, err // it fits only as it is
	}
	if err != nil || !sameDocuments(before.docs, after.docs) || !sameComments(before.comments, after.comments) || !bytes.Equal(out, again) {
		return nil, errLayout
	}
	return out, nil
}

func layOut(data []byte) ([]byte, *source, error) {
	if !utf8.Valid(data) {
		return nil, nil, errors.New("not UTF-8")
	}
	if bytes.HasPrefix(data, []byte("%")) || bytes.Contains(data, []byte("\n%")) {
		return nil, nil, errors.New("directives of YAML are not supported")
	}
	s, err := newSource(data)
	if err != nil {
		return nil, nil, err
	}
	l := &layout{source: s}
	var left []comment
	l.notes, left = s.attach()
	var out strings.Builder
	for i, doc := range s.docs {
		if err := supported(doc.Content[0]); err != nil {
			return nil, nil, err
		}
		if i > 0 {
			out.WriteString("\n---\n")
		}
		l.document(&out, doc.Content[0])
	}
	for i, c := range left {
		if c.blank && out.Len() > 0 || i == 0 && len(s.docs) > 0 {
			out.WriteByte('\n')
		}
		out.WriteString(c.text + "\n")
	}
	return []byte(out.String()), s, nil
}

// supported refuses what rule files do not need.
func supported(top *yaml.Node) error {
	if top.Kind != yaml.SequenceNode {
		return fmt.Errorf("line %d: a rule file is a list", top.Line)
	}
	var walk func(n *yaml.Node, depth int) error
	walk = func(n *yaml.Node, depth int) error {
		switch {
		case n.Kind == yaml.AliasNode || n.Anchor != "":
			return fmt.Errorf("line %d: anchors and aliases are not supported", n.Line)
		case n.Style&yaml.TaggedStyle != 0:
			return fmt.Errorf("line %d: tags are not supported", n.Line)
		case depth > layoutDepth:
			return fmt.Errorf("line %d: nested too deeply", n.Line)
		}
		for i, c := range n.Content {
			if n.Kind == yaml.MappingNode && i%2 == 0 && c.Kind != yaml.ScalarNode {
				return fmt.Errorf("line %d: a key is not one word", c.Line)
			}
			if err := walk(c, depth+1); err != nil {
				return err
			}
		}
		return nil
	}
	return walk(top, 0)
}

func (l *layout) document(out *strings.Builder, top *yaml.Node) {
	if len(top.Content) == 0 {
		out.WriteString("[]\n")
	}
	small := false
	for i, n := range top.Content {
		own := l.notes[n].above
		begin := n.Line
		if len(own) > 0 {
			begin = own[0].line
		}
		// Macros and lists may stand close together.
		wasSmall := small
		if small = isSmall(n); i > 0 && (!small || !wasSmall || l.source.blank(begin-1)) {
			out.WriteByte('\n')
		}
		above, lines := l.element(n, 2, true)
		for j, c := range above {
			if j > 0 && j < len(own) && c.blank {
				out.WriteByte('\n')
			}
			out.WriteString(c.text + "\n")
		}
		if len(own) > 0 && l.source.blank(n.Line-1) {
			out.WriteByte('\n')
		}
		for _, line := range slices.Concat(listed(lines), indentedBy(2, texts(l.notes[n].below))) {
			out.WriteString(line + "\n")
		}
	}
}

// isSmall says whether an item is a macro or a list.
func isSmall(n *yaml.Node) bool {
	return n.Kind == yaml.MappingNode && slices.ContainsFunc(n.Content, func(key *yaml.Node) bool {
		return key.Value == "macro" || key.Value == "list"
	})
}

// element writes what follows a dash, and gathers the comments that stand above it. The text begins at
// a column of indent.
func (l *layout) element(n *yaml.Node, indent int, item bool) (above []comment, lines []string) {
	short, ok := l.brackets("", n, indent)
	switch {
	case n.Kind == yaml.ScalarNode:
		lines = l.scalar("", n, indent)
	case ok:
		lines = short
	case n.Kind == yaml.MappingNode:
		above, lines = l.mapping(n, indent, item)
	default:
		above, lines = l.sequence(n, indent)
	}
	own, lines := l.dressed(n, lines)
	return append(own, above...), lines
}

// dressed puts a comment beside what takes one line, else it has to stand above.
func (l *layout) dressed(n *yaml.Node, lines []string) (above []comment, _ []string) {
	of := l.notes[n]
	if len(of.beside) == 1 && len(lines) == 1 {
		return slices.Clone(of.above), []string{lines[0] + " " + of.beside[0].text}
	}
	return slices.Concat(of.above, of.beside), lines
}

func (l *layout) mapping(n *yaml.Node, indent int, item bool) (above []comment, lines []string) {
	for i, p := range pairsOf(n, item) {
		over, value := l.dressed(p.key, l.pair(p, indent))
		if i == 0 {
			above = over
		} else {
			lines = append(lines, texts(over)...)
		}
		lines = append(lines, value...)
	}
	return above, lines
}

func (l *layout) sequence(n *yaml.Node, indent int) (above []comment, lines []string) {
	for i, c := range n.Content {
		over, value := l.element(c, indent+2, false)
		if i == 0 {
			above = over
		} else {
			lines = append(lines, texts(over)...)
		}
		lines = append(lines, listed(value)...)
	}
	return above, lines
}

func (l *layout) pair(p pair, indent int) []string {
	head := oneLine(p.key, false) + ":"
	n := p.value
	short, ok := l.brackets(head+" ", n, indent)
	var above []comment
	var lines []string
	switch {
	case n.Kind == yaml.ScalarNode && p.key.Value == "condition":
		return l.condition(head+" ", n, indent)
	case n.Kind == yaml.ScalarNode:
		return l.scalar(head+" ", n, indent)
	case ok:
		return short
	case n.Kind == yaml.MappingNode:
		above, lines = l.mapping(n, indent+2, false)
	default:
		above, lines = l.sequence(n, indent+2)
	}
	return append([]string{head}, indentedBy(2, append(texts(above), lines...))...)
}

// pair is a key and its value.
type pair struct{ key, value *yaml.Node }

// pairsOf lists the pairs of a mapping; those of a rule, macro or list in the order of the language.
func pairsOf(n *yaml.Node, item bool) []pair {
	order := []string{
		"rule", "macro", "list", "desc", "condition", "items", "output", "priority", "source", "tags", "enabled",
		"action", "mode", "window", "exceptions", "append", "override",
	}
	rank := func(p pair) int {
		if i := slices.Index(order, p.key.Value); i >= 0 {
			return i
		}
		return len(order)
	}
	var pairs []pair
	for i := 0; i+1 < len(n.Content); i += 2 {
		pairs = append(pairs, pair{n.Content[i], n.Content[i+1]})
	}
	if item {
		slices.SortStableFunc(pairs, func(a, b pair) int { return rank(a) - rank(b) })
	}
	return pairs
}

func listed(lines []string) []string {
	return append([]string{"- " + lines[0]}, indentedBy(2, lines[1:])...)
}

func indentedBy(n int, lines []string) []string {
	all := make([]string, len(lines))
	for i, line := range lines {
		if line != "" {
			all[i] = spaces(n) + line
		}
	}
	return all
}

func texts(comments []comment) []string {
	all := make([]string, len(comments))
	for i, c := range comments {
		all[i] = c.text
	}
	return all
}
