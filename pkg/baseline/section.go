package baseline

import (
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/plumbline-io/plumbline/pkg/event"
)

// section reads the entries of a dimension.
func (r *reader) section(p *Profile, d event.Dimension, list *yaml.Node) {
	for _, n := range r.sequence(list) {
		var e listed
		switch d {
		case event.DimExec, event.DimLibrary:
			e = r.paths(d, n)
		case event.DimFile, event.DimUnix:
			e = r.accesses(d, n)
		case event.DimNetwork:
			e = r.network(n)
		case event.DimSyscalls:
			e = r.syscall(n)
		default:
			e = r.privilege(n)
		}
		for _, k := range e.keys {
			r.list(p, n, k, e.partial)
		}
		if r.err != nil {
			return
		}
	}
}

// listed is what one entry of a section says.
type listed struct {
	keys    []event.Key
	partial bool
}

// list takes over one key of an entry.
func (r *reader) list(p *Profile, n *yaml.Node, k event.Key, partial bool) {
	if r.err != nil {
		return
	}
	d := k.Op.Dimension()
	if err := check(k); err != nil {
		r.fail(n, "%s: %v", d, err)
	} else if p.Has(k) {
		what := k.String()
		if d == event.DimExec || d == event.DimLibrary {
			what = k.Path
		}
		r.fail(n, "%s: %.300q is listed twice", d, what)
	} else if !p.insert(k, entry{partial: partial, count: 1}) {
		r.fail(n, "%s: more than %d entries or %d bytes", d, MaxEntries, MaxBytes)
	}
}

func (r *reader) partial(m map[string]*yaml.Node) (partial bool) {
	r.decode(m["partial"], &partial)
	return partial
}

// required reads a field that an entry must have.
func (r *reader) required(d event.Dimension, n *yaml.Node, m map[string]*yaml.Node, field string) string {
	if m[field] == nil {
		r.fail(n, "%s: no %s", d, field)
	}
	return r.text(m[field])
}

func (r *reader) paths(d event.Dimension, n *yaml.Node) listed {
	m := r.mapping(n, "path", "partial")
	op := event.OpExec
	if d == event.DimLibrary {
		op = event.OpLibrary
	}
	return listed{[]event.Key{{Op: op, Path: r.required(d, n, m, "path")}}, r.partial(m)}
}

func (r *reader) accesses(d event.Dimension, n *yaml.Node) listed {
	m := r.mapping(n, "path", "access", "partial")
	path, e := r.required(d, n, m, "path"), listed{partial: r.partial(m)}
	prefix := ""
	if d == event.DimUnix {
		prefix = unixPrefix
	}
	for _, word := range r.sequence(m["access"]) {
		op := r.operation(d, word, prefix)
		e.keys = append(e.keys, event.Key{Op: op, Path: path})
	}
	if len(e.keys) == 0 {
		r.fail(n, "%s: no access: want some of %s", d, operations(d, prefix))
	}
	return e
}

// operation reads the word for an operation of a dimension.
func (r *reader) operation(d event.Dimension, n *yaml.Node, prefix string) event.Operation {
	word := r.text(n)
	op, err := event.ParseOperation(prefix + word)
	if r.err == nil && (err != nil || op.Dimension() != d || op.OnlyTold()) {
		r.fail(n, "%s: unknown operation %.60q: want one of %s", d, word, operations(d, prefix))
	}
	return op
}

func operations(d event.Dimension, prefix string) string {
	var words []string
	for o := event.OpExec; o < event.OpCount; o++ {
		if o.Dimension() == d && !o.OnlyTold() {
			words = append(words, strings.TrimPrefix(o.String(), prefix))
		}
	}
	return strings.Join(words, ", ")
}

func (r *reader) network(n *yaml.Node) listed {
	m := r.mapping(n, "access", "protocol", "address", "port", "partial")
	const d = event.DimNetwork
	r.required(d, n, m, "access")
	protocol := r.required(d, n, m, "protocol")
	e := listed{partial: r.partial(m)}
	if r.err != nil {
		return e
	}
	k := event.Key{Op: r.operation(d, m["access"], "")}
	var err error
	if k.Protocol, err = event.ParseProtocol(protocol); err != nil {
		r.fail(m["protocol"], "%s: protocol: %v", d, err)
	}
	if at := m["address"]; at != nil {
		if k.Address, err = parseAddress(r.text(at)); err != nil {
			r.fail(at, "%s: %v", d, err)
		}
	}
	if at := m["port"]; at != nil {
		if k.Port, err = parsePort(r.text(at)); err != nil {
			r.fail(at, "%s: %v", d, err)
		}
	}
	e.keys = []event.Key{k}
	return e
}

func (r *reader) privilege(n *yaml.Node) listed {
	m := r.mapping(n, "use", "value", "path", "partial")
	const d = event.DimPrivilege
	r.required(d, n, m, "use")
	e := listed{partial: r.partial(m)}
	if r.err != nil {
		return e
	}
	k := event.Key{Op: r.operation(d, m["use"], "")}
	switch at := m["value"]; {
	case r.err != nil:
	case at != nil && !hasValue(k.Op):
		r.fail(at, "%s: value: %s has none", d, k.Op)
	case m["path"] != nil && !k.Op.OnPath():
		r.fail(m["path"], "%s: path: %s has none", d, k.Op)
	case k.Op.OnPath():
		k.Path = r.required(d, n, m, "path")
	case hasValue(k.Op):
		text := r.required(d, n, m, "value")
		var err error
		if k.Value, err = event.ParseValue(k.Op, text); err != nil {
			r.fail(n, "%s: value: %v", d, err)
		}
	}
	e.keys = []event.Key{k}
	return e
}

func (r *reader) syscall(n *yaml.Node) listed {
	v, err := event.ParseValue(event.OpSyscall, r.text(n))
	if r.err == nil && err != nil {
		r.fail(n, "%s: %v", event.DimSyscalls, err)
	}
	return listed{keys: []event.Key{{Op: event.OpSyscall, Value: v}}}
}

// observed reads what was seen of the entries. Older files list it of executables alone.
func (r *reader) observed(p *Profile, n *yaml.Node) {
	if n == nil || r.err != nil {
		return
	}
	m := r.mapping(n, "runs", "noveltyInLastRun", "lastNovelty", "full", "steppedDown", "entries", "exec")
	r.decode(m["runs"], &p.runs)
	r.decode(m["noveltyInLastRun"], &p.novelty)
	r.decode(m["lastNovelty"], &p.lastNovelty)
	if p.runs < 0 {
		r.fail(m["runs"], "runs: %d is negative", p.runs)
	}
	p.full, p.steppedDown = r.dimensions(m["full"]), r.dimensions(m["steppedDown"])
	seen := map[*entry]bool{}
	for _, n := range r.sequence(m["entries"]) {
		r.counts(p, n, "key", seen)
	}
	for _, n := range r.sequence(m["exec"]) {
		r.counts(p, n, "path", seen)
	}
}

// dimensions reads a list of their names.
func (r *reader) dimensions(list *yaml.Node) (dims event.Dimensions) {
	for _, n := range r.sequence(list) {
		name := r.text(n)
		d, err := event.ParseDimension(name)
		if r.err == nil && err != nil {
			r.fail(n, "observed: %v", err)
		}
		if r.err != nil {
			return 0
		}
		dims = dims.With(d)
	}
	return dims
}

func (r *reader) counts(p *Profile, n *yaml.Node, field string, seen map[*entry]bool) {
	m := r.mapping(n, field, "count", "first", "last", "changed")
	text := r.text(m[field])
	if r.err != nil {
		return
	}
	k, err := ParseKey(text)
	e := p.entries.get(k)
	switch {
	case err != nil:
		r.fail(n, "observed: %v", err)
	case e == nil:
		r.fail(n, "observed: %.300q is not in %s", text, k.Op.Dimension())
	case seen[e]:
		r.fail(n, "observed: %.300q stands here twice", text)
	default:
		seen[e] = true
		r.decode(m["count"], &e.count)
		e.first, e.last, e.changed = r.second(m["first"]), r.second(m["last"]), r.moment(m["changed"])
	}
}
