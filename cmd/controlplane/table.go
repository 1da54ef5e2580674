package main

import (
	"io"
	"os"
	"strings"
	"unicode/utf8"

	"golang.org/x/term"

	"github.com/plumbline-io/plumbline/cmd/internal/cli"
)

// table writes rows in columns as wide as what was printed so far needs. What it prints comes from
// workloads that may be hostile: nothing but printable characters reaches the terminal.
type table struct {
	out    io.Writer
	colour bool
	head   []string
	widths []int
	headed bool
}

func newTable(out io.Writer, head ...string) *table {
	t := &table{out: out, head: head, colour: isTerminal(out), widths: make([]int, len(head))}
	t.widen(head)
	return t
}

// isTerminal also honours NO_COLOR (no-color.org).
func isTerminal(out io.Writer) bool {
	f, ok := out.(*os.File)
	return ok && os.Getenv("NO_COLOR") == "" && term.IsTerminal(int(f.Fd()))
}

func (t *table) widen(row []string) {
	for i, cell := range row {
		t.widths[i] = max(t.widths[i], utf8.RuneCountInString(cell))
	}
}

// print writes the header before the first rows, also if there are none.
func (t *table) print(rows [][]string) error {
	for _, row := range rows {
		for i := range row {
			row[i] = cellText(row[i])
		}
		t.widen(row)
	}
	var b strings.Builder
	if !t.headed {
		t.headed = true
		t.line(&b, t.head, false)
	}
	for _, row := range rows {
		t.line(&b, row, t.colour)
	}
	_, err := io.WriteString(t.out, b.String())
	return err
}

func (t *table) line(b *strings.Builder, row []string, colour bool) {
	for i, cell := range row {
		code := ""
		if colour {
			code = colourOf(cell)
		}
		b.WriteString(code)
		b.WriteString(cell)
		if code != "" {
			b.WriteString("\x1b[0m")
		}
		if i < len(row)-1 {
			b.WriteString(strings.Repeat(" ", t.widths[i]-utf8.RuneCountInString(cell)+2))
		}
	}
	b.WriteByte('\n')
}

func colourOf(cell string) string {
	switch cell {
	case "Emergency", "Alert", "Critical", "Error", "deny", "lost":
		return "\x1b[31m"
	case "Warning", "audit", "late":
		return "\x1b[33m"
	case "healthy":
		return "\x1b[32m"
	}
	return ""
}

// cellText is fit for a terminal, and stands out where there is nothing.
func cellText(s string) string {
	if s == "" {
		return "-"
	}
	return cli.Printable(s)
}
