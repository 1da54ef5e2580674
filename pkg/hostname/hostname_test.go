package hostname

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

var (
	errDown   = errors.New("server misbehaving")
	errNobody = &net.DNSError{Err: "no such host", IsNotFound: true}
)

// servers answer from a table, and keep account of what they were asked.
type servers struct {
	mu      sync.Mutex
	answers map[string][]string
	err     error
	asked   map[string][]time.Time
	now     int
	most    int           // at the same time
	take    time.Duration // for each answer
}

func newServers(answers map[string][]string) *servers {
	return &servers{answers: answers, asked: map[string][]time.Time{}}
}

func (s *servers) lookup(ctx context.Context, name string) ([]netip.Addr, error) {
	s.mu.Lock()
	s.asked[name] = append(s.asked[name], time.Now())
	s.now++
	s.most = max(s.most, s.now)
	take := s.take
	s.mu.Unlock()
	if take > 0 { // under the race detector, Go 1.26 may crash at a timer of a bubble that is due at once
		select {
		case <-time.After(take):
		case <-ctx.Done():
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now--
	list, ok := s.answers[name]
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case s.err != nil:
		return nil, s.err
	case !ok:
		return nil, errNobody
	}
	var addrs []netip.Addr
	for _, text := range list {
		addrs = append(addrs, netip.MustParseAddr(text))
	}
	return addrs, nil
}

func (s *servers) set(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
}

func (s *servers) questions() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, times := range s.asked {
		n += len(times)
	}
	return n
}

// run lets a resolver work for the time of a test, in a bubble.
func run(t *testing.T, s *servers) *Resolver {
	r := New(Config{Lookup: s.lookup})
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- r.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return r
}

func of(r *Resolver, addr string) string {
	return strings.Join(r.Of(netip.MustParseAddr(addr)), " ")
}

// Who wants nothing asks nothing, for ever.
func TestNothingWanted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServers(map[string][]string{"a": {"10.0.0.1"}})
		r := run(t, s)
		time.Sleep(24 * time.Hour)
		if n := s.questions(); n != 0 {
			t.Errorf("%d questions", n)
		}
		r.Want([]string{"a"})
		synctest.Wait()
		if got := of(r, "10.0.0.1"); got != "a" || s.questions() != 1 {
			t.Errorf("%q after %d questions", got, s.questions())
		}
		r.Want(nil)
		time.Sleep(24 * time.Hour)
		if got := of(r, "10.0.0.1"); got != "" || s.questions() != 1 {
			t.Errorf("%q after %d questions", got, s.questions())
		}
	})
}

// Names are asked for at once, and then once in an interval, each in its own time.
func TestInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServers(map[string][]string{"a": {"10.0.0.1"}, "b": {"10.0.0.1", "::ffff:10.0.0.2"}})
		r := run(t, s)
		r.Want([]string{"a", "b"})
		synctest.Wait()
		if got := of(r, "10.0.0.1") + "," + of(r, "10.0.0.2") + "," + of(r, "10.0.0.3"); got != "a b,b," {
			t.Errorf("%q", got)
		}
		time.Sleep(time.Hour)
		s.mu.Lock()
		defer s.mu.Unlock()
		gaps := map[time.Duration]bool{}
		for name, times := range s.asked {
			if n := len(times); n < 55 || n > 67 {
				t.Errorf("%s was asked for %d times in an hour", name, n)
			}
			for i := range times[1:] {
				gap := times[i+1].Sub(times[i])
				gaps[gap] = true
				if gap < 54*time.Second || gap > 66*time.Second {
					t.Errorf("%s was asked for after %s", name, gap)
				}
			}
		}
		if len(gaps) < 50 {
			t.Errorf("%d different pauses", len(gaps))
		}
	})
}

// An address stays for ten intervals after it was answered last; while there is no answer, for ever.
func TestLastKnown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServers(map[string][]string{"a": {"10.0.0.1"}})
		r := run(t, s)
		r.Want([]string{"a", "none"})
		synctest.Wait()
		if got := r.Stats(); got != (Stats{Names: 2, Known: 1}) {
			t.Errorf("%+v", got)
		}
		s.set(func() { s.err = errDown })
		time.Sleep(time.Hour)
		got := r.Stats()
		if of(r, "10.0.0.1") != "a" || got.Known != 1 || got.Failed < 100 || got.LastError != "none: server misbehaving" {
			t.Errorf("%+v", got)
		}
		s.set(func() { s.err, s.answers["a"] = nil, []string{"10.0.0.2"} })
		time.Sleep(2 * time.Minute)
		if got := r.Stats(); of(r, "10.0.0.1") != "" || of(r, "10.0.0.2") != "a" || got.LastError != "" {
			t.Errorf("%+v", got) // the earlier address was answered an hour ago
		}
		s.set(func() { s.answers["a"] = []string{"10.0.0.3"} })
		time.Sleep(8 * time.Minute)
		if of(r, "10.0.0.2") != "a" || of(r, "10.0.0.3") != "a" {
			t.Error("an address is forgotten too soon")
		}
		s.set(func() { delete(s.answers, "a") }) // there is no such name any more
		time.Sleep(5 * time.Minute)
		if of(r, "10.0.0.2") != "" || of(r, "10.0.0.3") != "a" {
			t.Error("an address is forgotten too late, or another one too soon")
		}
		time.Sleep(10 * time.Minute)
		if got := r.Stats(); got.Known != 0 || got.LastError != "" {
			t.Errorf("%+v", got)
		}
	})
}

// Servers that do not answer hold up neither who matches nor, for long, who wants other names.
func TestSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServers(map[string][]string{"a": {"10.0.0.1"}, "new": {"10.0.0.2"}})
		s.take = time.Hour
		r := run(t, s)
		names := []string{"a"}
		for i := range 500 {
			names = append(names, fmt.Sprintf("n%d", i))
		}
		r.Want(names)
		time.Sleep(time.Second)
		if of(r, "10.0.0.1") != "" {
			t.Error("known without an answer")
		}
		s.set(func() { s.take = 0 })
		r.Want(append(names, "new"))
		time.Sleep(2 * timeout)
		s.mu.Lock()
		most := s.most
		s.mu.Unlock()
		if of(r, "10.0.0.2") != "new" || most != atOnce {
			t.Errorf("%q, %d questions at the same time", of(r, "10.0.0.2"), most)
		}
		if got := r.Stats(); got.Failed != atOnce || got.Names != 502 {
			t.Errorf("%+v", got)
		}
	})
}

// There is an end to names and addresses, and what is left out is counted.
func TestBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServers(map[string][]string{})
		addresses := func(block int) (list []string) {
			for i := range MaxAddresses + 3 {
				list = append(list, fmt.Sprintf("10.0.%d.%d", block, i))
			}
			return list
		}
		s.answers["n0"] = addresses(0)
		r := run(t, s)
		var names []string
		for i := range MaxNames + 5 {
			names = append(names, fmt.Sprintf("n%d", i))
		}
		r.Want(names)
		synctest.Wait()
		if got := r.Stats(); got != (Stats{Names: MaxNames, Known: 1, LeftOut: 5, Crowded: 3}) {
			t.Errorf("%+v", got)
		}
		s.set(func() { s.answers["n0"] = addresses(1)[:1] })
		time.Sleep(66 * time.Second)
		if got := r.Stats(); of(r, "10.0.1.0") != "n0" || got.Crowded != 4 {
			t.Errorf("%+v", got)
		}
		known := 0
		for _, a := range slices.Concat(addresses(0), addresses(1)) {
			if of(r, a) != "" {
				known++
			}
		}
		if known != MaxAddresses {
			t.Errorf("%d addresses", known)
		}
		r.Want(append([]string{"new"}, names...)) // other rules: those that are known are no more
		if got := r.Stats(); got.Names != MaxNames || got.LeftOut != 5+6 {
			t.Errorf("%+v", got)
		}
	})
}

func TestOfAllocatesNothing(t *testing.T) {
	r := New(Config{})
	a := netip.MustParseAddr("10.0.0.1")
	r.Want([]string{"a"})
	r.answer("a", []netip.Addr{a}, nil)
	if n := testing.AllocsPerRun(100, func() { _ = r.Of(a) }); n != 0 || len(r.Of(a)) != 1 {
		t.Errorf("%v allocations, %q", n, r.Of(a))
	}
}
