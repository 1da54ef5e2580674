package rule

// maxItems is the most a list may hold.
const maxItems = 100_000

// list is a named list of values. It sees those lists whose first definition is before its own last one.
type list struct {
	name        string
	first, last int
	places      []place // sequences; several where it was appended to
	used        bool

	state compileState
	items []string
}

// resolve fills in the items once, those of the lists that are named among them.
func (s *scope) resolve(l *list) *mistake {
	if l.state != notCompiled {
		return nil
	}
	l.state = compiling
	defer func() { l.state = compiled }()
	for _, p := range l.places {
		for _, n := range p.node.Content {
			if n.Alias != nil {
				n = n.Alias
			}
			in := newPassage("", place{p.file, n})
			inner := s.lists[n.Value]
			if inner == nil || inner == l || inner.first >= l.last {
				in.of = l.name
				l.items = append(l.items, itemValue(in))
				s.values++
			} else {
				if inner.used = true; inner.state == compiling {
					return wrong(in, 0, "list %s refers to itself", inner.name)
				}
				if m := s.resolve(inner); m != nil {
					return m
				}
				l.items = append(l.items, inner.items...)
				s.values += len(inner.items)
			}
			if len(l.items) > maxItems || s.values > maxTotalValues {
				l.items = nil
				return wrong(in, 0, "list %s: more than %d values, or more than %d in all lists and rules", l.name, maxItems, maxTotalValues)
			}
		}
	}
	return nil
}

// itemValue is what an item stands for in a condition: there it would be read as a value, so quotes
// within it are quotes.
func itemValue(in *passage) string {
	s := scanner{in: in}
	if c := s.peek(); c == '"' || c == '\'' {
		if v, m := s.value(); m == nil && s.peek() == 0 {
			return v.text
		}
	}
	return in.text
}

// operands replaces the names of lists among the values by their items.
func (s *scope) operands(n *node) ([]string, *mistake) {
	c := &n.check
	var values []string
	many := c.modifier != "" || c.op == "in" || c.op == "intersects" || c.op == "pmatch"
	for _, v := range c.values {
		l := s.lists[v.text]
		switch {
		case c.named && l == nil:
			return nil, wrong(v.in, v.at, "expected (, found %.40q", v.text)
		case l == nil || v.quoted:
			values = append(values, v.text)
			s.values++
		default:
			l.used = true
			n.lists = append(n.lists, l.name)
			if !many && len(l.items) != 1 {
				return nil, wrong(v.in, v.at, "%s is a list of %d values: use in", v.text, len(l.items))
			}
			values = append(values, l.items...)
			s.values += len(l.items)
		}
		if s.values > maxTotalValues {
			return nil, wrong(v.in, v.at, "more than %d values in all lists and rules", maxTotalValues)
		}
	}
	return values, nil
}
