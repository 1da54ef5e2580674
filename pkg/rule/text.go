package rule

import (
	"regexp"
	"regexp/syntax"
	"slices"
	"strconv"
	"strings"
)

// textual makes a test of a text and tells its cost; a message says what is wrong with the operator.
func (s *scope) textual(op string, values []string) (func(string) bool, int, string) {
	var want string
	if len(values) > 0 {
		want = values[0]
	}
	switch op {
	case "=", "==":
		return func(s string) bool { return s == want }, costText, ""
	case "!=":
		return func(s string) bool { return s != want }, costText, ""
	case "contains":
		return func(s string) bool { return strings.Contains(s, want) }, costSearch, ""
	case "icontains":
		return func(s string) bool { return containsFold(s, want) }, 2 * costSearch, ""
	case "startswith":
		return func(s string) bool { return strings.HasPrefix(s, want) }, costText, ""
	case "endswith":
		return func(s string) bool { return strings.HasSuffix(s, want) }, costText, ""
	case "glob":
		return func(s string) bool { return glob(want, s, false) }, costSearch, ""
	case "iglob":
		return func(s string) bool { return glob(want, s, true) }, costSearch, ""
	case "in", "intersects":
		return member(values), costSet, ""
	case "pmatch":
		return pathMatch(values), 2 * costSet, ""
	case "regex":
		match, message := s.regex(want)
		return match, costRegex, message
	case "bcontains", "bstartswith":
		return nil, 0, "has no operator " + op + ": that is for bytes"
	}
	return nil, 0, "has no operator " + strconv.Quote(op)
}

func setOf(values []string) map[string]struct{} {
	set := make(map[string]struct{}, len(values))
	for _, v := range values {
		set[v] = struct{}{}
	}
	return set
}

// member tests whether a text is one of few or many. Most are told by their length.
func member(values []string) func(string) bool {
	const few = 4
	if len(values) <= few {
		return func(s string) bool {
			for _, v := range values {
				if v == s {
					return true
				}
			}
			return false
		}
	}
	set := setOf(values)
	var known lengths
	for v := range set {
		known.add(v)
	}
	return func(s string) bool {
		if !known.has(s) {
			return false
		}
		_, ok := set[s]
		return ok
	}
}

// lengths are those of some texts; all from 63 on count as one.
type lengths uint64

func (l *lengths) add(s string)     { *l |= 1 << min(len(s), 63) }
func (l lengths) has(s string) bool { return l>>min(len(s), 63)&1 != 0 }

// beginning tests whether a text begins with one of some. Without those that begin with another one, only the last
// that is not greater than the text can be its begin.
func beginning(values []string) func(string) bool {
	sorted := slices.Sorted(slices.Values(values))
	var begins []string
	for _, v := range sorted {
		if n := len(begins); n == 0 || !strings.HasPrefix(v, begins[n-1]) {
			begins = append(begins, v)
		}
	}
	return func(s string) bool {
		i, same := slices.BinarySearch(begins, s)
		return same || i > 0 && strings.HasPrefix(s, begins[i-1])
	}
}

// Bounds of regular expressions: a short one can repeat itself a thousand times.
const (
	maxPattern = 1000
	maxProgram = 500_000 // instructions, of all rules together
)

// regex matches the whole text.
func (s *scope) regex(pattern string) (func(string) bool, string) {
	if len(pattern) > maxPattern {
		return nil, "the regular expression has more than " + strconv.Itoa(maxPattern) + " bytes"
	}
	tooLarge := "all regular expressions together are too large"
	if s.program > maxProgram {
		return nil, tooLarge
	}
	tree, err := syntax.Parse(pattern, syntax.Perl)
	if err != nil {
		return nil, "the regular expression is wrong: " + err.Error()
	}
	program, err := syntax.Compile(tree.Simplify())
	if err != nil {
		return nil, "the regular expression is wrong: " + err.Error()
	}
	if s.program += len(program.Inst); s.program > maxProgram {
		return nil, tooLarge
	}
	compiled, err := regexp.Compile(`\A(?:` + pattern + `)\z`)
	if err != nil {
		return nil, "the regular expression is wrong: " + err.Error()
	}
	return compiled.MatchString, ""
}

// containsFold is strings.Contains without regard to the case of ASCII letters.
func containsFold(s, part string) bool {
	if part == "" {
		return true
	}
	first := lower(part[0])
	for ; len(s) >= len(part); s = s[1:] {
		if lower(s[0]) == first && equalFold(s[:len(part)], part) {
			return true
		}
	}
	return false
}

func equalFold(a, b string) bool {
	for i := range len(a) {
		if lower(a[i]) != lower(b[i]) {
			return false
		}
	}
	return true
}

func lower(c byte) byte {
	if c >= 'A' && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}

func upper(c byte) byte {
	if c >= 'a' && c <= 'z' {
		return c - 'a' + 'A'
	}
	return c
}

// shorten quotes a text for a message.
func shorten(s string) string { return strconv.Quote(s[:min(len(s), 40)]) }

func joined(words []string) string { return strings.Join(words, ", ") }
