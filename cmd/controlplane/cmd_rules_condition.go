package main

import (
	"strings"
	"unicode/utf8"
)

// pieces cuts a condition into quoted strings and what stands between them. A string that is not closed
// is the last piece.
func pieces(text string) []string {
	var all []string
	from := 0
	for at := 0; at < len(text); at++ {
		quote := text[at]
		if quote != '"' && quote != '\'' {
			continue
		}
		if at > from {
			all = append(all, text[from:at])
		}
		from = at
		for at++; at < len(text) && text[at] != quote; at++ {
			if text[at] == '\\' {
				at++
			}
		}
		end := min(at+1, len(text))
		all = append(all, text[from:end])
		from = end
	}
	if from < len(text) {
		all = append(all, text[from:])
	}
	return all
}

func isQuoted(piece string) bool { return piece[0] == '"' || piece[0] == '\'' }

// chunk is what no line of a condition may break, and how many parentheses are open before it.
type chunk struct {
	text  string
	depth int
}

// chunks cuts a condition at its white space, but not within quotes. It is not ok where white space
// means something, or where a quote is not closed.
func chunks(text string) (all []chunk, ok bool) {
	var word strings.Builder
	depth, next := 0, 0
	end := func() {
		if word.Len() > 0 {
			all = append(all, chunk{word.String(), depth})
			word.Reset()
		}
		depth = next
	}
	for _, p := range pieces(text) {
		if isQuoted(p) {
			if len(p) < 2 || p[len(p)-1] != p[0] || strings.ContainsAny(p, "\r\n\t") {
				return nil, false
			}
			word.WriteString(p)
			continue
		}
		for i := range len(p) {
			switch c := p[i]; c {
			case ' ', '\t', '\r', '\n':
				end()
			case '(':
				next++
				word.WriteByte(c)
			case ')':
				next = max(next-1, 0)
				word.WriteByte(c)
			default:
				word.WriteByte(c)
			}
		}
	}
	end()
	return all, true
}

func joined(words []chunk) string {
	parts := make([]string, len(words))
	for i, w := range words {
		parts[i] = w.text
	}
	return strings.Join(parts, " ")
}

// breakLines lays out a condition: a line breaks before "and" and "or", outside of parentheses if that
// is enough, else also within them, indented.
func breakLines(words []chunk, depth, indent, width int) []string {
	const deepest = 20
	line := joined(words)
	if indent+utf8.RuneCountInString(line) <= width {
		return []string{spaces(indent) + line}
	}
	var groups [][]chunk
	from := 0
	for i, w := range words {
		if i > from && w.depth <= depth && (w.text == "and" || w.text == "or") {
			groups = append(groups, words[from:i])
			from = i
		}
	}
	groups = append(groups, words[from:])
	switch {
	case len(groups) > 1:
		var lines []string
		for i, g := range groups {
			by := indent
			if i > 0 && depth > 0 {
				by += 2
			}
			lines = append(lines, breakLines(g, depth+1, by, width)...)
		}
		return lines
	case depth < deepest:
		return breakLines(words, depth+1, indent, width)
	}
	parts := make([]string, len(words))
	for i, w := range words {
		parts[i] = w.text
	}
	return fill(parts, spaces(indent), spaces(indent+2), width)
}

// fill puts as many words on each line as fit, after what the first line begins with and the others.
func fill(words []string, first, others string, width int) []string {
	var lines []string
	line := first
	for i, w := range words {
		switch {
		case i == 0:
			line += w
		case utf8.RuneCountInString(line)+1+utf8.RuneCountInString(w) <= width:
			line += " " + w
		default:
			lines = append(lines, line)
			line = others + w
		}
	}
	return append(lines, line)
}

func spaces(n int) string { return strings.Repeat(" ", n) }
