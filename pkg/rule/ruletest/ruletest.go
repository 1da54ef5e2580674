// Package ruletest bounds in tests what hostile rules cost. It must never measure the time of day, which depends
// on what else the machine does.
//
//	ruletest.Bounded(t, time.Second, 256<<20, func() { set, problems = rule.Load(file) })
package ruletest

import (
	"runtime"
	"syscall"
	"testing"
	"time"
)

// Bounded does something that may take so much of processors, of all threads together, and so many bytes of
// memory, freed ones included. The race detector makes programs several times slower: with it they may take five
// times as long.
func Bounded(t *testing.T, most time.Duration, bytes uint64, do func()) {
	t.Helper()
	if raceDetector {
		most *= 5
	}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	start := processorTime(t)
	do()
	took := processorTime(t) - start
	runtime.ReadMemStats(&after)
	memory := after.TotalAlloc - before.TotalAlloc
	t.Logf("%v of a processor, %d MiB", took, memory>>20)
	if took > most || memory > bytes {
		t.Errorf("took %v of a processor and %d MiB, more than %v or %d MiB", took, memory>>20, most, bytes>>20)
	}
}

// processorTime is what this process has used so far.
func processorTime(t *testing.T) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
