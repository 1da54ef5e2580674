package enforce

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/plumbline-io/plumbline/pkg/event"
	"github.com/plumbline-io/plumbline/pkg/rule"
)

func wishesOf(t *testing.T, text string) *wishes {
	t.Helper()
	set, problems := rule.Load(rule.File{Name: "r.yaml", Data: []byte(text)})
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	w, err := compileWishes(set)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

const denyingRule = "- rule: %s\n  condition: %q\n  output: o\n  priority: error\n  action: deny\n  mode: enforce\n"

// The directories above what a rule denies are in the tables, by their paths or ends, and nothing else is.
func TestAbove(t *testing.T) {
	for condition, want := range map[string]struct{ dirs, ends []string }{
		"evt.operation = read and evt.path = /etc/x/secret":              {[]string{"/etc", "/etc/x"}, nil},
		"evt.operation = write and evt.path = /secret":                   {nil, nil},
		"evt.operation = create and evt.path pmatch (/srv/a)":            {[]string{"/srv", "/srv/a"}, nil},
		"evt.operation = read and evt.path startswith /dev/sd":           {[]string{"/dev"}, nil},
		"evt.operation = read and evt.path startswith /srv/a/":           {[]string{"/srv", "/srv/a"}, nil},
		"evt.operation = read and evt.path endswith .key":                {nil, nil},
		"evt.operation = read and evt.path endswith /token":              {nil, nil},
		"evt.operation = read and evt.path endswith /.ssh/id_rsa":        {nil, []string{"/.ssh"}},
		"evt.operation = unix_connect and evt.path startswith @/a/b":     {nil, nil},
		"evt.type = execve and proc.exepath in (/bin/a, /bin/b, /opt/c)": {[]string{"/bin", "/opt"}, nil},
		"evt.operation = read and proc.name = x":                         {nil, nil},
	} {
		w := wishesOf(t, fmt.Sprintf(denyingRule, "r", condition))
		var dirs, ends []string
		for k, wish := range w.above {
			if dirs = append(dirs, k.text); k.op != opAbove || wish.Watch != 0 || wish.DenyHost == 0 || wish.DenyContainer == 0 {
				t.Errorf("%s: %v: %+v", condition, k, wish)
			}
		}
		for k := range w.suffixes {
			if k.op == opAbove {
				ends = append(ends, reversed(k.text))
			}
		}
		slices.Sort(dirs)
		if !slices.Equal(dirs, want.dirs) || !slices.Equal(ends, want.ends) {
			t.Errorf("%s: %q and %q, want %q and %q", condition, dirs, ends, want.dirs, want.ends)
		}
		if byPath := strings.Contains(condition, "path"); (w.asking()&denyPaths != 0) != byPath || (w.asking()&(1<<event.OpLink) != 0) != byPath {
			t.Errorf("%s: asks about %b", condition, w.asking())
		}
	}
}

// Rules that only see have no directories above; so many that deny below one directory that the kernel holds no more of one
// thing are not refused for that.
func TestMuchAbove(t *testing.T) {
	if w := wishesOf(t, "- rule: r\n  condition: evt.operation = read and evt.path = /etc/shadow\n  output: o\n  priority: error\n"); len(w.above) != 0 || w.asking()&denyPaths != 0 {
		t.Errorf("%v, %b", w.above, w.asking())
	}
	var text strings.Builder
	for i := range 2 * maxTogether {
		fmt.Fprintf(&text, denyingRule, fmt.Sprintf("r%d", i), fmt.Sprintf("evt.operation = read and evt.path = /etc/f%d and proc.name = n%d", i, i))
	}
	w := wishesOf(t, text.String())
	wish := w.above[textWish{opAbove, "/etc"}]
	if denials := w.denials.value(wish.DenyHost); len(w.above) != 1 || denials.Of[maxTogether-1].Rule == 0 {
		t.Errorf("%d: %+v", len(w.above), denials)
	}
}
