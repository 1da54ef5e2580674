package agent

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"

	"github.com/plumbline-io/plumbline/pkg/sensor"
)

// A program maps its libraries after its exec, and some (an interpreter's TLS module) much later. So
// each process is looked at several times.
func followDelays() []time.Duration {
	return []time.Duration{0, 100 * time.Millisecond, time.Second, 10 * time.Second, 60 * time.Second}
}

const (
	followQueue   = 4096
	maxNotes      = 256
	followForever = 24 * time.Hour
)

// visit is one look at a process.
type visit struct {
	due     time.Time
	attempt int
}

// wish is for a first look, so long from when it is read: the event loop reads no clock.
type wish struct {
	pid   uint32
	delay time.Duration
}

// follower attaches the sensors of user-space code to the processes in scope. Follow and Forget may
// be called from any goroutine; Run does the work.
type follower struct {
	sensors []sensor.Follower
	images  func(pid uint32) ([]sensor.Image, error)
	log     *slog.Logger
	asked   chan wish
	gone    chan uint32

	parsed bool      // of Run's goroutine: files were read since memory was given back
	freed  time.Time // the same: when that was

	mu       sync.Mutex
	notes    map[string]sensor.Status // what cannot be observed, by file: a blind spot is a state
	followed map[string]int           // images attached, by sensor
	dropped  uint64
}

func newFollower(sensors []sensor.Follower, images func(uint32) ([]sensor.Image, error), log *slog.Logger) *follower {
	return &follower{
		sensors: sensors, images: images, log: log,
		asked: make(chan wish, followQueue), gone: make(chan uint32, followQueue),
		notes: map[string]sensor.Status{}, followed: map[string]int{},
	}
}

// Follow asks to look at a process after delay. It never blocks: a full queue is counted.
func (f *follower) Follow(pid uint32, delay time.Duration) {
	select {
	case f.asked <- wish{pid, delay}:
	default:
		f.mu.Lock()
		f.dropped++
		f.mu.Unlock()
	}
}

// Forget tells that a process has exited. If the queue is full the visit itself finds out.
func (f *follower) Forget(pid uint32) {
	select {
	case f.gone <- pid:
	default:
	}
}

// Run works until ctx ends.
func (f *follower) Run(ctx context.Context) error {
	waiting := map[uint32]visit{}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		timer.Reset(f.nextDue(waiting))
		select {
		case <-ctx.Done():
			return nil
		case w := <-f.asked:
			waiting[w.pid] = visit{due: time.Now().Add(w.delay)}
		case pid := <-f.gone:
			delete(waiting, pid)
			f.forget(pid)
		case <-timer.C:
			f.visitDue(waiting)
		}
		f.drain(waiting)
	}
}

// drain takes what else is in the queues. Who has ended is taken last, so that nobody is visited in vain
// and the times of those that wait are looked at once.
func (f *follower) drain(waiting map[uint32]visit) {
	for range followQueue {
		select {
		case w := <-f.asked:
			waiting[w.pid] = visit{due: time.Now().Add(w.delay)}
			continue
		default:
		}
		select {
		case pid := <-f.gone:
			delete(waiting, pid)
			f.forget(pid)
		default:
			return
		}
	}
}

func (f *follower) nextDue(waiting map[uint32]visit) time.Duration {
	next := followForever
	for _, v := range waiting {
		next = min(next, time.Until(v.due))
	}
	if f.parsed {
		next = min(next, time.Until(f.freed.Add(giveBackEvery)))
	}
	return max(next, 0)
}

func (f *follower) visitDue(waiting map[uint32]visit) {
	now := time.Now()
	delays := followDelays()
	for pid, v := range waiting {
		if v.due.After(now) {
			continue
		}
		alive := f.Visit(pid)
		v.attempt++
		if !alive {
			f.forget(pid)
		}
		if !alive || v.attempt >= len(delays) {
			delete(waiting, pid)
			continue
		}
		v.due = now.Add(delays[v.attempt])
		waiting[pid] = v
	}
	f.giveBack()
}

// giveBackEvery keeps new executables that come one by one from having the memory collected for each.
const giveBackEvery = 3 * time.Second

// giveBack returns the memory that reading executables has taken, which is a good part of the agent's: the
// runtime would keep it for minutes.
func (f *follower) giveBack() {
	if f.parsed && time.Since(f.freed) >= giveBackEvery {
		debug.FreeOSMemory()
		f.parsed, f.freed = false, time.Now()
	}
}

// Visit attaches to what a process has mapped now; false if the process is gone.
func (f *follower) Visit(pid uint32) bool {
	images, err := f.images(pid)
	if err != nil {
		return false
	}
	for i, img := range images {
		for _, s := range f.sensors {
			if s.Wants(img.Name, i == 0) {
				f.attach(s, img)
			}
		}
	}
	return true
}

func (f *follower) attach(s sensor.Follower, img sensor.Image) {
	taken, err := s.Follow(img)
	f.parsed = f.parsed || taken || errors.Is(err, sensor.ErrNotSupported)
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case errors.Is(err, sensor.ErrNotSupported):
		if len(f.notes) < maxNotes {
			f.notes[s.Name()+" "+img.Name] = sensor.Status{Sensor: s.Name(), Hook: "uprobe " + img.Name, Reason: err.Error()}
		}
	case errors.Is(err, fs.ErrNotExist): // the process ended meanwhile
	case err != nil:
		f.log.Warn("follow image", "sensor", s.Name(), "pid", img.PID, "file", img.Name, "error", err)
	case taken:
		f.followed[s.Name()+" "+img.Name]++
	}
}

func (f *follower) forget(pid uint32) {
	for _, s := range f.sensors {
		s.Forget(pid)
	}
}

// Status lists the files that are observed and those that cannot be, and why.
func (f *follower) Status() []sensor.Status {
	f.mu.Lock()
	defer f.mu.Unlock()
	var all []sensor.Status
	for _, note := range f.notes {
		all = append(all, note)
	}
	return all
}

// Dropped counts processes that were not looked at because the queue was full.
func (f *follower) Dropped() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.dropped
}
