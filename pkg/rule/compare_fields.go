package rule

import (
	"slices"
	"strings"
)

// compareFields compares with another field; a message says why it cannot.
func compareFields(f *field, op string, other *field) (check, string) {
	if f.anything || other.anything {
		return func(*Env) bool { return false }, ""
	}
	if f.kind() != other.kind() || f.at != nil || other.at != nil {
		return nil, f.name + " cannot be compared with " + other.name
	}
	switch {
	case f.list != nil:
		return compareLists(f, op, other)
	case f.number != nil:
		return compareNumbers(f, op, other)
	case f.text != nil:
		return compareTexts(f, op, other)
	case f.flag != nil && isEquality(op):
		return func(e *Env) bool {
			a, ok := f.flag(e)
			b, both := other.flag(e)
			return ok && both && (a == b) == (op != "!=")
		}, ""
	case f.addr != nil && isEquality(op):
		return func(e *Env) bool {
			a, ok := f.addr(e)
			b, both := other.addr(e)
			return ok && both && (a == b) == (op != "!=")
		}, ""
	}
	return nil, f.name + " has no operator " + op + " for another field"
}

func isEquality(op string) bool {
	return op == "=" || op == "==" || op == "!=" || op == "in" || op == "intersects"
}

// plainTexts compares two texts; nil: there is no such operator.
func plainTexts(op string) func(a, b string) bool {
	switch op {
	case "=", "==", "in", "intersects":
		return func(a, b string) bool { return a == b }
	case "!=":
		return func(a, b string) bool { return a != b }
	case "contains":
		return strings.Contains
	case "icontains":
		return containsFold
	case "startswith":
		return strings.HasPrefix
	case "endswith":
		return strings.HasSuffix
	}
	return nil
}

func compareTexts(f *field, op string, other *field) (check, string) {
	var match func(a, b string) bool
	switch op {
	case "glob":
		match = func(a, b string) bool { return glob(b, a, false) }
	case "iglob":
		match = func(a, b string) bool { return glob(b, a, true) }
	default:
		if match = plainTexts(op); match == nil {
			return nil, f.name + " is text and has no operator " + op + " for another field"
		}
	}
	return func(e *Env) bool {
		a, ok := f.text(e)
		if !ok {
			return false
		}
		b, ok := other.text(e)
		return ok && match(a, b)
	}, ""
}

func compareNumbers(f *field, op string, other *field) (check, string) {
	var match func(a, b int64) bool
	switch op {
	case "=", "==", "in", "intersects":
		match = func(a, b int64) bool { return a == b }
	case "!=":
		match = func(a, b int64) bool { return a != b }
	case "<":
		match = func(a, b int64) bool { return a < b }
	case "<=":
		match = func(a, b int64) bool { return a <= b }
	case ">":
		match = func(a, b int64) bool { return a > b }
	case ">=":
		match = func(a, b int64) bool { return a >= b }
	default:
		return nil, f.name + " is a number and has no operator " + op
	}
	return func(e *Env) bool {
		a, ok := f.number(e)
		b, both := other.number(e)
		return ok && both && match(a, b)
	}, ""
}

func compareLists(f *field, op string, other *field) (check, string) {
	if op != "in" && op != "intersects" {
		return nil, f.name + " is a list and has only the operators exists, in and intersects"
	}
	all := op == "in"
	return func(e *Env) bool {
		items, ok := f.list(e)
		set, both := other.list(e)
		if !ok || !both {
			return false
		}
		for _, item := range items {
			if slices.Contains(set, item) != all {
				return !all
			}
		}
		return all
	}, ""
}
