package baseline

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/plumbline-io/plumbline/pkg/event"
)

var noon = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

const execOnly = event.Dimensions(1 << event.DimExec)

func binary(path string) event.Key { return event.Key{Op: event.OpExec, Path: path} }

func exec(path string) *event.Event {
	return &event.Event{Kind: event.Exec, Exec: event.ExecInfo{Path: path}}
}

func TestObserve(t *testing.T) {
	for name, tc := range map[string]struct {
		ev   *event.Event
		want Outcome
	}{
		"new":            {exec("/bin/a"), Learned},
		"known":          {exec("/bin/known"), Known},
		"relative":       {exec("bin/a"), Refused},
		"empty":          {exec(""), Refused},
		"too long":       {exec("/" + strings.Repeat("x", 255)), Refused},
		"deleted":        {&event.Event{Kind: event.Exec, Exec: event.ExecInfo{Path: "/bin/a", Unlinked: true}}, Refused},
		"outside root":   {&event.Event{Kind: event.Exec, Exec: event.ExecInfo{Path: "/bin/a", Detached: true}}, Refused},
		"partial path":   {&event.Event{Kind: event.Exec, Exec: event.ExecInfo{Path: "/bin/a", Partial: true}}, Refused},
		"long arguments": {&event.Event{Kind: event.Exec, Exec: event.ExecInfo{Path: "/bin/a", Truncated: true}}, Learned},
		"not an exec":    {&event.Event{Kind: event.Exit}, Known},
	} {
		t.Run(name, func(t *testing.T) {
			p := New("w", "unit", execOnly)
			p.Add(binary("/bin/known"), false, noon)
			if got := p.Observe(tc.ev, noon); got != tc.want {
				t.Errorf("got %d, want %d", got, tc.want)
			}
		})
	}
}

func TestPromote(t *testing.T) {
	learnt := func(runs int, noveltyInLast bool) *Profile {
		p := New("w", "unit", execOnly)
		p.Add(binary("/bin/a"), false, noon)
		for range runs {
			p.BeginRun()
		}
		if noveltyInLast {
			p.Add(binary("/bin/b"), false, noon)
		}
		return p
	}
	with := func(p *Profile, change func(*Profile)) *Profile {
		change(p)
		return p
	}
	for name, tc := range map[string]struct {
		p      *Profile
		reason string
		ready  bool
	}{
		"two runs":         {learnt(2, false), "", true},
		"one run":          {learnt(1, false), "", false},
		"one run, forced":  {learnt(1, false), "because", true},
		"news in last run": {learnt(3, true), "", false},
		"empty, forced":    {New("w", "unit", execOnly), "because", false},
		"partial":          {with(learnt(2, false), func(p *Profile) { p.entries.get(binary("/bin/a")).partial = true }), "", false},
		"partial, forced":  {with(learnt(2, false), func(p *Profile) { p.entries.get(binary("/bin/a")).partial = true }), "because", true},
		"frozen":           {with(learnt(2, false), func(p *Profile) { p.Freeze() }), "", true},
		"off":              {with(learnt(1, false), func(p *Profile) { p.Demote(event.Off) }), "", false},
		"from audit":       {with(learnt(1, false), func(p *Profile) { p.mode = event.AuditMode }), "", true},
	} {
		t.Run(name, func(t *testing.T) {
			err := tc.p.Promote(event.Enforce, tc.reason)
			if tc.ready != (err == nil) || err != nil && !errors.Is(err, ErrNotReady) {
				t.Fatalf("got %v", err)
			}
			if tc.ready && (tc.p.Mode() != event.Enforce || tc.p.Observe(exec("/bin/new"), noon) != Drift) {
				t.Errorf("mode %s", tc.p.Mode())
			}
		})
	}
}

func TestFreeze(t *testing.T) {
	p := New("w", "unit", execOnly)
	p.Add(binary("/bin/a"), true, noon)
	p.Freeze()
	if got := p.Observe(exec("/bin/b"), noon); got != Drift || p.Len() != 1 {
		t.Errorf("learnt %d after freezing", got)
	}
	if got := p.AddLate(binary("/bin/b"), noon); got != Drift || p.Len() != 1 {
		t.Errorf("learnt %d late after freezing", got)
	}
	digest := p.Digest()
	if got := p.Observe(exec("/bin/a"), noon); got != Known || p.Digest() != digest {
		t.Errorf("%d; what a known execution tells changed what was frozen", got)
	}
	if err := p.Merge(New("w", "unit", execOnly)); err == nil {
		t.Error("a frozen profile was widened")
	}
	again, err := Parse("f", p.Marshal())
	if err != nil || !again.Frozen() {
		t.Errorf("%v: not frozen any more\n%s", err, p.Marshal())
	}
	if p.Demote(event.Learn); p.Observe(exec("/bin/b"), noon) != Learned {
		t.Error("does not learn again")
	}
}

// Only a mode that holds a workload to its baseline is a promotion.
func TestPromoteToNothing(t *testing.T) {
	for _, mode := range []event.Mode{event.Off, event.Learn, event.Mode(9)} {
		if err := New("w", "unit", execOnly).Promote(mode, "because"); err == nil {
			t.Errorf("promoted to %s", mode)
		}
	}
}

// The form is a contract: reviews and signatures are about these bytes.
func TestForm(t *testing.T) {
	p := New("shop.service", "unit", execOnly)
	p.BeginRun()
	p.Add(binary("/usr/bin/shop"), true, noon)
	p.Add(binary("/bin/date"), false, noon.Add(time.Hour))
	p.Add(binary("/bin/date"), false, noon.Add(2*time.Hour))
	const want = `# What this workload has been seen to do. A section that is missing is neither learnt nor enforced.
# Coverage: partial: runs 1, entries 2, of them partial (their process was running already) 1.
# Something new was learnt last: 2026-01-02T13:00:00Z.
apiVersion: plumbline.io/v1
kind: Baseline
workload: shop.service
workloadKind: unit
mode: learn
exec:
  - path: /bin/date
  - path: /usr/bin/shop
    partial: true
observed:
  runs: 1
  noveltyInLastRun: true
  lastNovelty: 2026-01-02T13:00:00Z
  entries:
    - key: /bin/date
      count: 2
      first: 2026-01-02T13:00:00Z
      last: 2026-01-02T14:00:00Z
    - key: /usr/bin/shop
      count: 1
      first: 2026-01-02T12:00:00Z
      last: 2026-01-02T12:00:00Z
`
	if got := string(p.Marshal()); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	head, _, _ := strings.Cut(want, "observed:")
	if _, head, _ = strings.Cut(head, "last: 2026-01-02T13:00:00Z.\n"); string(p.Canonical()) != head {
		t.Errorf("canonical:\n%s", p.Canonical())
	}
}

// The same behaviour in another order, at other times, has the same canonical bytes.
func TestCanonical(t *testing.T) {
	a, b := New("w", "unit", execOnly), New("w", "unit", execOnly)
	for i, path := range []string{"/bin/a", "/bin/b", "/bin/c"} {
		a.Add(binary(path), false, noon.Add(time.Duration(i)*time.Hour))
	}
	for _, path := range []string{"/bin/c", "/bin/a", "/bin/b", "/bin/a"} {
		b.Add(binary(path), false, noon)
	}
	if !bytes.Equal(a.Canonical(), b.Canonical()) || a.Digest() != b.Digest() {
		t.Errorf("differ:\n%s\n%s", a.Canonical(), b.Canonical())
	}
	if bytes.Equal(a.Marshal(), b.Marshal()) {
		t.Error("the counts do not show")
	}
}

func TestRoundTrip(t *testing.T) {
	p := New("odd: name\n", "cgroup", execOnly)
	p.BeginRun()
	p.Add(binary("/bin/a b"), true, noon)
	p.Add(binary("/bin/\xff"), false, noon)
	if err := p.Promote(event.AuditMode, "why: \"not\""); err != nil {
		t.Fatal(err)
	}
	p.StepDown(event.AllDimensions)
	p.full = p.full.With(event.DimFile).With(event.DimNetwork)
	got, err := Parse("f", p.Marshal())
	if err != nil {
		t.Fatalf("%v\n%s", err, p.Marshal())
	}
	if !bytes.Equal(got.Marshal(), p.Marshal()) || got.Mode() != event.AuditMode || got.SteppedDown() != event.AllDimensions || got.Full() != p.full || !slices.Equal(got.Keys(), p.Keys()) {
		t.Errorf("got\n%s\nwant\n%s", got.Marshal(), p.Marshal())
	}
}

// Who goes back to an earlier agent must not lose what is enforced: it refuses a baseline with a field that it does not know, and
// holds the workload to nothing. What a later agent has to remember besides needs a file of its own.
func TestFieldsAreOfEarlierVersions(t *testing.T) {
	p := New("web.service", "unit", event.AllDimensions)
	p.BeginRun()
	p.Add(binary("/bin/a"), true, noon)
	p.NoteFile(binary("/bin/a"), noon)
	if err := p.Promote(event.Enforce, "test"); err != nil {
		t.Fatal(err)
	}
	p.StepDown(event.AllDimensions)
	p.full = event.AllDimensions
	var doc struct {
		Rest     map[string]any `yaml:",inline"`
		Observed map[string]any `yaml:"observed"`
	}
	if err := yaml.Unmarshal(p.Marshal(), &doc); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		fields map[string]any
		want   string
	}{
		{doc.Rest, "apiVersion exec file forced kind library mode network privilege unix workload workloadKind"},
		{doc.Observed, "entries full lastNovelty noveltyInLastRun runs steppedDown"},
		{doc.Observed["entries"].([]any)[0].(map[string]any), "changed count first key last"},
	} {
		if got := strings.Join(slices.Sorted(maps.Keys(tc.fields)), " "); got != tc.want {
			t.Errorf("fields are %s, earlier agents know %s", got, tc.want)
		}
	}
}

func TestParseErrors(t *testing.T) {
	head := "apiVersion: plumbline.io/v1\nkind: Baseline\nworkload: w\nworkloadKind: unit\nmode: learn\n"
	for name, tc := range map[string]struct{ text, want string }{
		"empty":         {"", "f: baseline is empty"},
		"null":          {"---\n", "f: baseline is empty"},
		"other kind":    {"apiVersion: v1\nkind: Pod\n", `f:1: apiVersion "v1" and kind "Pod"`},
		"unknown field": {head + "exce: []\n", `f:6: unknown field "exce"`},
		"twice a field": {head + "mode: enforce\n", "f:6: mode stands here twice"},
		"no workload":   {"apiVersion: plumbline.io/v1\nkind: Baseline\nmode: learn\n", "f:1: no workload"},
		"no mode":       {"apiVersion: plumbline.io/v1\nkind: Baseline\nworkload: w\n", "f:1: mode: unknown mode"},
		"no mapping":    {"- a\n", "f:1: expected apiVersion"},
		"no list":       {head + "exec: /bin/a\n", "f:6: expected a list"},
		"no entry":      {head + "exec:\n  - /bin/a\n", "f:7: expected path"},
		"alias":         {head + "exec:\n  - path: &a /a\n  - path: *a\n", "f:8: path: aliases are not allowed"},
		"not a flag":    {head + "exec:\n  - path: /a\n    partial: maybe\n", `f:8: "maybe" is not of the right type`},
		"negative runs": {head + "observed:\n  runs: -1\n", "f:7: runs: -1 is negative"},
		"dimension":     {head + "observed:\n  full: [exec, fiel]\n", `f:7: observed: unknown dimension "fiel"`},
		"dimensions":    {head + "observed:\n  steppedDown: exec\n", "f:7: expected a list"},
		"count":         {head + "exec: [{path: /a}]\nobserved:\n  exec:\n    - path: /a\n      count: -1\n", `f:10: "-1" is not of the right type`},
		"two documents": {head + "---\n" + head, "f:6: a second document"},
		"syntax":        {head + "exec: [\n", "f:6: did not find expected node content"},
		"too long":      {head + strings.Repeat("#", maxFile), "f: baseline of more than"},
		"too deep":      {strings.Repeat("[", 20000), "f: exceeded max depth"},
		"twice":         {head + "exec:\n  - path: /a\n  - path: /a\n", `f:8: exec: "/a" is listed twice`},
		"relative":      {head + "exec:\n  - path: /a\n  - path: a\n", `f:8: exec: "a" is no absolute path of at most 255 bytes`},
		"bad mode":      {strings.Replace(head, "learn", "watch", 1), `f:5: mode: unknown mode "watch"`},
		"not in exec":   {head + "observed:\n  exec:\n    - path: /b\n", `f:8: observed: "/b" is not in exec`},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Parse("f", []byte(tc.text))
			if err == nil || !strings.HasPrefix(err.Error(), tc.want) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
}

// What another did is learnt, its run and its notes of files are not; what does not learn any more tells what it lacks.
func TestAdopt(t *testing.T) {
	p, other := New("common", "container", execOnly), New("0123456789ab", "container", execOnly)
	p.BeginRun()
	p.Add(binary("/bin/both"), true, noon)
	other.BeginRun()
	for _, path := range []string{"/bin/b", "/bin/both"} {
		other.Add(binary(path), false, noon)
		other.NoteFile(binary(path), noon)
	}
	other.Add(binary("/bin/found"), true, noon)
	if left := p.Adopt(other); len(left) != 0 || p.Runs() != 1 || p.Partial() != 1 || p.Len() != 3 || p.Workload() != "common" {
		t.Errorf("left %v:\n%s", left, p.Marshal())
	}
	if before := p.NoteFile(binary("/bin/b"), noon); !before.IsZero() {
		t.Errorf("the file is known: %v", before)
	}
	cut := New("0123456789ac", "container", execOnly)
	cut.Observe(&event.Event{Kind: event.Exec, Exec: event.ExecInfo{Path: "/long", Partial: true}}, noon)
	if p.Adopt(cut); p.Full() != execOnly {
		t.Errorf("what it could not name is forgotten: full are %b", p.Full())
	}
	p.Demote(event.Learn)
	if err := p.Promote(event.Enforce, "test"); err != nil {
		t.Fatal(err)
	}
	other.Add(binary("/bin/c"), false, noon)
	if left := p.Adopt(other); !slices.Equal(left, []event.Key{binary("/bin/c")}) || p.Len() != 3 {
		t.Errorf("left %v:\n%s", left, p.Marshal())
	}
}

func TestDiffAndMerge(t *testing.T) {
	a, b := New("w", "unit", execOnly), New("w", "unit", execOnly)
	a.Add(binary("/bin/a"), true, noon)
	a.Add(binary("/bin/both"), true, noon)
	b.Add(binary("/bin/b"), false, noon)
	b.Add(binary("/bin/both"), false, noon)
	d := Diff(a, b)
	if !slices.Equal(d.Added, []event.Key{binary("/bin/b")}) || !slices.Equal(d.Removed, []event.Key{binary("/bin/a")}) {
		t.Errorf("%+v", d)
	}
	if err := a.Merge(b); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(a.Keys(), []event.Key{binary("/bin/a"), binary("/bin/b"), binary("/bin/both")}) || strings.Contains(string(a.Canonical()), "/bin/both\n    partial") {
		t.Errorf("merged:\n%s", a.Canonical())
	}
	if err := a.Merge(New("other", "unit", execOnly)); err == nil {
		t.Error("merged another workload's baseline")
	}
	// Two runs without news are ready.
	c := New("w", "unit", execOnly)
	c.BeginRun()
	c.Add(binary("/bin/a"), false, noon)
	d2, err := Parse("f", c.Marshal())
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Promote(event.Enforce, ""); !errors.Is(err, ErrNotReady) {
		t.Errorf("one run: %v", err)
	}
	if err := c.Merge(d2); err != nil {
		t.Fatal(err)
	}
	if err := c.Promote(event.Enforce, ""); err != nil {
		t.Error(err)
	}
}

func TestFull(t *testing.T) {
	p := New("w", "unit", execOnly)
	for i := range MaxEntries {
		if got := p.Add(binary(fmt.Sprintf("/bin/%d", i)), false, noon); got != Learned {
			t.Fatalf("%d: %d", i, got)
		}
	}
	if got := p.Add(binary("/bin/one-more"), false, noon); got != Full || p.Full() != execOnly {
		t.Errorf("got %d, want Full; full are %b", got, p.Full())
	}
	if p.Demote(event.Learn); p.Full() != 0 {
		t.Errorf("learnt anew: full are %b", p.Full())
	}
}

// A workload that learns, and uses a path which is too long for a baseline, would be denied it: that dimension is not known
// as a whole. What is seen of one that is held changes nothing.
func TestCutWhileLearning(t *testing.T) {
	dims := execOnly.With(event.DimFile)
	long := func() *event.Event {
		return &event.Event{Kind: event.Access, Access: event.AccessInfo{Key: event.Key{Op: event.OpRead, Path: "/long"}, Partial: true}}
	}
	p := New("w", "unit", dims)
	if p.Add(binary("/bin/a"), false, noon) != Learned || p.Full() != 0 {
		t.Fatalf("full are %b", p.Full())
	}
	p.Observe(&event.Event{Kind: event.Exec, Exec: event.ExecInfo{Path: "/memfd:x", Unlinked: true}}, noon)
	if p.Full() != 0 {
		t.Errorf("a file without a name: full are %b", p.Full())
	}
	if got := p.Observe(long(), noon); got != Refused || p.Full() != event.Dimensions(0).With(event.DimFile) {
		t.Errorf("got %d; full are %b", got, p.Full())
	}
	p.Demote(event.Learn)
	if err := p.Promote(event.Enforce, "test"); err != nil {
		t.Fatal(err)
	}
	if p.Observe(long(), noon); p.Full() != 0 {
		t.Errorf("held: full are %b", p.Full())
	}
}

// However odd and many the paths are, what was saved can be read.
func TestLargestProfile(t *testing.T) {
	p := New("w", "unit", execOnly)
	for i := 0; ; i++ {
		path := fmt.Sprintf("/%d", i) + strings.Repeat("\x01\ue000", 56)
		if i%2 == 0 {
			path = fmt.Sprintf("/%d", i) + strings.Repeat("\xff", 240)
		}
		if p.Add(binary(path), true, noon) == Full {
			break
		}
	}
	if p.Len() < 2000 {
		t.Fatalf("full with %d", p.Len())
	}
	again, err := Parse("f", p.Marshal())
	if err != nil || !slices.Equal(again.Keys(), p.Keys()) {
		t.Errorf("%d bytes: %v", len(p.Marshal()), err)
	}
}

func BenchmarkObserveKnown(b *testing.B) {
	p := New("w", "unit", execOnly)
	ev := exec("/bin/a")
	p.Observe(ev, noon)
	b.ReportAllocs()
	for b.Loop() {
		p.Observe(ev, noon)
	}
}

// When a file was changed is of one node: it is kept in what was observed, to the nanosecond, and is no part
// of what is signed.
func TestNoteFile(t *testing.T) {
	p, k := New("w", "unit", execOnly), binary("/bin/a")
	p.Add(k, false, noon)
	digest := p.Digest()
	first, then := time.Unix(7, 123456789), time.Unix(8, 1)
	if before := p.NoteFile(k, first); !before.IsZero() {
		t.Errorf("before anything was noted: %s", before)
	}
	if p.Digest() != digest {
		t.Error("the digest has changed")
	}
	again, err := Parse("f", p.Marshal())
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(again.Marshal(), p.Marshal()) {
		t.Errorf("got\n%s\nwant\n%s", again.Marshal(), p.Marshal())
	}
	if before := again.NoteFile(k, then); !before.Equal(first) {
		t.Errorf("before: %s, want %s", before, first)
	}
	if before := again.NoteFile(binary("/bin/b"), then); !before.IsZero() || again.Len() != 1 {
		t.Error("a file that is not in the baseline was noted")
	}
	if err := again.Merge(p); err != nil {
		t.Fatal(err)
	}
	if before := again.NoteFile(k, then); !before.IsZero() {
		t.Errorf("two nodes have one file: %s", before)
	}
}
