package rule

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"
)

// field is one operand of the language: what a name of it, or a transformer of others, stands for.
// Exactly one of text, number, flag, addr, list and at is set; ok is false where the event has no such
// value, and then every check on it is false.
type field struct {
	name    string
	group   byte     // of Falco's fields: A to F, by what it takes to supply them; 0: ours
	takes   argument // in brackets
	why     string   // why it never has a value
	refused bool     // by policy: a rule that asks for it is left out
	whyOne  string   // it takes an index with Falco: why that never has a value
	dotted  bool     // what stands in brackets may stand behind a dot
	classes classes  // of the events that can have it
	words   []string // all values that there are, nil: any
	writes  bool     // its text is written out into the Env
	vague   bool     // only the sign of the number is known: notNegative stands for all the others
	asks    bool     // Facts: to be compared last
	secret  bool     // compared, and never shown
	few     bool     // it has few values, so that many events have the same
	told    bool     // known only once a rule raises an alert: it is for outputs

	anything bool // it never has a value, and is compared with whatever is written there

	text   func(*Env) (value string, ok bool)
	number func(*Env) (value int64, ok bool)
	flag   func(*Env) (value, ok bool)
	addr   func(*Env) (value netip.Addr, ok bool)
	list   func(*Env) (values []string, ok bool)
	keyed  func(key string) func(*Env) (string, bool)  // the text for what stands in brackets
	at     func(e *Env, i int) (value string, ok bool) // one of several texts; not ok beyond the last

	other *field // the same of a connection's other end, which is compared too

	host func(*Env) (value netip.Addr, ok bool) // with at: the texts are names of this address, see Names
}

// notNegative is the value of a vague number of which only that is known.
const notNegative = 1<<31 - 1

// argument says what may stand in brackets behind a field.
type argument uint8

const (
	noArgument argument = iota
	anIndex             // optional, a number
	aKey                // optional, any text
)

func (a argument) String() string { return [...]string{"", "index", "key"}[a] }

// kind is the field's type, for messages and for FieldInfo.
func (f *field) kind() string {
	switch {
	case f.anything:
		return "any"
	case f.number != nil:
		return "number"
	case f.flag != nil:
		return "boolean"
	case f.addr != nil:
		return "address"
	case f.list != nil:
		return "list"
	}
	return "text"
}

// outside is the first of values that the field never has, "" if there is none or if all are possible.
func (f *field) outside(values []string) string {
	for _, v := range values {
		if len(f.words) > 0 && !slices.Contains(f.words, v) {
			return v
		}
	}
	return ""
}

// suppliedFields are those that some event has.
func suppliedFields() []field {
	return slices.Concat(eventFields(), argumentFields(), processFields(), ancestorFields(), fileFields(), socketFields(), hostFields(),
		dnsFields(), tcpFields(), workloadFields(), tlsFields(), pauseFields(), alertFields(), factFields(), []field{environmentField()})
}

// fieldTable lists the language's fields.
func fieldTable() []field { return append(suppliedFields(), missingFields()...) }

// know adds fields by name. They have values only in events of their classes: what an Event holds for other
// kinds means nothing.
func (s *scope) know(table []field) {
	for i := range table {
		f := &table[i]
		if f.classes != allClasses {
			f.text, f.number, f.flag, f.addr = only(f.classes, f.text), only(f.classes, f.number), only(f.classes, f.flag), only(f.classes, f.addr)
			f.list = only(f.classes, f.list)
		}
		s.fields[f.name] = f
	}
}

// knowAll adds also those that no event has. Few rules name one, and there are more of them than of the others.
func (s *scope) knowAll() {
	if !s.whole {
		s.whole = true
		s.know(missingFields())
	}
}

func only[T any](set classes, get func(*Env) (T, bool)) func(*Env) (T, bool) {
	if get == nil {
		return nil
	}
	return func(e *Env) (T, bool) {
		if !set.has(e.class()) {
			var none T
			return none, false
		}
		return get(e)
	}
}

// FieldInfo describes a field for people and tools.
type FieldInfo struct {
	Name     string
	Type     string   // text, number, boolean, address, list, or any of them
	Argument string   // what may stand in brackets: "", index or key
	Class    string   // A to F for Falco's fields, by what it takes to supply them; "" for ours
	Sources  []string // of the rules that can ask for it
	Values   []string // all that there are; nil: any
	Supplied bool     // some event has it
	Why      string   // why it is not supplied
}

// Fields lists all fields that the language knows, by name.
func Fields() []FieldInfo {
	var list []FieldInfo
	for _, f := range fieldTable() {
		info := FieldInfo{Name: f.name, Type: f.kind(), Argument: f.takes.String(), Values: f.words, Supplied: f.why == "", Why: f.why}
		for _, source := range []string{"syscall", "tls", "gc", "internal"} {
			if of, _ := classesOfSource(source); f.classes&of != 0 {
				info.Sources = append(info.Sources, source)
			}
		}
		if f.group != 0 {
			info.Class = string(f.group)
		}
		list = append(list, info)
	}
	slices.SortFunc(list, func(a, b FieldInfo) int { return cmp.Compare(a.Name, b.Name) })
	return list
}

func text(name string, set classes, get func(*Env) string) field {
	return field{name: name, classes: set, text: func(e *Env) (string, bool) { s := get(e); return s, s != "" }}
}

func number(name string, set classes, get func(*Env) (int64, bool)) field {
	return field{name: name, classes: set, number: get}
}

func flag(name string, set classes, get func(*Env) bool) field {
	return field{name: name, classes: set, flag: func(e *Env) (bool, bool) { return get(e), true }}
}

func address(name string, set classes, get func(*Env) (netip.Addr, bool)) field {
	return field{name: name, classes: set, addr: get}
}

// written marks fields whose text is written out.
func written(fields ...field) []field {
	for i := range fields {
		fields[i].writes = true
	}
	return fields
}

// shared marks a field that has the same value in many events.
func shared(f field) field {
	f.few = true
	return f
}

// grouped gives fields their class of Falco's.
func grouped(group byte, fields ...field) []field {
	for i := range fields {
		fields[i].group = group
	}
	return fields
}

func base(path string) string { return path[strings.LastIndexByte(path, '/')+1:] }
