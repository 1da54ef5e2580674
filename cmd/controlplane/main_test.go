package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/plumbline-io/plumbline/pkg/alert"
	"github.com/plumbline-io/plumbline/pkg/bus"
	"github.com/plumbline-io/plumbline/pkg/spool"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"plumbline": main})
}

// TestScripts runs testdata/*.txtar. Besides testscript's own commands there are
//
//	exits CODE PROGRAM ARGS...    run and compare the exit code
//	serve                         start a control plane in $WORK/data, set URL, LISTEN and PASSWORD; ended with the script
//	stop                          end it with SIGTERM and compare the exit code with 0
//	report N SPOOL                send N alerts and a heartbeat as node n1
//	follow ARGS...                start "plumbline alerts -f ARGS" and wait for its header
//	followed N                    wait for N lines of it, end it with SIGINT, show them as stdout
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(e *testscript.Env) error {
			e.Values[stageKey{}] = &stage{}
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": exits, "serve": serve, "stop": stop, "report": report, "follow": startFollow, "followed": followed,
		},
	})
}

type stageKey struct{}

// stage is what runs beside a script.
type stage struct {
	server, follower *exec.Cmd
	lines            *bufio.Scanner
}

func stageOf(ts *testscript.TestScript) *stage { return ts.Value(stageKey{}).(*stage) }

func exits(ts *testscript.TestScript, _ bool, args []string) {
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			ts.Fatalf("%v", err)
		}
		got = exit.ExitCode()
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

// spawn starts plumbline beside the script; it is killed when the script ends.
func spawn(ts *testscript.TestScript, args ...string) (*exec.Cmd, *bufio.Scanner) {
	path, err := exec.LookPath("plumbline")
	ts.Check(err)
	cmd := exec.Command(path, args...)
	cmd.Dir = ts.Getenv("WORK")
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	ts.Check(err)
	ts.Check(cmd.Start())
	ts.Defer(func() {
		if cmd.ProcessState == nil {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
	})
	return cmd, bufio.NewScanner(out)
}

func serve(ts *testscript.TestScript, _ bool, args []string) {
	listen := "127.0.0.1:0"
	if url := ts.Getenv("URL"); url != "" { // again: the agents know the old address
		listen = url[len("nats://"):]
	}
	cmd, lines := spawn(ts, append([]string{"serve", "--data-dir", ts.MkAbs("data"), "--listen", listen, "--log-level", "error"}, args...)...)
	if !lines.Scan() {
		ts.Fatalf("serve ended: %v", cmd.Wait())
	}
	m := regexp.MustCompile(`^ready: (nats://127\.0\.0\.1:\d+), passwords in (\S+/agent\.password) \(agents\) and (\S+/operator\.password) \(operators\)$`).FindStringSubmatch(lines.Text())
	if m == nil {
		ts.Fatalf("serve says %q", lines.Text())
	}
	ts.Setenv("URL", m[1])
	ts.Setenv("LISTEN", m[1][len("nats://"):])
	ts.Setenv("PASSWORD", m[3])
	stageOf(ts).server = cmd
}

func stop(ts *testscript.TestScript, _ bool, _ []string) {
	cmd := stageOf(ts).server
	ts.Check(cmd.Process.Signal(os.Interrupt))
	ts.Check(cmd.Wait())
}

func report(ts *testscript.TestScript, _ bool, args []string) {
	n, err := strconv.Atoi(args[0])
	ts.Check(err)
	sp, err := spool.Open(ts.MkAbs(args[1]), spool.Config{Node: "n1"})
	ts.Check(err)
	pub, err := bus.NewPublisher(bus.PublisherConfig{
		URL: ts.Getenv("URL"), PasswordFile: ts.MkAbs("data/agent.password"), Node: "n1", Source: sp,
		DrainTimeout: 20 * time.Second,
		Heartbeat: func() bus.Heartbeat {
			return bus.Heartbeat{
				Version: "v0.1", Kernel: "6.1.0", Arch: "amd64", Modes: map[string]int{"enforce": 1, "learn": 2}, Weakened: map[string]int{"paused": 1}, RSS: 20 << 20,
				Lost:    map[string]uint64{"ring_full.exec": 3},
				Support: []bus.Support{{Sensor: "exec", Hook: "lsm", Supported: true}, {Sensor: "exec", Hook: "fmod_ret", Reason: "not needed"}},
				Inputs:  []bus.Input{{Name: "falco.http_listen", Alerts: 40}, {Name: "falco.socket", Alerts: 2, LastError: "connection refused"}},
			}
		},
	})
	ts.Check(err)
	spoolCtx, endSpool := context.WithCancel(context.Background())
	pubCtx, endPub := context.WithCancel(context.Background())
	var writer, sender sync.WaitGroup
	writer.Go(func() { _ = sp.Run(spoolCtx) })
	for i := range n {
		_, err := sp.Append(sample(i))
		ts.Check(err)
	}
	sender.Go(func() { _ = pub.Run(pubCtx) })
	for end := time.Now().Add(20 * time.Second); sp.Stats().Records > 0 || pub.Stats().Heartbeats == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			ts.Fatalf("not stored: %+v %+v", sp.Stats(), pub.Stats())
		}
	}
	endPub()
	sender.Wait()
	endSpool()
	writer.Wait()
	ts.Check(sp.Close())
}

func sample(i int) alert.Alert {
	severity, workload := alert.Warning, "web.service"
	var more alert.Detail
	if i%2 == 1 {
		severity, workload = alert.Critical, "evil\x1b[2J\n\u202e"
		more = alert.Detail{Attack: []string{"T1059.004", "T1611"}, Action: "deny", Key: "/bin/sh"}
	}
	return alert.Alert{
		Time: time.Now(), Rule: "Exec outside baseline", Severity: severity, Source: "syscall", Output: fmt.Sprintf("alert %d", i),
		Fields: map[string]any{"evt.time": int64(1700000000123456789)},
		Detail: alert.Detail{
			Workload: workload, WorkloadKind: "unit", SPIFFEID: "spiffe://example.org/prod/web", Verdict: "deny", Hook: "lsm",
			Attack: more.Attack, Action: more.Action, Key: more.Key,
		},
	}
}

func startFollow(ts *testscript.TestScript, _ bool, args []string) {
	st := stageOf(ts)
	st.follower, st.lines = spawn(ts, append([]string{"alerts", "-f", "--server", ts.Getenv("URL"), "--password-file", ts.Getenv("PASSWORD")}, args...)...)
	if !st.lines.Scan() {
		ts.Fatalf("follow ended: %v", st.follower.Wait())
	}
}

func followed(ts *testscript.TestScript, _ bool, args []string) {
	st := stageOf(ts)
	n, err := strconv.Atoi(args[0])
	ts.Check(err)
	for range n {
		if !st.lines.Scan() {
			ts.Fatalf("follow ended: %v", st.follower.Wait())
		}
		_, _ = io.WriteString(ts.Stdout(), st.lines.Text()+"\n")
	}
	ts.Check(st.follower.Process.Signal(os.Interrupt))
	for st.lines.Scan() {
		ts.Fatalf("one line more than %d: %s", n, st.lines.Text())
	}
	ts.Check(st.follower.Wait())
}
