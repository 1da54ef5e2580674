package rule

import (
	"slices"

	"go.yaml.in/yaml/v3"
)

// exception is a part of a rule: what it does not hold for, as rows of values for some fields.
type exception struct {
	at     place // of the name
	name   string
	single bool // fields is one field: the rows are its values
	fields []*term
	ops    []*passage
	rows   []place
}

// exceptions makes "(tree) and not (a or b)" of a rule and its exceptions.
func (l *loader) exceptions(tree *node, it *item) (*node, *mistake) {
	var all []*exception
	for _, at := range it.values["exceptions"] {
		if at.node.Kind != yaml.SequenceNode {
			return nil, misplaced(at, "exceptions is a list")
		}
		for _, n := range at.node.Content {
			var m *mistake
			if all, m = readException(all, place{at.file, resolved(n)}); m != nil {
				return nil, m
			}
		}
	}
	kids := []*node{tree}
	for _, x := range all {
		excepted, m := x.tree()
		if m != nil {
			return nil, m
		}
		if excepted == nil {
			continue
		}
		kids = append(kids, &node{kind: notNode, kids: []*node{excepted}, in: excepted.in})
	}
	if len(kids) == 1 {
		return tree, nil
	}
	return &node{kind: andNode, kids: kids, in: tree.in, at: tree.at, end: tree.end}, nil
}

// misplaced is a mistake at the begin of a value.
func misplaced(at place, format string, args ...any) *mistake {
	return wrong(newPassage("", at), 0, format, args...)
}

// readException reads one, or values for one that is there already.
func readException(all []*exception, at place) ([]*exception, *mistake) {
	keys := map[string]place{}
	if at.node.Kind != yaml.MappingNode {
		return nil, misplaced(at, "an exception has name, fields, comps and values")
	}
	for i := 0; i+1 < len(at.node.Content); i += 2 {
		key := at.node.Content[i]
		if !slices.Contains([]string{"name", "fields", "comps", "values"}, key.Value) {
			return nil, misplaced(place{at.file, key}, "an exception has no key %.60q: want name, fields, comps and values", key.Value)
		}
		keys[key.Value] = place{at.file, resolved(at.node.Content[i+1])}
	}
	name, values := keys["name"], keys["values"]
	switch {
	case !isScalar(name.node) || name.node.Value == "":
		return nil, misplaced(at, "an exception needs a name")
	case values.node != nil && values.node.Kind != yaml.SequenceNode:
		return nil, misplaced(values, "exception %.60s: values is a list", name.node.Value)
	}
	i := slices.IndexFunc(all, func(x *exception) bool { return x.name == name.node.Value })
	if i < 0 {
		x := &exception{at: name, name: name.node.Value}
		if m := x.define(keys["fields"], keys["comps"]); m != nil {
			return nil, m
		}
		i, all = len(all), append(all, x)
	} else if keys["fields"].node != nil || keys["comps"].node != nil {
		return nil, misplaced(name, "exception %.60s is there already: only values can be added", name.node.Value)
	}
	if values.node != nil {
		for _, n := range values.node.Content {
			all[i].rows = append(all[i].rows, place{at.file, resolved(n)})
		}
	}
	return all, nil
}

// define reads the fields and the operators that compare them.
func (x *exception) define(fields, comps place) *mistake {
	var names, ops []place
	switch {
	case fields.node == nil:
		return misplaced(x.at, "exception %.60s: fields is missing", x.name)
	case comps.node != nil && comps.node.Kind != fields.node.Kind:
		return misplaced(comps, "exception %.60s: fields and comps are both one word, or both lists", x.name)
	case fields.node.Kind == yaml.SequenceNode:
		names = placesIn(fields)
		if comps.node != nil {
			ops = placesIn(comps)
		}
	case fields.node.Kind == yaml.ScalarNode:
		x.single, names = true, []place{fields}
		if comps.node != nil {
			ops = []place{comps}
		}
	default:
		return misplaced(fields, "exception %.60s: fields is a field, or a list of them", x.name)
	}
	if comps.node != nil && len(ops) != len(names) || len(names) == 0 {
		return misplaced(fields, "exception %.60s: %d fields and %d comps", x.name, len(names), len(ops))
	}
	for i, at := range names {
		p := &parser{scanner: scanner{in: newPassage("", at)}}
		t, m := p.whole()
		if m != nil {
			return m
		}
		x.fields = append(x.fields, t)
		if comps.node == nil {
			ops = append(ops, place{at.file, &yaml.Node{Kind: yaml.ScalarNode, Value: x.usual(), Line: at.node.Line, Column: at.node.Column}})
		}
		x.ops = append(x.ops, newPassage("", ops[i]))
	}
	return nil
}

// usual is the operator where none is given.
func (x *exception) usual() string {
	if x.single {
		return "in"
	}
	return "="
}

func placesIn(list place) []place {
	var all []place
	for _, n := range list.node.Content {
		all = append(all, place{list.file, resolved(n)})
	}
	return all
}

// tree is what the exception excepts; nil: nothing.
func (x *exception) tree() (*node, *mistake) {
	if len(x.rows) == 0 {
		return nil, nil
	}
	if x.single {
		return x.compare(0, x.at, x.rows)
	}
	rows := &node{kind: orNode}
	for _, row := range x.rows {
		values := placesIn(row)
		if row.node.Kind != yaml.SequenceNode || len(values) != len(x.fields) {
			return nil, misplaced(row, "exception %.60s: expected a list of %d values", x.name, len(x.fields))
		}
		one := &node{kind: andNode, in: newPassage("", row)}
		for i, v := range values {
			list := []place{v}
			if v.node.Kind == yaml.SequenceNode {
				list = placesIn(v)
			}
			n, m := x.compare(i, v, list)
			if m != nil {
				return nil, m
			}
			one.kids = append(one.kids, n)
		}
		rows.kids, rows.in = append(rows.kids, one), one.in
	}
	return rows, nil
}

// compare makes the check of one field with the values at a place.
func (x *exception) compare(i int, at place, values []place) (*node, *mistake) {
	op := scanner{in: x.ops[i]}
	c := comparison{left: x.fields[i], op: op.operator()}
	c.modifier = op.word()
	if op.peek() != 0 || c.op == "" || !slices.Contains([]string{"", "oneof", "anyof", "allof"}, c.modifier) {
		return nil, op.wrong(0, "exception %.60s: unknown operator %.40q", x.name, op.in.text)
	}
	many := takesList(c.op) || c.modifier != ""
	switch {
	case x.single && !many:
		return nil, op.wrong(0, "exception %.60s: %s does not take the values of one field: want in, pmatch or intersects", x.name, c.op)
	case !many && len(values) != 1:
		return nil, misplaced(at, "exception %.60s: %s takes one value", x.name, c.op)
	}
	for _, at := range values {
		if !isScalar(at.node) {
			return nil, misplaced(at, "exception %.60s: expected a value", x.name)
		}
		in := newPassage("", at)
		v := value{text: itemValue(in), in: in}
		v.quoted = v.text != in.text
		c.values = append(c.values, v)
	}
	left := c.left
	return &node{kind: checkNode, in: left.in, at: 0, end: len(left.in.text), check: c}, nil
}

// whole reads one field or transformer and nothing else.
func (p *parser) whole() (*term, *mistake) {
	t, m := p.term()
	if m == nil && p.peek() != 0 {
		m = p.expected("the end")
	}
	return t, m
}

// fieldIn finds the one field that a text names.
func (s *scope) fieldIn(in *passage) (*field, *mistake) {
	p := &parser{scanner: scanner{in: in}}
	t, m := p.whole()
	if m != nil {
		return nil, m
	}
	return s.field(t)
}
