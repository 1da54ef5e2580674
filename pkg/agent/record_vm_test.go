// Each of these tests loads the programs, which takes minutes under emulation.
//vm:byhand

package agent

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/plumbline-io/plumbline/pkg/baseline"
	"github.com/plumbline-io/plumbline/pkg/event"
	"github.com/plumbline-io/plumbline/pkg/sensor"
	"github.com/plumbline-io/plumbline/pkg/sensor/sensortest"
)

// recording prepares one of a shell script, in a cgroup below the test's own.
func recording(t *testing.T, script string) RecordConfig {
	t.Helper()
	scope := sensortest.NewScope(t)
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { null.Close() })
	file := filepath.Join(t.TempDir(), "script.sh")
	if err := os.WriteFile(file, []byte(script), 0o600); err != nil {
		t.Fatal(err)
	}
	return RecordConfig{
		Workload: "job", Kind: "unit", Command: []string{"/bin/sh", file}, Stdin: null, Stdout: null, Stderr: os.Stderr,
		Scope: scope.Dir, Dimensions: event.AllDimensions, Linger: -1,
	}
}

// record runs a recording and checks that nothing of it is left.
func record(t *testing.T, ctx context.Context, c RecordConfig) (*baseline.Profile, RecordOutcome, error) {
	t.Helper()
	p, out, err := Record(ctx, c)
	if left, globErr := filepath.Glob(filepath.Join(c.Scope, cellName+"*")); globErr != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, globErr)
	}
	if errors.Is(err, sensor.ErrNotSupported) && !sensortest.InVM() {
		t.Skip(err)
	}
	return p, out, err
}

// Process ids, temporary names, and what happens in a process that outlives the command.
const exercise = `
uname -s >/dev/null
cat /proc/self/status >/dev/null
echo x > /tmp/plumbline-record.$$
rm /tmp/plumbline-record.$$
(sleep 0.1; ls / >/dev/null) &
`

// The same behaviour gives the same bytes, every entry of it is there, and a verification says so.
func TestRecord(t *testing.T) {
	sensortest.ByHand(t)
	c := recording(t, exercise)
	c.Runs = 2
	var first []byte
	var p *baseline.Profile
	for i := range 2 {
		var out RecordOutcome
		var err error
		if p, out, err = record(t, t.Context(), c); err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			first = p.Canonical()
		}
		if out.Exit != 0 || out.Runs != 2 || p.Runs() != 2 || out.Killed != 0 || len(out.Lost) != 0 || p.Mode() != event.Learn {
			t.Errorf("%+v", out)
		}
		if sensortest.InVM() && (len(out.Missing) > 0 || p.Held() != event.AllDimensions) {
			t.Errorf("missing: %+v", out.Missing)
		}
		for _, m := range out.Missing {
			if p.Held().Has(m.Dimension) || m.Reason == "" {
				t.Errorf("%+v", m)
			}
		}
		for _, name := range []string{"uname", "cat", "rm", "sleep", "ls"} {
			if deed, ok := executed(p, out, name); !ok || deed.PID == 0 {
				t.Errorf("%s: %v, %+v", name, ok, deed)
			}
		}
		if !bytes.Equal(first, p.Canonical()) {
			t.Fatalf("not the same:\n%s\n%s", first, p.Canonical())
		}
	}
	c.Runs, c.Exact, c.Dimensions = 1, true, p.Held()
	seen, _, err := record(t, t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	if r := baseline.Verify(p, seen, 2); r.Result != baseline.Same {
		t.Errorf("%+v", r)
	}
	if err := os.WriteFile(c.Command[1], []byte(exercise+"mkdir -p /tmp\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	seen, out, err := record(t, t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	r := baseline.Verify(p, seen, 2)
	deed, ok := executed(seen, out, "mkdir")
	if r.Result != baseline.NewBehaviour || !ok || !strings.Contains(deed.Args, "script.sh") {
		t.Errorf("%+v, %+v", r, deed)
	}
}

// executed finds who executed a program of that name.
func executed(p *baseline.Profile, out RecordOutcome, name string) (Deed, bool) {
	for _, k := range p.Keys() {
		if k.Op == event.OpExec && filepath.Base(k.Path) == name {
			deed, ok := out.First[k]
			return deed, ok
		}
	}
	return Deed{}, false
}

// What others do at the same time is not recorded, and the exit code of a failed command is told.
func TestRecordIsConfined(t *testing.T) {
	sensortest.ByHand(t)
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	c := recording(t, "read line < "+fifo+"; cat /dev/null; exit 7\n")
	c.Runs = 3
	other := make(chan error, 1)
	go func() {
		w, err := os.OpenFile(fifo, os.O_WRONLY, 0) // from here on the script runs
		if err == nil {
			err = errors.Join(exec.Command("uname").Run(), w.Close())
		}
		other <- err
	}()
	p, out, err := record(t, t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	if err := <-other; err != nil {
		t.Fatal(err)
	}
	if out.Exit != 7 || out.Runs != 0 || p.Runs() != 1 {
		t.Errorf("%+v", out)
	}
	if _, ok := executed(p, out, "cat"); !ok {
		t.Errorf("no cat: %s", p.Canonical())
	}
	if _, ok := executed(p, out, "uname"); ok {
		t.Errorf("uname is another's: %s", p.Canonical())
	}
}

// What a command leaves running is ended after its time, also what has hidden in a cgroup of its own.
func TestRecordLinger(t *testing.T) {
	sensortest.ByHand(t)
	pidFile := filepath.Join(t.TempDir(), "pid")
	c := recording(t, "")
	inner := filepath.Join(c.Scope, cellName, "run", "inner")
	script := "sleep 1000 & echo $! > " + pidFile + "\nsh -c 'trap \"\" TERM INT HUP; sleep 1000' &\n" +
		"mkdir " + inner + "\n(sh -c 'echo $PPID > " + inner + "/cgroup.procs'; uname; exec sleep 1000) &\n"
	if err := os.WriteFile(c.Command[1], []byte(script), 0o600); err != nil {
		t.Fatal(err)
	}
	c.Linger, c.Runs = time.Second, 2
	p, out, err := record(t, t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	if out.Killed < 6 || out.Exit != 0 || p.Runs() != 2 {
		t.Errorf("%+v", out)
	}
	if _, ok := executed(p, out, "uname"); !ok {
		t.Errorf("nothing was learnt in the inner cgroup: %s", p.Canonical())
	}
	text, err := os.ReadFile(pidFile)
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	sensortest.Until(t, "the process to end", func() bool { return errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) })
}

// An interruption ends the command, and all that it has started.
func TestRecordInterrupted(t *testing.T) {
	sensortest.ByHand(t)
	started := filepath.Join(t.TempDir(), "started")
	c := recording(t, "sleep 1000 &\n: > "+started+"\nexec sleep 1000\n")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() {
		for ctx.Err() == nil {
			if _, err := os.Stat(started); err == nil {
				cancel()
			}
			time.Sleep(5 * time.Millisecond)
		}
	}()
	if _, _, err := record(t, ctx, c); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// Where cgroup.kill is missing, each process is ended by itself.
func TestKillEach(t *testing.T) {
	scope := sensortest.NewScope(t)
	c, err := newCell(scope.Dir)
	if err != nil {
		t.Fatal(err)
	}
	_, room, err := c.Room()
	if err != nil {
		t.Fatal(err)
	}
	defer room.Close()
	for range 3 {
		cmd := exec.Command("sleep", "1000")
		cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(room.Fd())}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		defer cmd.Wait()
	}
	if n := len(c.Processes()); n != 3 {
		t.Errorf("%d processes", n)
	}
	if err := c.killEach(); err != nil {
		t.Fatal(err)
	}
	if empty, err := c.Wait(t.Context(), 10*time.Second); !empty || err != nil {
		t.Errorf("%v, %v", empty, err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if _, err := newCell(t.TempDir()); err == nil {
		t.Error("a directory that is no cgroup was taken")
	}
}

func TestMissingReason(t *testing.T) {
	hooks := []sensor.Status{
		{Hook: "lsm/bprm_check_security", Reason: "no LSM"},
		{Hook: "fmod_ret/security_bprm_check", Supported: true},
		{Hook: "fmod_ret/security_file_open", Reason: "no file_open"},
	}
	for d, want := range map[event.Dimension]string{
		event.DimFile: "fmod_ret/security_file_open: no file_open", event.DimUnix: "needs LSM or fmod_ret hooks: lsm/bprm_check_security: no LSM",
	} {
		if got := missingReason(hooks, d); got != want {
			t.Errorf("%s: %q, want %q", d, got, want)
		}
	}
}
