package rule

import "strings"

// options is what the second argument of getopt says, in the form of getopt(3).
type options struct{ known, valued [256]bool }

func parseOptions(text string) *options {
	var o options
	text = strings.TrimPrefix(text, ":")
	for i := range len(text) {
		if text[i] == ':' {
			continue
		}
		o.known[text[i]] = true
		o.valued[text[i]] = i+1 < len(text) && text[i+1] == ':'
	}
	return &o
}

// getopt finds short options in a list of arguments: a list of all of them and their values, or with
// one in brackets that one's last value. An argument line is a list too.
func getopt(t *term, args []*field) (*field, string, int) {
	switch {
	case len(args) != 2:
		return nil, "getopt takes a list of arguments and a text of options", len(args)
	case args[0].list == nil && args[0].text == nil:
		return nil, args[0].name + " is no list", 0
	case t.args[1].kind != textTerm:
		return nil, "the options of getopt are a text in quotes", 1
	case t.hasArg && len(t.arg) > 1:
		return nil, "getopt takes one option in brackets", len(args)
	}
	o, list := parseOptions(t.args[1].name), args[0].list
	if list == nil {
		list = func(e *Env) ([]string, bool) { return fieldsOf(e, args[0]) }
	}
	if t.arg == "" {
		return &field{list: func(e *Env) ([]string, bool) {
			argv, ok := list(e)
			from := len(e.items)
			o.scan(argv, func(option, value string, hasValue bool) {
				e.items = append(e.items, option)
				if hasValue {
					e.items = append(e.items, value)
				}
			})
			return e.items[from:], ok
		}}, "", 0
	}
	return &field{text: func(e *Env) (last string, found bool) {
		argv, _ := list(e)
		o.scan(argv, func(option, value string, hasValue bool) {
			if option != t.arg {
				return
			}
			last, found = option, true
			if hasValue {
				last = value
			}
		})
		return last, found
	}}, "", 0
}

// fieldsOf splits a text at spaces.
func fieldsOf(e *Env, f *field) ([]string, bool) {
	s, ok := f.text(e)
	from := len(e.items)
	for s != "" {
		var word string
		if word, s, _ = strings.Cut(s, " "); word != "" {
			e.items = append(e.items, word)
		}
	}
	return e.items[from:], ok
}

// scan finds the options up to the first argument that is none. What it does not know is "?", and long
// options are passed over. An option without its value has an empty one.
func (o *options) scan(argv []string, found func(option, value string, hasValue bool)) {
	for i := 0; i < len(argv); i++ {
		arg := argv[i]
		switch {
		case arg == "--" || len(arg) < 2 || arg[0] != '-':
			return
		case arg[1] == '-':
			continue
		}
		for j := 1; j < len(arg); j++ {
			option := arg[j : j+1]
			switch {
			case !o.known[arg[j]]:
				found("?", "", false)
			case !o.valued[arg[j]]:
				found(option, "", false)
			case j+1 < len(arg):
				found(option, arg[j+1:], true)
			case i+1 < len(argv):
				i++
				found(option, argv[i], true)
			default:
				found(option, "", true)
			}
			if o.known[arg[j]] && o.valued[arg[j]] {
				break
			}
		}
	}
}
