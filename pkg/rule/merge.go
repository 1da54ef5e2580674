package rule

import (
	"maps"
	"slices"

	"go.yaml.in/yaml/v3"
)

// change says what an entry does to a key of an earlier one.
type change uint8

const (
	replace change = iota + 1
	extend
)

// changes reads append and override. nil stands for a new definition.
func (l *loader) changes(it *item, kind string) (map[string]change, bool) {
	rule := ""
	if kind == "rule" {
		rule = it.name
	}
	old, ok := l.boolean(rule, it.value("append"), false)
	override := it.value("override")
	switch {
	case !ok:
		return nil, false
	case override.node == nil && !old:
		return nil, true
	case override.node == nil:
		return l.oldAppend(it, kind, rule)
	case it.has("append"):
		l.problem(it.value("append"), rule, "append and override exclude each other")
		return nil, false
	case override.node.Kind != yaml.MappingNode:
		l.problem(override, rule, "override says append or replace for each key")
		return nil, false
	}
	return l.override(it, kind, rule)
}

// oldAppend is Falco's deprecated append: true.
func (l *loader) oldAppend(it *item, kind, rule string) (map[string]change, bool) {
	set := map[string]change{}
	for _, key := range it.keys {
		switch k := key.node.Value; {
		case k == kind || k == "append" || !slices.Contains(knownKeys(kind), k):
		case slices.Contains([]string{"condition", "exceptions", "items"}, k):
			set[k] = extend
		default:
			l.warning(key, rule, "append: true does not change %s: use override", k)
		}
	}
	if len(set) == 0 {
		l.problem(it.place, rule, "there is nothing to append")
	}
	return set, len(set) > 0
}

func (l *loader) override(it *item, kind, rule string) (map[string]change, bool) {
	set := map[string]change{}
	at := it.value("override")
	for i := 0; i+1 < len(at.node.Content); i += 2 {
		key, value := at.node.Content[i], resolved(at.node.Content[i+1])
		may, known := overridable(kind)[key.Value]
		switch {
		case !known:
			l.problem(place{at.file, key}, rule, "override: %.60q cannot be changed", key.Value)
		case !it.has(key.Value):
			l.problem(place{at.file, key}, rule, "override: there is no %s here", key.Value)
		case value.Value == "replace":
			set[key.Value] = replace
			continue
		case value.Value == "append" && may == extend:
			set[key.Value] = extend
			continue
		case value.Value == "append":
			l.problem(place{at.file, value}, rule, "override: %s can be replaced only", key.Value)
		default:
			l.problem(place{at.file, value}, rule, "override: %.60q is neither append nor replace", value.Value)
		}
		return nil, false
	}
	for _, key := range it.keys {
		k := key.node.Value
		if k == kind || k == "override" || set[k] != 0 || !slices.Contains(knownKeys(kind), k) {
			continue
		}
		l.problem(key, rule, "%s is not named in override", k)
		return nil, false
	}
	return set, true
}

// overridable are the keys that may be changed; extend allows replace too.
func overridable(kind string) map[string]change {
	switch kind {
	case "macro":
		return map[string]change{"condition": extend}
	case "list":
		return map[string]change{"items": extend}
	}
	return map[string]change{
		"condition": extend, "output": extend, "desc": extend, "tags": extend, "exceptions": extend, "attack": extend,
		"priority": replace, "enabled": replace, "capture": replace, "capture_duration": replace, "warn_evttypes": replace,
		"skip-if-unknown-filter": replace, "action": replace, "window": replace, "mode": replace,
	}
}

// merged is the entry with the changes of a later one.
func (it *item) merged(later *item, set map[string]change) *item {
	all := &item{place: it.place, name: it.name, keys: later.keys, values: maps.Clone(it.values)}
	for key, c := range set {
		if c == extend {
			// Histories do not branch, so the earlier entry never grows into the same memory.
			all.values[key] = append(all.values[key], later.values[key]...)
		} else {
			all.values[key] = later.values[key]
		}
	}
	return all
}

// rule takes in a rule, or a change of one.
func (l *loader) rule(it *item) {
	set, ok := l.changes(it, "rule")
	if !ok {
		return
	}
	h := l.byName[it.name]
	if h != nil && len(it.keys) == 2 && it.has("enabled") {
		set = map[string]change{"enabled": replace} // Falco's deprecated switch
	}
	source := "syscall"
	if at := it.value("source"); at.node != nil {
		source = at.node.Value
	}
	switch {
	case set != nil && h == nil:
		l.problem(it.place, it.name, "there is no such rule to change")
		return
	case set != nil:
		it = h.versions[len(h.versions)-1].merged(it, set)
	case h == nil:
		h = &history{name: it.name, source: source}
		l.byName[it.name], l.order = h, append(l.order, h)
	case h.source != source:
		l.problem(it.place, it.name, "source %.60s is not that of the first definition, %s", source, h.source)
		return
	}
	h.versions = append(h.versions[max(0, len(h.versions)-maxVersions):], it)
}

// macro takes in a macro, or a change of one.
func (l *loader) macro(it *item) {
	set, ok := l.changes(it, "macro")
	at := it.value("condition")
	m := l.macros[it.name]
	switch {
	case !ok:
	case !isScalar(at.node):
		l.problem(it.place, "", "macro %s: condition is missing", it.name)
	case set != nil && m == nil:
		l.problem(it.place, "", "macro %s: there is no such macro to change", it.name)
	case m == nil:
		m = &macro{name: it.name, first: l.step, last: l.step, places: []place{at}}
		l.macros[it.name], l.macroOrder = m, append(l.macroOrder, m)
	case set["condition"] == extend:
		m.places, m.last = append(m.places, at), l.step
	default:
		m.places, m.last = []place{at}, l.step
	}
}

// list takes in a list, or a change of one.
func (l *loader) list(it *item) {
	set, ok := l.changes(it, "list")
	at := it.value("items")
	old := l.lists[it.name]
	switch {
	case !ok:
		return
	case at.node == nil || at.node.Kind != yaml.SequenceNode:
		l.problem(it.place, "", "list %s: items is missing, or no list", it.name)
		return
	case set != nil && old == nil:
		l.problem(it.place, "", "list %s: there is no such list to change", it.name)
		return
	}
	for _, n := range at.node.Content {
		if resolved(n).Kind != yaml.ScalarNode {
			l.problem(l.at(n), "", "list %s: expected a value", it.name)
			return
		}
	}
	switch {
	case old == nil:
		old = &list{name: it.name, first: l.step, last: l.step, places: []place{at}}
		l.lists[it.name], l.listOrder = old, append(l.listOrder, old)
	case set["items"] == extend:
		old.places, old.last = append(old.places, at), l.step
	default:
		old.places, old.last = []place{at}, l.step
	}
}
