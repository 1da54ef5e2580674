package rule

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// What we answer to a file that requires a version: this is Falco's language as of that engine, and
// what its plugin container supplies is built in.
const (
	engineNumber     = 63
	engineVersion    = "0.63.0"
	containerVersion = "0.7.0"
)

// EngineVersion is the number of Falco's engine whose language this is.
func EngineVersion() uint32 { return engineNumber }

// FieldsChecksum is the same as long as the language knows the same fields: it is not Falco's, which has others.
func FieldsChecksum() string {
	sum := sha256.New()
	for _, f := range Fields() {
		fmt.Fprintf(sum, "%s %s %s\n", f.Name, f.Type, f.Argument)
	}
	return hex.EncodeToString(sum.Sum(nil))
}

// requiredEngine checks the version of Falco's engine that the file was written for.
func (l *loader) requiredEngine(it *item) {
	at := it.value("required_engine_version")
	text := at.node.Value
	if _, err := strconv.ParseUint(text, 10, 31); err == nil {
		text = "0." + text + ".0"
	}
	switch ok, err := satisfies(engineVersion, text); {
	case at.node.Kind != yaml.ScalarNode || err != nil:
		l.problem(at, "", "required_engine_version is a number, or a version as 0.57.0")
	case !ok:
		l.miss(at, "the file requires engine version %s, and nothing of it is loaded; this is %s", text, engineVersion)
	}
}

func (l *loader) miss(at place, format string, args ...any) {
	l.unmet = true
	l.tell(Problem{ID: unmetRequirement, Message: fmt.Sprintf(format, args...)}, at)
}

// requirement is one plugin with the others that would do.
type requirement struct {
	Name         string        `yaml:"name"`
	Version      string        `yaml:"version"`
	Alternatives []requirement `yaml:"alternatives"`
}

// requiredPlugins checks the plugins that the file was written for.
func (l *loader) requiredPlugins(it *item) {
	at := it.value("required_plugin_versions")
	if at.node.Kind != yaml.SequenceNode {
		l.problem(at, "", "required_plugin_versions is a list of names and versions")
		return
	}
	for _, n := range at.node.Content {
		var r requirement
		if err := n.Decode(&r); err != nil || r.Name == "" {
			l.problem(l.at(n), "", "required_plugin_versions: expected name and version")
			continue
		}
		met := false
		for _, one := range append([]requirement{r}, r.Alternatives...) {
			ok, err := satisfies(containerVersion, one.Version)
			if err != nil {
				l.problem(l.at(n), "", "required_plugin_versions: %.60q is no version", one.Version)
				met = true
				break
			}
			met = met || one.Name == "container" && ok
		}
		if !met {
			l.miss(l.at(n), "the file requires plugin %.60s %.60s, and nothing of it is loaded; there is only container %s, built in", r.Name, r.Version, containerVersion)
		}
	}
}

// satisfies says whether a version does where another one is wanted: it is not older, and of the same
// major version.
func satisfies(have, want string) (bool, error) {
	h, err := version(have)
	if err != nil {
		return false, err
	}
	w, err := version(want)
	if err != nil || h[0] != w[0] {
		return false, err
	}
	return h[1] > w[1] || h[1] == w[1] && h[2] >= w[2], nil
}

func version(text string) (v [3]uint64, err error) {
	text, _, _ = strings.Cut(text, "-")
	parts := strings.Split(text, ".")
	if len(parts) != len(v) {
		return v, strconv.ErrSyntax
	}
	for i, p := range parts {
		if v[i], err = strconv.ParseUint(p, 10, 31); err != nil {
			return v, err
		}
	}
	return v, nil
}
