package response

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/plumbline-io/plumbline/pkg/workload"
)

// The tests below act on processes that they have started, in cgroups that they have made.

const patience = 20 * time.Second

const containerName = "docker-1111111111111111111111111111111111111111111111111111111111111111.scope"

// version2 is where the version 2 tree is mounted, and may be written.
func version2(t *testing.T) string {
	t.Helper()
	mount, err := workload.Version2Mount("")
	if err != nil {
		t.Skip(err)
	}
	return mount
}

// version1 is where a controller of version 1 is mounted.
func version1(t *testing.T, controller string) string {
	t.Helper()
	dir := filepath.Join("/sys/fs/cgroup", controller)
	if _, err := os.Stat(filepath.Join(dir, "cgroup.procs")); err != nil {
		t.Skip("needs the version 1 controller " + controller)
	}
	return dir
}

// makeCgroup makes a cgroup below a mount, and removes it after its processes have ended.
func makeCgroup(t *testing.T, mount, name string) string {
	t.Helper()
	top := filepath.Join(mount, fmt.Sprintf("plumbline-response-%d", os.Getpid()))
	dir := filepath.Join(top, name)
	if err := os.MkdirAll(dir, 0o755); errors.Is(err, os.ErrPermission) {
		t.Skip(err)
	} else if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		eventually(t, "remove "+dir, func() bool { return os.Remove(dir) == nil })
		_ = os.Remove(top) // others of the test may be in it yet
	})
	return dir
}

func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited for: %s", what)
		}
	}
}

// target of a cgroup directory, with others of it as tops of the same workload.
func target(t *testing.T, dir string) Target {
	t.Helper()
	h, err := workload.Detect(workload.Config{Scope: dir})
	if err != nil {
		t.Fatal(err)
	}
	n, err := h.Node(dir)
	if err != nil {
		t.Fatal(err)
	}
	return Target{Workload: h.Resolve(n.Path), Hierarchy: h, Tops: []workload.Node{n}}
}

// program is one that runs in cgroups of the test's.
type program struct {
	cmd  *exec.Cmd
	in   *os.File
	out  *os.File
	text *bufio.Reader
	done chan struct{}
}

// run starts a shell script in cgroups; it has to print "ready".
func run(t *testing.T, script string, dirs ...string) *program {
	t.Helper()
	enter := `for d; do echo $$ > "$d/cgroup.procs" || exit 9; done; ` + script
	p := &program{cmd: exec.Command("/bin/sh", append([]string{"-c", enter, "sh"}, dirs...)...), done: make(chan struct{})}
	theirIn, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	out, theirOut, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	p.in, p.out, p.text = in, out, bufio.NewReader(out)
	p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = theirIn, theirOut, os.Stderr
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = theirIn.Close()
	_ = theirOut.Close()
	go func() {
		_ = p.cmd.Wait()
		close(p.done)
	}()
	t.Cleanup(func() {
		_ = p.in.Close()
		_ = p.cmd.Process.Kill()
		<-p.done
		_ = p.out.Close()
	})
	if got := p.read(patience); got != "ready\n" {
		t.Fatalf("got %q of %s", got, script)
	}
	return p
}

// echo is a script that answers what it is told.
const echo = `echo ready; exec cat`

func (p *program) pid() uint32 { return uint32(p.cmd.Process.Pid) }

func (p *program) write(t *testing.T, text string) {
	t.Helper()
	if _, err := p.in.WriteString(text); err != nil {
		t.Fatal(err)
	}
}

// read reads a line; "" if none comes in time.
func (p *program) read(limit time.Duration) string {
	_ = p.out.SetReadDeadline(time.Now().Add(limit))
	text, _ := p.text.ReadString('\n')
	return text
}

// wait until it has ended.
func (p *program) wait(t *testing.T) {
	t.Helper()
	select {
	case <-p.done:
	case <-time.After(patience):
		t.Fatalf("process %d goes on", p.pid())
	}
}

func (p *program) hasEnded() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}
