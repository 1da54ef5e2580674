package scenario

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// patience is how long a scenario waits for what has to happen. The guest is an emulated machine, and the emulator may have
// to share its own.
const patience = 5 * time.Minute

func TestScenarios(t *testing.T) {
	if os.Getenv("PLUMBLINE_VM") == "" {
		t.Skip("needs a guest of the matrix: it runs an agent on the whole machine")
	}
	testscript.Run(t, testscript.Params{
		Dir: "/scenarios",
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"mkcgroup": makeCgroup, "within": within, "start": start, "finish": finish, "sigkill": kill,
			"waitfor": waitFor, "count": count, "eventually": eventually,
		},
		Condition: condition,
		Setup: func(env *testscript.Env) error {
			env.Values[running] = map[string]*process{}
			env.Setenv("CGROUP", cgroupRoot())
			env.Setenv("PATH", os.Getenv("PATH"))
			env.Setenv("PLUMBLINE_TEST_BIN", os.Getenv("PLUMBLINE_TEST_BIN"))
			env.Defer(func() { stopAll(env.Values[running].(map[string]*process)) })
			return nil
		},
	})
}

// cgroupRoot is the directory of the hierarchy that names workloads in this guest's layout.
func cgroupRoot() string {
	if os.Getenv("PLUMBLINE_CGROUPS") == "v2" {
		return "/sys/fs/cgroup"
	}
	return "/sys/fs/cgroup/pids"
}

// condition knows the guest: [cgroups:legacy], [lsm], [kernel:5.10], [arch:arm64] is testscript's own.
func condition(name string) (bool, error) {
	key, value, _ := strings.Cut(name, ":")
	switch key {
	case "cgroups":
		return os.Getenv("PLUMBLINE_CGROUPS") == value, nil
	case "kernel":
		return os.Getenv("PLUMBLINE_KERNEL") == value, nil
	case "lsm":
		return os.Getenv("PLUMBLINE_LSM") == "true", nil
	case "program":
		_, err := exec.LookPath(value)
		return err == nil, nil
	}
	return false, fmt.Errorf("unknown condition %q", name)
}

type key int

const running key = 0

// process is a program in the background, with its output in a file of its name.
type process struct {
	cmd  *exec.Cmd
	done chan struct{}
	err  error
}

func processes(ts *testscript.TestScript) map[string]*process {
	return ts.Value(running).(map[string]*process)
}

func stopAll(all map[string]*process) {
	for _, p := range all {
		select {
		case <-p.done:
			continue
		default:
		}
		_ = p.cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-p.done:
		case <-time.After(patience):
			_ = p.cmd.Process.Kill()
			<-p.done
		}
	}
}

// makeCgroup: mkcgroup PATH
func makeCgroup(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: mkcgroup PATH")
	}
	ts.Check(os.MkdirAll(filepath.Join(cgroupRoot(), args[0]), 0o755))
}

// within runs a program in a cgroup from its first instruction on: within CGROUP PROGRAM ARGS. With !
// it has to fail. Its output is in the file "out".
func within(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: within CGROUP PROGRAM [ARGS]")
	}
	cmd := inCgroup(args[0], args[1], args[2:])
	cmd.Dir = ts.Getenv("WORK")
	out, err := cmd.CombinedOutput()
	ts.Check(os.WriteFile(ts.MkAbs("out"), out, 0o600))
	var exit *exec.ExitError
	switch {
	case err != nil && !errors.As(err, &exit):
		ts.Fatalf("start %s: %v", args[1], err)
	case err == nil && neg:
		ts.Fatalf("%s succeeded: %s", args[1], out)
	case err != nil && !neg:
		ts.Fatalf("%s: %v: %s", args[1], err, out)
	}
}

// inCgroup lets a small shell enter the cgroup first: version 1 cannot start a process in one.
func inCgroup(cgroup, program string, args []string) *exec.Cmd {
	script := `echo $$ > "$0" && exec "$@"`
	return exec.Command("/bin/sh", append([]string{"-c", script, filepath.Join(cgroupRoot(), cgroup, "cgroup.procs"), program}, args...)...)
}

// start runs a program in the background: start NAME PROGRAM ARGS, or start NAME @CGROUP PROGRAM ARGS.
func start(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: start NAME [@CGROUP] PROGRAM [ARGS]")
	}
	name := args[0]
	cmd := exec.Command(args[1], args[2:]...)
	if cgroup, ok := strings.CutPrefix(args[1], "@"); ok && len(args) > 2 {
		cmd = inCgroup(cgroup, args[2], args[3:])
	}
	out, err := os.Create(ts.MkAbs(name))
	ts.Check(err)
	defer out.Close()
	cmd.Dir, cmd.Stdout, cmd.Stderr = ts.Getenv("WORK"), out, out
	cmd.Env = append(os.Environ(), "WORK="+ts.Getenv("WORK"))
	ts.Check(cmd.Start())
	p := &process{cmd: cmd, done: make(chan struct{})}
	go func() {
		p.err = cmd.Wait()
		close(p.done)
	}()
	processes(ts)[name] = p
}

// finish ends a program with SIGTERM and checks that its exit code is 0.
func finish(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 || processes(ts)[args[0]] == nil {
		ts.Fatalf("usage: finish NAME, of a started program")
	}
	p := processes(ts)[args[0]]
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(patience):
		ts.Fatalf("%s did not end within %s", args[0], patience)
	}
	if p.err != nil {
		ts.Fatalf("%s: %v\n%s", args[0], p.err, ts.ReadFile(args[0]))
	}
}

// kill ends a program with SIGKILL: sigkill NAME
func kill(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 || processes(ts)[args[0]] == nil {
		ts.Fatalf("usage: sigkill NAME, of a started program")
	}
	p := processes(ts)[args[0]]
	ts.Check(p.cmd.Process.Kill())
	<-p.done
}

// until asks again and again, less and less often, and for a third of the time at most: the guest has one processor for those
// that are waited for, too.
func until(done func() bool) bool {
	pause := 20 * time.Millisecond
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		asked := time.Now()
		if done() {
			return true
		}
		pause = min(pause*5/4, 300*time.Millisecond)
		time.Sleep(max(pause, 2*time.Since(asked)))
	}
	return false
}

// untilFile asks about what a file has, each time that it has changed.
func untilFile(name string, done func(data []byte) bool) bool {
	var seen os.FileInfo
	return until(func() bool {
		info, err := os.Stat(name)
		if err != nil || seen != nil && os.SameFile(info, seen) && info.Size() == seen.Size() && info.ModTime().Equal(seen.ModTime()) {
			return false
		}
		seen = info
		data, err := os.ReadFile(name)
		return err == nil && done(data)
	})
}

// waitFor waits until a file has a line that matches: waitfor FILE REGEXP
func waitFor(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: waitfor FILE REGEXP")
	}
	pattern, err := regexp.Compile("(?m)" + args[1])
	ts.Check(err)
	if !untilFile(ts.MkAbs(args[0]), pattern.Match) {
		data, _ := os.ReadFile(ts.MkAbs(args[0]))
		ts.Fatalf("%s has no %q after %s:\n%s", args[0], args[1], patience, data)
	}
}

// logs are the ends of what the programs in the background have printed.
func logs(ts *testscript.TestScript) string {
	const most = 4096
	var text strings.Builder
	for name := range processes(ts) {
		out := ts.ReadFile(name)
		fmt.Fprintf(&text, "-- %s --\n%s\n", name, out[max(0, len(out)-most):])
	}
	return text.String()
}

// count waits until a file has exactly N JSON lines whose fields have these values, and fails at once
// if there are more: count FILE N plumbline.verdict=deny rule='...'. A value ends with * to compare a
// prefix. That nothing comes is not seen by looking: N is 1 or more, and what must not have come is told from
// what comes later, by a second count with fewer fields.
func count(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: count FILE N FIELD=VALUE...")
	}
	want, err := strconv.Atoi(args[1])
	if err != nil || want < 1 {
		ts.Fatalf("count %s %s: want a number from 1 on: there are none yet is always so", args[0], args[1])
	}
	got := 0
	done := untilFile(ts.MkAbs(args[0]), func(data []byte) bool {
		got = matching(data, args[2:])
		return got >= want
	})
	if !done || got != want {
		data, _ := os.ReadFile(ts.MkAbs(args[0]))
		ts.Fatalf("%s has %d lines with %q, want %d:\n%s", args[0], got, args[2:], want, data)
	}
}

func matching(data []byte, fields []string) int {
	n := 0
	for lines := bufio.NewScanner(bytes.NewReader(data)); lines.Scan(); {
		var object map[string]any
		if json.Unmarshal(lines.Bytes(), &object) == nil && matches(object, fields) {
			n++
		}
	}
	return n
}

func matches(object map[string]any, fields []string) bool {
	for _, f := range fields {
		path, want, _ := strings.Cut(f, "=")
		got := fmt.Sprint(lookUp(object, path))
		if prefix, ok := strings.CutSuffix(want, "*"); ok && strings.HasPrefix(got, prefix) {
			continue
		}
		if got != want {
			return false
		}
	}
	return true
}

// lookUp follows dots; a key may have dots itself, as Falco's fields do.
func lookUp(object map[string]any, path string) any {
	if v, ok := object[path]; ok {
		return v
	}
	for i, c := range path {
		if c != '.' {
			continue
		}
		if inner, ok := object[path[:i]].(map[string]any); ok {
			if v := lookUp(inner, path[i+1:]); v != nil {
				return v
			}
		}
	}
	return nil
}

// eventually runs a program until its output matches: eventually REGEXP PROGRAM ARGS
func eventually(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: eventually REGEXP PROGRAM [ARGS]")
	}
	pattern, err := regexp.Compile(args[0])
	ts.Check(err)
	var out []byte
	if !until(func() bool {
		cmd := exec.Command(args[1], args[2:]...)
		cmd.Dir = ts.Getenv("WORK")
		out, _ = cmd.CombinedOutput()
		return pattern.Match(out)
	}) {
		ts.Fatalf("%s did not print %q within %s; last:\n%s\n%s", args[1], args[0], patience, out, logs(ts))
	}
}
