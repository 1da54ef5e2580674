package main

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// condition writes one line if it fits, else a folded block.
func (l *layout) condition(head string, n *yaml.Node, indent int) []string {
	words, ok := chunks(n.Value)
	if !ok || len(words) == 0 || n.Tag != "!!str" || !visible(n.Value) {
		return l.scalar(head, n, indent)
	}
	line := joined(words)
	if indent+utf8.RuneCountInString(head+line) <= layoutWidth && isPlain(line, false) {
		return []string{head + line}
	}
	return append([]string{head + ">"}, indentedBy(2, breakLines(words, 0, 0, layoutWidth-indent-2))...)
}

// scalar writes any other text, on as many lines as the author did: on one, or folded, or as it stands.
func (l *layout) scalar(head string, n *yaml.Node, indent int) []string {
	block := n.Style&(yaml.LiteralStyle|yaml.FoldedStyle) != 0
	if !block && (n.Style != 0 || n.Tag != "!!str" || l.onOneLine(n)) {
		return []string{strings.TrimRight(head+oneLine(n, false), " ")}
	}
	text := n.Value
	if indent+utf8.RuneCountInString(head+text) <= layoutWidth && isPlain(text, false) {
		return []string{head + text}
	}
	body := strings.TrimSuffix(text, "\n")
	sign := "-"
	if body != text {
		sign = ""
	}
	switch {
	case !visible(body) || strings.HasPrefix(body, " ") || strings.Trim(body, "\n") != body || body == "":
	case !strings.ContainsRune(body, '\n') && !strings.Contains(body, "  ") && !strings.HasSuffix(body, " "):
		return append([]string{head + ">" + sign}, fill(strings.Split(body, " "), "  ", "  ", layoutWidth-indent)...)
	default:
		return append([]string{head + "|" + sign}, indentedBy(2, strings.Split(body, "\n"))...)
	}
	return []string{head + strconv.Quote(text)}
}

// onOneLine says whether a plain text takes one line of the file.
func (l *layout) onOneLine(n *yaml.Node) bool {
	line := l.source.lines[n.Line-1]
	return strings.HasPrefix(line[byteOf(line, n.Column):], n.Value)
}

// visible says whether a text may stand in a block.
func visible(text string) bool {
	return strings.IndexFunc(text, func(r rune) bool { return r != '\n' && !unicode.IsPrint(r) || r == utf8.RuneError }) < 0
}

// oneLine writes a text on one line, quoted as the author did where that is possible.
func oneLine(n *yaml.Node, flow bool) string {
	switch {
	case n.Style&yaml.DoubleQuotedStyle != 0:
	case n.Style&yaml.SingleQuotedStyle != 0:
		if visible(n.Value) && !strings.ContainsRune(n.Value, '\n') {
			return "'" + strings.ReplaceAll(n.Value, "'", "''") + "'"
		}
	case n.Tag != "!!str" || isPlain(n.Value, flow):
		return n.Value
	}
	return strconv.Quote(n.Value)
}

// isPlain says whether a text needs no quotes; in brackets more texts do.
func isPlain(text string, flow bool) bool {
	switch {
	case text == "" || strings.ContainsAny(text, "\r\n"):
		return false
	case len(text) > len("false") && isLetter(text[0]) && strings.TrimFunc(text, isHarmless) == "":
		return true // without asking: most are
	}
	yes := "- " + text
	if flow {
		yes = "- [" + text + "]"
	}
	docs, err := documents([]byte(yes))
	if err != nil || len(docs) != 1 {
		return false
	}
	n := docs[0]
	for n.Kind != yaml.ScalarNode {
		if n.Kind == yaml.MappingNode || len(n.Content) != 1 {
			return false
		}
		n = n.Content[0]
	}
	return n.Style == 0 && n.Tag == "!!str" && n.Value == text && n.Anchor == ""
}

func isLetter(c byte) bool { return c == '/' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' }

func isHarmless(r rune) bool {
	return r < utf8.RuneSelf && isLetter(byte(r)) || r >= '0' && r <= '9' || r == '_' || r == '.' || r == '-'
}

// brackets writes a list on as many lines as it takes, and a mapping if it fits on one. It is not ok for
// what has comments in it or was a block of more than words.
func (l *layout) brackets(head string, n *yaml.Node, indent int) ([]string, bool) {
	parts, ok := l.flowParts(n)
	if !ok {
		return nil, false
	}
	line := head + enclosed(n, parts)
	if indent+utf8.RuneCountInString(line) <= layoutWidth || len(parts) == 0 {
		return []string{line}, true
	}
	if n.Kind == yaml.MappingNode {
		return nil, false
	}
	for i := range parts[:len(parts)-1] {
		parts[i] += ","
	}
	parts[len(parts)-1] += "]"
	return fill(parts, head+"[", spaces(utf8.RuneCountInString(head)+1), layoutWidth-indent), true
}

func enclosed(n *yaml.Node, parts []string) string {
	text := strings.Join(parts, ", ")
	if n.Kind == yaml.MappingNode {
		return "{" + text + "}"
	}
	return "[" + text + "]"
}

// flowParts are the elements of a list or mapping in brackets.
func (l *layout) flowParts(n *yaml.Node) ([]string, bool) {
	var parts []string
	if n.Kind == yaml.MappingNode && n.Style&yaml.FlowStyle == 0 && len(n.Content) > 0 || n.Kind == yaml.ScalarNode {
		return nil, false
	}
	for i, c := range n.Content {
		if of := l.notes[c]; of != nil && len(of.above)+len(of.beside) > 0 {
			return nil, false
		}
		part := ""
		if c.Kind == yaml.ScalarNode {
			part = oneLine(c, true)
		} else if inner, ok := l.flowParts(c); ok {
			part = enclosed(c, inner)
		} else {
			return nil, false
		}
		if n.Kind == yaml.MappingNode && i%2 == 1 {
			parts[len(parts)-1] += " " + part
			continue
		}
		if n.Kind == yaml.MappingNode {
			part += ":"
		}
		parts = append(parts, part)
	}
	return parts, true
}

// sameDocuments compares what files mean: the order of an item's keys does not count, nor does white
// space of conditions outside of quotes.
func sameDocuments(a, b []*yaml.Node) bool {
	return slices.EqualFunc(a, b, func(a, b *yaml.Node) bool {
		return slices.EqualFunc(a.Content[0].Content, b.Content[0].Content, func(a, b *yaml.Node) bool { return sameNode(a, b, true) })
	})
}

func sameNode(a, b *yaml.Node, item bool) bool {
	switch {
	case a.Kind != b.Kind || a.Tag != b.Tag || a.Value != b.Value || len(a.Content) != len(b.Content):
		return false
	case a.Kind != yaml.MappingNode:
		return slices.EqualFunc(a.Content, b.Content, func(a, b *yaml.Node) bool { return sameNode(a, b, false) })
	}
	return slices.EqualFunc(pairsOf(a, item), pairsOf(b, item), func(a, b pair) bool {
		if !sameNode(a.key, b.key, false) {
			return false
		}
		x, okA := chunks(a.value.Value)
		y, okB := chunks(b.value.Value)
		if a.key.Value == "condition" && a.value.Kind == yaml.ScalarNode && okA && okB {
			return b.value.Kind == yaml.ScalarNode && a.value.Tag == b.value.Tag && slices.Equal(x, y)
		}
		return sameNode(a.value, b.value, false)
	})
}

// sameComments says whether no comment was lost or made up.
func sameComments(a, b []comment) bool {
	return maps.Equal(countTexts(a), countTexts(b))
}

func countTexts(comments []comment) map[string]int {
	counts := map[string]int{}
	for _, c := range comments {
		counts[c.text]++
	}
	return counts
}
