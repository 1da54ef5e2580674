package baseline

import "strings"

// How long a word must be so that its looks alone tell that it is random.
const (
	longWord  = 16
	tempWord  = 6 // after "tmp"; what mkstemp(3) replaces
	longCount = 3 // digits
)

// random says why a file name cannot be meant to be the same in the next run; "" if it can.
func random(name string) string {
	for i := 0; i+36 <= len(name); i++ {
		if isUUID(name[i : i+36]) {
			return "a UUID differs from run to run"
		}
	}
	if rest, ok := strings.CutPrefix(name, "tmp"); ok {
		rest, _, _ = strings.Cut(strings.TrimLeft(rest, "._-"), ".")
		if len(rest) >= tempWord && strings.IndexFunc(rest, notWord) < 0 && !isOneCase(rest) {
			return "a temporary name differs from run to run"
		}
	}
	for word := range strings.FieldsFuncSeq(name, notAlnum) {
		if len(word) >= longWord && (isHex(word) || isMixed(word)) {
			return "a long random name differs from run to run"
		}
	}
	return ""
}

// stemOf is a name without what may vary if other names in the directory differ in nothing else; "" if
// nothing may.
func stemOf(dir, name string) string {
	var stem strings.Builder
	longest, digits := 0, 0
	for _, c := range []byte(name) {
		if class(c) != digit {
			stem.WriteByte(c)
			digits = 0
			continue
		}
		if digits++; digits == 1 {
			stem.WriteByte('/') // in no name
		}
		longest = max(longest, digits)
	}
	if longest >= longCount || isNumber(name) {
		return stem.String()
	}
	// Beside the file that it will replace, a temporary one has a separator before the letters.
	made := template(name)
	from, _, _ := strings.Cut(made, "//")
	if dir == "/tmp/" || dir == "/var/tmp/" || dir == "/dev/shm/" || strings.TrimRight(from, ".-_") != from {
		return made
	}
	return ""
}

// template is what mkstemp(3) or mkstemps(3) was given to make a name, "" if neither made it.
func template(name string) string {
	for _, end := range [...]int{len(name), strings.LastIndexByte(name, '.')} {
		if end < tempWord {
			continue
		}
		word := name[end-tempWord : end]
		if strings.IndexFunc(word, notAlnum) < 0 && changes(word) > 1 {
			return name[:end-tempWord] + "//" + name[end:]
		}
	}
	return ""
}

type charClass uint8

const (
	other charClass = iota
	digit
	lower
	upper
)

func class(c byte) charClass {
	switch {
	case c >= '0' && c <= '9':
		return digit
	case c >= 'a' && c <= 'z':
		return lower
	case c >= 'A' && c <= 'Z':
		return upper
	}
	return other
}

func notAlnum(c rune) bool { return c > 0x7f || class(byte(c)) == other }

func notWord(c rune) bool { return c != '_' && notAlnum(c) }

// changes counts how often the class changes within a word. Words that people make change seldom.
func changes(word string) int {
	n := 0
	for i := 1; i < len(word); i++ {
		if class(word[i]) != class(word[i-1]) {
			n++
		}
	}
	return n
}

func count(word string, of charClass) int {
	n := 0
	for i := range len(word) {
		if class(word[i]) == of {
			n++
		}
	}
	return n
}

func isNumber(word string) bool { return word != "" && count(word, digit) == len(word) }

// isOneCase is true for words of letters alone, all of them small or all large.
func isOneCase(word string) bool {
	return count(word, digit) == 0 && (count(word, lower) == 0 || count(word, upper) == 0)
}

// isMixed is true for most random words of letters and digits.
func isMixed(word string) bool {
	return count(word, digit) > 1 && count(word, lower) > 0 && count(word, upper) > 0 && 2*changes(word) >= len(word)-1
}

// isHex is true for hexadecimal numbers that are no words.
func isHex(word string) bool {
	return count(word, digit) > 0 && (strings.Trim(word, "0123456789abcdef") == "" || strings.Trim(word, "0123456789ABCDEF") == "")
}

func isUUID(s string) bool {
	for i := range len(s) {
		if hyphen := i == 8 || i == 13 || i == 18 || i == 23; hyphen != (s[i] == '-') || !hyphen && strings.IndexByte("0123456789abcdefABCDEF", s[i]) < 0 {
			return false
		}
	}
	return true
}
