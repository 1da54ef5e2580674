package main

import (
	"bytes"
	"os"
	"strings"
	"testing"
	"time"
)

func TestTable(t *testing.T) {
	for name, colour := range map[string]bool{"plain": false, "colour": true} {
		t.Run(name, func(t *testing.T) {
			var b bytes.Buffer
			tab := newTable(&b, "A", "VERDICT")
			if tab.colour {
				t.Error("colour without a terminal")
			}
			tab.colour = colour
			for _, rows := range [][][]string{{{"längst", "deny"}}, {{"", "allow"}, {"\x1b[31mx", "audit"}}} {
				if err := tab.print(rows); err != nil {
					t.Fatal(err)
				}
			}
			want := "A       VERDICT\nlängst  deny\n-       allow\n\\x1b[31mx  audit\n"
			if colour {
				want = strings.Replace(want, "deny", "\x1b[31mdeny\x1b[0m", 1)
				want = strings.Replace(want, "audit", "\x1b[33maudit\x1b[0m", 1)
			}
			// The widest cell of the second page widens its own column for both of its rows.
			want = strings.Replace(want, "-       allow", "-          allow", 1)
			if b.String() != want {
				t.Errorf("got\n%q\nwant\n%q", b.String(), want)
			}
		})
	}
}

func TestIsTerminal(t *testing.T) {
	f, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if isTerminal(f) {
		t.Error("a file is no terminal")
	}
}

func TestParseSince(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for name, tc := range map[string]struct {
		text string
		want time.Time
		ok   bool
	}{
		"duration": {"90m", now.Add(-90 * time.Minute), true},
		"zero":     {"0s", now, true},
		"time":     {"2026-01-01T00:00:00Z", now.Truncate(24 * time.Hour).Add(-24 * time.Hour), true},
		"future":   {"-5m", time.Time{}, false},
		"date":     {"2026-01-01", time.Time{}, false},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := parseSince(tc.text, now)
			if (err == nil) != tc.ok || tc.ok && !got.Equal(tc.want) {
				t.Errorf("got %v %v, want %v", got, err, tc.want)
			}
		})
	}
}
