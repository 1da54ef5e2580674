package baseline

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/plumbline-io/plumbline/pkg/event"
)

// The text form. What comes before "observed" depends on behaviour and decisions alone, so that the
// same behaviour gives the same bytes.
type document struct {
	APIVersion string `yaml:"apiVersion"`
	Kind       string `yaml:"kind"`
	Workload   string `yaml:"workload"`
	Type       string `yaml:"workloadKind"`
	Mode       string `yaml:"mode"`
	Forced     string `yaml:"forced,omitempty"`
	Frozen     bool   `yaml:"frozen,omitempty"`
	sections   `yaml:",inline"`
	Observed   *observed `yaml:"observed,omitempty"`
}

// sections are the dimensions; nil: not held.
type sections struct {
	Exec      *[]pathEntry      `yaml:"exec,omitempty"`
	Library   *[]pathEntry      `yaml:"library,omitempty"`
	File      *[]accessEntry    `yaml:"file,omitempty"`
	Unix      *[]accessEntry    `yaml:"unix,omitempty"`
	Network   *[]networkEntry   `yaml:"network,omitempty"`
	Privilege *[]privilegeEntry `yaml:"privilege,omitempty"`
	Syscalls  *[]any            `yaml:"syscalls,omitempty"` // names, or numbers without one
}

type pathEntry struct {
	Path    string `yaml:"path"`
	Partial bool   `yaml:"partial,omitempty"`
}

// accessEntry is all that is done to one path; what is partial and what is not stand apart.
type accessEntry struct {
	Path    string   `yaml:"path"`
	Access  []string `yaml:"access,flow"`
	Partial bool     `yaml:"partial,omitempty"`
}

type networkEntry struct {
	Access   string `yaml:"access"`
	Protocol any    `yaml:"protocol"`
	Address  string `yaml:"address,omitempty"` // any
	Port     uint16 `yaml:"port,omitempty"`    // any
	Partial  bool   `yaml:"partial,omitempty"`
}

type privilegeEntry struct {
	Use     string `yaml:"use"`
	Value   any    `yaml:"value,omitempty"`
	Path    string `yaml:"path,omitempty"`
	Partial bool   `yaml:"partial,omitempty"`
}

type observed struct {
	Runs    int             `yaml:"runs"`
	Novelty bool            `yaml:"noveltyInLastRun"`
	Last    time.Time       `yaml:"lastNovelty"`
	Full    []string        `yaml:"full,omitempty,flow"`        // dimensions in which something found no room
	Stepped []string        `yaml:"steppedDown,omitempty,flow"` // dimensions that met too many denials
	Entries []observedEntry `yaml:"entries"`
}

type observedEntry struct {
	Key   string    `yaml:"key"`
	Count uint64    `yaml:"count"`
	First time.Time `yaml:"first"`
	Last  time.Time `yaml:"last"`
	// Changed tells a file from another one in its place, on the node that wrote it.
	Changed time.Time `yaml:"changed,omitempty"`
}

const (
	apiVersion = "plumbline.io/v1"
	kind       = "Baseline"
)

// Marshal writes the profile as YAML.
func (p *Profile) Marshal() []byte {
	text, _ := p.MarshalDigest()
	return text
}

// MarshalDigest is Marshal and Digest, for the cost of the first: what the digest is of is the text's first part.
func (p *Profile) MarshalDigest() (text []byte, digest string) {
	keys := p.Keys()
	d := p.canonical(keys)
	canonical := d.encode(len(keys))
	o := observed{Runs: p.runs, Novelty: p.novelty, Last: seconds(p.lastNovelty)}
	o.Full, o.Stepped = dimensionList(p.full), dimensionList(p.steppedDown)
	for _, k := range keys {
		e := p.entries.get(k)
		o.Entries = append(o.Entries, observedEntry{
			Key: k.String(), Count: e.count, First: e.first.Time(), Last: e.last.Time(), Changed: e.changed.Time(),
		})
	}
	digest = digestOf(canonical)
	return append([]byte(p.head()), o.appendTo(canonical)...), digest
}

// head is the comment that tells a reader what the file is, and how far to trust it.
func (p *Profile) head() string {
	coverage, news := "full", "never"
	partial := p.Partial()
	if partial > 0 {
		coverage = "partial"
	}
	if !p.lastNovelty.IsZero() {
		news = seconds(p.lastNovelty).Format(time.RFC3339)
	}
	text := fmt.Sprintf(`# What this workload has been seen to do. A section that is missing is neither learnt nor enforced.
# Coverage: %s: runs %d, entries %d, of them partial (their process was running already) %d.
# Something new was learnt last: %s.
`, coverage, p.runs, p.entries.len(), partial, news)
	text += p.additionsHead()
	if p.held.Has(event.DimSyscalls) {
		text += "# System calls are not enforced by Plumbline: plumbline-agent baseline seccomp makes a filter of them.\n"
	}
	return text
}

func seconds(t time.Time) time.Time { return t.UTC().Truncate(time.Second) }

// Canonical writes the part that a review and a signature are about.
func (p *Profile) Canonical() []byte {
	keys := p.Keys()
	d := p.canonical(keys)
	return d.encode(len(keys))
}

// Digest is the SHA-256 of the canonical form, in hexadecimal digits.
func (p *Profile) Digest() string {
	return digestOf(p.Canonical())
}

func digestOf(canonical []byte) string {
	sum := sha256.Sum256(canonical)
	return hex.EncodeToString(sum[:])
}

func (p *Profile) canonical(keys []event.Key) document {
	d := document{
		APIVersion: apiVersion, Kind: kind, Workload: p.workload, Type: p.kind,
		Mode: p.mode.String(), Forced: p.force, Frozen: p.frozen, sections: emptySections(p.held),
	}
	for _, k := range keys {
		d.add(k, p.entries.get(k).partial)
	}
	return d
}

func emptySections(held event.Dimensions) (s sections) {
	if held.Has(event.DimExec) {
		s.Exec = &[]pathEntry{}
	}
	if held.Has(event.DimLibrary) {
		s.Library = &[]pathEntry{}
	}
	if held.Has(event.DimFile) {
		s.File = &[]accessEntry{}
	}
	if held.Has(event.DimUnix) {
		s.Unix = &[]accessEntry{}
	}
	if held.Has(event.DimNetwork) {
		s.Network = &[]networkEntry{}
	}
	if held.Has(event.DimPrivilege) {
		s.Privilege = &[]privilegeEntry{}
	}
	if held.Has(event.DimSyscalls) {
		s.Syscalls = &[]any{}
	}
	return s
}

// add appends the next key to its section, which is held.
func (s *sections) add(k event.Key, partial bool) {
	switch k.Op.Dimension() {
	case event.DimExec:
		*s.Exec = append(*s.Exec, pathEntry{k.Path, partial})
	case event.DimLibrary:
		*s.Library = append(*s.Library, pathEntry{k.Path, partial})
	case event.DimFile:
		addAccess(s.File, k, partial)
	case event.DimUnix:
		addAccess(s.Unix, k, partial)
	case event.DimNetwork:
		e := networkEntry{Access: k.Op.String(), Protocol: number(k.Protocol.String()), Port: k.Port, Partial: partial}
		if k.Address.IsValid() {
			e.Address = addressText(k.Address)
		}
		*s.Network = append(*s.Network, e)
	case event.DimPrivilege:
		e := privilegeEntry{Use: k.Op.String(), Path: k.Path, Partial: partial}
		if hasValue(k.Op) {
			e.Value = number(event.ValueName(k.Op, k.Value))
		}
		*s.Privilege = append(*s.Privilege, e)
	case event.DimSyscalls:
		*s.Syscalls = append(*s.Syscalls, number(event.ValueName(k.Op, k.Value)))
	}
}

// unixPrefix is what the section's name says already.
const unixPrefix = "unix_"

func addAccess(list *[]accessEntry, k event.Key, partial bool) {
	access := strings.TrimPrefix(k.Op.String(), unixPrefix)
	for i := len(*list) - 1; i >= 0 && (*list)[i].Path == k.Path; i-- {
		if e := &(*list)[i]; e.Partial == partial {
			e.Access = append(e.Access, access)
			return
		}
	}
	*list = append(*list, accessEntry{k.Path, []string{access}, partial})
}

// number is what YAML writes without quotes: a number if it is one.
func number(text string) any {
	if n, err := strconv.ParseUint(text, 10, 32); err == nil {
		return n
	}
	return text
}

// encode writes the document without what was observed as encode(*d) would, the lists of a long one in parts.
func (d *document) encode(entries int) []byte {
	if entries <= partEntries {
		return encode(*d)
	}
	head := *d
	head.sections, head.Observed = sections{}, nil
	text := encode(head)
	text = appendSection(text, "exec", d.Exec)
	text = appendSection(text, "library", d.Library)
	text = appendSection(text, "file", d.File)
	text = appendSection(text, "unix", d.Unix)
	text = appendSection(text, "network", d.Network)
	text = appendSection(text, "privilege", d.Privilege)
	return appendSection(text, "syscalls", d.Syscalls)
}

// appendTo writes what was observed behind the document's other part.
func (o *observed) appendTo(text []byte) []byte {
	return appendParts(text, o.Entries, func(entries []observedEntry) any {
		part := *o
		part.Entries = entries
		return map[string]observed{"observed": part}
	})
}

func appendSection[T any](text []byte, name string, list *[]T) []byte {
	if list == nil {
		return text
	}
	return appendParts(text, *list, func(part []T) any { return map[string][]T{name: part} })
}

// partEntries of a list are written at once: the library remembers all that one call writes, which for the largest
// profile is a hundred times its text.
const partEntries = 256

// appendParts appends what document makes of a list. What stands before the list's entries is written once.
func appendParts[T any](text []byte, list []T, document func(part []T) any) []byte {
	text = append(text, encode(document(list[:min(partEntries, len(list))]))...)
	if len(list) <= partEntries {
		return text
	}
	head := len(encode(document([]T{}))) - len(" []\n") + len("\n")
	for part := range slices.Chunk(list[partEntries:], partEntries) {
		text = append(text, encode(document(part))[head:]...)
	}
	return text
}

func encode(d any) []byte {
	var b bytes.Buffer
	enc := yaml.NewEncoder(&b)
	enc.SetIndent(2)
	// Encoding plain structs into memory cannot fail.
	_ = enc.Encode(d)
	_ = enc.Close()
	return b.Bytes()
}
