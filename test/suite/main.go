// Suite runs `go test` and ends with counts: what passed, what failed and what was skipped, with the
// reasons. Packages in which nothing can race are tested without the race detector. It must never hide output of
// a failed test.
//
//	go run ./test/suite -race ./...
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"

	"github.com/plumbline-io/plumbline/test/counts"
)

func main() {
	cmds, single, err := runs(os.Args[1:], alone)
	if err != nil {
		fmt.Fprintln(os.Stderr, "suite:", err)
		os.Exit(2)
	}
	if len(single) > 0 {
		fmt.Println("without the race detector, since nothing in them starts a goroutine:", strings.Join(single, " "))
	}
	s := newSummary(os.Stdout)
	code := s.run(cmds)
	s.print()
	if told := counts.Tell(s.counts()); told != nil {
		fmt.Fprintln(os.Stderr, "suite:", told)
		code = 2
	}
	os.Exit(code)
}

// run runs the commands at once and returns the exit code that says how that went.
func (s *summary) run(cmds []*exec.Cmd) int {
	codes := make([]int, len(cmds))
	var wait sync.WaitGroup
	for i, cmd := range cmds {
		wait.Go(func() { codes[i] = s.runOne(cmd) })
	}
	wait.Wait()
	return slices.Max(append(codes, 0))
}

func (s *summary) runOne(cmd *exec.Cmd) int {
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "suite: start go test:", err)
		return 2
	}
	s.read(out)
	err = cmd.Wait()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return 1
	} else if err != nil {
		fmt.Fprintln(os.Stderr, "suite: run go test:", err)
		return 2
	}
	return 0
}

// line is one event of `go test -json`, see `go doc test2json`.
type line struct {
	Action  string
	Package string
	Test    string
	Output  string
	Elapsed float64
}

// summary may be read into by many at once.
type summary struct {
	mu                      sync.Mutex
	w                       io.Writer
	output                  map[string][]string // of tests that have not ended
	skips                   map[string]int      // by reason
	passed, failed, skipped int
	failures                []string
}

func newSummary(w io.Writer) *summary {
	return &summary{w: w, output: map[string][]string{}, skips: map[string]int{}}
}

func (s *summary) read(r io.Reader) {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		s.readLine(lines.Bytes())
	}
}

func (s *summary) readLine(text []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var l line
	if json.Unmarshal(text, &l) != nil {
		fmt.Fprintln(s.w, string(text)) // go's own complaint
		return
	}
	s.add(l)
}

func (s *summary) add(l line) {
	name := l.Package + " " + l.Test
	switch l.Action {
	case "build-output":
		fmt.Fprint(s.w, l.Output)
		return
	case "output":
		s.output[name] = append(s.output[name], l.Output)
		return
	case "pass", "skip", "fail":
	default:
		return
	}
	if l.Action == "fail" {
		if l.Test == "" {
			s.unfinished(l.Package)
		}
		fmt.Fprint(s.w, strings.Join(s.output[name], ""))
		s.failures = append(s.failures, name)
	}
	if l.Action == "skip" && l.Test != "" {
		s.skips[reason(s.output[name])]++
	}
	delete(s.output, name)
	if l.Test == "" {
		fmt.Fprintf(s.w, "%-4s  %-64s %6.1fs\n", l.Action, l.Package, l.Elapsed)
		return
	}
	switch l.Action {
	case "pass":
		s.passed++
	case "fail":
		s.failed++
	case "skip":
		s.skipped++
	}
}

// unfinished prints what tests wrote that the package's end cut off: a crash is in there.
func (s *summary) unfinished(pkg string) {
	for name, output := range s.output {
		if strings.HasPrefix(name, pkg+" ") && name != pkg+" " {
			fmt.Fprint(s.w, strings.Join(output, ""))
			delete(s.output, name)
		}
	}
}

// reason is what the test said when it skipped, without its position.
func reason(output []string) string {
	for _, text := range output {
		text = strings.TrimSpace(text)
		if strings.HasPrefix(text, "===") || strings.HasPrefix(text, "---") || text == "" {
			continue
		}
		if _, said, ok := strings.Cut(text, ".go:"); ok {
			_, text, _ = strings.Cut(said, ": ")
		}
		return text
	}
	return "no reason given"
}

func (s *summary) print() {
	reasons := make([]string, 0, len(s.skips))
	for why := range s.skips {
		reasons = append(reasons, why)
	}
	slices.Sort(reasons)
	for _, why := range reasons {
		fmt.Fprintf(s.w, "skipped %d: %s\n", s.skips[why], why)
	}
	for _, name := range s.failures {
		fmt.Fprintln(s.w, "FAILED", name)
	}
}

func (s *summary) counts() string {
	return fmt.Sprintf("tests: %d passed, %d failed, %d skipped", s.passed, s.failed, s.skipped)
}
