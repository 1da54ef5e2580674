// Package output carries alerts from the agent to one more place: an HTTP receiver, or syslog. A place
// that is slow or away costs alerts there, which are counted, and nothing else: it must never make the
// caller of Offer wait. What must not be lost goes through pkg/spool.
//
//	sender, err := output.NewHTTP(output.HTTPConfig{URL: "http://127.0.0.1:2801/"})
//	q := output.New(output.Config{Sender: sender})
//	go q.Run(ctx)
//	q.Offer(a)
package output

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/plumbline-io/plumbline/pkg/alert"
)

// ErrRefused means that the receiver does not take this alert: to send it again would not help.
var ErrRefused = errors.New("refused")

// Sender delivers one alert. It is used by one goroutine.
type Sender interface {
	Send(ctx context.Context, a alert.Alert) error
	Close() error
}

// Config of a Queue. Only Sender must be set.
type Config struct {
	Sender   Sender
	Capacity int           // alerts that wait; 0: 1024. Further ones are dropped, those that wait stay
	Attempts int           // for one alert; 0: 5
	Timeout  time.Duration // of one attempt; 0: 10 s
	// The wait before the next attempt doubles from FirstWait to LastWait. 0: 0.5 s and 10 s.
	FirstWait, LastWait time.Duration
	Drain               time.Duration // how long Run goes on after its end with what waits; 0: 2 s
	Log                 *slog.Logger  // nil: none
}

// Stats counts since New. Every alert that was offered is in one of Sent, Dropped, Failed and Queued.
type Stats struct {
	Sent      uint64 `json:"sent"`
	Dropped   uint64 `json:"dropped"` // the queue was full
	Failed    uint64 `json:"failed"`  // refused, or given up after the last attempt
	Retried   uint64 `json:"retried"` // attempts beyond the first
	Queued    int    `json:"queued"`  // waiting, or being sent
	LastError string `json:"last_error,omitempty"`
}

// Queue holds alerts for one Sender. Offer and Stats are safe for concurrent use.
type Queue struct {
	cfg    Config
	alerts chan alert.Alert // capacity: Config.Capacity; when full, the newest is dropped and counted

	mu    sync.Mutex
	stats Stats
}

// New makes a Queue, which owns the sender from now on.
func New(cfg Config) *Queue {
	setDefault(&cfg.Capacity, 1024)
	setDefault(&cfg.Attempts, 5)
	setDefault(&cfg.Timeout, 10*time.Second)
	setDefault(&cfg.FirstWait, 500*time.Millisecond)
	setDefault(&cfg.LastWait, 10*time.Second)
	setDefault(&cfg.Drain, 2*time.Second)
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Queue{cfg: cfg, alerts: make(chan alert.Alert, cfg.Capacity)}
}

func setDefault[T int | time.Duration](field *T, value T) {
	if *field == 0 {
		*field = value
	}
}

// Offer takes an alert to be sent, or drops it if too many wait. It does not wait.
func (q *Queue) Offer(a alert.Alert) {
	// Counted before it can be sent: Queued is never negative.
	q.count(func(s *Stats) { s.Queued++ })
	select {
	case q.alerts <- a:
	default:
		q.count(func(s *Stats) { s.Queued--; s.Dropped++ })
	}
}

// Stats of the queue.
func (q *Queue) Stats() Stats {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.stats
}

func (q *Queue) count(change func(*Stats)) {
	q.mu.Lock()
	defer q.mu.Unlock()
	change(&q.stats)
}

// Run sends until ctx ends. Then each alert that waits gets one attempt, as far as Config.Drain allows;
// the rest has failed.
func (q *Queue) Run(ctx context.Context) error {
	// An attempt that is under way when ctx ends must not be torn: the alert could have arrived.
	sending, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	context.AfterFunc(ctx, func() { time.AfterFunc(q.cfg.Drain, stop) })
	for {
		select {
		case a := <-q.alerts:
			q.deliver(ctx, sending, a)
			continue
		case <-ctx.Done():
		}
		select {
		case a := <-q.alerts:
			q.deliver(ctx, sending, a)
		default:
			return q.Close()
		}
	}
}

// Close ends a queue that is not run any more.
func (q *Queue) Close() error {
	if err := q.cfg.Sender.Close(); err != nil {
		return fmt.Errorf("close output: %w", err)
	}
	return nil
}

// deliver tries until the alert is sent, is refused, or was tried often enough. There is no further
// attempt once running has ended.
func (q *Queue) deliver(running, sending context.Context, a alert.Alert) {
	wait := q.cfg.FirstWait
	for attempt := 1; ; attempt++ {
		err := q.send(sending, a)
		if err == nil {
			q.noteSent()
			return
		}
		q.noteError(err)
		if attempt >= q.cfg.Attempts || errors.Is(err, ErrRefused) || !pause(running, wait) {
			q.count(func(s *Stats) { s.Queued--; s.Failed++ })
			return
		}
		q.count(func(s *Stats) { s.Retried++ })
		wait = min(2*wait, q.cfg.LastWait)
	}
}

func (q *Queue) send(ctx context.Context, a alert.Alert) error {
	ctx, cancel := context.WithTimeout(ctx, q.cfg.Timeout)
	defer cancel()
	return q.cfg.Sender.Send(ctx, a)
}

func (q *Queue) noteSent() {
	again := false
	q.count(func(s *Stats) {
		again = s.LastError != ""
		s.Queued--
		s.Sent++
		s.LastError = ""
	})
	if again {
		q.cfg.Log.Info("alerts are delivered again")
	}
}

// noteError logs that a place stopped taking alerts, not every attempt.
func (q *Queue) noteError(err error) {
	first := false
	q.count(func(s *Stats) {
		first = s.LastError == ""
		s.LastError = err.Error()
	})
	if first {
		q.cfg.Log.Warn("alerts are not delivered", "error", err)
	}
}

// pause waits; false: ctx has ended.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return ctx.Err() == nil
	}
}
