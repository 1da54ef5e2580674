package enforce_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/plumbline-io/plumbline/pkg/sensor/sensortest"
)

const deedVariable = "PLUMBLINE_DEED"

// TestMain does a deed and ends where a test asks for it: exit code 0 if it was allowed, else the error
// number. "serve" does those that standard input names, one after the other.
func TestMain(m *testing.M) {
	switch name := os.Getenv(deedVariable); name {
	case "":
		code := m.Run()
		if !closeKits() {
			code = 1
		}
		os.Exit(code)
	case "serve":
		serve()
	default:
		os.Exit(perform(name, os.Getenv("PLUMBLINE_DIR")))
	}
}

func serve() {
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		name, dir, _ := strings.Cut(lines.Text(), "\t")
		fmt.Println(perform(name, dir))
	}
}

// perform does a deed or an evasion and returns its error number. Those of the network have a port
// instead of a directory.
func perform(name, dir string) int {
	var err error
	port, isPort := strconv.Atoi(dir)
	evasion, evades := strings.CutPrefix(name, evasionPrefix)
	switch {
	case name == "nothing":
	case name == executeName:
		return execute(dir)
	case name == stormName:
		return storm(dir)
	case name == threadName:
		return becomeByThread(dir)
	case name == detailsName:
		err = detailed(dir)
	case name == callName:
		call(port)
	case name == "hammer":
		return hammer(port)
	case name == "insist":
		return insist(dir)
	case name == loadName:
		err = doLoad(dir)
	case evades:
		err = evade(evasion, dir)
	case withoutRights()[name] != nil:
		err = withoutRights()[name](dir)
	case standingDeeds()[name] != nil:
		err = standingDeeds()[name](dir)
	case actingDeeds()[name] != nil:
		return actingDeeds()[name](dir)
	case strings.HasPrefix(name, dupPrefix):
		err = dupOne(strings.TrimPrefix(name, dupPrefix), dir)
	case strings.HasPrefix(name, servePrefix):
		err = serveOne(strings.TrimPrefix(name, servePrefix), port)
	case strings.HasPrefix(name, askPrefix):
		err = askFor(strings.TrimPrefix(name, askPrefix), dir)
	case name == signedModule:
		err = loadSigned(dir)
	case strings.HasPrefix(name, beginPrefix):
		err = beginWith(strings.TrimPrefix(name, beginPrefix), port)
	case name == multipath:
		err = listenMultipath(port)
	case isPort == nil:
		err = networkDeeds()[name].do(port)
	default:
		err = deeds()[name].do(dir)
	}
	if errors.Is(err, errEmptyHanded) {
		return emptyHanded
	}
	var errno syscall.Errno
	if err != nil && !errors.As(err, &errno) {
		fmt.Fprintln(os.Stderr, err)
		return 255
	}
	return int(errno)
}

// doer is a process in a scope that does deeds.
type doer struct {
	scope *sensortest.Scope
	in    io.Writer
	out   *bufio.Scanner
}

func newDoer(t *testing.T, scope *sensortest.Scope) *doer {
	t.Helper()
	return newDoerOf(t, scope, selfPath(t))
}

// newDoerOf is one that runs another file of this program, and gets open files from 3 on.
func newDoerOf(t *testing.T, scope *sensortest.Scope, file string, open ...*os.File) *doer {
	t.Helper()
	cmd := scope.Command(t, file)
	cmd.ExtraFiles = open
	cmd.Env = append(os.Environ(), deedVariable+"=serve")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	})
	d := &doer{scope: scope, in: in, out: bufio.NewScanner(out)}
	d.run(t, "nothing", "") // it is up
	return d
}

func selfPath(t *testing.T) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return self
}

// run does a deed and returns its error number, 0 if it was allowed.
func (d *doer) run(t *testing.T, name, dir string) int {
	t.Helper()
	if _, err := fmt.Fprintf(d.in, "%s\t%s\n", name, dir); err != nil {
		t.Fatal(err)
	}
	if !d.out.Scan() {
		t.Fatalf("%s: the process ended: %v", name, d.out.Err())
	}
	code, err := strconv.Atoi(d.out.Text())
	if err != nil {
		t.Fatal(err)
	}
	return code
}

// runAlone does the same in a process of its own.
func (d *doer) runAlone(t *testing.T, name, dir string) int {
	t.Helper()
	cmd := d.scope.Command(t, selfPath(t))
	cmd.Env = append(os.Environ(), deedVariable+"="+name, "PLUMBLINE_DIR="+dir)
	cmd.Stderr = os.Stderr
	_ = cmd.Run()
	return cmd.ProcessState.ExitCode()
}

const hammerTries = 500

// hammer tries to connect again and again, and returns how often that was not refused with EPERM, 255 at
// the most.
func hammer(port int) int {
	reached := 0
	for range hammerTries {
		if err := networkDeeds()["connect4"].do(port); !errors.Is(err, syscall.EPERM) {
			reached++
		}
	}
	return min(reached, 255)
}
