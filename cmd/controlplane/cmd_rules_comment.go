package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// comment is one comment of a YAML file.
type comment struct {
	line, column int // from 1
	text         string
	own          bool // nothing else stands on its line
	blank        bool // a blank line stands before it
}

// source is a YAML file and the trees of its documents.
type source struct {
	lines    []string // without line ends
	docs     []*yaml.Node
	comments []comment
}

func newSource(data []byte) (*source, error) {
	docs, err := documents(data)
	if err != nil {
		return nil, err
	}
	text := strings.ReplaceAll(strings.TrimPrefix(string(data), "\ufeff"), "\r\n", "\n")
	s := &source{lines: strings.Split(text, "\n"), docs: docs}
	hidden := s.hidden()
	for i, line := range s.lines {
		at := hash(line, hidden[i+1])
		if at < 0 {
			continue
		}
		s.comments = append(s.comments, comment{
			line: i + 1, column: 1 + utf8.RuneCountInString(line[:at]), text: strings.TrimRight(line[at:], " \t\r"),
			own: strings.TrimSpace(line[:at]) == "", blank: s.blank(i),
		})
	}
	return s, nil
}

// blank says whether there is a line, from 1, with nothing on it.
func (s *source) blank(line int) bool {
	return line >= 1 && line <= len(s.lines) && strings.TrimSpace(s.lines[line-1]) == ""
}

// hash finds the begin of a comment in a line of which the first bytes are text; -1 if there is none.
func hash(line string, text int) int {
	for i := text; i < len(line); i++ {
		if line[i] == '#' && (i == 0 || line[i-1] == ' ' || line[i-1] == '\t') {
			return i
		}
	}
	return -1
}

// hidden counts for each line how many of its first bytes belong to quoted strings and blocks of text,
// where a number sign begins no comment.
func (s *source) hidden() map[int]int {
	hidden := map[int]int{}
	for _, doc := range s.docs {
		visit(doc.Content[0], nil, func(n, parent *yaml.Node) {
			switch {
			case n.Kind != yaml.ScalarNode:
			case n.Style&(yaml.LiteralStyle|yaml.FoldedStyle) != 0:
				s.hideBlock(hidden, n, parent)
			case n.Style&(yaml.DoubleQuotedStyle|yaml.SingleQuotedStyle) != 0:
				s.hideQuoted(hidden, n)
			}
		})
	}
	return hidden
}

// visit calls do for every node, parents first.
func visit(n, parent *yaml.Node, do func(n, parent *yaml.Node)) {
	do(n, parent)
	for _, c := range n.Content {
		visit(c, n, do)
	}
}

// hideBlock hides the lines below the sign of a block: as far as they are indented like the first.
func (s *source) hideBlock(hidden map[int]int, n, parent *yaml.Node) {
	least := 0
	if parent != nil {
		least = parent.Column // its keys are indented by one less
	}
	indent := 0
	for line := n.Line + 1; line <= len(s.lines); line++ {
		text := s.lines[line-1]
		by := len(text) - len(strings.TrimLeft(text, " "))
		switch {
		case s.blank(line):
			continue
		case indent == 0 && by >= least:
			indent = max(by, 1)
		}
		if indent == 0 || by < indent {
			return
		}
		hidden[line] = len(text)
	}
}

// hideQuoted hides a quoted string up to its closing quote.
func (s *source) hideQuoted(hidden map[int]int, n *yaml.Node) {
	quote := byte('"')
	if n.Style&yaml.SingleQuotedStyle != 0 {
		quote = '\''
	}
	at := byteOf(s.lines[min(n.Line, len(s.lines))-1], n.Column)
	for line := n.Line; line <= len(s.lines); line++ {
		text := s.lines[line-1]
		if line == n.Line {
			at++
		} else {
			at = 0
		}
		for ; at < len(text); at++ {
			switch {
			case quote == '"' && text[at] == '\\':
				at++
			case quote == '\'' && strings.HasPrefix(text[at:], "''"):
				at++
			case text[at] == quote:
				hidden[line] = max(hidden[line], at+1)
				return
			}
		}
		hidden[line] = len(text)
	}
}

// byteOf is where a column, from 1 and in characters, begins.
func byteOf(line string, column int) int {
	at := 0
	for range column - 1 {
		_, n := utf8.DecodeRuneInString(line[at:])
		at += n
	}
	return at
}

// notes are the comments of one node.
type notes struct {
	above  []comment
	beside []comment // more than one if they stood at lines of one value
	below  []comment // of an item of the file: indented like its keys, after the last
}

// attach gives every comment to the node that it is about: one beside a value to that, one that has its
// line to what follows. Comments after everything are left over.
func (s *source) attach() (of map[*yaml.Node]*notes, left []comment) {
	of = map[*yaml.Node]*notes{}
	order, top, within := s.anchors()
	for _, n := range order {
		of[n] = &notes{}
	}
	next := 0 // the first node below the comment
	var item *yaml.Node
	for _, c := range s.comments {
		for next < len(order) && order[next].Line <= c.line {
			if top[order[next]] {
				item = order[next]
			}
			next++
		}
		atEnd := next == len(order) || top[order[next]]
		switch {
		case !c.own && next > 0:
			n := order[next-1]
			for within[n] != nil && within[n].Line == c.line { // [a, b] # about both
				n = within[n]
			}
			of[n].beside = append(of[n].beside, c)
		case item != nil && atEnd && c.column >= item.Column:
			of[item].below = append(of[item].below, c)
		case next < len(order):
			of[order[next]].above = append(of[order[next]].above, c)
		default:
			left = append(left, c)
		}
	}
	return of, left
}

// anchors lists the nodes that can have comments, keys and elements of lists, in the order of the file.
// It tells which of them are items of the file, and for those in brackets what stands before these.
func (s *source) anchors() (order []*yaml.Node, top map[*yaml.Node]bool, within map[*yaml.Node]*yaml.Node) {
	top, within = map[*yaml.Node]bool{}, map[*yaml.Node]*yaml.Node{}
	var walk func(n, before *yaml.Node)
	add := func(n, list, before *yaml.Node) {
		order = append(order, n)
		if list.Style&yaml.FlowStyle != 0 {
			within[n] = before
		}
	}
	walk = func(n, before *yaml.Node) {
		for i, c := range n.Content {
			switch {
			case n.Kind == yaml.SequenceNode:
				add(c, n, before)
				walk(c, c)
			case i%2 == 0:
				add(c, n, before)
			default:
				walk(c, n.Content[i-1])
			}
		}
	}
	for _, doc := range s.docs {
		for _, n := range doc.Content[0].Content {
			top[n] = true
		}
		walk(doc.Content[0], nil)
	}
	return order, top, within
}

// Bounds for the tree of a file. A node of YAML takes two bytes of text and two hundred of memory.
const (
	maxTreeBytes = 2 << 20
	maxTreeNodes = 300_000
)

var errTooLarge = errors.New("too large")

// documents reads the documents of a file that are not empty, those before an error too.
func documents(data []byte) ([]*yaml.Node, error) {
	nodes := 0
	for _, c := range data {
		if bytes.IndexByte([]byte(",[{:?-\n"), c) >= 0 {
			nodes++
		}
	}
	if len(data) > maxTreeBytes || nodes > maxTreeNodes {
		return nil, fmt.Errorf("%w: more than %d bytes or %d elements", errTooLarge, maxTreeBytes, maxTreeNodes)
	}
	var docs []*yaml.Node
	dec := yaml.NewDecoder(bytes.NewReader(data))
	for {
		var doc yaml.Node
		err := dec.Decode(&doc)
		switch {
		case errors.Is(err, io.EOF):
			return docs, nil
		case err != nil:
			return docs, err
		case len(doc.Content) > 0 && doc.Content[0].Tag != "!!null":
			docs = append(docs, &doc)
		}
	}
}
