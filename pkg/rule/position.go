package rule

import (
	"bytes"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// place is a value of a rule file.
type place struct {
	file *File
	node *yaml.Node
}

// passage is a text out of rule files, and where it stands. What was appended later follows after one
// space.
type passage struct {
	places []place
	text   string
	of     string // the macro or exception that it belongs to, "" for a rule itself
}

func newPassage(of string, places ...place) *passage {
	texts := make([]string, len(places))
	for i, p := range places {
		texts[i] = p.node.Value
	}
	return &passage{places: places, text: strings.Join(texts, " "), of: of}
}

// position finds file, line and column of a byte of the text.
func (p *passage) position(offset int) (file string, line, column int) {
	for i, at := range p.places {
		if length := len(at.node.Value); offset <= length || i == len(p.places)-1 {
			line, column = at.position(min(offset, length))
			return at.file.Name, line, column
		} else {
			offset -= length + 1
		}
	}
	return "", 1, 1
}

// position finds line and column of a byte of the value in the file. White space may have been folded
// and characters escaped there. Where that cannot be followed it is the begin of the value.
func (p place) position(offset int) (line, column int) {
	line, column = max(p.node.Line, 1), max(p.node.Column, 1)
	text := p.node.Value
	src := p.begin()
	for i, c := range text[:offset] {
		if isSpace(byte(c)) && c < utf8.RuneSelf {
			continue
		}
		src = skipSpace(src)
		n := p.match(src, text[i:])
		if n == 0 {
			return line, column
		}
		src = src[n:]
	}
	if offset < len(text) {
		src = skipSpace(src)
	}
	return p.locate(len(p.file.Data) - len(src))
}

// begin is the file from the first character of the text on.
func (p place) begin() []byte {
	rest := p.file.Data
	for range p.node.Line - 1 {
		_, rest, _ = bytes.Cut(rest, []byte("\n"))
	}
	for range p.node.Column - 1 {
		_, n := utf8.DecodeRune(rest)
		rest = rest[n:]
	}
	switch p.node.Style &^ yaml.TaggedStyle {
	case yaml.LiteralStyle, yaml.FoldedStyle:
		_, rest, _ = bytes.Cut(rest, []byte("\n"))
	case yaml.DoubleQuotedStyle, yaml.SingleQuotedStyle:
		rest = rest[min(1, len(rest)):]
	}
	return rest
}

// match is the length in the file of the first character of text, 0 if it is not there.
func (p place) match(src []byte, text string) int {
	want, n := utf8.DecodeRuneInString(text)
	if len(src) == 0 {
		return 0
	}
	switch style := p.node.Style; {
	case style&yaml.SingleQuotedStyle != 0 && want == '\'':
		return min(2, len(src)) // doubled
	case style&yaml.DoubleQuotedStyle != 0 && src[0] == '\\':
		if len(src) < 2 || src[1] != byte(want) {
			return 0 // an escape by number, or of white space: rare
		}
		return 2
	}
	if len(src) < n || string(src[:n]) != text[:n] {
		return 0
	}
	return n
}

func skipSpace(b []byte) []byte { return bytes.TrimLeft(b, " \t\r\n") }

// locate counts from 1, columns in characters.
func (p place) locate(offset int) (line, column int) {
	before := p.file.Data[:offset]
	start := bytes.LastIndexByte(before, '\n') + 1
	return 1 + bytes.Count(before, []byte("\n")), 1 + utf8.RuneCount(before[start:])
}
