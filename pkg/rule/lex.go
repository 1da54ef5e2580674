package rule

import (
	"fmt"
	"strings"
)

// mistake is what is wrong in a condition or an output: a byte offset and a message.
type mistake struct {
	in      *passage
	at      int
	message string
	unknown bool   // a field or macro that does not exist
	refused bool   // what is asked for is never supplied, by policy
	id      string // of the Problem, if it is none of those
}

// scanner reads a condition. What a word is depends on where it stands: values may hold characters that
// operators are made of.
type scanner struct {
	in *passage
	at int
}

func wrong(in *passage, at int, format string, args ...any) *mistake {
	return &mistake{in: in, at: at, message: fmt.Sprintf(format, args...)}
}

func (s *scanner) wrong(at int, format string, args ...any) *mistake {
	return wrong(s.in, at, format, args...)
}

// expected is a mistake at the next token.
func (s *scanner) expected(what string) *mistake {
	s.peek()
	found := "the end"
	if rest := s.in.text[s.at:]; rest != "" {
		end := strings.IndexAny(rest[1:], " \t\r\n(),") + 1
		if end == 0 {
			end = len(rest)
		}
		found = fmt.Sprintf("%.40q", rest[:end])
	}
	return s.wrong(s.at, "expected %s, found %s", what, found)
}

// peek skips white space; 0 is the end.
func (s *scanner) peek() byte {
	for s.at < len(s.in.text) && isSpace(s.in.text[s.at]) {
		s.at++
	}
	return s.next()
}

// next is the byte here; 0 is the end.
func (s *scanner) next() byte {
	if s.at == len(s.in.text) {
		return 0
	}
	return s.in.text[s.at]
}

func (s *scanner) accept(c byte) bool {
	if s.peek() != c {
		return false
	}
	s.at++
	return true
}

func isSpace(c byte) bool { return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\b' }

func isWordByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '.' || c == '-'
}

// word reads a keyword, the name of a field, macro or list; "" if there is none.
func (s *scanner) word() string {
	s.peek()
	from := s.at
	for s.at < len(s.in.text) && isWordByte(s.in.text[s.at]) {
		s.at++
	}
	return s.in.text[from:s.at]
}

// keyword reads one word if it is the next.
func (s *scanner) keyword(want string) bool {
	s.peek()
	from := s.at
	if s.word() == want {
		return true
	}
	s.at = from
	return false
}

// operator reads = == != < <= > >= or a word; "" if there is none.
func (s *scanner) operator() string {
	s.peek()
	rest := s.in.text[s.at:]
	for _, symbol := range [...]string{"==", "!=", "<=", ">=", "=", "<", ">"} {
		if strings.HasPrefix(rest, symbol) {
			s.at += len(symbol)
			return symbol
		}
	}
	return s.word()
}

// argument reads [x] right after a field or transformer.
func (s *scanner) argument() (text string, present bool, m *mistake) {
	if s.next() != '[' {
		return "", false, nil
	}
	from := s.at
	s.at++
	if c := s.next(); c == '"' || c == '\'' {
		if text, m = s.quoted(c); m != nil {
			return "", false, m
		}
	} else {
		start := s.at
		for s.at < len(s.in.text) && !isSpace(s.in.text[s.at]) && strings.IndexByte(`[]"'`, s.in.text[s.at]) < 0 {
			s.at++
		}
		text = s.in.text[start:s.at]
	}
	if s.next() != ']' {
		return "", false, s.wrong(from, "the [ is not closed")
	}
	s.at++
	return text, true, nil
}

// value reads a quoted or a bare string.
func (s *scanner) value() (value, *mistake) {
	c := s.peek()
	v := value{in: s.in, at: s.at}
	if c == '"' || c == '\'' {
		var m *mistake
		v.quoted = true
		v.text, m = s.quoted(c)
		return v, m
	}
	for s.at < len(s.in.text) && !isSpace(s.in.text[s.at]) && strings.IndexByte("()\"'=,", s.in.text[s.at]) < 0 {
		s.at++
	}
	if s.at == v.at {
		return v, s.expected("a value")
	}
	v.text = s.in.text[v.at:s.at]
	return v, nil
}

// quoted reads a string up to its closing quote.
func (s *scanner) quoted(quote byte) (string, *mistake) {
	from := s.at
	var b strings.Builder
	for s.at++; s.at < len(s.in.text); s.at++ {
		c := s.in.text[s.at]
		if c == quote {
			s.at++
			return b.String(), nil
		}
		if c == '\\' && s.at+1 < len(s.in.text) {
			plain := unescape(s.in.text[s.at+1], quote)
			if plain == 0 {
				return "", s.wrong(s.at, "unknown escape %.10q: want one of \\b \\f \\n \\r \\t \\\\ \\/ \\%c", s.in.text[s.at:s.at+2], quote)
			}
			s.at++
			c = plain
		}
		b.WriteByte(c)
	}
	return "", s.wrong(from, "the string is not closed")
}

func unescape(c, quote byte) byte {
	switch c {
	case 'b':
		return '\b'
	case 'f':
		return '\f'
	case 'n':
		return '\n'
	case 'r':
		return '\r'
	case 't':
		return '\t'
	case ' ':
		return '\\' // so does Falco, for old rules with wrong escapes
	case '\\', '/', quote:
		return c
	}
	return 0
}
