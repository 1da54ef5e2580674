package enforce_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/plumbline-io/plumbline/pkg/event"
	"github.com/plumbline-io/plumbline/pkg/sensor/sensortest"
)

const (
	evasionPrefix = "evade "
	emptyHanded   = 254 // exit code: no call failed, yet it did not get what it was for
)

var errEmptyHanded = errors.New("got nothing")

// evasion is a way to something that the baseline does not hold, by other means than the plain one. It
// is learnt, together with all that it takes. Then it is tried under a baseline that holds everything
// of it except what it is about, and once more under one that does not hold its steps either.
type evasion struct {
	prepare func(t *testing.T, dir string) // by somebody outside the workload; dir is new
	do      func(dir string) error         // by the workload; nil: it got what it was for
	about   func(dir string) []event.Key   // at the first of these it is to be stopped
	steps   []event.Operation              // what else it takes
	alone   bool                           // changes the process that does it
	code    int                            // error number when it is stopped; 0: EPERM
	lacks   func() string                  // why this kernel cannot hold it; nil or "": it can
	passes  bool                           // it is not stopped: docs/limits.md says why
}

func about(keys ...func(string) event.Key) func(string) []event.Key {
	return func(dir string) []event.Key {
		var all []event.Key
		for _, k := range keys {
			all = append(all, k(dir))
		}
		return all
	}
}

// at is a key whose path is not below dir.
func at(op event.Operation, path string) func(string) event.Key {
	return func(string) event.Key { return event.Key{Op: op, Path: path} }
}

// Other things that a test lets be done by name.
const (
	fileMarker         = "marker"
	networkMarker      = "network marker"
	handingOver        = "hand over"
	flooding           = "flood"
	signallingByFile   = "signal by a file"
	lookingAt          = "look at"
	runningInOwnCgroup = "run in a cgroup of its own"
	bindingName        = "bind to a name"
	connectingName     = "connect to a name"
)

func helpers() map[string]func(string) error {
	return map[string]func(string) error{
		fileMarker:         func(dir string) error { return peek(dir + "/marker") },
		networkMarker:      connectMarked,
		handingOver:        handToFd3,
		flooding:           flood,
		signallingByFile:   signalByFile,
		lookingAt:          peek,
		runningInOwnCgroup: runInOwnCgroup,
	}
}

// evade does an evasion or a helper.
func evade(name, arg string) error {
	if help := helpers()[name]; help != nil {
		return help(arg)
	}
	if do := namingDeeds()[name]; do != nil {
		return do(arg)
	}
	if attack := agentAttacks()[name]; attack != nil {
		return attack(arg)
	}
	if do := renamings()[name]; do != nil {
		return do(arg)
	}
	return evasions()[name].do(arg)
}

// row of the table of results.
type row struct{ name, verdict, stoppedAt, beside string }

func printTable(t *testing.T, rows []row, beside string) {
	t.Helper()
	slices.SortFunc(rows, func(a, b row) int { return strings.Compare(a.name, b.name) })
	var b strings.Builder
	fmt.Fprintf(&b, "| case | verdict | stopped at | %s |\n|---|---|---|---|\n", beside)
	for _, r := range rows {
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", r.name, r.verdict, r.stoppedAt, r.beside)
	}
	t.Log("\n" + b.String())
}

// contest lets evasions be tried.
type contest struct {
	*trial
	marker    string // a deed that is always told: after it, all before it was told too
	markerKey func(arg string) event.Key
	rows      []row
}

// attempt lets an evasion be tried once, under a baseline of its own. It returns the error number and
// what was told with a verdict, in order and without the marker.
func (c *contest) attempt(t *testing.T, name, arg string, mode event.Mode, verdict event.Verdict, keys []event.Key) (code int, told []event.Key) {
	t.Helper()
	e := evasions()[name]
	if e.prepare != nil {
		renew(t, arg)
		e.prepare(t, arg)
	}
	c.generation++
	if err := c.enforcer.Replace(c.scope.Workload, c.generation, keys); err != nil {
		t.Fatal(err)
	}
	begin := c.events.Len()
	run := c.does.run
	if e.alone {
		run = c.does.runAlone
	}
	c.scope.Set(t, mode, c.generation)
	code = run(t, evasionPrefix+name, arg)
	c.does.run(t, c.marker, arg)
	c.scope.Set(t, event.Off, c.generation)
	sensortest.Until(t, mode.String()+": the marker", func() bool {
		told = nil
		for _, ev := range c.events.From(begin) {
			k := keyOf(ev)
			if k == c.markerKey(arg) {
				return true
			}
			if k.Op != event.OpUnspecified && ev.Verdict == verdict && !slices.Contains(told, k) {
				told = append(told, k)
			}
		}
		return false
	})
	return code, told
}

// keyOf is what an event is about, if it is one of a baseline.
func keyOf(ev event.Event) event.Key {
	switch ev.Kind {
	case event.Access:
		return ev.Access.Key
	case event.ExecCheck:
		return event.Key{Op: event.OpExec, Path: ev.Exec.Path}
	}
	return event.Key{}
}

func (c *contest) test(t *testing.T, name, arg string) {
	e := evasions()[name]
	if e.lacks != nil && e.lacks() != "" {
		c.rows = append(c.rows, row{name: name, verdict: "not here: " + e.lacks()})
		t.Skip(e.lacks())
	}
	all := c.learn(t, name, arg)
	rest := without(all, func(k event.Key) bool { return slices.Contains(e.about(arg), k) })
	code, denied := c.attempt(t, name, arg, event.Enforce, event.Deny, rest)
	result := row{name: name, verdict: "denied", stoppedAt: show(denied, arg)}
	switch {
	case e.passes:
		result.verdict = "passes"
		if code != 0 {
			t.Errorf("error number %d, stopped at %v: limits.md is wrong", code, denied)
		}
	case code == 0:
		result.verdict = "PASSES"
		t.Errorf("was not stopped; denied %v; the last events: %+v", denied, lastOf(c.events.All(), 5))
	case e.code == 0 && code != int(unix.EPERM) && code != emptyHanded || e.code != 0 && code != e.code:
		t.Errorf("error number %d", code)
	case len(denied) == 0 || !slices.Contains(e.about(arg), denied[0]):
		t.Errorf("stopped at %v, want %v", denied, e.about(arg))
	}
	if learnt := len(rest) < len(all); learnt {
		if code, denied := c.attempt(t, name, arg, event.Enforce, event.Deny, all); code != 0 {
			t.Errorf("what was learnt is denied: error number %d, %v", code, denied)
		}
	}
	if e.steps != nil {
		bare := without(rest, func(k event.Key) bool { return slices.Contains(e.steps, k.Op) })
		code, denied = c.attempt(t, name, arg, event.Enforce, event.Deny, bare)
		result.beside = show(denied[max(0, len(denied)-1):], arg) // before it, what the runtime can do without
		if code == 0 || len(denied) == 0 {
			t.Errorf("with no step known: error number %d, denied %v", code, denied)
		}
	}
	c.rows = append(c.rows, result)
}

// learn lets an evasion happen in learn mode, which shows that this kernel has it, and returns all that
// it took.
func (c *contest) learn(t *testing.T, name, arg string) []event.Key {
	e := evasions()[name]
	code, told := c.attempt(t, name, arg, event.Learn, event.Allow, nil)
	switch unix.Errno(code) {
	case 0:
	case unix.ENOSYS, unix.ENOEXEC, unix.ENODEV, unix.EOPNOTSUPP, unix.EPROTONOSUPPORT:
		why := fmt.Sprintf("%s (%d)", unix.ErrnoName(unix.Errno(code)), code)
		c.rows = append(c.rows, row{name: name, verdict: "not here: " + why})
		t.Skip(why)
	default:
		t.Fatalf("learn: error number %d: this is no evasion; told %v", code, told)
	}
	for _, k := range e.about(arg) {
		if !slices.Contains(told, k) {
			t.Errorf("learn: did not tell %s, only %v", k, told)
		}
	}
	entries, err := c.enforcer.Entries(c.scope.Workload, c.generation)
	if err != nil {
		t.Fatal(err)
	}
	var keys []event.Key
	for _, entry := range entries {
		keys = append(keys, entry.Key)
	}
	return without(keys, func(k event.Key) bool { return k == c.markerKey(arg) })
}

func lastOf(events []event.Event, n int) (last []string) {
	for _, ev := range events[max(0, len(events)-n):] {
		last = append(last, ev.Verdict.String()+" "+keyOf(ev).String())
	}
	return last
}

func without(keys []event.Key, unwanted func(event.Key) bool) []event.Key {
	return slices.DeleteFunc(slices.Clone(keys), unwanted)
}

func show(keys []event.Key, dir string) string {
	if len(keys) == 0 {
		return ""
	}
	text := keys[0].String()
	if keys[0].Op == event.OpExec {
		text = "exec " + text
	}
	text = strings.ReplaceAll(text, dir+"/", "")
	return text
}

// What lies in the directory of an evasion.
const (
	vaultFile = "vault/secret" // not in the baseline
	knownFile = "open/known"   // in it, where an evasion reads it
	aliasFile = "open/alias"   // not there yet
	toolFile  = "bin/tool"     // a program that is not in the baseline
	secret    = "the secret"
)

// renew empties a directory, whatever is mounted in it, and puts there what evasions are about.
func renew(t *testing.T, dir string) {
	t.Helper()
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		if at := strings.Fields(line)[1]; strings.HasPrefix(at, dir+"/") {
			if err := unix.Unmount(at, unix.MNT_DETACH); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{
		vaultFile: secret, knownFile: "well known", "vault/secres": "well known", "marker": "", "mnt/known": "",
		toolFile: string(exiting()),
	} {
		if err := os.MkdirAll(filepath.Dir(dir+"/"+name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(dir+"/"+name, []byte(content), 0o755); err != nil {
			t.Fatal(err)
		}
	}
}

func nothingMore(*testing.T, string) {}

// take reads the secret from a file that was opened.
func take(fd int, err error) error {
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	var content [len(secret)]byte
	if n, err := unix.Read(fd, content[:]); err != nil || string(content[:n]) != secret {
		return errors.Join(err, errEmptyHanded)
	}
	return nil
}

func open(path string) error { return take(unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)) }

// peek opens a file whatever is in it.
func peek(path string) error {
	return closing(unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0))
}

// inOrder does one thing after the other until one fails.
func inOrder(steps ...func() error) error {
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}
