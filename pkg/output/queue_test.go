package output

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/plumbline-io/plumbline/pkg/alert"
)

const testTimeout = 20 * time.Second

// scripted answers each attempt with the next error, and with nil after the last. It keeps the rules of
// what it took, and when it was asked.
type scripted struct {
	mu     sync.Mutex
	errs   []error
	rules  []string
	times  []time.Time
	closed bool
	hold   chan struct{} // not nil: an attempt waits for it, or for its context
}

func (s *scripted) Send(ctx context.Context, a alert.Alert) error {
	if s.hold != nil {
		select {
		case <-s.hold:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.times = append(s.times, time.Now())
	if len(s.errs) > 0 {
		err := s.errs[0]
		s.errs = s.errs[1:]
		if err != nil {
			return err
		}
	}
	s.rules = append(s.rules, a.Rule)
	return nil
}

func (s *scripted) Close() error {
	s.closed = true
	return nil
}

func named(rule string) alert.Alert {
	return alert.Alert{
		Time: time.Date(2026, 1, 2, 3, 4, 5, 678912345, time.UTC), Rule: rule, Severity: alert.Warning, Source: "syscall", Hostname: "n1",
		Output: "03:04:05.678912345: Warning text", Fields: map[string]any{"evt.time": int64(1767323045678912345)},
	}
}

// start runs a queue; stop ends it and returns Run's error.
func start(t *testing.T, q *Queue) (stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- q.Run(ctx) }()
	t.Cleanup(cancel)
	return func() error {
		cancel()
		select {
		case err := <-done:
			return err
		case <-time.After(testTimeout):
			t.Fatal("the queue does not end")
			return nil
		}
	}
}

// The wait doubles up to its bound; a refused alert is not tried again, and neither holds up for ever.
func TestAttempts(t *testing.T) {
	down := errors.New("down")
	const second = time.Second
	for name, tc := range map[string]struct {
		errs  []error
		waits []time.Duration // between the attempts for the first alert
		want  Stats
	}{
		"fine":         {nil, nil, Stats{Sent: 2}},
		"second time":  {[]error{down}, []time.Duration{second}, Stats{Sent: 2, Retried: 1}},
		"last time":    {[]error{down, down, down}, []time.Duration{second, 2 * second, 3 * second}, Stats{Sent: 2, Retried: 3}},
		"given up":     {[]error{down, down, down, down}, []time.Duration{second, 2 * second, 3 * second}, Stats{Sent: 1, Failed: 1, Retried: 3}},
		"refused":      {[]error{fmt.Errorf("%w: 400", ErrRefused)}, nil, Stats{Sent: 1, Failed: 1}},
		"both refused": {[]error{ErrRefused, ErrRefused}, nil, Stats{Failed: 2, LastError: "refused"}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				sender := &scripted{errs: tc.errs}
				q := New(Config{Sender: sender, Attempts: 4, FirstWait: second, LastWait: 3 * second})
				stop := start(t, q)
				q.Offer(named("a"))
				q.Offer(named("b"))
				time.Sleep(time.Minute)
				if got := q.Stats(); got != tc.want {
					t.Errorf("got %+v, want %+v", got, tc.want)
				}
				for i, want := range tc.waits {
					if got := sender.times[i+1].Sub(sender.times[i]); got != want {
						t.Errorf("waited %s before attempt %d, want %s", got, i+2, want)
					}
				}
				if err := stop(); err != nil || !sender.closed {
					t.Errorf("%v, closed %t", err, sender.closed)
				}
			})
		})
	}
}

// What waits stays, in order; what comes while the queue is full is dropped, and Offer returns.
func TestOverflowDropsTheNewest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sender := &scripted{hold: make(chan struct{})}
		q := New(Config{Sender: sender, Capacity: 3, Timeout: time.Hour})
		stop := start(t, q)
		q.Offer(named("0"))
		synctest.Wait() // it is being sent
		for i := range 10 {
			q.Offer(named(fmt.Sprint(i + 1)))
		}
		if got, want := q.Stats(), (Stats{Dropped: 7, Queued: 4}); got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
		close(sender.hold)
		synctest.Wait()
		if got, want := q.Stats(), (Stats{Sent: 4, Dropped: 7}); got != want || fmt.Sprint(sender.rules) != "[0 1 2 3]" {
			t.Errorf("got %+v and %v, want %+v", got, sender.rules, want)
		}
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
}

// A receiver that never answers costs each attempt its time, and no more.
func TestTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := New(Config{Sender: &scripted{hold: make(chan struct{})}, Attempts: 2, Timeout: time.Second, FirstWait: time.Second})
		stop := start(t, q)
		q.Offer(named("a"))
		time.Sleep(3*time.Second + time.Millisecond) // an attempt, a wait, an attempt
		synctest.Wait()
		want := Stats{Failed: 1, Retried: 1, LastError: context.DeadlineExceeded.Error()}
		if got := q.Stats(); got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
}

// The end: what waits is sent, as far as the receiver takes it in time.
func TestEnd(t *testing.T) {
	for name, tc := range map[string]struct {
		release bool
		want    Stats
		takes   time.Duration
	}{
		"in time": {true, Stats{Sent: 5}, time.Second},
		"hangs":   {false, Stats{Failed: 5, LastError: context.Canceled.Error()}, 2 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				sender := &scripted{hold: make(chan struct{})}
				q := New(Config{Sender: sender, Timeout: time.Hour})
				stop := start(t, q)
				for i := range 5 {
					q.Offer(named(fmt.Sprint(i)))
				}
				synctest.Wait()
				begin := time.Now()
				time.AfterFunc(time.Second, func() {
					if tc.release {
						close(sender.hold)
					}
				})
				if err := stop(); err != nil {
					t.Error(err)
				}
				if got := q.Stats(); got != tc.want || time.Since(begin) != tc.takes {
					t.Errorf("got %+v after %s, want %+v after %s", got, time.Since(begin), tc.want, tc.takes)
				}
			})
		})
	}
}

// The end does not wait for a receiver that is down: what it was tried with has failed, the rest gets
// one attempt each.
func TestEndWhileWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		down := errors.New("down")
		sender := &scripted{errs: []error{down, down, down}}
		q := New(Config{Sender: sender})
		stop := start(t, q)
		for i := range 4 {
			q.Offer(named(fmt.Sprint(i)))
		}
		synctest.Wait() // one attempt was made
		begin := time.Now()
		if err := stop(); err != nil {
			t.Error(err)
		}
		if got, want := q.Stats(), (Stats{Sent: 1, Failed: 3}); got != want || time.Since(begin) != 0 {
			t.Errorf("got %+v after %s, want %+v", got, time.Since(begin), want)
		}
	})
}

// Every alert that was offered is accounted for, whoever offers it.
func TestConcurrentOffers(t *testing.T) {
	q := New(Config{Sender: &scripted{}, Capacity: 16})
	stop := start(t, q)
	const offerers, each = 8, 500
	var group sync.WaitGroup
	for range offerers {
		group.Go(func() {
			for range each {
				q.Offer(named("a"))
			}
		})
	}
	group.Wait()
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if s := q.Stats(); s.Sent+s.Dropped != offerers*each || s.Queued != 0 || s.Failed != 0 {
		t.Errorf("got %+v, want %d in all", s, offerers*each)
	}
}
