// Package identity gives workloads their SPIFFE IDs. For now an ID is made from a template; it says
// what the agent believes, and its source says so. It is the only importer of go-spiffe. It must never
// present a template's ID as an attested one.
//
//	t, err := identity.NewTemplate("bank.example", identity.DefaultTemplate, facts)
//	id, err := t.ID("unit", "nginx.service") // spiffe://bank.example/node/n1/unit/nginx.service
package identity

import (
	"fmt"
	"strings"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// Source says how an ID came about.
const Source = "template"

// DefaultTemplate tells node, kind of workload, and its name.
const DefaultTemplate = "node/{node}/{kind}/{name}"

// Limits of the SPIFFE-ID specification, sections 2.1 and 2.3.
const (
	maxDomainBytes = 255
	maxIDBytes     = 2048
)

// Template makes IDs. It is safe for concurrent use.
type Template struct {
	domain spiffeid.TrustDomain
	text   string
}

// NewTemplate checks trust domain and template. The template's variables are {node}, {cluster},
// {kind} and {name}; {name} may become several path segments.
func NewTemplate(trustDomain, template string, node, cluster string) (*Template, error) {
	// The specification calls trust domains case-insensitive, go-spiffe refuses upper case.
	domain, err := spiffeid.TrustDomainFromString(strings.ToLower(trustDomain))
	if err != nil {
		return nil, fmt.Errorf("check trust domain %.64q: %w", trustDomain, err)
	}
	// go-spiffe also takes a whole SPIFFE ID, and a name of any length.
	if domain.Name() != strings.ToLower(trustDomain) || len(trustDomain) > maxDomainBytes {
		return nil, fmt.Errorf("check trust domain %.64q: want a name of at most %d bytes, without spiffe:// or a path", trustDomain, maxDomainBytes)
	}
	text := strings.NewReplacer("{node}", segment(node), "{cluster}", segment(cluster)).Replace(template)
	t := &Template{domain: domain, text: text}
	one, err := t.ID("unit", "example.service")
	if err != nil {
		return nil, fmt.Errorf("check SPIFFE ID template %q: %w", template, err)
	}
	if other, err := t.ID("unit", "other.service"); err != nil || one == other {
		return nil, fmt.Errorf("check SPIFFE ID template %q: without {name} all workloads have the same ID", template)
	}
	return t, nil
}

// ID of a workload. Characters that a SPIFFE ID may not have become _XX, their hexadecimal code, so
// that different names stay different. A slash in the name parts segments.
func (t *Template) ID(kind, name string) (string, error) {
	var parts []string
	for _, p := range strings.Split(name, "/") {
		if p != "" {
			parts = append(parts, segment(p))
		}
	}
	path := strings.NewReplacer("{kind}", segment(kind), "{name}", strings.Join(parts, "/")).Replace(t.text)
	id, err := spiffeid.FromPath(t.domain, "/"+path)
	if err != nil {
		return "", fmt.Errorf("make SPIFFE ID of %s %.64q: %w", kind, name, err)
	}
	if len(id.String()) > maxIDBytes {
		return "", fmt.Errorf("make SPIFFE ID of %s %.64q: longer than %d bytes", kind, name, maxIDBytes)
	}
	return id.String(), nil
}

// segment makes a path segment of any text: letters, digits, '.' and '-' stay.
func segment(text string) string {
	var b strings.Builder
	for i := range len(text) {
		c := text[i]
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-':
			b.WriteByte(c)
		case c == '.' && strings.Trim(text, ".") != "": // "." and ".." are no segments
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, "_%02x", c)
		}
	}
	return b.String()
}
