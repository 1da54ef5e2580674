package cli

import (
	"io"
	"testing"

	"github.com/spf13/cobra"
)

func newRoot() *cobra.Command {
	root := &cobra.Command{Use: "tool"}
	group := &cobra.Command{Use: "group"}
	group.AddCommand(&cobra.Command{Use: "show NAME", Args: Names("NAME"), Run: func(*cobra.Command, []string) {}})
	group.AddCommand(&cobra.Command{Use: "merge FILE...", Args: AtLeast("FILE..."), Run: func(*cobra.Command, []string) {}})
	root.AddCommand(group)
	Strict(root)
	root.SetOut(io.Discard)
	return root
}

func TestStrict(t *testing.T) {
	for name, tc := range map[string]struct {
		args []string
		want string // "": no error
	}{
		"nothing":              {nil, ""},
		"group":                {[]string{"group"}, ""},
		"verb":                 {[]string{"group", "show", "a"}, ""},
		"help":                 {[]string{"help"}, ""},
		"help of a verb":       {[]string{"help", "group", "show"}, ""},
		"completion":           {[]string{"completion", "bash"}, ""},
		"unknown":              {[]string{"grop"}, `unknown command "grop" for "tool" (did you mean group?)`},
		"unknown in a group":   {[]string{"group", "shw"}, `unknown command "shw" for "tool group" (did you mean show?)`},
		"like none":            {[]string{"group", "paint"}, `unknown command "paint" for "tool group"`},
		"unknown shell":        {[]string{"completion", "ksh"}, `unknown command "ksh" for "tool completion"`},
		"help of unknown":      {[]string{"help", "grop"}, `unknown command "grop" for "tool"`},
		"help of unknown verb": {[]string{"help", "group", "shw"}, `unknown command "shw" for "tool group"`},
		"no name":              {[]string{"group", "show"}, `read arguments of "tool group show": want NAME, got 0`},
		"no files":             {[]string{"group", "merge"}, `read arguments of "tool group merge": want FILE..., got none`},
		"two files":            {[]string{"group", "merge", "a", "b"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			root := newRoot()
			root.SetArgs(append([]string{}, tc.args...))
			got := ""
			if err := root.Execute(); err != nil {
				got = err.Error()
			}
			if got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
	for text, want := range map[string]string{
		"":                      "",
		"\n":                    "\n",
		"a\x1b[2J\nb\r\n\nc\td": "a\\x1b[2J\nb\\r\n\nc\\td",
	} {
		if got := PrintableLines(text); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestFlagError(t *testing.T) {
	for arg, want := range map[string]string{
		"--limit=x":                    `read --limit: "x" is not a whole number`,
		"--limit=99999999999999999999": "read --limit: 99999999999999999999 is too large",
		"--wait=soon":                  `read --wait: "soon" is not a duration such as 90s or 10m`,
		"--quick=maybe":                `read --quick: "maybe" is not true or false`,
		"--colour":                     "unknown flag: --colour",
	} {
		root := newRoot()
		root.Flags().Int("limit", 1, "")
		root.Flags().Duration("wait", 0, "")
		root.Flags().Bool("quick", false, "")
		root.SetArgs([]string{arg})
		if err := root.Execute(); err == nil || err.Error() != want {
			t.Errorf("%s: got %v, want %s", arg, err, want)
		}
	}
}

func TestPrintable(t *testing.T) {
	for name, tc := range map[string]struct{ text, want string }{
		"plain":         {"/usr/bin/längst a", "/usr/bin/längst a"},
		"escape":        {"a\x1b[2J", `a\x1b[2J`},
		"lines":         {"a\nb\tc", `a\nb\tc`},
		"direction":     {"a\u202eb", `a\u202eb`},
		"not UTF-8":     {"a\xff", `a\xff`},
		"quotes remain": {`a"b\c`, `a"b\c`},
	} {
		t.Run(name, func(t *testing.T) {
			if got := Printable(tc.text); got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}
