package enforce_test

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/plumbline-io/plumbline/pkg/event"
	processes "github.com/plumbline-io/plumbline/pkg/process"
	"github.com/plumbline-io/plumbline/pkg/rule"
	"github.com/plumbline-io/plumbline/pkg/rulefile"
	"github.com/plumbline-io/plumbline/pkg/sensor"
	"github.com/plumbline-io/plumbline/pkg/sensor/sensortest"
	"github.com/plumbline-io/plumbline/rules"
)

// The known load: what a service does all day and no rule asks about, and beside it a little of what rules of
// the catalogue ask about, whose conditions the kernel can decide in part.
const (
	plainOpens    = 300
	plainExecs    = 30
	plainConnects = 300
	keyOpens      = 60 // of private keys, which servers may read
	apiConnects   = 20 // to ports of the Kubernetes API
	keysShown     = 40 // by a tool, which a rule is about

	wantedByRules = keyOpens + apiConnects + keysShown

	loadName  = "known load"
	firstPort = 20_000
	apiPort   = 6443
)

// fillLoad makes the files that the load opens, empty. The last key is opened last: when it is told, all is.
func fillLoad(dir string) error {
	var errs []error
	for i := range plainOpens {
		errs = append(errs, os.WriteFile(plainFile(dir, i), nil, 0o600))
	}
	for i := range keyOpens {
		errs = append(errs, os.WriteFile(keyFile(dir, i), nil, 0o600))
	}
	return errors.Join(errs...)
}

func plainFile(dir string, i int) string { return fmt.Sprintf("%s/%d.txt", dir, i) }

func keyFile(dir string, i int) string { return fmt.Sprintf("%s/%d.key", dir, i) }

// doLoad does it. Connecting a datagram socket sends nothing.
func doLoad(dir string) error {
	var errs []error
	for i := range plainOpens {
		errs = append(errs, closing(unix.Open(plainFile(dir, i), unix.O_RDONLY|unix.O_CLOEXEC, 0)))
	}
	for range plainExecs {
		errs = append(errs, runProgram("/bin/true"))
	}
	for i := range plainConnects {
		errs = append(errs, connectUDP([4]byte{127, 0, 0, 1}, firstPort+i))
	}
	for i := range apiConnects {
		errs = append(errs, connectUDP([4]byte{127, 0, 1, byte(i)}, apiPort))
	}
	shown := []string{"/bin/cat"}
	for i := range keysShown {
		shown = append(shown, keyFile(dir, i))
	}
	errs = append(errs, runProgram(shown...))
	for i := range keyOpens {
		errs = append(errs, closing(unix.Open(keyFile(dir, i), unix.O_RDONLY|unix.O_CLOEXEC, 0)))
	}
	return errors.Join(errs...)
}

func runProgram(argv ...string) error {
	pid, err := syscall.ForkExec(argv[0], argv, &syscall.ProcAttr{Files: []uintptr{0, 1, 2}})
	if err != nil {
		return err
	}
	var status unix.WaitStatus
	if _, err := unix.Wait4(pid, &status, 0, nil); err != nil {
		return err
	}
	if status != 0 {
		return unix.ECHILD
	}
	return nil
}

func connectUDP(address [4]byte, port int) error {
	return withSocket(unix.AF_INET, unix.SOCK_DGRAM, func(fd int) error {
		return unix.Connect(fd, &unix.SockaddrInet4{Addr: address, Port: port})
	})
}

// told is what of one run of the load left the kernel.
type told struct {
	lives      int // forks, executions and exits, which no rule is needed for
	operations int // all others
	opened     int // of them opens of the load's own files
	of         map[event.Operation]int
	matches    map[string]int // by rule
}

// Of what a baseline knows, only that leaves the kernel which a rule of the catalogue can match: exactly that,
// and the rules find in it what they find where every operation that any of them asks about is told.
func TestPushdown(t *testing.T) {
	sensortest.OnlyOn(t, "6.12")
	w := pushdownTrial(t)
	shipped := shippedRules(t)
	dir := t.TempDir()
	if err := fillLoad(dir); err != nil {
		t.Fatal(err)
	}
	with := w.load(t, shipped, shipped, dir)
	without := w.load(t, unfiltered(t, w.enforcer.Rules().Operations), shipped, dir)

	done := plainOpens + plainExecs + plainConnects + wantedByRules
	t.Logf("of %d operations of a load, and what else %d programs do to start, %d left the kernel with push-down and %d without; beside them %d forks, executions and exits each time",
		done, plainExecs+1, with.operations, without.operations, with.lives)
	if with.operations != wantedByRules || with.of[event.OpRead] != keyOpens+keysShown || with.of[event.OpConnect] != apiConnects {
		t.Errorf("with push-down %d operations were told: %v, want %d", with.operations, with.of, wantedByRules)
	}
	if n := without.of[event.OpConnect]; n != plainConnects+apiConnects {
		t.Errorf("without push-down %d connections were told, want %d", n, plainConnects+apiConnects)
	}
	// The files of the load; what a program opens to start depends on the machine, and is something.
	if n, starts := without.opened, without.of[event.OpRead]-without.opened; n != plainOpens+keyOpens+keysShown || starts < plainExecs+1 {
		t.Errorf("without push-down %d opens were told, want %d; and %d of starting programs", n, plainOpens+keyOpens+keysShown, starts)
	}
	if lives := 3 * (plainExecs + 1); with.lives != lives || without.lives != lives {
		t.Errorf("%d and %d forks, executions and exits were told, want %d", with.lives, without.lives, lives)
	}
	want := fmt.Sprint(map[string]int{"Private key read": keysShown})
	if got, all := fmt.Sprint(with.matches), fmt.Sprint(without.matches); got != want || all != want {
		t.Errorf("rules matched %s with push-down and %s without, want %s", got, all, want)
	}
	if lost := w.scope.Lost(t); len(lost) > 0 {
		t.Errorf("lost: %v", lost)
	}
}

// pushdownTrial holds a container to a baseline that knows all of the load.
func pushdownTrial(t *testing.T) *trial {
	t.Helper()
	k, scope := use(t, strongest(), event.AllDimensions)
	e := k.enforcer
	if !e.Covered().Has(event.DimFile) {
		t.Skip("needs a kernel with hooks for files: ", e.Strength(), " has none")
	}
	w := k.trial(t, scope)
	w.does = newDoer(t, scope)
	scope.Held = event.Dimensions(0).With(event.DimFile).With(event.DimLibrary).With(event.DimNetwork)
	const generation = 2
	loopback := netip.MustParsePrefix("127.0.0.0/8")
	if err := e.Replace(scope.Workload, generation, []event.Key{
		{Op: event.OpRead, Path: "/**"},
		{Op: event.OpLibrary, Path: "/**"},
		{Op: event.OpConnect, Protocol: event.ProtocolUDP, Address: loopback},
	}); err != nil {
		t.Fatal(err)
	}
	w.state(t, event.Enforce, generation, sensor.Container)
	return w
}

func shippedRules(t *testing.T) *rule.Ruleset {
	t.Helper()
	var files rulefile.Files
	if err := files.AddFS(rules.Files, rulefile.BuiltIn); err != nil {
		t.Fatal(err)
	}
	set, problems := rule.Load(files.Rules...)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	return set
}

// unfiltered is what the kernel would be asked if it could test nothing: for every one of some operations.
func unfiltered(t *testing.T, operations []event.Operation) *rule.Ruleset {
	t.Helper()
	var names []string
	for _, op := range operations {
		if op != event.OpExec { // which is told anyway
			names = append(names, op.String())
		}
	}
	set, problems := rule.Load(rule.File{
		Name: "all.yaml", Data: []byte(ruleText("all", "evt.operation in ("+strings.Join(names, ", ")+")", "")),
	})
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	return set
}

// load does the load under some rules in the kernel, and asks others about what it tells.
func (w *trial) load(t *testing.T, inKernel, asked *rule.Ruleset, dir string) told {
	t.Helper()
	if _, err := w.enforcer.LoadRules(inKernel); err != nil {
		t.Fatal(err)
	}
	before, last := w.events.Len(), event.Key{Op: event.OpRead, Path: keyFile(dir, keyOpens-1)}
	seen := w.told(last)
	if code := w.does.run(t, loadName, dir); code != 0 {
		t.Fatalf("the load: error number %d", code)
	}
	sensortest.Until(t, last.String(), func() bool { return w.told(last) > seen })
	return tellOf(w.events.All(), before, dir, asked)
}

// tellOf looks at events from one on; those before tell who acts.
func tellOf(all []event.Event, from int, dir string, asked *rule.Ruleset) told {
	got := told{of: map[event.Operation]int{}, matches: map[string]int{}}
	table := processes.New(processes.Config{})
	env := rule.Env{Workload: rule.Workload{Name: "shop", Kind: "container", ContainerID: strings.Repeat("1", 12)}}
	for i := range all {
		ev := &all[i]
		table.Observe(ev)
		table.Fill(ev)
		if i < from {
			continue
		}
		switch ev.Kind {
		case event.Fork, event.Exec, event.Exit:
			got.lives++
		case event.Access:
			got.operations++
			got.of[ev.Access.Op]++
			if ev.Access.Op == event.OpRead && strings.HasPrefix(ev.Access.Path, dir+"/") {
				got.opened++
			}
		}
		env.Event = ev
		for _, r := range asked.Match(&env, rule.All, nil) {
			got.matches[r.Name]++
		}
	}
	return got
}
