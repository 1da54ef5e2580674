package rule

import (
	"encoding/base64"
	"slices"
)

func isTransformer(name string) bool {
	switch name {
	case "tolower", "toupper", "b64", "basename", "len", "join", "concat", "getopt", "val":
		return true
	}
	return false
}

// takesMany says whether a transformer takes more than one argument.
func takesMany(name string) bool { return name == "join" || name == "concat" || name == "getopt" }

// transformed makes a field of a transformer and its arguments, or of a list.
func (s *scope) transformed(t *term) (*field, *mistake) {
	args := make([]*field, len(t.args))
	set := allClasses
	for i, a := range t.args {
		var m *mistake
		if args[i], m = s.field(a); m != nil {
			return nil, m
		}
		set &= args[i].classes
	}
	f, message, at := transformer(t, args)
	if message != "" {
		where := t.at
		if at < len(t.args) {
			where = t.args[at].at
		}
		return nil, wrong(t.in, where, "%s", message)
	}
	f.name, f.classes, f.writes = t.String(), set, true
	for _, a := range args {
		if a.why != "" {
			f.why = a.why
		}
		f.secret, f.asks = f.secret || a.secret, f.asks || a.asks
	}
	return f, nil
}

// transformer makes the field; else it says what is wrong, and with which argument.
func transformer(t *term, args []*field) (f *field, message string, at int) {
	if t.hasArg && t.name != "getopt" {
		return nil, t.name + " takes nothing in brackets", len(args)
	}
	if i := slices.IndexFunc(args, func(a *field) bool { return a.host != nil }); i >= 0 && t.name != "val" {
		return nil, args[i].name + " is compared as it is", i
	}
	switch t.name {
	case "": // a list
		for i, a := range args {
			if a.list != nil || a.at != nil {
				return nil, a.name + " is a list, and stands in one", i
			}
		}
		return &field{list: listOf(args)}, "", 0
	case "concat":
		return concat(args)
	case "join":
		return join(args)
	case "getopt":
		return getopt(t, args)
	case "val":
		if t.args[0].kind != fieldTerm {
			return nil, "val takes a field", 0
		}
		one := *args[0]
		return &one, "", 0
	case "len":
		return length(args[0])
	}
	write := map[string]func(dst []byte, s string) ([]byte, bool){
		"tolower": lowered, "toupper": raised, "b64": decoded, "basename": based,
	}[t.name]
	return each(args[0], write)
}

// each applies a function to a text, or to all texts of a list.
func each(a *field, write func([]byte, string) ([]byte, bool)) (*field, string, int) {
	apply := func(e *Env, s string, ok bool) (string, bool) {
		if !ok {
			return "", false
		}
		from := len(e.text)
		e.text, ok = write(e.text, s)
		return e.since(from), ok
	}
	switch {
	case a.text != nil:
		return &field{text: func(e *Env) (string, bool) { s, ok := a.text(e); return apply(e, s, ok) }}, "", 0
	case a.at != nil:
		return &field{at: func(e *Env, i int) (string, bool) { s, ok := a.at(e, i); return apply(e, s, ok) }}, "", 0
	case a.list != nil:
		return &field{list: func(e *Env) ([]string, bool) {
			items, ok := a.list(e)
			from := len(e.items)
			for _, s := range items {
				s, fine := apply(e, s, true)
				e.items, ok = append(e.items, s), ok && fine
			}
			return e.items[from:], ok
		}}, "", 0
	}
	return nil, a.name + " is no text", 0
}

func lowered(dst []byte, s string) ([]byte, bool) {
	for i := range len(s) {
		dst = append(dst, lower(s[i]))
	}
	return dst, true
}

func raised(dst []byte, s string) ([]byte, bool) {
	for i := range len(s) {
		dst = append(dst, upper(s[i]))
	}
	return dst, true
}

func based(dst []byte, s string) ([]byte, bool) { return append(dst, base(s)...), true }

// decoded reads base64, with or without padding.
func decoded(dst []byte, s string) ([]byte, bool) {
	for len(s) > 0 && s[len(s)-1] == '=' {
		s = s[:len(s)-1]
	}
	from := len(dst)
	n := base64.RawStdEncoding.DecodedLen(len(s))
	dst = slices.Grow(dst, n+len(s))
	src := append(dst[from+n:from+n], s...)
	n, err := base64.RawStdEncoding.Decode(dst[from:from+n], src)
	return dst[:from+n], err == nil
}

// length is that of a text, or the number of texts in a list.
func length(a *field) (*field, string, int) {
	switch {
	case a.text != nil:
		return &field{number: func(e *Env) (int64, bool) { s, ok := a.text(e); return int64(len(s)), ok }}, "", 0
	case a.list != nil:
		return &field{number: func(e *Env) (int64, bool) { items, ok := a.list(e); return int64(len(items)), ok }}, "", 0
	}
	return nil, a.name + " has no length", 0
}

// constant is a text that stands in the condition.
func constant(s string) *field {
	return &field{name: s, classes: allClasses, text: func(*Env) (string, bool) { return s, true }}
}

// listOf is the list of values that are written one after the other. It is there if all of them are.
func listOf(args []*field) func(*Env) ([]string, bool) {
	return func(e *Env) ([]string, bool) {
		first := len(e.items)
		for _, a := range args {
			s, ok := a.written(e)
			if !ok {
				return nil, false
			}
			e.items = append(e.items, s)
		}
		return e.items[first:], true
	}
}

// written is the value as text.
func (f *field) written(e *Env) (string, bool) {
	if f.text != nil {
		return f.text(e)
	}
	from := len(e.text)
	var ok bool
	if e.text, ok = f.appendValue(e.text, e); !ok {
		return "", false
	}
	return e.since(from), true
}

func concat(args []*field) (*field, string, int) {
	if len(args) < 2 {
		return nil, "concat takes two texts or more", len(args)
	}
	for i, a := range args {
		if a.text == nil {
			return nil, a.name + " is no text", i
		}
	}
	return joining(constant(""), listOf(args)), "", 0
}

func join(args []*field) (*field, string, int) {
	switch {
	case len(args) != 2:
		return nil, "join takes a separator and a list", len(args)
	case args[0].text == nil:
		return nil, args[0].name + " is no text", 0
	case args[1].list == nil:
		return nil, args[1].name + " is no list", 1
	}
	return joining(args[0], args[1].list), "", 0
}

func joining(separator *field, list func(*Env) ([]string, bool)) *field {
	return &field{text: func(e *Env) (string, bool) {
		between, ok := separator.text(e)
		if !ok {
			return "", false
		}
		items, ok := list(e)
		from := len(e.text)
		for i, s := range items {
			if i > 0 {
				e.text = append(e.text, between...)
			}
			e.text = append(e.text, s...)
		}
		return e.since(from), ok
	}}
}
