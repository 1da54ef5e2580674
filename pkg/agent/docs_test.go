package agent

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/plumbline-io/plumbline/pkg/event"
	"github.com/plumbline-io/plumbline/pkg/rule"
)

// firstColumn lists what stands in the first column of a page's tables, as the expression finds it.
func firstColumn(t *testing.T, page string, of *regexp.Regexp) (all []string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("../../docs", page))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if cells := strings.Split(line, "|"); len(cells) > 2 && cells[0] == "" {
			for _, m := range of.FindAllStringSubmatch(strings.TrimSpace(cells[1]), -1) {
				all = append(all, m[1])
			}
		}
	}
	return all
}

// sources of a package, but for its tests.
func sources(t *testing.T, dir string) map[string]*ast.File {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]*ast.File{}
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		files[name] = f
	}
	return files
}

// ownRules are the names of the alerts that no rule file holds: constants called ...Rule, and those that a function gives.
func ownRules(t *testing.T) map[string]bool {
	names := map[string]bool{}
	for _, dir := range []string{".", "../detect"} {
		for _, f := range sources(t, dir) {
			ast.Inspect(f, func(n ast.Node) bool {
				if spec, ok := n.(*ast.ValueSpec); ok {
					for i, id := range spec.Names {
						if text := literal(spec.Values, i); strings.HasSuffix(id.Name, "Rule") && text != "" {
							names[text] = true
						}
					}
				}
				return true
			})
		}
	}
	for a := rule.Quarantine; a.Responds(); a++ {
		names[respondedRule(a)] = true
	}
	for d := range event.DimSyscalls {
		names[rule.DriftName(d)] = true
	}
	return names
}

func literal(values []ast.Expr, i int) string {
	if i >= len(values) {
		return ""
	}
	l, ok := values[i].(*ast.BasicLit)
	if !ok || l.Kind != token.STRING {
		return ""
	}
	text, err := strconv.Unquote(l.Value)
	if err != nil {
		return ""
	}
	return text
}

// Who gets an alert of ours finds what it means.
func TestAlertsAreDocumented(t *testing.T) {
	want := ownRules(t)
	if len(want) < 20 || !want[auditedRule] {
		t.Fatalf("found %v in the sources", slices.Sorted(maps.Keys(want)))
	}
	got := map[string]bool{}
	for _, name := range firstColumn(t, "alerts.md", regexp.MustCompile("^([A-Z][^`]*)$")) {
		got[name] = true
	}
	compareNames(t, "docs/alerts.md", got, want)
}

// Whoever sees a counter of losses finds what it counts.
func TestLossesAreDocumented(t *testing.T) {
	want := map[string]bool{"ring_full_KIND": true}
	counter := regexp.MustCompile(`(?:(?:lost|counts)\["([a-z_]+)"\]|\d+: +"([a-z_]+)",)`)
	for _, pattern := range []string{"*.go", "../sensor/loss.go"} {
		names, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			if strings.HasSuffix(name, "_test.go") {
				continue
			}
			for _, m := range counter.FindAllStringSubmatch(string(text), -1) {
				want[m[1]+m[2]] = true
			}
		}
	}
	for _, place := range []string{"alerts_http", "alerts_syslog", "falco_socket"} {
		want[place+"_dropped"], want[place+"_failed"] = true, true
	}
	for _, input := range []string{"falco_http_listen", "falco_socket", "falco_host"} {
		want[input+"_refused"] = true
	}
	if !want["spool_torn"] || !want["in_flight_full"] || !want["map_full"] {
		t.Fatalf("found %v in the sources", slices.Sorted(maps.Keys(want)))
	}
	got := map[string]bool{}
	for _, name := range firstColumn(t, "metrics.md", regexp.MustCompile("`([A-Za-z_]+)`")) {
		if !metricName(name) {
			got[name] = true
		}
	}
	compareNames(t, "docs/metrics.md", got, want)
}

// metricName says whether a row of the page is about a metric; pkg/telemetry holds these.
func metricName(name string) bool {
	for _, prefix := range []string{"agent_", "enforce_", "process_", "target_"} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}

func compareNames(t *testing.T, page string, got, want map[string]bool) {
	t.Helper()
	for name := range want {
		if !got[name] {
			t.Errorf("%s does not tell of %q", page, name)
		}
	}
	for name := range got {
		if !want[name] {
			t.Errorf("%s tells of %q, which does not exist", page, name)
		}
	}
}
