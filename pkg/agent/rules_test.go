package agent

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"

	"github.com/plumbline-io/plumbline/pkg/alert"
	"github.com/plumbline-io/plumbline/pkg/detect"
	"github.com/plumbline-io/plumbline/pkg/event"
	"github.com/plumbline-io/plumbline/pkg/rule"
	"github.com/plumbline-io/plumbline/pkg/rulefile"
	"github.com/plumbline-io/plumbline/rules"
)

func builtInRules(t testing.TB) *rule.Ruleset {
	t.Helper()
	var files rulefile.Files
	if err := files.AddFS(rules.Files, rulefile.BuiltIn); err != nil {
		t.Fatal(err)
	}
	set, problems := rule.Load(files.Rules...)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	return set
}

// ruleOn is a rule file with one rule.
func ruleOn(name, condition string) string {
	return fmt.Sprintf("- rule: %s\n  desc: d\n  condition: %s\n  output: it was %%proc.exepath\n  priority: NOTICE\n", name, condition)
}

// shelf is a rulebook over a directory, and what became of it.
type shelf struct {
	*rulebook
	dir  string
	used atomic.Pointer[rule.Ruleset]

	mu     sync.Mutex
	alerts []alert.Alert
}

func newShelf(t *testing.T) *shelf {
	t.Helper()
	s := &shelf{dir: t.TempDir()}
	s.rulebook = &rulebook{rulebookConfig: rulebookConfig{
		BuiltIn: fstest.MapFS{}, Least: alert.Debug, Paths: []string{s.dir}, Node: "n1", Now: time.Now, Log: slog.New(slog.DiscardHandler),
		Use: func(set *rule.Ruleset) error { s.used.Store(set); return nil },
		Raise: func(a alert.Alert) {
			s.mu.Lock()
			s.alerts = append(s.alerts, a)
			s.mu.Unlock()
		},
	}}
	return s
}

// write replaces a file at once, as a careful editor does.
func (s *shelf) write(t *testing.T, name, text string) {
	t.Helper()
	to := filepath.Join(s.dir, name)
	if err := os.WriteFile(to+".new", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(to+".new", to); err != nil {
		t.Fatal(err)
	}
}

// names of the rules in force.
func (s *shelf) names() string {
	var names []string
	for _, r := range s.used.Load().Rules() {
		names = append(names, r.Name)
	}
	return strings.Join(names, " ")
}

func TestReload(t *testing.T) {
	s := newShelf(t)
	if err := s.Open(); err != nil || s.names() != "" {
		t.Fatalf("an empty directory: %v, %q", err, s.names())
	}
	s.write(t, "a.yaml", ruleOn("A", "evt.type = execve"))
	if got := s.Reload("test"); s.names() != "A" || got.Rules != 1 || got.Reloads != 1 || got.Refused != 0 || got.Problems != nil {
		t.Errorf("%q %+v", s.names(), got)
	}
	before := s.Status().Digest

	// A mistake keeps what is in force, also of the files that are right.
	s.write(t, "b.yaml", ruleOn("B", "evt.type = execve")+ruleOn("C", "evt.typo = execve"))
	got := s.Reload("test")
	if s.names() != "A" || got.Rules != 1 || got.Reloads != 1 || got.Refused != 1 || got.Digest != before || len(got.Problems) != 1 {
		t.Errorf("%q %+v", s.names(), got)
	}
	place := filepath.Join(s.dir, "b.yaml") + ":8:14: "
	if !strings.HasPrefix(got.Problems[0], place) {
		t.Errorf("%q does not begin with %q", got.Problems[0], place)
	}
	if len(s.alerts) != 1 || s.alerts[0].Rule != RulesRefusedRule || !strings.Contains(s.alerts[0].Output, place) {
		t.Fatalf("%+v", s.alerts)
	}

	// The same mistake is not told again unless somebody asks.
	if s.Changed(); len(s.alerts) != 1 {
		t.Errorf("%d alerts", len(s.alerts))
	}

	s.write(t, "b.yaml", ruleOn("B", "evt.type = execve"))
	if s.Changed(); s.names() != "A B" || s.Status().Problems != nil || s.Status().Reloads != 2 {
		t.Errorf("%q %+v", s.names(), s.Status())
	}

	// A file that cannot be read is a mistake too.
	if err := os.RemoveAll(s.dir); err != nil {
		t.Fatal(err)
	}
	if got := s.Reload("test"); s.names() != "A B" || got.Refused != 2 || !strings.Contains(got.Problems[0], "no such file") {
		t.Errorf("%q %+v", s.names(), got)
	}
}

// At the start there is nothing that could stay: the good rules are taken.
func TestOpenLeavesOutWhatIsWrong(t *testing.T) {
	s := newShelf(t)
	s.write(t, "a.yaml", ruleOn("A", "evt.type = execve")+ruleOn("B", "evt.typo = execve"))
	if err := s.Open(); err != nil || s.names() != "A" || len(s.Status().Problems) != 1 {
		t.Errorf("%v %q %+v", err, s.names(), s.Status())
	}
}

// Rules that are not severe enough are read, and not in force.
func TestMinimumPriority(t *testing.T) {
	s := newShelf(t)
	s.Least = alert.Critical
	s.write(t, "a.yaml", ruleOn("A", "evt.type = execve")+strings.Replace(ruleOn("B", "evt.type = execve"), "priority: ", "priority: critical # ", 1))
	if err := s.Open(); err != nil || s.names() != "B" || s.Status().Disabled != 1 || len(s.Status().Problems) != 0 {
		t.Errorf("%v %q %+v", err, s.names(), s.Status())
	}
}

func TestRulesThatCannotBeUsedChangeNothing(t *testing.T) {
	s := newShelf(t)
	if err := s.Open(); err != nil {
		t.Fatal(err)
	}
	s.Use = func(*rule.Ruleset) error { return fmt.Errorf("load rules into the kernel: no memory") }
	s.write(t, "a.yaml", ruleOn("A", "evt.type = execve"))
	if got := s.Reload("test"); got.Rules != 0 || got.Refused != 1 || got.Problems[0] != "load rules into the kernel: no memory" {
		t.Errorf("%+v", got)
	}
}

func TestRulesAreWatched(t *testing.T) {
	s := newShelf(t)
	if err := s.Open(); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	signals := make(chan os.Signal)
	var tasks sync.WaitGroup
	tasks.Go(func() { _ = s.Watch(ctx) })
	tasks.Go(func() { _ = s.Obey(ctx, signals) })
	t.Cleanup(func() { stop(); tasks.Wait() })

	s.write(t, "a.yaml", ruleOn("A", "evt.type = execve"))
	waitUntil(t, "the file to be noticed", func() bool { return s.names() == "A" })
	n := s.Status().Reloads
	signals <- os.Interrupt
	waitUntil(t, "the signal to be obeyed", func() bool { return s.Status().Reloads == n+1 })
}

func waitUntil(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !is(); time.Sleep(100 * time.Microsecond) {
		if time.Now().After(end) {
			t.Fatal("waited in vain for", what)
		}
	}
}

// While rules are reloaded a thousand times, every event is judged by the old set or by the new one: each of
// them has one rule for it, under another name.
func TestReloadUnderLoad(t *testing.T) {
	const reloads = 1000
	s := newShelf(t)
	text := [2]string{ruleOn("Even", "evt.type = execve"), ruleOn("Odd", "evt.type = execve")}
	s.write(t, "a.yaml", text[0])
	detector := detect.New(detect.Config{Wall: func(uint64) time.Time { return time.Unix(1, 0) }})
	s.Use = func(set *rule.Ruleset) error { detector.SetRuleset(set); return nil }
	if err := s.Open(); err != nil {
		t.Fatal(err)
	}

	var done atomic.Bool
	var events atomic.Uint64
	judged := map[string]uint64{}
	var loop sync.WaitGroup
	loop.Go(func() {
		ev := &event.Event{Kind: event.Exec, Exec: event.ExecInfo{Path: "/bin/x"}}
		var out []alert.Alert
		for !done.Load() {
			events.Add(1)
			out = detector.Observe(ev, &detect.Subject{Name: "w"}, out[:0])
			for _, a := range out {
				judged[a.Rule]++
			}
		}
	})
	for i := range reloads {
		before := events.Load()
		s.write(t, "a.yaml", text[(i+1)%2])
		s.Changed()
		waitUntil(t, "events between two reloads", func() bool { return events.Load() > before })
	}
	done.Store(true)
	loop.Wait()

	if got := s.Status(); got.Reloads != reloads || got.Refused != 0 {
		t.Errorf("%+v", got)
	}
	if judged["Even"]+judged["Odd"] != events.Load() || judged["Even"] == 0 || judged["Odd"] == 0 || len(judged) != 2 {
		t.Errorf("%d events were judged so: %v", events.Load(), judged)
	}
	t.Logf("%d events, %v", events.Load(), judged)
}
