package alert

import (
	"strings"
	"testing"
	"time"
)

func TestFormat(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	a := Alert{Time: at, Rule: "r", Severity: Warning, Output: Text(at, Warning, "a\nb\x1b[2J \u202e é")}
	line, err := PlainText.Append([]byte("> "), &a)
	if want := "> 03:04:05.000000006: Warning a b [2J   é"; err != nil || string(line) != want {
		t.Errorf("got %q, %v, want %q", line, err, want)
	}
	line, err = JSON.Append(nil, &a)
	if got, parseErr := Parse(line); err != nil || parseErr != nil || got.Output != a.Output {
		t.Errorf("got %s, %v, %v", line, err, parseErr)
	}
	a.Output = "10.0.0.1:1->10.0.0.2:443 & <NA>"
	if line, err = JSON.Append(nil, &a); err != nil || !strings.Contains(string(line), a.Output) || strings.Contains(string(line), "\n") {
		t.Errorf("got %s, %v, want %q as it is, in one line", line, err, a.Output)
	}
	a.Fields = map[string]any{"f": func() {}}
	if _, err := JSON.Append(nil, &a); err == nil {
		t.Error("what JSON cannot hold is written")
	}
	for _, f := range []Format{JSON, PlainText} {
		if got, err := ParseFormat(f.String()); err != nil || got != f {
			t.Errorf("%s: got %s, %v", f, got, err)
		}
	}
	if _, err := ParseFormat("xml"); err == nil || err.Error() != `unknown format "xml": want json or text` {
		t.Errorf("got %v", err)
	}
}
