package main

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"slices"
	"strings"
	"testing"

	"github.com/plumbline-io/plumbline/cmd/internal/junit"
	"github.com/plumbline-io/plumbline/pkg/rule"
)

// What SARIF 2.1.0 requires of a log, and what readers of it need to show a place.
func TestSARIF(t *testing.T) {
	for name, problems := range map[string][]finding{
		"none": {},
		"some": {
			{ID: "invalid-entry", File: "dir/a b.yaml", Line: 3, Column: 7, Severity: "error", Rule: "r", Message: "wrong"},
			{ID: "unused", File: "/etc/x.yaml", Line: 1, Column: 1, Severity: "warning", Message: "doubtful"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			var b bytes.Buffer
			if err := writeSARIF(&b, problems); err != nil {
				t.Fatal(err)
			}
			var log struct {
				Version string
				Runs    []struct {
					Tool struct {
						Driver struct {
							Name  string
							Rules []struct{ ID string }
						}
					}
					ColumnKind string
					Results    *[]struct {
						RuleID    string
						RuleIndex int
						Level     string
						Message   struct{ Text string }
						Locations []struct {
							PhysicalLocation struct {
								ArtifactLocation struct{ URI string }
								Region           struct{ StartLine, StartColumn int }
							}
						}
					}
				}
			}
			if err := json.Unmarshal(b.Bytes(), &log); err != nil {
				t.Fatal(err)
			}
			if log.Version != "2.1.0" || len(log.Runs) != 1 || log.Runs[0].Tool.Driver.Name == "" || log.Runs[0].Results == nil ||
				log.Runs[0].ColumnKind != "unicodeCodePoints" || len(*log.Runs[0].Results) != len(problems) {
				t.Fatalf("%s", b.Bytes())
			}
			for i, r := range *log.Runs[0].Results {
				p := problems[i]
				place := r.Locations[0].PhysicalLocation
				if r.Level != p.Severity || !strings.HasSuffix(r.Message.Text, p.Message) || place.Region.StartLine != p.Line ||
					place.Region.StartColumn != p.Column || log.Runs[0].Tool.Driver.Rules[r.RuleIndex].ID != r.RuleID {
					t.Errorf("%+v of %+v", r, p)
				}
				if want := []string{"dir/a%20b.yaml", "file:///etc/x.yaml"}[i]; place.ArtifactLocation.URI != want {
					t.Errorf("URI %s, want %s", place.ArtifactLocation.URI, want)
				}
			}
		})
	}
}

func TestJUnit(t *testing.T) {
	var b bytes.Buffer
	err := writeJUnit(&b, []trialResult{
		{Name: "a", File: "x_test.yaml", Line: 1, OK: true},
		{Name: "b <&\x00>", File: "x_test.yaml", Line: 2, Message: "got <nothing>"},
		{Name: "c", File: "y_test.yaml", Line: 3, OK: true},
	})
	if err != nil {
		t.Fatal(err)
	}
	var all junit.Suites
	if err := xml.Unmarshal(b.Bytes(), &all); err != nil {
		t.Fatalf("%v in\n%s", err, b.Bytes())
	}
	if all.Tests != 3 || all.Failures != 1 || len(all.Suites) != 2 || all.Suites[0].Tests != 2 || all.Suites[0].Failures != 1 {
		t.Fatalf("%s", b.Bytes())
	}
	if c := all.Suites[0].Cases[1]; c.Name != "b <&\ufffd>" || c.Class != "x_test.yaml" || c.Line != 2 || c.Failure.Text != "got <nothing>" {
		t.Errorf("%+v", c)
	}
}

// The caret stands below the place, whatever the line is like.
func TestExcerpt(t *testing.T) {
	long := strings.Repeat("x", 200) + "HERE" + strings.Repeat("y", 200)
	for name, tc := range map[string]struct {
		line   string
		column int
		want   string
	}{
		"plain":      {"  output: o", 3, "  output: o"},
		"tab":        {"a\tHERE", 3, "a HERE"},
		"characters": {"äöü HERE", 5, "äöü HERE"},
		"terminal":   {"\x1b[31m HERE", 7, " [31m HERE"},
		"long":       {long, 201, "..." + strings.Repeat("x", 60) + "HERE" + strings.Repeat("y", 33) + "..."},
		"beyond":     {"ab", 9, "ab"},
		"blank":      {"  ", 1, ""},
	} {
		t.Run(name, func(t *testing.T) {
			l := &lint{files: []rule.File{{Name: "a"}, {Name: "b", Data: []byte("1\n" + tc.line + "\n3")}}}
			got := l.excerpt(finding{File: "b", Line: 2, Column: tc.column}, false)
			if tc.want == "" {
				if got != "" {
					t.Errorf("got %q", got)
				}
				return
			}
			lines := strings.Split(got, "\n")
			if lines[0] != "    "+tc.want {
				t.Errorf("got %q, want %q", lines[0], tc.want)
			}
			at := strings.Index(lines[1], "^")
			if under := string([]rune(lines[0] + "    ")[at:]); strings.Contains(tc.line, "HERE") && !strings.HasPrefix(under, "HERE") {
				t.Errorf("the caret is below %q", under)
			}
		})
	}
}

func TestNear(t *testing.T) {
	names := []string{"Web server spawns shell", "Database or JVM spawns shell", "Fileless execution", "Exec from shared memory"}
	for name, tc := range map[string]struct {
		name string
		want []string
	}{
		"case":    {"fileless EXECUTION", []string{`"Fileless execution"`}},
		"letters": {"Web servr spawn shell", []string{`"Web server spawns shell"`}},
		"part":    {"spawns shell", []string{`"Web server spawns shell"`, `"Database or JVM spawns shell"`}},
		"nothing": {"xyzzy", nil},
	} {
		t.Run(name, func(t *testing.T) {
			if got := near(tc.name, names); !slices.Equal(got, tc.want) {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
	for name, tc := range map[string]struct {
		a, b string
		want int
	}{
		"equal": {"abc", "abc", 0}, "empty": {"", "abc", 3}, "insert": {"ac", "abc", 1}, "all": {"kitten", "sitting", 3},
	} {
		t.Run("edits "+name, func(t *testing.T) {
			if got, back := rule.Distance(tc.a, tc.b), rule.Distance(tc.b, tc.a); got != tc.want || back != tc.want {
				t.Errorf("got %d and %d, want %d", got, back, tc.want)
			}
		})
	}
}

// Rules that are switched off are there, and known as such.
func TestCatalogueOff(t *testing.T) {
	const rest = "\n  condition: evt.type = execve\n  output: o\n  priority: error\n"
	c := newCatalogue([]rule.File{{Name: "x.yaml", Data: []byte(
		"- rule: \"off: \\\"#1\"" + rest + "  enabled: false\n- rule: on" + rest + "- rule: wrong" + rest + "  action: dance\n",
	)}})
	var names []string
	for _, r := range c.all.Rules() {
		names = append(names, r.Name)
	}
	if want := []string{`off: "#1`, "on"}; !slices.Equal(names, want) || len(c.set.Rules()) != 1 || c.all.Rules()[0].Enabled || !c.all.Rules()[1].Enabled {
		t.Errorf("all %q, on %v", names, c.set.Rules())
	}
	for _, p := range c.problems {
		if p.File != "x.yaml" {
			t.Errorf("a problem of no file: %v", p)
		}
	}
}

// Whatever a file holds can be linted and listed, and its places exist.
func FuzzLint(f *testing.F) {
	f.Add([]byte("- rule: r\n  condition: evt.type = execve and\n  output: o\n  priority: error\n  enabled: false\n"))
	f.Add([]byte("- list: &a x\n  items: [*a, b]\n---\n- macro: m\n  condition: x\n- macro: m\n  append: true\n"))
	f.Add([]byte("a: &b [*b]\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		files := []rule.File{{Name: "x.yaml", Data: data}}
		c := newCatalogue(files)
		for _, r := range c.set.Rules() {
			if !slices.ContainsFunc(c.all.Rules(), func(other *rule.Rule) bool { return other.Name == r.Name }) {
				t.Errorf("%q is on and not there", r.Name)
			}
		}
		for _, r := range c.all.Rules() {
			if _, err := explain(c, r.Name); err != nil {
				t.Error(err)
			}
		}
		l := newLint(files)
		if err := l.print(&bytes.Buffer{}, "text"); err != nil || l.LeftOut < 0 {
			t.Errorf("%v, %d left out", err, l.LeftOut)
		}
	})
}
