package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"
)

const (
	program      = "/bin/true"
	runsPerRound = 400
)

// executions compares the cost of one fork, exec, exit and wait of a known program without an agent,
// with one that learns, and with one that enforces. The three take turns, so that what else happens on
// the machine hits all of them.
func executions(ctx context.Context, bin string, rounds int) (rows []row, err error) {
	s, err := newScope()
	if err != nil {
		return nil, err
	}
	defer func() {
		if e := s.remove(); err == nil {
			err = e
		}
	}()
	dir, err := os.MkdirTemp("", "plumbline-bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	var off, observe, enforce []time.Duration
	strength := ""
	for range rounds {
		d, err := timeRuns(s)
		if err != nil {
			return nil, err
		}
		off = append(off, d)
		a, err := startAgent(ctx, bin, dir, s)
		if err != nil {
			return nil, err
		}
		learnt, held, means, err := withAgent(ctx, a, s)
		if stopErr := a.stop(); err == nil {
			err = stopErr
		}
		if err != nil {
			return nil, err
		}
		observe, enforce, strength = append(observe, learnt), append(enforce, held), means
		if err := os.RemoveAll(filepath.Join(dir, "state")); err != nil {
			return nil, err
		}
	}
	ratio := func(with []time.Duration) float64 {
		var ratios []float64
		for i := range with {
			ratios = append(ratios, float64(with[i])/float64(off[i]))
		}
		return median(ratios)
	}
	return []row{
		{"exec of a known program, no agent", fmt.Sprintf("%.0f us", float64(median(off).Nanoseconds())/1e3), ""},
		{"the same, observed: ratio to no agent", fmt.Sprintf("%.3f", ratio(observe)), "1.05"},
		{"the same, enforced (" + strength + "): ratio to no agent", fmt.Sprintf("%.3f", ratio(enforce)), "1.05"},
	}, nil
}

func withAgent(ctx context.Context, a *agent, s *scope) (learnt, held time.Duration, strength string, err error) {
	status, err := a.status()
	if err != nil {
		return 0, 0, "", err
	}
	if err := s.run(program); err != nil {
		return 0, 0, "", err
	}
	name := "/" + filepath.Base(s.dir)
	if err := until(ctx, "the baseline", func() bool {
		_, err := a.ask("baseline", "promote", name, "--mode", "audit", "--force", "bench")
		return err == nil
	}); err != nil {
		return 0, 0, "", err
	}
	if learnt, err = timeRuns(s); err != nil {
		return 0, 0, "", err
	}
	if _, err := a.ask("baseline", "promote", name, "--mode", "enforce", "--force", "bench"); err != nil {
		return 0, 0, "", err
	}
	held, err = timeRuns(s)
	return learnt, held, status.Strength, err
}

// timeRuns is the median time of one run.
func timeRuns(s *scope) (time.Duration, error) {
	times := make([]time.Duration, runsPerRound)
	for i := range times {
		start := time.Now()
		if err := s.run(program); err != nil {
			return 0, err
		}
		times[i] = time.Since(start)
	}
	return median(times), nil
}

func median[T ~int64 | ~float64](list []T) T {
	sorted := slices.Sorted(slices.Values(list))
	return sorted[len(sorted)/2]
}
