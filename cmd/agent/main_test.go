package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/plumbline-io/plumbline/pkg/agent"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"plumbline-agent": main, "confined": confined})
}

// patience is how long a script waits for what has to happen.
const patience = 20 * time.Second

// TestScripts runs testdata/*.txtar. Besides testscript's own commands there are
//
//	exits CODE PROGRAM ARGS...   run and compare the exit code
//	mkcgroup                     make a cgroup for this script, set SCOPE and WORKLOAD; removed with the script
//	missing                      compare the exit code of check with what the last stdout, its JSON, says is missing
//	agent ARGS...                start plumbline-agent run in SCOPE, set SOCKET and PINS, wait until it answers;
//	                             what it pins is removed with the script
//	within PROGRAM ARGS...       run in SCOPE
//	learnt PROGRAM               wait until the baseline of WORKLOAD has it
//	finish                       end the agent with SIGTERM and compare its exit code with 0
//	confined PROFILE PROGRAM     load a seccomp profile and execute a program
//	busy                         listen on a TCP port, set ADDRESS
//
// What needs root and a version 2 cgroup asks for the condition [bpf].
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(e *testscript.Env) error {
			e.Values[stageKey{}] = &stage{}
			return nil
		},
		Condition: func(name string) (bool, error) {
			if name == "bpf" {
				_, err := cgroupMount()
				return err == nil && os.Geteuid() == 0, nil
			}
			return false, errors.New("unknown condition " + name)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": exits, "mkcgroup": mkcgroup, "missing": missing, "agent": startAgent, "within": within,
			"learnt": learnt, "finish": finish, "hangup": hangup, "reloaded": reloaded, "busy": busy,
		},
	})
}

type stageKey struct{}

// stage is what runs beside a script.
type stage struct{ agent *exec.Cmd }

func stageOf(ts *testscript.TestScript) *stage { return ts.Value(stageKey{}).(*stage) }

func cgroupMount() (string, error) {
	f, err := os.Open("/proc/mounts")
	if err != nil {
		return "", err
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if field := strings.Fields(lines.Text()); len(field) > 2 && field[2] == "cgroup2" {
			return field[1], nil
		}
	}
	return "", errors.New("no cgroup2 hierarchy is mounted")
}

// runFor runs a program of the script and returns its exit code.
func runFor(ts *testscript.TestScript, args []string) int {
	err := ts.Exec(args[0], args[1:]...)
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		ts.Fatalf("%v", err)
	}
	if exit == nil {
		return 0
	}
	return exit.ExitCode()
}

func exits(ts *testscript.TestScript, _ bool, args []string) {
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	if got := runFor(ts, args[1:]); got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

func mkcgroup(ts *testscript.TestScript, _ bool, _ []string) {
	mount, err := cgroupMount()
	ts.Check(err)
	dir, err := os.MkdirTemp(mount, "plumbline-test-")
	ts.Check(err)
	ts.Defer(func() {
		for end := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
			err := os.Remove(dir) // the kernel empties a cgroup a moment after its last process
			if err == nil {
				return
			}
			if time.Now().After(end) {
				ts.Fatalf("remove cgroup: %v", err)
			}
		}
	})
	ts.Setenv("SCOPE", dir)
	ts.Setenv("WORKLOAD", "/"+filepath.Base(dir))
}

func missing(ts *testscript.TestScript, _ bool, _ []string) {
	code := runFor(ts, []string{"plumbline-agent", "check", "--scope", ts.Getenv("SCOPE"), "-o", "json"})
	var report struct {
		Hooks []struct {
			Sensor    string
			Supported bool
			Reason    string
		}
		Missing []string
	}
	ts.Check(json.Unmarshal([]byte(ts.ReadFile("stdout")), &report))
	want := 0
	if len(report.Missing) > 0 {
		want = 1
	}
	if code != want {
		ts.Fatalf("exit code %d with %q missing, want %d", code, report.Missing, want)
	}
	for _, h := range report.Hooks {
		if !h.Supported && h.Reason == "" {
			ts.Fatalf("%s is not supported, without a reason", h.Sensor)
		}
	}
}

func startAgent(ts *testscript.TestScript, _ bool, args []string) {
	program, err := exec.LookPath("plumbline-agent")
	ts.Check(err)
	socket := ts.MkAbs("agent.sock")
	ts.Setenv("SOCKET", socket)
	ts.Setenv("PINS", agent.DefaultPinDir(socket))
	ts.Defer(func() {
		dirs, err := agent.PinDirs(agent.Config{Socket: socket, StateDir: ts.MkAbs("state")})
		for _, dir := range dirs {
			_, unloading := agent.Unload(dir)
			err = errors.Join(err, unloading)
		}
		ts.Check(err)
	})
	cmd := exec.Command(program, append([]string{
		"run", "--scope", ts.Getenv("SCOPE"), "--state-dir", ts.MkAbs("state"), "--socket", socket, "--log-level", "warn", "--on-stop", "release",
	}, args...)...)
	cmd.Dir, cmd.Stderr = ts.Getenv("WORK"), os.Stderr
	ts.Check(cmd.Start())
	stageOf(ts).agent = cmd
	ts.Defer(func() {
		if cmd.ProcessState == nil {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
	})
	until(ts, "the agent to answer", func() bool {
		c, err := net.Dial("unix", socket)
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	})
}

func until(ts *testscript.TestScript, what string, done func() bool) {
	for end := time.Now().Add(patience); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			ts.Fatalf("waited %s for %s", patience, what)
		}
	}
}

func within(ts *testscript.TestScript, neg bool, args []string) {
	dir, err := os.Open(ts.Getenv("SCOPE"))
	ts.Check(err)
	defer dir.Close()
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Dir = ts.Getenv("WORK")
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(dir.Fd())}
	out, err := cmd.CombinedOutput()
	_, _ = ts.Stdout().Write(out)
	if (err != nil) != neg {
		ts.Fatalf("%s: %v: %s", args[0], err, out)
	}
}

func learnt(ts *testscript.TestScript, _ bool, args []string) {
	until(ts, args[0]+" in the baseline", func() bool {
		out, err := exec.Command("plumbline-agent", "baseline", "show", "--socket", ts.Getenv("SOCKET"), ts.Getenv("WORKLOAD")).Output()
		return err == nil && strings.Contains(string(out), args[0])
	})
}

func hangup(ts *testscript.TestScript, _ bool, _ []string) {
	ts.Check(stageOf(ts).agent.Process.Signal(syscall.SIGHUP))
}

// reloaded waits until no rule file is wrong.
func reloaded(ts *testscript.TestScript, _ bool, _ []string) {
	until(ts, "the rules to be reloaded", func() bool {
		out, err := exec.Command("plumbline-agent", "status", "--socket", ts.Getenv("SOCKET"), "-o", "json").Output()
		return err == nil && !strings.Contains(string(out), `"problems"`)
	})
}

func finish(ts *testscript.TestScript, _ bool, _ []string) {
	cmd := stageOf(ts).agent
	ts.Check(cmd.Process.Signal(syscall.SIGTERM))
	ts.Check(cmd.Wait())
}

func busy(ts *testscript.TestScript, _ bool, _ []string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	ts.Defer(func() { _ = l.Close() })
	ts.Setenv("ADDRESS", l.Addr().String())
}
