package agent

import (
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/plumbline-io/plumbline/pkg/detect"
	"github.com/plumbline-io/plumbline/pkg/event"
)

// What an earlier agent has left is told of the workload whose cgroup is here, and of the one that the earlier
// agent meant where it is gone; of nobody's it is the node's.
func TestWhose(t *testing.T) {
	dir := t.TempDir()
	maps := newEntryMaps(100)
	earlier := newTestRegistry(t, dir, maps, maps)
	box := detect.Subject{Name: "0123456789ab", Kind: "container", ContainerID: "0123456789ab", SPIFFEID: "spiffe://x/box"}
	for i, w := range []detect.Subject{{Name: "a.service", Kind: "unit"}, {Name: "b.service", Kind: "unit"}, box} {
		if err := earlier.Join(uint64(i+1), w); err != nil {
			t.Fatal(err)
		}
	}
	s, err := openSuccessor(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Save(earlier); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(s.file.name); err == nil {
		t.Error("names are kept though nothing outlives the agent")
	}
	s.Begin("v3_1")
	if err := s.Save(earlier); err != nil {
		t.Fatal(err)
	}

	next := newTestRegistry(t, dir, maps, maps)
	// Another agent ended before it read anything: it keeps what it was given.
	if err := next.Find(2, detect.Subject{Name: "b.service", Kind: "unit"}); err != nil {
		t.Fatal(err)
	}
	a := &Agent{registry: next, cfg: Config{Log: slog.New(slog.NewTextHandler(io.Discard, nil))}}
	if a.successor, err = openSuccessor(dir); err != nil {
		t.Fatal(err)
	}
	a.successor.Begin("v3_2")
	if err := a.successor.Save(next); err != nil {
		t.Fatal(err)
	}
	if a.successor, err = openSuccessor(dir); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		left   string
		cgroup uint64
		id     uint32
		want   string
	}{
		"its cgroup is here":        {"v3_1", 2, 1, "b.service"},
		"its cgroup is gone":        {"v3_1", 3, 3, box.Name},
		"another cgroup of it":      {"v3_1", 9, 2, "b.service"},
		"it is gone":                {"v3_1", 1, 1, "a.service"},
		"an agent between the two":  {"v3_2", 7, 1, "b.service"},
		"nobody's":                  {"v3_1", 4, 0, ""},
		"an agent without any name": {"v3_3", 1, 1, ""},
	} {
		got, _ := next.Subject(a.whose(tc.left, &event.Event{CgroupID: tc.cgroup, Workload: tc.id}))
		if got.Name != tc.want {
			t.Errorf("%s: %q, want %q", name, got.Name, tc.want)
		}
	}
	if got, _ := next.Named(box.Name); got.SPIFFEID != box.SPIFFEID || got.ContainerID != box.ContainerID {
		t.Errorf("%+v", got)
	}

	// What is read is forgotten, and the container in time.
	a.successor.Begin("v3_4")
	a.successor.Read()
	if err := a.successor.Save(next); err != nil {
		t.Fatal(err)
	}
	if s, err = openSuccessor(dir); err != nil || len(s.all) != 1 || len(s.all["v3_4"]) != 3 {
		t.Errorf("%v, %v", s.all, err)
	}
	if err := next.Forget(); err != nil || !next.Knows(box.Name) {
		t.Error("forgotten at once:", err)
	}
}

// Names that cannot be read are no reason not to start.
func TestUnreadableNames(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "workloads.json"), []byte("[]"), 0o600); err != nil {
		t.Fatal(err)
	}
	a := &Agent{cfg: Config{StateDir: dir, Log: slog.New(slog.DiscardHandler)}}
	if err := a.openSuccessor(); err != nil {
		t.Fatal(err)
	}
	if w, known := a.successor.Name("v3_1", 1); known {
		t.Error(w)
	}
}

// What a container did while no agent ran is learnt for what it has in common with others, also if it has ended.
func TestRecallOfContainer(t *testing.T) {
	dir := t.TempDir()
	b := newBoxes(t, dir, map[string]string{"1": shopWeb})
	b.begin(1, "1", "/bin/a")
	names, changes := b.namesSince(0)
	if again, _ := b.namesSince(changes); again != nil || names[b.IDOf(1)].Baseline != shopWeb {
		t.Fatalf("names: %+v, %v", names, again)
	}
	b.must(b.Save())
	next := newBoxes(t, dir, nil) // nothing of it is left to be read
	id, err := next.Recall(names[b.IDOf(1)])
	next.must(err)
	learnPrograms(next.registry, id, "/bin/late")
	if text, err := next.Baseline(shopWeb); err != nil || !strings.Contains(string(text), "/bin/late") || !strings.Contains(string(text), "/bin/a") {
		t.Errorf("%v: %s", err, text)
	}
}
