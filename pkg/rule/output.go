package rule

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// piece of an output: fixed text, or a field.
type piece struct {
	text  string
	field *field
}

// setOutput reads %field references. A percent sign before anything but a letter is one.
func (s *scope) setOutput(r *Rule, in *passage) *mistake {
	p := parser{scanner: scanner{in: in}}
	text := in.text
	r.format = text
	known := map[string]struct{}{}
	if strings.HasPrefix(text, "*") {
		p.at = 1 // Falco's sign for "also with missing values", which is our way always
	}
	for p.at < len(text) {
		n := strings.IndexByte(text[p.at:], '%')
		if n < 0 {
			n = len(text) - p.at
		}
		if p.at+n+1 < len(text) && text[p.at+n+1] >= 'a' && text[p.at+n+1] <= 'z' {
			r.addText(text[p.at : p.at+n])
			p.at += n
			t, m := s.outputTerm(&p)
			if m != nil {
				return m
			}
			f, m := s.field(t)
			if m != nil {
				return m
			}
			r.output = append(r.output, piece{field: f})
			if _, is := known[f.name]; !is {
				known[f.name] = struct{}{}
				r.fields, r.shown = append(r.fields, f), append(r.shown, t)
			}
			continue
		}
		n = min(n+1, len(text)-p.at)
		r.addText(text[p.at : p.at+n])
		p.at += n
	}
	return nil
}

func (r *Rule) addText(text string) {
	if text != "" {
		r.output = append(r.output, piece{text: text})
	}
}

// outputTerm reads what follows a percent sign: a field or a transformer.
func (s *scope) outputTerm(p *parser) (*term, *mistake) {
	from := p.at
	p.at++
	start := p.at
	for p.at < len(p.in.text) && isNameByte(p.in.text[p.at]) {
		p.at++
	}
	name := strings.TrimRight(p.in.text[start:p.at], ".") // the end of a sentence
	p.at = start + len(name)
	if p.opensCall(name) {
		p.at = start
		return p.term()
	}
	f, ok := s.named(name)
	if !ok {
		m := p.wrong(from, "unknown field %.60q%s", "%"+name, s.nearestField(name))
		m.unknown = true
		return nil, m
	}
	t := &term{name: name, in: p.in, at: from}
	if f.takes != noArgument || f.whyOne != "" {
		var m *mistake
		if t.arg, t.hasArg, m = p.argument(); m != nil {
			return nil, m
		}
	}
	return t, nil
}

func isNameByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '.' || c == '_'
}

// appendTo writes the field's value for people: "<NA>" if there is none, as Falco does.
func (f *field) appendTo(dst []byte, e *Env) []byte {
	if f.writes {
		e.renew()
	}
	if f.secret {
		if !existence(f)(e) {
			return append(dst, "<NA>"...)
		}
		return append(dst, withheld...)
	}
	if s, ok := f.single(e); ok {
		return appendPrintable(dst, s)
	}
	if dst, ok := f.appendValue(dst, e); ok {
		return dst
	}
	return append(dst, "<NA>"...)
}

// single is the value of a field that is one text.
func (f *field) single(e *Env) (string, bool) {
	if f.text == nil {
		return "", false
	}
	return f.text(e)
}

// appendValue writes any value but a single text.
func (f *field) appendValue(dst []byte, e *Env) ([]byte, bool) {
	switch {
	case f.number != nil:
		n, ok := f.number(e)
		if f.vague && n == notNegative || !ok {
			return dst, false
		}
		return strconv.AppendInt(dst, n, 10), true
	case f.flag != nil:
		b, ok := f.flag(e)
		return strconv.AppendBool(dst, b), ok
	case f.addr != nil:
		a, ok := f.addr(e)
		return a.AppendTo(dst), ok
	case f.list != nil:
		items, ok := f.list(e)
		return appendPrintable(dst, strings.Join(items, " ")), ok
	case f.at != nil:
		from := len(dst)
		for i := 1; ; i++ {
			s, ok := f.at(e, i)
			if !ok {
				return dst, len(dst) > from
			}
			if i > 1 {
				dst = append(dst, ' ')
			}
			dst = appendPrintable(dst, s)
		}
	}
	return dst, false
}

// appendPrintable escapes what is not printable: a file name must not write a line of its own into
// somebody's log, nor reverse the text around it.
func appendPrintable(dst []byte, s string) []byte {
	for i, r := range s {
		switch {
		case r == utf8.RuneError && s[i] != 0xef: // not the character itself: a byte that is no text
			dst = fmt.Appendf(dst, `\x%02x`, s[i])
		case r < 0x80 && !unicode.IsPrint(r):
			dst = fmt.Appendf(dst, `\x%02x`, r)
		case !unicode.IsPrint(r):
			dst = fmt.Appendf(dst, `\u%04x`, r)
		default:
			dst = utf8.AppendRune(dst, r)
		}
	}
	return dst
}

// value is the field's value for JSON, nil if there is none.
func (f *field) value(e *Env) any {
	if f.writes {
		e.renew()
	}
	switch {
	case f.secret && existence(f)(e):
		return withheld
	case f.secret:
	case f.number != nil:
		if n, ok := f.number(e); ok && !(f.vague && n == notNegative) {
			return n
		}
	case f.flag != nil:
		if b, ok := f.flag(e); ok {
			return b
		}
	case f.text != nil:
		if s, ok := f.text(e); ok {
			return strings.Clone(s)
		}
	default:
		if text, ok := f.appendValue(nil, e); ok {
			return string(text)
		}
	}
	return nil
}
