package alert

import (
	"fmt"
	"strings"
	"unicode"
)

// Format is how an alert is written as one line.
type Format uint8

// The formats: Falco's JSON with our fields beside it, and Falco's text.
const (
	JSON Format = iota
	PlainText
)

func formatNames() [2]string { return [2]string{"json", "text"} }

func (f Format) String() string {
	if names := formatNames(); int(f) < len(names) {
		return names[f]
	}
	return fmt.Sprintf("unknown(%d)", uint8(f))
}

// ParseFormat reads json or text.
func ParseFormat(s string) (Format, error) {
	for i, name := range formatNames() {
		if s == name {
			return Format(i), nil
		}
	}
	return JSON, fmt.Errorf("unknown format %.40q: want json or text", s)
}

// Append writes an alert without the end of the line. Whatever its output holds, it stays one line.
func (f Format) Append(dst []byte, a *Alert) ([]byte, error) {
	if f == PlainText {
		return append(dst, strings.Map(printable, a.Output)...), nil
	}
	line, err := a.JSON()
	if err != nil {
		return dst, fmt.Errorf("encode alert %q: %w", a.Rule, err)
	}
	return append(dst, line...), nil
}

func printable(r rune) rune {
	if unicode.IsPrint(r) {
		return r
	}
	return ' '
}
