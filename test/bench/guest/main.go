// Guest is the benchmark inside the VM: it runs the loads without an agent, beside one that holds them to
// what they did before, and without one again, and writes what each cost. The guest's clock counts
// instructions, so that the numbers do not depend on the machine or on what else it does.
//
//	guest -agent /opt/bench/agent.sh -o /tmp/report.json
//	guest load file   # how it starts a load; see test/bench/load
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"regexp"
	"slices"
	"time"

	"github.com/plumbline-io/plumbline/test/bench/load"
	"github.com/plumbline-io/plumbline/test/bench/report"
)

func main() {
	script := flag.String("agent", "", "script that starts and stops the agent under test")
	only := flag.String("loads", "", "only the loads that match")
	to := flag.String("o", "/dev/stdout", "file that gets the report")
	profile := flag.Bool("programs", false, "also print which BPF programs each load calls, and what they cost")
	flag.Parse()
	err := run(*script, *only, *to, *profile)
	if err != nil {
		fmt.Fprintln(os.Stderr, "guest:", err)
		os.Exit(1)
	}
}

func run(script, only, to string, profile bool) error {
	if args := flag.Args(); len(args) > 0 {
		if serves, err := load.Serve(args); serves {
			return err
		}
		if len(args) == 2 && args[0] == loadArgument {
			return serveLoad(args[1])
		}
		return fmt.Errorf("unknown arguments %q", args)
	}
	wanted, err := regexp.Compile(only)
	if err != nil {
		return fmt.Errorf("read -loads: %w", err)
	}
	kinds := slices.DeleteFunc(load.Kinds(), func(k load.Kind) bool { return !wanted.MatchString(k.Name) })
	r, err := measure(script, kinds, profile)
	if err != nil {
		return err
	}
	data, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return os.WriteFile(to, data, 0o644)
}

// bootEnds is when the kernel has done what it puts off until it is up. Idle time passes at once here.
const bootEnds = 20 * time.Second

// measure goes through the whole comparison.
func measure(script string, kinds []load.Kind, profile bool) (r report.Report, err error) {
	if err := load.Prepare(loadDir); err != nil {
		return r, err
	}
	s, err := newStage(script)
	if err != nil {
		return r, err
	}
	time.Sleep(bootEnds)
	fmt.Println("without an agent")
	before, err := s.runAll(kinds)
	if err != nil {
		return r, err
	}
	fmt.Println("starting the agent")
	if r.Start, r.StartKernel, err = s.start(); err != nil {
		return r, err
	}
	fmt.Printf("beside the agent, whose start took %.0f M instructions, %.0f M in the kernel\n", r.Start/1e6, r.StartKernel/1e6)
	beside, err := s.beside(kinds)
	if err != nil {
		return r, errors.Join(err, s.call("stop", nil))
	}
	if r.RSS, err = s.rss(); err != nil {
		return r, err
	}
	if profile {
		if err := s.profile(kinds); err != nil {
			return r, err
		}
	}
	if err := s.call("stop", nil); err != nil {
		return r, err
	}
	fmt.Println("without an agent, again")
	after, err := s.runAll(kinds)
	if err != nil {
		return r, err
	}
	for i, k := range kinds {
		r.Loads = append(r.Loads, report.Load{Name: k.Name, What: k.What, Goal: k.Goal, Before: before[i], Beside: beside[i], After: after[i]})
	}
	return r, nil
}

// beside lets the agent see every load once, then hold them to that, and measures.
func (s *stage) beside(kinds []load.Kind) ([]report.Cost, error) {
	for _, k := range kinds {
		if _, err := s.run(k, max(k.Rounds/50, learnRounds)); err != nil {
			return nil, fmt.Errorf("learn load %s: %w", k.Name, err)
		}
	}
	if err := s.call("hold", nil); err != nil {
		return nil, err
	}
	return s.runAll(kinds)
}

// learnRounds is enough for every file to be opened.
const learnRounds = 256

func (s *stage) runAll(kinds []load.Kind) ([]report.Cost, error) {
	var costs []report.Cost
	for _, k := range kinds {
		c, err := s.run(k, k.Rounds)
		if err != nil {
			return nil, fmt.Errorf("run load %s: %w", k.Name, err)
		}
		fmt.Printf("  %s: %.0f instructions each, the agent %.0f, kernel threads %.0f %v\n", k.Name, c.Inline, c.Agent, c.Threads, c.Events)
		costs = append(costs, c)
	}
	return costs, nil
}
