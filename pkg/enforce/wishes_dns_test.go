package enforce

import (
	"fmt"
	"testing"
)

// The kernel is told of the shortest question that any rule wants.
func TestLeastQuestion(t *testing.T) {
	const text = "- rule: %s\n  condition: %q\n  output: o\n  priority: error\n"
	for name, tc := range map[string]struct {
		conditions []string
		want       uint32
	}{
		"none":     {[]string{"evt.operation = connect"}, 0},
		"one":      {[]string{"evt.operation = dns_query and dns.name_length >= 100"}, 106},
		"two":      {[]string{"dns.name_length >= 100", "dns.name_length > 49 and dns.type = TXT"}, 56},
		"reversed": {[]string{"dns.name_length > 49 and dns.type = TXT", "dns.name_length >= 100"}, 56},
		"any":      {[]string{"dns.name_length >= 100", "dns.name = a.b"}, 0},
		"any, too": {[]string{"dns.name = a.b", "dns.name_length >= 100"}, 0},
		"one byte": {[]string{"dns.name_length >= 1"}, 0}, // that of the root is none
	} {
		rules := ""
		for i, c := range tc.conditions {
			rules += fmt.Sprintf(text, string(rune('a'+i)), c)
		}
		if got := wishesOf(t, rules).leastQuestion(); got != tc.want {
			t.Errorf("%s: %d bytes, want %d", name, got, tc.want)
		}
	}
}
