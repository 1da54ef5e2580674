package bus

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/plumbline-io/plumbline/pkg/alert"
)

// The subjects, below which tokens follow: tenant, cluster, node, and for alerts severity, class,
// "w" and the workload's path.
const (
	alertSubjects     = "alert.v1"  // agent to stream
	heartbeatSubjects = "agent.v1"  // agent to control plane
	askSubjects       = "ask.v1"    // agent to control plane, request: what is stored?
	storedSubjects    = "stored.v1" // control plane to agent, and to operators who follow
	apiSubjects       = "api.v1"    // operator to control plane, request
)

// The path of a workload ends in a hash if it is longer than this.
const (
	maxPathTokens = 9
	maxPathBytes  = 160
)

// origin is where a message comes from, as its subject says and the server's permissions enforce.
type origin struct{ Tenant, Cluster, Node string }

func (o origin) subject(root string) string {
	return root + "." + token(o.Tenant) + "." + token(o.Cluster) + "." + token(o.Node)
}

// parseOrigin reads the three tokens after root.
func parseOrigin(root, subject string) (origin, error) {
	rest, ok := strings.CutPrefix(subject, root+".")
	parts := strings.SplitN(rest, ".", 4)
	if !ok || len(parts) < 3 {
		return origin{}, fmt.Errorf("subject %q: not %s.<tenant>.<cluster>.<node>", subject, root)
	}
	var o origin
	for i, field := range [...]*string{&o.Tenant, &o.Cluster, &o.Node} {
		var err error
		if *field, err = untoken(parts[i]); err != nil {
			return origin{}, fmt.Errorf("subject %q: %w", subject, err)
		}
	}
	return o, nil
}

// alertSubject is where an alert is published.
func alertSubject(o origin, a alert.Alert) string {
	class := a.Source
	if class == "" {
		class = "none"
	}
	return o.subject(alertSubjects) + "." + strings.ToLower(a.Severity.String()) + "." + token(class) + ".w." + workloadPath(a.Detail)
}

func workloadPath(d alert.Detail) string {
	segments := []string{d.WorkloadKind, d.Workload}
	if rest, ok := strings.CutPrefix(d.SPIFFEID, "spiffe://"); ok {
		if _, path, ok := strings.Cut(rest, "/"); ok && path != "" {
			segments = strings.Split(path, "/")
		}
	}
	var b strings.Builder
	for i, s := range segments {
		t := token(s)
		if i == maxPathTokens || b.Len()+len(t) > maxPathBytes {
			sum := sha256.Sum256([]byte(strings.Join(segments[i:], "/")))
			t = "h." + hex.EncodeToString(sum[:6])
			i = len(segments)
		}
		if b.Len() > 0 {
			b.WriteByte('.')
		}
		b.WriteString(t)
		if i == len(segments) {
			break
		}
	}
	return b.String()
}

// token writes s as one token of a subject, so that no two strings share one: letters, digits and
// a few signs stay, "_" is "__", "." is "_d", "" is "_e", any other byte is "_x" and two digits.
func token(s string) string {
	if s == "" {
		return "_e"
	}
	var b strings.Builder
	for i := range len(s) {
		switch c := s[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', strings.IndexByte("-:@=+,~", c) >= 0:
			b.WriteByte(c)
		case c == '_':
			b.WriteString("__")
		case c == '.':
			b.WriteString("_d")
		default:
			fmt.Fprintf(&b, "_x%02x", c)
		}
	}
	return b.String()
}

// untoken is the inverse of token.
func untoken(t string) (string, error) {
	if t == "_e" {
		return "", nil
	}
	var b strings.Builder
	for i := 0; i < len(t); i++ {
		if t[i] != '_' {
			b.WriteByte(t[i])
			continue
		}
		i++
		switch {
		case i < len(t) && t[i] == '_':
			b.WriteByte('_')
		case i < len(t) && t[i] == 'd':
			b.WriteByte('.')
		case i+2 < len(t) && t[i] == 'x':
			c, err := hex.DecodeString(t[i+1 : i+3])
			if err != nil {
				return "", fmt.Errorf("token %q: %w", t, err)
			}
			b.Write(c)
			i += 2
		default:
			return "", fmt.Errorf("token %q: unknown escape", t)
		}
	}
	if token(b.String()) != t {
		return "", fmt.Errorf("token %q: not in its canonical form", t)
	}
	return b.String(), nil
}
