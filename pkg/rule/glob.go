package rule

import "strings"

// glob matches shell wildcards: * any text, slashes too; ? one byte; [a-z] and [!a-z] one byte of a
// set; a backslash takes the next byte as it is. With fold the case of ASCII letters does not matter.
// It takes at most len(pattern)*len(s) steps.
func glob(pattern, s string, fold bool) bool {
	star, back := -1, 0 // the last * and where the text behind it was tried
	p, i := 0, 0
	for i < len(s) {
		if p < len(pattern) && pattern[p] == '*' {
			star, back = p, i
			p++
			continue
		}
		if n, ok := globByte(pattern[p:], s[i], fold); ok {
			p += n
			i++
			continue
		}
		if star < 0 {
			return false
		}
		back++
		p, i = star+1, back
	}
	return strings.Trim(pattern[p:], "*") == ""
}

// globByte matches one byte against the begin of a pattern and tells how much of that it took.
func globByte(pattern string, c byte, fold bool) (int, bool) {
	if pattern == "" {
		return 0, false
	}
	n, p := 1, pattern[0]
	switch p {
	case '?':
		return 1, true
	case '[':
		other := c
		if fold {
			other = lower(c) ^ upper(c) ^ c
		}
		if n, in := globSet(pattern, c, other); n > 0 {
			return n, in
		}
	case '\\':
		if len(pattern) > 1 {
			n, p = 2, pattern[1]
		}
	}
	return n, p == c || fold && lower(p) == lower(c)
}

// globSet reads [...] and tells whether one of two bytes is in it. A length of 0 means that it is not
// closed, and then [ stands for itself.
func globSet(pattern string, c, other byte) (n int, in bool) {
	i, not := 1, false
	if i < len(pattern) && (pattern[i] == '!' || pattern[i] == '^') {
		i, not = 2, true
	}
	for first := i; i < len(pattern); i++ {
		if pattern[i] == ']' && i > first {
			return i + 1, in != not
		}
		if name, ok := globClass(pattern[i:]); ok {
			in = in || isOf(name, c) || isOf(name, other)
			i += len(name) + len("[::]") - 1
			continue
		}
		low := pattern[i]
		high := low
		if i+2 < len(pattern) && pattern[i+1] == '-' && pattern[i+2] != ']' {
			high = pattern[i+2]
			i += 2
		}
		in = in || low <= c && c <= high || low <= other && other <= high
	}
	return 0, false
}

// globClass reads the name of a class of bytes, as in [[:digit:]].
func globClass(pattern string) (name string, ok bool) {
	rest, ok := strings.CutPrefix(pattern, "[:")
	if !ok {
		return "", false
	}
	name, _, ok = strings.Cut(rest, ":]")
	return name, ok
}

func isOf(class string, c byte) bool {
	letter := c|0x20 >= 'a' && c|0x20 <= 'z'
	digit := c >= '0' && c <= '9'
	switch class {
	case "alpha":
		return letter
	case "digit":
		return digit
	case "alnum":
		return letter || digit
	case "lower":
		return letter && c >= 'a'
	case "upper":
		return letter && c < 'a'
	case "space":
		return c == ' ' || c >= '\t' && c <= '\r'
	case "blank":
		return c == ' ' || c == '\t'
	case "xdigit":
		return digit || c|0x20 >= 'a' && c|0x20 <= 'f'
	case "punct":
		return c > ' ' && c < 0x7f && !letter && !digit
	}
	return false
}

// paths is a tree of path components, with globs among them.
type paths struct {
	end   bool // a value ends here
	names map[string]*paths
	globs []globbed
}

type globbed struct {
	pattern string
	rest    *paths
}

// pathMatch tests whether one of the values is the path or one of the directories above it. A component
// of a value may have wildcards.
func pathMatch(values []string) func(string) bool {
	root := &paths{}
	for _, v := range values {
		root.add(v)
	}
	return func(s string) bool {
		if s == "" {
			return root.end
		}
		return root.match(s, strings.HasPrefix(s, "/"))
	}
}

func (p *paths) add(value string) {
	if strings.HasPrefix(value, "/") {
		p = p.child("/")
	}
	for name := range strings.SplitSeq(value, "/") {
		if name != "" {
			p = p.child(name)
		}
	}
	p.end = true
}

// child is the tree below a component, made if need be.
func (p *paths) child(name string) *paths {
	if strings.ContainsAny(name, `*?[\`) {
		for _, g := range p.globs {
			if g.pattern == name {
				return g.rest
			}
		}
		p.globs = append(p.globs, globbed{name, &paths{}})
		return p.globs[len(p.globs)-1].rest
	}
	if p.names == nil {
		p.names = map[string]*paths{}
	}
	if p.names[name] == nil {
		p.names[name] = &paths{}
	}
	return p.names[name]
}

// match follows a path; rooted says that its first slash is still to come.
func (p *paths) match(s string, rooted bool) bool {
	if rooted {
		p = p.names["/"]
		return p != nil && p.match(s, false)
	}
	if p.end {
		return true
	}
	s = strings.TrimLeft(s, "/")
	if s == "" {
		return false
	}
	name, rest, _ := strings.Cut(s, "/")
	if next := p.names[name]; next != nil && next.match(rest, false) {
		return true
	}
	for _, g := range p.globs {
		if glob(g.pattern, name, false) && g.rest.match(rest, false) {
			return true
		}
	}
	return false
}
