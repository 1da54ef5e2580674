package alertstore

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/plumbline-io/plumbline/pkg/alert"
)

var t0 = time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)

func entry(t testing.TB, seq uint64, change func(*alert.Alert)) Entry {
	t.Helper()
	a := alert.Alert{
		Time: t0.Add(time.Duration(seq) * time.Second), Rule: "r", Severity: alert.Warning, Source: "syscall",
		Fields: map[string]any{"evt.time": int64(1700000000123456789)},
		Detail: alert.Detail{ID: alert.ID{Node: "n1", Epoch: "e1", Seq: seq}, Verdict: "deny", Hook: "lsm", Workload: "web"},
	}
	if change != nil {
		change(&a)
	}
	b, err := json.Marshal(a)
	if err != nil {
		t.Fatal(err)
	}
	return Entry{a, b}
}

func open(t testing.TB) (*Store, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "a b%?#.db") // a name that a URL would spoil
	s, err := Open(context.Background(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s, path
}

func insert(t testing.TB, s *Store, batch ...Entry) int {
	t.Helper()
	n, err := s.Insert(context.Background(), batch, t0.Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestStoredOnce(t *testing.T) {
	s, _ := open(t)
	ctx := context.Background()
	if n := insert(t, s, entry(t, 1, nil), entry(t, 2, nil), entry(t, 1, nil)); n != 2 {
		t.Errorf("%d new, want 2", n)
	}
	if n := insert(t, s, entry(t, 2, nil), entry(t, 4, nil)); n != 1 {
		t.Errorf("%d new, want 1", n)
	}
	found, err := s.Query(ctx, Filter{})
	if err != nil || len(found) != 3 {
		t.Fatalf("%d found, %v", len(found), err)
	}
	epochs, err := s.Epochs(ctx, "n1")
	if want := (Epoch{"n1", "e1", 3, 4}); err != nil || len(epochs) != 1 || epochs[0] != want {
		t.Errorf("%+v %v, want %+v", epochs, err, want)
	}
	ids := []alert.ID{{Node: "n1", Epoch: "e1", Seq: 2}, {Node: "n1", Epoch: "e1", Seq: 3}, {Node: "n1", Epoch: "e2", Seq: 2}}
	have, err := s.Has(ctx, ids)
	if err != nil || len(have) != 1 || have[0] != ids[0] {
		t.Errorf("has %v %v", have, err)
	}
}

func TestRejectedCountsAsSeen(t *testing.T) {
	s, _ := open(t)
	ctx := context.Background()
	id := alert.ID{Node: "n1", Epoch: "e1", Seq: 9}
	for range 2 {
		if err := s.Reject(ctx, Rejected{id.String(), "no JSON", []byte("{")}, t0); err != nil {
			t.Fatal(err)
		}
	}
	if have, err := s.Has(ctx, []alert.ID{id}); err != nil || len(have) != 1 {
		t.Errorf("has %v %v", have, err)
	}
}

func TestQuery(t *testing.T) {
	s, _ := open(t)
	insert(t, s,
		entry(t, 1, nil),
		entry(t, 2, func(a *alert.Alert) { a.Severity, a.Rule = alert.Critical, "other" }),
		entry(t, 3, func(a *alert.Alert) {
			a.Detail.Workload, a.Detail.SPIFFEID = "db", "spiffe://example.org/prod/db"
		}),
		entry(t, 4, func(a *alert.Alert) { a.Severity, a.Detail.ID.Node = alert.Debug, "n2" }),
	)
	severity := func(s alert.Severity) *alert.Severity { return &s }
	cursor := func(c int64) *int64 { return &c }
	for name, tc := range map[string]struct {
		filter Filter
		want   string
	}{
		"all in time order":   {Filter{}, "1 2 3 4"},
		"newest":              {Filter{Limit: 2}, "3 4"},
		"after a cursor":      {Filter{After: cursor(1), Limit: 2}, "2 3"},
		"from the beginning":  {Filter{After: cursor(0)}, "1 2 3 4"},
		"since":               {Filter{Since: t0.Add(3 * time.Second)}, "3 4"},
		"until":               {Filter{Until: t0.Add(3 * time.Second)}, "1 2"},
		"severity":            {Filter{Severity: severity(alert.Warning)}, "1 2 3"},
		"severity emergency":  {Filter{Severity: severity(alert.Emergency)}, ""},
		"workload name":       {Filter{Workload: "we"}, "1 2 4"},
		"workload SPIFFE ID":  {Filter{Workload: "example.org/prod"}, "3"},
		"rule":                {Filter{Rule: "other"}, "2"},
		"node":                {Filter{Node: "n2"}, "4"},
		"quote in an operand": {Filter{Rule: "' OR 1 --"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			found, err := s.Query(context.Background(), tc.filter)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, f := range found {
				got = append(got, fmt.Sprint(f.Alert.Detail.ID.Seq))
			}
			if strings.Join(got, " ") != tc.want {
				t.Errorf("got %v, want %s", got, tc.want)
			}
		})
	}
}

func TestFieldsAndTimesSurvive(t *testing.T) {
	s, path := open(t)
	insert(t, s, entry(t, 1, nil))
	other, err := Open(context.Background(), path) // a second opener, as after a restart
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	found, err := other.Query(context.Background(), Filter{})
	if err != nil || len(found) != 1 {
		t.Fatal(found, err)
	}
	b, err := json.Marshal(found[0].Alert)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"evt.time":1700000000123456789`, `"stored_time":"2026-01-02T04:04:05.000000006Z"`, `"time":"2026-01-02T03:04:06.000000006Z"`} {
		if !strings.Contains(string(b), want) {
			t.Errorf("no %s in %s", want, b)
		}
	}
	if last, err := other.Last(context.Background()); last != 1 || err != nil {
		t.Errorf("last %d %v", last, err)
	}
}

func TestAgents(t *testing.T) {
	s, _ := open(t)
	ctx := context.Background()
	insert(t, s, entry(t, 1, nil), entry(t, 5, nil), entry(t, 2, func(a *alert.Alert) { a.Detail.ID.Epoch = "e2" }))
	for i, node := range []string{"n2", "n1", "n1"} {
		hb := Agent{Tenant: "t", Cluster: "c", Node: node, LastSeen: t0.Add(time.Duration(i) * time.Second), Heartbeat: json.RawMessage(fmt.Sprint(i))}
		if err := s.SaveHeartbeat(ctx, hb); err != nil {
			t.Fatal(err)
		}
	}
	got, err := s.Agents(ctx)
	if err != nil || len(got) != 2 {
		t.Fatal(got, err)
	}
	if a := got[0]; a.Node != "n1" || string(a.Heartbeat) != "2" || !a.LastSeen.Equal(t0.Add(2*time.Second)) || a.Stored != 3 || a.Missing != 4 {
		t.Errorf("%+v", a)
	}
	if a := got[1]; a.Node != "n2" || a.Stored != 0 || a.Missing != 0 {
		t.Errorf("%+v", a)
	}
}

func TestForeignSchemaIsRefused(t *testing.T) {
	s, path := open(t)
	if _, err := s.write.Exec("PRAGMA user_version = 99"); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(context.Background(), path); err == nil || !strings.Contains(err.Error(), "schema version 99") {
		t.Errorf("opened: %v", err)
	}
}

func BenchmarkInsert(b *testing.B) {
	for _, size := range []int{1, 100} {
		b.Run(fmt.Sprintf("batch%d", size), func(b *testing.B) {
			s, _ := open(b)
			seq := uint64(0)
			b.ReportAllocs()
			for b.Loop() {
				b.StopTimer()
				batch := make([]Entry, size)
				for i := range batch {
					seq++
					batch[i] = entry(b, seq, nil)
				}
				b.StartTimer()
				insert(b, s, batch...)
			}
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*size), "us/alert")
		})
	}
}
