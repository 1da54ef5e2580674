package process_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/cilium/ebpf"

	"github.com/plumbline-io/plumbline/pkg/event"
	"github.com/plumbline-io/plumbline/pkg/sensor"
	"github.com/plumbline-io/plumbline/pkg/sensor/process"
	"github.com/plumbline-io/plumbline/pkg/sensor/sensortest"
	"github.com/plumbline-io/plumbline/pkg/workload"
)

func open(t *testing.T) (*sensortest.Scope, *sensortest.Events) {
	t.Helper()
	scope := sensortest.NewScope(t)
	p, err := process.Open(scope.Shared)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return scope, sensortest.Collect(t, scope.Shared, p)
}

// A shell that runs two programs and then ends with 3: every event is known beforehand.
func TestLifeOfAProcessTree(t *testing.T) {
	scope, got := open(t)
	cmd := scope.Command(t, "/bin/sh", "-c", "cd /dev; /bin/cat /dev/null; /bin/cat a-file-that-is-not; exit 3")
	var exit *exec.ExitError
	if err := cmd.Run(); !errors.As(err, &exit) || exit.ExitCode() != 3 {
		t.Fatalf("shell: %v, want exit status 3", err)
	}
	exits := got.Wait(t, event.Exit, 3)
	forks := got.Wait(t, event.Fork, 2)
	execs := got.Wait(t, event.Exec, 3)

	shell := uint32(cmd.Process.Pid)
	shPath, catPath := resolved(t, "/bin/sh"), resolved(t, "/bin/cat")
	wantPaths := []string{shPath, catPath, catPath}
	for i, ev := range execs {
		if ev.Exec.Path != wantPaths[i] || ev.CgroupID != scope.ID || ev.Workload != scope.Workload {
			t.Errorf("exec %d: path %q cgroup %d workload %d, want %q %d %d", i, ev.Exec.Path, ev.CgroupID, ev.Workload, wantPaths[i], scope.ID, scope.Workload)
		}
		if ev.Exec.Truncated || ev.Exec.Unlinked || ev.Exec.Detached || ev.Exec.Script {
			t.Errorf("exec %d: unexpected facts: %+v", i, ev.Exec)
		}
	}
	info, err := os.Stat(shPath)
	if err != nil {
		t.Fatal(err)
	}
	if want := info.Sys().(*syscall.Stat_t).Ctim.Nano(); execs[0].Exec.Changed != uint64(want) {
		t.Errorf("%s was changed at %d, told %d", shPath, want, execs[0].Exec.Changed)
	}
	if x := execs[0].Exec; x.PPID != uint32(os.Getpid()) || !strings.HasPrefix(x.Args, "/bin/sh -c cd /dev;") {
		t.Errorf("shell: parent %d args %q", x.PPID, x.Args)
	}
	if x := execs[1].Exec; x.PPID != shell || x.Args != "/bin/cat /dev/null" || x.Cwd != "/dev" || x.Comm != filepath.Base(catPath) && x.Comm != "cat" || x.Filename != "/bin/cat" {
		t.Errorf("first cat: %+v", x)
	}
	for i, ev := range forks {
		if ev.Tgid != shell || ev.Fork.Child != execs[i+1].Tgid || ev.Fork.ChildStart != execs[i+1].Exec.Start {
			t.Errorf("fork %d: %d -> %+v, want %d -> %d started %d", i, ev.Tgid, ev.Fork, shell, execs[i+1].Tgid, execs[i+1].Exec.Start)
		}
	}
	codes := []int32{exits[0].Exit.Code, exits[1].Exit.Code, exits[2].Exit.Code}
	if !slices.Equal(codes, []int32{0, 1, 3}) {
		t.Errorf("exit codes %v, want 0, 1, 3", codes)
	}
	// The shell was started from outside, its programs were not; and each lives from its fork on.
	begins := []uint64{forks[0].Ktime, forks[1].Ktime, 0}
	for i, ev := range exits {
		x := ev.Exit
		if x.Main != (i == 2) || x.Started >= ev.Ktime || x.Started > execs[(i+1)%3].Ktime || begins[i] > 0 && x.Started > begins[i] {
			t.Errorf("exit %d at %d: %+v", i, ev.Ktime, x)
		}
	}
}

func TestExitBySignal(t *testing.T) {
	scope, got := open(t)
	_ = scope.Run(t, "/bin/sh", "-c", "kill -TERM $$")
	x := got.Wait(t, event.Exit, 1)[0].Exit
	if x.Signal != 15 || x.Code != -1 {
		t.Errorf("exit %+v, want signal 15", x)
	}
}

// Programs out of scope leave no event, whatever they do.
func TestOutOfScope(t *testing.T) {
	scope, got := open(t)
	for range 10 {
		if err := exec.Command("/bin/true").Run(); err != nil {
			t.Fatal(err)
		}
	}
	if err := scope.Run(t, "/bin/true"); err != nil {
		t.Fatal(err)
	}
	got.Wait(t, event.Exit, 1)
	if all := got.All(); len(all) != 2 {
		t.Errorf("%d events, want the scope's exec and exit: %+v", len(all), all)
	}
}

func TestFactsOfUnusualFiles(t *testing.T) {
	scope, got := open(t)
	dir := t.TempDir()
	script := filepath.Join(dir, "script")
	write(t, script, "#!/bin/sh\nexit 0\n")
	deep := filepath.Join(dir, strings.Repeat("d", 120), strings.Repeat("e", 120))
	if err := os.MkdirAll(deep, 0o755); err != nil {
		t.Fatal(err)
	}
	long := filepath.Join(deep, "true")
	copyFile(t, resolved(t, "/bin/true"), long)
	if err := scope.Run(t, script); err != nil {
		t.Fatal(err)
	}
	if err := scope.Run(t, long, strings.Repeat("x", 4096)); err != nil {
		t.Fatal(err)
	}
	execs := got.Wait(t, event.Exec, 2)
	if x := execs[0].Exec; !x.Script || x.Filename != script || x.Path != resolved(t, "/bin/sh") {
		t.Errorf("script: %+v", x)
	}
	if x := execs[1].Exec; !x.Truncated || len(x.Path) != 255 || !strings.HasPrefix(long, x.Path) || len(x.Args) != 1023 {
		t.Errorf("long path: truncated %t, path of %d bytes, args of %d", x.Truncated, len(x.Path), len(x.Args))
	}
	lost, err := scope.Shared.LossCounters()
	if err != nil {
		t.Fatal(err)
	}
	if lost["path_too_long"] != 1 {
		t.Errorf("path_too_long counted %d times, want 1", lost["path_too_long"])
	}
}

// A cgroup made below the scope is in it before anything runs there.
func TestChildCgroupInherits(t *testing.T) {
	scope, got := open(t)
	child := filepath.Join(scope.Dir, "child")
	if err := os.Mkdir(child, 0o755); err != nil {
		t.Fatal(err)
	}
	made := got.Wait(t, event.Cgroup, 1)[0].Cgroup
	if filepath.Base(made.Path) != "child" || made.Removed || made.ID == scope.ID {
		t.Errorf("made: %+v", made)
	}
	state, ok := scope.Shared.Workload(made.ID)
	if !ok || state.ID != scope.Workload || state.Mode != uint32(event.Learn) || state.Flags != sensor.Inherited {
		t.Errorf("child is %+v, %t", state, ok)
	}
	if err := os.Remove(child); err != nil {
		t.Fatal(err)
	}
	gone := got.Wait(t, event.Cgroup, 2)[1].Cgroup
	if !gone.Removed || gone.ID != made.ID {
		t.Errorf("removed: %+v, want %d", gone, made.ID)
	}
	if _, ok := scope.Shared.Workload(made.ID); ok {
		t.Error("the removed cgroup is still in scope")
	}
}

// A change of the policy is one for the cgroups too that were made meanwhile and that the agent has not read of: what they do
// is held to what is in force. One that is gone does not come back.
func TestChildCgroupsAreRenewed(t *testing.T) {
	scope, got := open(t)
	child, other := filepath.Join(scope.Dir, "child"), filepath.Join(scope.Dir, "docker-"+strings.Repeat("0123456789abcdef", 4)+".scope")
	for _, dir := range []string{child, other} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	made := got.Wait(t, event.Cgroup, 2)
	foreign := sensor.State(scope.Workload+1, event.AuditMode, 3, event.AllDimensions)
	if err := scope.Shared.SetWorkload(made[1].Cgroup.ID, foreign); err != nil {
		t.Fatal(err)
	}
	want := sensor.State(scope.Workload, event.Enforce, 7, event.AllDimensions)
	if err := scope.Shared.RenewWorkloads(map[uint32]sensor.WorkloadState{scope.Workload: want}); err != nil {
		t.Fatal(err)
	}
	if got, _ := scope.Shared.Workload(scope.ID); got != want {
		t.Errorf("the scope itself is %+v", got)
	}
	if got, _ := scope.Shared.Workload(made[1].Cgroup.ID); got != foreign {
		t.Errorf("another workload's is %+v", got)
	}
	want.Flags = sensor.Inherited
	if got, _ := scope.Shared.Workload(made[0].Cgroup.ID); got != want {
		t.Errorf("the child is %+v, want %+v", got, want)
	}
	for _, dir := range []string{child, other} {
		if err := os.Remove(dir); err != nil {
			t.Fatal(err)
		}
	}
	got.Wait(t, event.Cgroup, 4)
	if err := scope.Shared.RenewWorkloads(map[uint32]sensor.WorkloadState{scope.Workload: want}); err != nil {
		t.Fatal(err)
	}
	if got, ok := scope.Shared.Workload(made[0].Cgroup.ID); ok {
		t.Errorf("the removed one is %+v", got)
	}
}

// A cgroup that is made where one is expected is what was said, not what its parent is: nothing that it
// runs is counted to another workload, however late the agent reads of it.
func TestExpectedCgroupIsNotInherited(t *testing.T) {
	scope, got := open(t)
	child := filepath.Join(scope.Dir, "child")
	remake := func(n int) (event.CgroupInfo, sensor.WorkloadState) {
		t.Helper()
		if err := os.Mkdir(child, 0o755); err != nil {
			t.Fatal(err)
		}
		made := got.Wait(t, event.Cgroup, n)[n-1]
		state, _ := scope.Shared.Workload(made.Cgroup.ID)
		if made.Workload != state.ID {
			t.Errorf("reported of workload %d, is %d", made.Workload, state.ID)
		}
		if err := os.Remove(child); err != nil {
			t.Fatal(err)
		}
		return made.Cgroup, state
	}
	first, inherited := remake(1)
	if inherited.ID != scope.Workload {
		t.Fatalf("first: %+v", inherited)
	}
	want := sensor.State(scope.Workload+1, event.Enforce, 7, event.AllDimensions)
	if err := scope.Shared.ExpectWorkload(first.Path, want); err != nil {
		t.Fatal(err)
	}
	if _, again := remake(3); again != want {
		t.Errorf("again: %+v, want %+v", again, want)
	}
}

// The kernel may give what is known of a cgroup to another one while a program reads it. A cgroup that is made then belongs to no
// workload until user space has read of it, and one that is expected is its parent's.
func TestChildOfAChangedElement(t *testing.T) {
	scope, got := open(t)
	child, foreign := filepath.Join(scope.Dir, "child"), sensor.State(scope.Workload+1000, event.Enforce, 7, event.AllDimensions)
	take := func(m *ebpf.Map, from any) []byte {
		t.Helper()
		raw, err := m.LookupBytes(from)
		if err != nil || raw == nil {
			t.Fatalf("read element: %v", err)
		}
		return raw
	}
	remake := func(n int) (event.Event, sensor.WorkloadState) {
		t.Helper()
		if err := os.Mkdir(child, 0o755); err != nil {
			t.Fatal(err)
		}
		made := got.Wait(t, event.Cgroup, n)[n-1]
		state, known := scope.Shared.Workload(made.Cgroup.ID)
		if !known {
			t.Errorf("the child is out of scope")
		}
		if err := os.Remove(child); err != nil {
			t.Fatal(err)
		}
		return made, state
	}
	made, _ := remake(1)
	if err := errors.Join(scope.Shared.ExpectWorkload("/elsewhere", foreign), scope.Shared.ExpectWorkload(made.Cgroup.Path, foreign)); err != nil {
		t.Fatal(err)
	}
	path := func(s string) (key [256]byte) { copy(key[:], s); return key }
	if err := scope.Shared.Expected.Put(path(made.Cgroup.Path), take(scope.Shared.Expected, path("/elsewhere"))); err != nil {
		t.Fatal(err)
	}
	if _, state := remake(3); state.ID != scope.Workload || state.Flags != sensor.Inherited {
		t.Errorf("expected was another: %+v", state)
	}

	if err := scope.Shared.SetWorkload(scope.ID+1<<40, foreign); err != nil {
		t.Fatal(err)
	}
	if err := scope.Shared.Workloads.Put(scope.ID, take(scope.Shared.Workloads, scope.ID+1<<40)); err != nil {
		t.Fatal(err)
	}
	if made, state := remake(5); made.Workload != 0 || state != (sensor.WorkloadState{Flags: sensor.Inherited}) {
		t.Errorf("the parent was another: reported of workload %d, %+v", made.Workload, state)
	}
	if lost := scope.Lost(t)["workload_changed"]; lost == 0 {
		t.Error("nothing was counted")
	}
}

// A cgroup with the name of a container is one before user space has read of it, and what is made in it is too; others
// are not. In the agent's own container, it is another one.
func TestContainerIsKnownByItsName(t *testing.T) {
	scope := sensortest.NewScope(t)
	own := sensor.State(scope.Workload, event.Off, 1, 0)
	own.Flags = sensor.Own
	if err := scope.Shared.SetWorkload(scope.ID, own); err != nil {
		t.Fatal(err)
	}
	scope.Shared.ContainerFlags = sensor.Container | sensor.Protected
	p, err := process.Open(scope.Shared)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	got := sensortest.Collect(t, scope.Shared, p)
	id := strings.Repeat("0123456789abcdef", 4)
	made := 0
	for _, tc := range []struct {
		name string
		want bool
	}{
		{id, true},
		{id + "/init.scope", true},
		{"docker-" + id + ".scope", true},
		{"cri-containerd-" + id + ".scope", true},
		{"kubepods-pod1.slice:cri-containerd:" + id, true},
		{"libpod-" + id, true},
		{"conmon-" + id, false}, // as in pkg/workload
		{"libpod-conmon-" + id + ".scope", false},
		{"crio-conmon-" + id + ".scope", false},
		{"conmon." + id, false},
		{"child", false},
		{".scope", false},
		{id[1:], false},
		{id[1:] + ".scope", false},
		{id[1:] + "g", false},
		{id[1:] + "A", false},
		{id + "0", false},
		{id + ".service", false},
		{id + ".scope.scope", false},
		{"docker" + id + ".scope", false},
		{"web.service", false},
		{strings.Repeat("x", 100) + "/" + strings.Repeat("y", 100) + "/" + id, false}, // longer than a key
	} {
		dir := scope.Dir
		for part := range strings.SplitSeq(tc.name, "/") {
			dir = filepath.Join(dir, part)
			if os.Mkdir(dir, 0o755) == nil {
				made++
				defer os.Remove(dir)
			}
		}
		cgroup := got.Wait(t, event.Cgroup, made)[made-1].Cgroup
		state, known := scope.Shared.Workload(cgroup.ID)
		want := uint32(sensor.Inherited | sensor.Own)
		if tc.want {
			want = sensor.Inherited | sensor.Container | sensor.Protected
		}
		if !known || state.ID != scope.Workload || state.Flags != want {
			t.Errorf("%s: %+v, want the flags %d", tc.name, state, want)
		}
		if is := workload.NewResolver().Resolve(cgroup.Path).Kind == workload.Container; is != tc.want && len(tc.name) < 200 {
			t.Errorf("%s: for user space it is a container: %t", tc.name, is)
		}
	}
}

// A ring that nobody reads overflows: what was not delivered is counted, to the event.
func TestLossIsCounted(t *testing.T) {
	scope := sensortest.NewScope(t)
	small, err := sensor.NewShared(sensor.Config{RingBytes: 4096, Hierarchy: sensor.HierarchyV2, Scoped: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { small.Close() })
	scope.Shared = small
	scope.Set(t, event.Learn, 1)
	p, err := process.Open(small)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	const runs = 20
	for range runs {
		if err := scope.Run(t, "/bin/true"); err != nil {
			t.Fatal(err)
		}
	}
	got := sensortest.Collect(t, small, p)
	sensortest.Until(t, "all execs are delivered or counted", func() bool {
		lost, err := small.LossCounters()
		if err != nil {
			t.Fatal(err)
		}
		return lost["ring_full_exec"] > 0 && len(got.Of(event.Exec))+int(lost["ring_full_exec"]) == runs
	})
}

func resolved(t testing.TB, path string) string {
	t.Helper()
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		t.Fatal(err)
	}
	return real
}

func write(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
}

func copyFile(t testing.TB, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	write(t, to, string(b))
}

func ExampleOpen() {
	shared, err := sensor.NewShared(sensor.Config{Hierarchy: sensor.HierarchyV2, Scoped: true})
	if err != nil {
		fmt.Println("needs a kernel with BTF and root:", err)
		return
	}
	defer shared.Close()
	p, err := process.Open(shared)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer p.Close()
}
