package rule

import (
	"math"
	"slices"
	"strconv"

	"github.com/plumbline-io/plumbline/pkg/event"
)

// What checks cost beside each other, roughly in nanoseconds.
const (
	costClass  = 1
	costNumber = 5
	costText   = 10
	costSet    = 20
	costSearch = 40
	costCall   = 80  // transformers
	costMany   = 100 // ancestors
	costRegex  = 300
	costFacts  = 10_000
)

// comparison compiles one check.
func (s *scope) comparison(n *node) (part, *mistake) {
	c := &n.check
	f, m := s.field(c.left)
	switch {
	case m != nil:
		return part{}, m
	case f.told:
		return part{}, wrong(c.left.in, c.left.at, "%s is known only in outputs", f.name)
	}
	p := part{may: f.classes, mayNot: allClasses, checks: 1}
	var message string
	writes, asks, secret := f.writes, f.asks, f.secret
	switch {
	case c.op == "exists":
		p.check, p.cost = existence(f), costText
	case c.right != nil:
		var other *field
		if other, m = s.field(c.right); m != nil {
			return part{}, m
		}
		p.may &= other.classes
		writes, asks, secret = writes || other.writes, asks || other.asks, secret || other.secret
		p.check, message = compareFields(f, c.op, other)
		p.cost = costCall
	default:
		values, m := s.operands(n)
		if m != nil {
			return part{}, m
		}
		n.field, n.operands = f, values
		s.remarkVariables(f, c, values)
		message = s.against(&p, f, c, values)
	}
	if message != "" {
		return part{}, wrong(c.left.in, c.opAt, "%s", message)
	}
	if asks {
		p.cost += costFacts
	}
	if inner := p.check; writes {
		p.check = func(e *Env) bool { e.renew(); return inner(e) }
	}
	if secret {
		p.check = anyTurn(p.check)
	}
	return p, nil
}

// against compares with given values.
func (s *scope) against(p *part, f *field, c *comparison, values []string) (message string) {
	equality := c.op == "=" || c.op == "==" || c.op == "!=" || c.op == "in" || c.op == "intersects"
	if unknown := f.outside(values); unknown != "" && equality {
		if f.name == "evt.operation" && unknown == event.OpExec.String() {
			return "evt.operation is never exec: ask for executions by evt.type = execve"
		}
		return f.name + " is never " + shorten(unknown) + ": it is one of " + joined(f.words)
	}
	if set, ok := counted(f, c, values); ok {
		p.may, p.mayNot, p.cost = set, allClasses&^set, costClass
		p.check = func(e *Env) bool { return set.has(e.class()) }
		return ""
	}
	if named := s.namedClasses(f.name); named != nil && equality && c.modifier != "allof" {
		set := named(values) & f.classes // an event has one type, so that oneof asks what anyof does
		if c.op == "!=" {
			set = f.classes &^ set
		} else if f.name == "evt.type" || f.name == "syscall.type" {
			s.remarkTypes(c.left, values)
		}
		p.may, p.mayNot, p.cost = set, allClasses&^set, costClass
		p.check = func(e *Env) bool { return set.has(e.class()) }
		return ""
	}
	p.check, p.cost, message = s.compare(f, c, values)
	if message == "" && f.list != nil {
		p.cost = costCall
	}
	return message
}

// counted decides a comparison with the number of the event, from 1 on, where all events have one answer: Falco's
// rules say so what is always true, or never. The set is then of all classes, or of none.
func counted(f *field, c *comparison, values []string) (set classes, ok bool) {
	if f.name != "evt.num" || c.modifier != "" || len(values) != 1 {
		return 0, false
	}
	n, err := parseNumber(values[0])
	if err != nil {
		return 0, false
	}
	low, high, ok := interval(c.op, []int64{n})
	switch {
	case !ok:
		return 0, false
	case low > high || high < 1:
		return 0, true
	case low <= 1 && high == math.MaxInt64:
		return allClasses, true
	}
	return 0, false
}

// namedClasses finds the classes by the values of a field that is the same for all events of a class; nil
// for every other field.
func (s *scope) namedClasses(field string) func(values []string) classes {
	switch field {
	case "evt.type", "syscall.type":
		return s.typesNamed
	case "evt.source":
		return sourcesNamed
	case "evt.operation":
		return operationsNamed
	}
	return nil
}

func operationsNamed(values []string) classes {
	return kindsOf(event.Access) & opsWhere(func(o event.Operation) bool { return slices.Contains(values, o.String()) })
}

func existence(f *field) check {
	switch {
	case f.number != nil:
		return func(e *Env) bool { _, ok := f.number(e); return ok }
	case f.flag != nil:
		return func(e *Env) bool { _, ok := f.flag(e); return ok }
	case f.addr != nil:
		return func(e *Env) bool { _, ok := f.addr(e); return ok }
	case f.list != nil:
		return func(e *Env) bool { _, ok := f.list(e); return ok }
	case f.at != nil:
		return func(e *Env) bool { _, ok := f.at(e, 1); return ok }
	}
	return func(e *Env) bool { _, ok := f.text(e); return ok }
}

// compare makes the check and tells its cost; a message says why there is none.
func (s *scope) compare(f *field, c *comparison, values []string) (check, int, string) {
	if f.anything {
		return func(*Env) bool { return false }, costClass, ""
	}
	if f.list != nil {
		is, message := listed(f, c, values)
		return is, costCall, message
	}
	if c.modifier != "" {
		return s.modified(f, c, values)
	}
	if f.other != nil {
		return s.ends(f, c, values)
	}
	if f.host != nil {
		is, message := hosted(f, c.op, values)
		return is, costSet, message
	}
	switch {
	case f.number != nil:
		is, message := numeric(f, c.op, values)
		return is, costNumber, message
	case f.flag != nil:
		is, message := boolean(f, c.op, values)
		return is, costNumber, message
	case f.addr != nil:
		is, message := addressed(f, c.op, values)
		return is, costText, message
	}
	match, cost, message := s.textual(c.op, values)
	if message != "" {
		return nil, 0, f.name + " is text and " + message
	}
	if f.at == nil {
		return func(e *Env) bool { s, ok := f.text(e); return ok && match(s) }, cost, ""
	}
	// Any of them, beginning with the parent.
	return func(e *Env) bool {
		for i := 1; ; i++ {
			s, ok := f.at(e, i)
			if !ok || match(s) {
				return ok
			}
		}
	}, costMany + cost, ""
}

// modified compiles oneof, anyof and allof as what they are short for: one check for each value.
func (s *scope) modified(f *field, c *comparison, values []string) (check, int, string) {
	if takesList(c.op) || c.op == "<" || c.op == "<=" || c.op == ">" || c.op == ">=" {
		return nil, 0, "the operator " + c.op + " takes no " + c.modifier
	}
	switch anyOf := c.modifier == "anyof"; {
	case anyOf && (c.op == "=" || c.op == "=="):
		return s.compare(f, &comparison{op: "in"}, values)
	case anyOf && c.op == "startswith" && f.text != nil && f.at == nil:
		begins := beginning(values)
		return func(e *Env) bool { s, ok := f.text(e); return ok && begins(s) }, costSet, ""
	}
	cost := 0
	checks := make([]check, len(values))
	for i, v := range values {
		is, n, message := s.compare(f, &comparison{op: c.op}, []string{v})
		if message != "" {
			return nil, 0, message
		}
		checks[i], cost = is, cost+n
	}
	least, most := 1, len(checks)
	switch c.modifier {
	case "oneof":
		most = 1
	case "allof":
		least = max(1, len(checks)) // of nothing: false
	}
	return func(e *Env) bool {
		n := 0
		for i, is := range checks {
			if is(e) {
				n++
			}
			if n > most || n+len(checks)-1-i < least {
				return false
			}
			if n >= least && most == len(checks) {
				return true
			}
		}
		return n >= least
	}, cost, ""
}

func takesList(op string) bool { return op == "in" || op == "intersects" || op == "pmatch" }

// listed compares a list of texts: in asks for all of them, intersects for any.
func listed(f *field, c *comparison, values []string) (check, string) {
	if c.modifier != "" || c.op != "in" && c.op != "intersects" {
		return nil, f.name + " is a list and has only the operators exists, in and intersects"
	}
	set, all := setOf(values), c.op == "in"
	return func(e *Env) bool {
		items, ok := f.list(e)
		for _, item := range items {
			if _, in := set[item]; in != all {
				return ok && in
			}
		}
		return ok && all
	}, ""
}

func boolean(f *field, op string, values []string) (check, string) {
	if op != "=" && op != "==" && op != "!=" && op != "in" && op != "intersects" {
		return nil, f.name + " is true or false and has no operator " + op
	}
	for _, v := range values {
		if v != "true" && v != "false" {
			return nil, f.name + " is true or false"
		}
	}
	wanted := wantedFlags(op, values)
	return func(e *Env) bool { b, ok := f.flag(e); return ok && wanted[index(b)] }, ""
}

// wantedFlags says of false and of true whether a comparison with some of them holds.
func wantedFlags(op string, values []string) [2]bool {
	no, yes := slices.Contains(values, "false"), slices.Contains(values, "true")
	if op == "!=" {
		no, yes = !no, !yes
	}
	return [2]bool{no, yes}
}

func index(b bool) int {
	if b {
		return 1
	}
	return 0
}

// parseNumber reads a decimal number, or a hexadecimal one after 0x.
func parseNumber(s string) (int64, error) {
	if len(s) > 2 && s[0] == '0' && s[1]|0x20 == 'x' {
		return strconv.ParseInt(s[2:], 16, 64)
	}
	return strconv.ParseInt(s, 10, 64)
}

func numeric(f *field, op string, values []string) (check, string) {
	numbers := make([]int64, len(values))
	for i, v := range values {
		n, err := parseNumber(v)
		if err != nil {
			return nil, f.name + " is a number, " + shorten(v) + " is none"
		}
		numbers[i] = n
	}
	switch op {
	case "in", "intersects":
		slices.Sort(numbers)
		return func(e *Env) bool {
			n, ok := f.number(e)
			if ok {
				_, ok = slices.BinarySearch(numbers, n)
			}
			return ok
		}, ""
	case "!=":
		return func(e *Env) bool { n, ok := f.number(e); return ok && n != numbers[0] }, ""
	}
	low, high, ok := interval(op, numbers)
	if !ok {
		return nil, f.name + " is a number and has no operator " + op
	}
	return func(e *Env) bool { n, ok := f.number(e); return ok && n >= low && n <= high }, ""
}

// interval is what a comparison allows, both ends included; it is empty if low is greater than high.
func interval(op string, numbers []int64) (low, high int64, ok bool) {
	const least, most = math.MinInt64, math.MaxInt64
	if len(numbers) != 1 {
		return 0, 0, false
	}
	n := numbers[0]
	switch {
	case op == "=" || op == "==":
		return n, n, true
	case op == "<=":
		return least, n, true
	case op == ">=":
		return n, most, true
	case op == "<" && n > least:
		return least, n - 1, true
	case op == ">" && n < most:
		return n + 1, most, true
	}
	return most, least, op == "<" || op == ">"
}
