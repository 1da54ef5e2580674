package rule

import (
	"slices"
	"strings"
)

// Bounds of conditions: a rule file comes from outside. The totals are of all files together. As with
// Falco, one pair of parentheses is five levels.
const (
	maxDepth       = 1000
	levelsOfParens = 5
	maxChecks      = 10_000
	maxTotalChecks = 200_000
	maxTotalValues = 500_000
	maxPlanned     = 1_000_000
)

// parser reads one condition.
type parser struct {
	scanner
	depth  int
	checks int
}

func parse(in *passage) (*node, *mistake) {
	p := &parser{scanner: scanner{in: in}}
	n, m := p.or()
	if p.peek(); m == nil && p.at != len(in.text) {
		m = p.expected("and, or, or the end")
	}
	return n, m
}

func (p *parser) or() (*node, *mistake)  { return p.chain(orNode, "or", p.and) }
func (p *parser) and() (*node, *mistake) { return p.chain(andNode, "and", p.not) }

// chain reads operands between equal operators: one or more.
func (p *parser) chain(kind nodeKind, operator string, operand func() (*node, *mistake)) (*node, *mistake) {
	p.peek()
	all := &node{kind: kind, in: p.in, at: p.at}
	for {
		n, m := operand()
		if m != nil {
			return nil, m
		}
		all.kids = append(all.kids, n)
		all.end = n.end
		if !p.keyword(operator) {
			break
		}
	}
	if len(all.kids) == 1 {
		return all.kids[0], nil
	}
	return all, nil
}

func (p *parser) not() (*node, *mistake) {
	p.peek()
	from, negated := p.at, false
	for p.keyword("not") {
		negated = !negated
	}
	n, m := p.primary()
	if m != nil || !negated {
		return n, m
	}
	return &node{kind: notNode, kids: []*node{n}, in: p.in, at: from, end: n.end}, nil
}

func (p *parser) primary() (*node, *mistake) {
	p.peek()
	if p.checks++; p.checks > maxChecks {
		return nil, p.wrong(p.at, "more than %d checks, or more than %d in all rules", maxChecks, maxTotalChecks)
	}
	if p.next() == '(' {
		return p.parentheses()
	}
	from := p.at
	name := p.word()
	switch {
	case name == "":
		return nil, p.expected("a field, a macro, not or (")
	case !isTransformer(name) && strings.HasPrefix(p.in.text[p.at:], "("):
		return nil, p.wrong(from, "unknown transformer %.60q", name)
	case !strings.Contains(name, ".") && !p.opensCall(name):
		return &node{kind: macroNode, macro: name, in: p.in, at: from, end: p.at}, nil
	}
	p.at = from
	left, m := p.term()
	if m != nil {
		return nil, m
	}
	n := &node{kind: checkNode, in: p.in, at: from, check: comparison{left: left}}
	m = p.comparison(&n.check)
	n.end = p.at
	return n, m
}

func (p *parser) parentheses() (*node, *mistake) {
	from := p.at
	p.at++
	if m := p.down(from); m != nil {
		return nil, m
	}
	n, m := p.or()
	if m == nil && !p.accept(')') {
		m = p.expected(")")
	}
	p.depth -= levelsOfParens
	return n, m
}

func (p *parser) down(from int) *mistake {
	if p.depth += levelsOfParens; p.depth >= maxDepth {
		return p.wrong(from, "nested deeper than %d", maxDepth)
	}
	return nil
}

// comparison reads operator and right-hand side.
func (p *parser) comparison(c *comparison) *mistake {
	p.peek()
	c.opAt = p.at
	c.op = p.operator()
	if c.op == "" {
		return p.expected("an operator after " + c.left.String())
	}
	var m *mistake
	switch {
	case c.op == "exists":
		return nil
	case p.modifier(c):
		c.named = p.peek() != '('
		c.values, m = p.list()
	case p.opensTerm():
		c.right, m = p.term()
	case c.op == "in" || c.op == "intersects" || c.op == "pmatch":
		c.named = p.peek() != '('
		c.values, m = p.list()
	default:
		var v value
		v, m = p.value()
		c.values = []value{v}
	}
	return m
}

// modifier reads oneof, anyof or allof if a list follows; else it is an ordinary value.
func (p *parser) modifier(c *comparison) bool {
	p.peek()
	from := p.at
	word := p.word()
	if slices.Contains([]string{"oneof", "anyof", "allof"}, word) {
		listAt := p.at
		if next := p.peek(); next == '(' {
			c.modifier = word
			return true
		}
		if name := p.word(); name != "" && !slices.Contains([]string{"and", "or", "not"}, name) {
			p.at, c.modifier = listAt, word
			return true
		}
	}
	p.at = from
	return false
}

// list reads values in parentheses, or the name of a list.
func (p *parser) list() ([]value, *mistake) {
	if p.peek() != '(' {
		from := p.at
		if name := p.word(); name != "" && !strings.Contains(name, ".") {
			return []value{{text: name, in: p.in, at: from}}, nil
		}
		p.at = from
		return nil, p.expected("(")
	}
	p.at++
	values := []value{}
	if p.accept(')') {
		return values, nil
	}
	for {
		v, m := p.value()
		if m != nil {
			return nil, m
		}
		values = append(values, v)
		if p.accept(')') {
			return values, nil
		}
		if !p.accept(',') {
			return nil, p.expected(", or )")
		}
	}
}

// opensTerm says whether a transformer follows.
func (p *parser) opensTerm() bool {
	from := p.at
	name := p.word()
	opens := p.opensCall(name)
	p.at = from
	return opens
}

func (p *parser) opensCall(name string) bool { return isTransformer(name) && p.next() == '(' }

// term reads a field or a transformer.
func (p *parser) term() (*term, *mistake) {
	p.peek()
	t := &term{in: p.in, at: p.at}
	t.name = p.word()
	var m *mistake
	if p.opensCall(t.name) {
		t.kind = callTerm
		m = p.arguments(t)
	} else if !strings.Contains(t.name, ".") {
		p.at = t.at
		return nil, p.expected("a field or a transformer")
	}
	if m == nil {
		t.arg, t.hasArg, m = p.argument()
	}
	return t, m
}

// arguments reads what a transformer is given.
func (p *parser) arguments(t *term) *mistake {
	from := p.at
	p.at++
	if m := p.down(from); m != nil {
		return m
	}
	defer func() { p.depth -= levelsOfParens }()
	end := ")"
	if takesMany(t.name) {
		end = ", or )"
	}
	for {
		a, m := p.element()
		if m != nil {
			return m
		}
		t.args = append(t.args, a)
		switch {
		case p.accept(')'):
			return nil
		case !takesMany(t.name) || !p.accept(','):
			return p.expected(end)
		}
	}
}

// element reads one argument: a quoted text, a number, a list, or a term.
func (p *parser) element() (*term, *mistake) {
	c := p.peek()
	at := p.at
	switch {
	case c == '(':
		p.at++
		t := &term{kind: listTerm, in: p.in, at: at}
		if m := p.down(at); m != nil {
			return nil, m
		}
		defer func() { p.depth -= levelsOfParens }()
		for !p.accept(')') {
			if len(t.args) > 0 && !p.accept(',') {
				return nil, p.expected(", or )")
			}
			a, m := p.element()
			if m != nil {
				return nil, m
			}
			t.args = append(t.args, a)
		}
		return t, nil
	case c == '"' || c == '\'' || c == '-' || c >= '0' && c <= '9':
		v, m := p.value()
		return &term{kind: textTerm, name: v.text, in: p.in, at: at}, m
	}
	return p.term()
}
