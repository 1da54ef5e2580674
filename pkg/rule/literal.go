package rule

import (
	"slices"
	"strings"
)

// literal is what a check, or its negation, asks of an operation or of who does it.
func (n *node) literal(class int, negated bool) bound {
	f := n.field
	if f == nil || f.list != nil || n.check.modifier != "" && n.check.modifier != "anyof" {
		return n.checkBound(class, negated)
	}
	switch t := traitOf(f.name, class); {
	case t == TraitUnspecified:
		return n.checkBound(class, negated)
	case t.Named():
		return n.named(t, negated)
	default:
		return n.flagged(t, negated)
	}
}

// traitOf finds what a field is to the kernel in the events of a class.
func traitOf(field string, class int) Trait {
	switch field {
	case "proc.name":
		return ActorName
	case "proc.exepath", "basename(proc.exepath)":
		if !execs().has(class) { // there it is the path that the operation is about
			return ActorFile
		}
	case "proc.pname":
		return ParentName
	case "proc.pexepath", "basename(proc.pexepath)":
		return ParentFile
	case "proc.aname":
		return AncestorName
	case "proc.is_exe_from_memfd":
		return ExecMemory
	case "proc.is_exe_unlinked":
		return ExecUnlinked
	case "proc.is_exe_detached":
		return ExecDetached
	case "proc.is_exe_upper_layer":
		return ExecUpper
	case "proc.stdio_inet":
		return ExecSocket
	case "evt.verdict":
		return OutsideBaseline
	case "evt.in_baseline":
		return InBaseline
	case "proc.is_cwd_detached":
		return ExecCwd
	case "evt.by_ancestor":
		return ByAncestor
	case "evt.is_host_namespace":
		return HostNamespace
	}
	return TraitUnspecified
}

// settled is a check of which it is known whether it holds.
func settled(holds bool) bound { return bound{exact: true, never: !holds} }

// named: a name that is not one of some is one, unless nothing is known of it. Of who acts something is.
func (n *node) named(t Trait, negated bool) bound {
	differs := n.check.op == "!=" && n.check.modifier == "" && (t == ActorName || t == ActorFile)
	if !differs && !isEqual(n.check.op) || len(n.operands) > maxTests {
		return bound{}
	}
	names, ok := t.names(n.operands, !strings.HasPrefix(n.field.name, "basename("))
	negated = negated != differs
	switch {
	case !ok:
		return bound{}
	case len(names) == 0:
		return settled(negated)
	}
	return bound{exact: true, traits: []TraitTest{{Trait: t, Names: names, Not: negated}}}
}

// names are those among some texts that there can be; false: the kernel cannot compare with one. A path it can only if
// the file is in no directory, so that the path is its name, which may then have slashes.
func (t Trait) names(texts []string, whole bool) ([]string, bool) {
	file := t == ActorFile || t == ParentFile
	var names []string
	for _, text := range texts {
		inMemory := strings.HasPrefix(text, memory) && strings.Contains(text[1:], "/")
		switch {
		case text == "":
			continue
		case file && whole && !inMemory:
			return nil, false
		case file && whole:
			text = text[1:]
		case t != ActorName && strings.Contains(text, "/"), !file && len(text) > MaxName:
			continue
		}
		if len(text) > MaxFile {
			return nil, false
		}
		names = append(names, text)
	}
	slices.Sort(names)
	return slices.Compact(names), true
}

// flagged: of a trait that is yes or no, or whether the baseline holds the operation.
func (n *node) flagged(t Trait, negated bool) bound {
	has := func(value string) bool { return slices.Contains(n.operands, value) }
	yes, no := has("true"), has("false")
	if t == OutsideBaseline {
		yes, no = has("audit"), has("allow")
		if yes != has("deny") {
			return bound{} // which of the two it will be depends on the workload's mode
		}
	}
	switch differs := n.check.op == "!=" && n.check.modifier == ""; {
	case differs:
		yes, no = !yes, !no
	case !isEqual(n.check.op):
		return bound{}
	}
	if yes == no {
		return settled(yes != negated)
	}
	return bound{exact: true, traits: []TraitTest{{Trait: t, Not: no != negated}}}
}

// bothTraits are the tests of two products; false: none passes all of them.
func bothTraits(a, b []TraitTest) ([]TraitTest, bool) {
	if a == nil || b == nil {
		return append(a[:len(a):len(a)], b...), true
	}
	all := slices.Clone(a)
	for _, t := range b {
		var ok bool
		if all, ok = withTrait(all, t); !ok {
			return nil, false
		}
	}
	return all, true
}

// withTrait adds a test. There is one name of each kind, but many ancestors.
func withTrait(all []TraitTest, t TraitTest) ([]TraitTest, bool) {
	for i := range all {
		o := &all[i]
		switch {
		case o.Trait != t.Trait:
			continue
		case !t.Trait.Named():
			return all, o.Not == t.Not
		case o.Not && t.Not:
			o.Names = joinNames(o.Names, t.Names)
			return all, true
		case t.Trait == AncestorName:
			continue
		case o.Not:
			o.Not, o.Names = false, without(t.Names, o.Names)
		case t.Not:
			o.Names = without(o.Names, t.Names)
		default:
			o.Names = without(o.Names, without(o.Names, t.Names))
		}
		return all, len(o.Names) > 0
	}
	return append(all, t), true
}

func joinNames(a, b []string) []string {
	all := slices.Concat(a, b)
	slices.Sort(all)
	return slices.Compact(all)
}

// without are the names of a that are not among b.
func without(a, b []string) []string {
	return slices.DeleteFunc(slices.Clone(a), func(name string) bool {
		_, ok := slices.BinarySearch(b, name)
		return ok
	})
}
