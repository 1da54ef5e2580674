package enforce

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/plumbline-io/plumbline/pkg/rule"
	"github.com/plumbline-io/plumbline/pkg/rule/ruletest"
)

// Rules that ask the kernel for too much get an answer within a second of one processor, loading them included.
func TestWishBombs(t *testing.T) {
	if os.Getenv("PLUMBLINE_VM") != "" {
		t.Skip("the second is one of a real processor")
	}
	rules := func(n int, condition string) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, "- rule: r%d\n  condition: %s\n  output: o\n  priority: error\n", i, condition)
		}
		return b.String()
	}
	denied := func(n int, condition func(i int) string) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, "- rule: d%d\n  condition: %s\n  output: o\n  priority: error\n  action: deny\n  mode: enforce\n", i, condition(i))
		}
		return b.String()
	}
	list := func(n int, item func(i int) string) string {
		items := make([]string, n)
		for i := range items {
			items[i] = item(i)
		}
		return "- list: l\n  items: [" + strings.Join(items, ", ") + "]\n"
	}
	written := func(format string) func(int) string { return func(i int) string { return fmt.Sprintf(format, i) } }
	network := func(i int) string { return fmt.Sprintf("10.%d.%d.%d/32", i>>16, i>>8&255, i&255) }
	const opened = "evt.operation in (read, write, create, link, rename, delete)"
	for name, tc := range map[string]struct{ text, want string }{
		"ports":    {rules(9_000, "evt.operation in (connect, send, bind) and fd.sport < 4096"), "more than 262144 things"},
		"paths":    {list(30_000, written("/x%d")) + rules(1, "evt.operation = read and evt.path in (l)"), "more than 16384 paths"},
		"begins":   {list(3_000, written("/%04d"+strings.Repeat("x", 230))) + rules(1, opened+" and evt.path startswith anyof (l)"), "more than 16384 begins of paths"},
		"ends":     {list(30_000, written("%d.key")) + rules(1, "evt.operation = read and evt.path endswith anyof (l)"), "more than 16384 ends of paths"},
		"networks": {list(30_000, network) + rules(1, "evt.operation = connect and fd.sip in (l)"), "more than 16384 addresses and numbers"},
		"denials of one thing": {denied(3_000, func(i int) string {
			return "evt.operation = read and evt.path startswith /" + strings.Repeat("x", i%200) + " and proc.pname = n" + fmt.Sprint(i%50)
		}), "more than 1024 different combinations"},
		"denied paths": {denied(3_000, written("evt.operation = read and evt.path = /x%d")), "more than 1024 different combinations"},
		"deep paths":   {list(4_000, written("/%d"+strings.Repeat("/x", 115))) + denied(1, func(int) string { return "evt.operation = read and evt.path in (l)" }), "more than 16384 directories above paths"},
		// As much as fits.
		"denied begins": {list(1_400, written("/%04d"+strings.Repeat("x", 230))) + denied(14, func(i int) string {
			return fmt.Sprintf("evt.operation in (read, write) and evt.path startswith anyof (l) and not proc.pname in (a%d, b%d) and proc.name = c%d", i, i, i)
		}), ""},
		"long begins":   {list(2_700, written("/%04d"+strings.Repeat("x", 230))) + rules(1, opened+" and evt.path startswith anyof (l)"), ""},
		"long paths":    {list(2_700, written("/%04d"+strings.Repeat("x", 230))) + rules(1, opened+" and evt.path in (l)"), ""},
		"many networks": {list(16_000, network) + rules(1, "evt.operation = connect and fd.sip in (l)"), ""},
		"numbers":       {list(4_000, written("1%06d")) + rules(20, "evt.operation in (socket, setuid, setgid) and evt.value in (l)"), ""},
	} {
		t.Run(name, func(t *testing.T) {
			var problems []rule.Problem
			var err error
			ruletest.Bounded(t, time.Second, 256<<20, func() {
				var set *rule.Ruleset
				set, problems = rule.Load(rule.File{Name: "r.yaml", Data: []byte(tc.text)})
				_, err = compileWishes(set)
			})
			if len(problems) > 0 || (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%v, want %q; %.200s", err, tc.want, fmt.Sprint(problems))
			}
		})
	}
}
