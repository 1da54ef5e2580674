// Package hostname keeps the addresses of the names of hosts that rules ask for. Name servers are asked beside the
// event loop: who matches reads what was answered last. It must never ask for a name that no rule in force has, nor
// make anybody wait.
//
//	r := hostname.New(hostname.Config{Lookup: hostname.System("")})
//	r.Want(set.Hosts())
//	err := r.Run(ctx) // beside
//	names := r.Of(addr)
package hostname

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/plumbline-io/plumbline/pkg/rule"
)

// Bounds. What is more is counted and left out.
const (
	// MaxNames are asked for.
	MaxNames = 1024
	// MaxAddresses of one name are kept, those that were answered last.
	MaxAddresses = 64

	// DefaultInterval is what Config.Interval is if it is not given.
	DefaultInterval = time.Minute

	atOnce  = 8 // questions
	timeout = 5 * time.Second
	// keep is for how many intervals an address stays that is not answered any more: a program may have asked before,
	// and servers answer with some of many addresses in turn.
	keep = 10
)

// Config of a Resolver.
type Config struct {
	// Lookup asks for the addresses of a name: see System. It gets 5 seconds.
	Lookup func(ctx context.Context, name string) ([]netip.Addr, error)
	// Interval is after what time a name is asked for again, a tenth more or less.
	Interval time.Duration
	Log      *slog.Logger // nil: none
}

// Stats tells what is known.
type Stats struct {
	Names     int    // wanted
	Known     int    // those of them that have an address
	Failed    uint64 // questions without an answer; that there is no such name is one
	LeftOut   uint64 // names beyond MaxNames, each time that they were wanted
	Crowded   uint64 // addresses that were forgotten, or not taken, because a name had MaxAddresses
	LastError string // of a question, while it is not answered
}

// Resolver is safe for concurrent use.
type Resolver struct {
	cfg     Config
	table   atomic.Pointer[rule.NameTable]
	changed chan struct{} // holds one: other names are wanted

	mu    sync.Mutex
	hosts map[string]*host
	stats Stats
}

// host is what is known of a name.
type host struct {
	due  time.Time                // when it is asked for next
	seen map[netip.Addr]time.Time // when it was answered last
	err  error                    // of the last question
}

// New makes a Resolver that wants nothing.
func New(cfg Config) *Resolver {
	if cfg.Interval == 0 {
		cfg.Interval = DefaultInterval
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Resolver{cfg: cfg, changed: make(chan struct{}, 1), hosts: map[string]*host{}}
}

// Of implements rule.Names.
func (r *Resolver) Of(addr netip.Addr) []string { return r.table.Load().Of(addr) }

// Want says which names, each once, are to be asked for from now on. What is known of those that were wanted before
// stays, if they are among the first MaxNames.
func (r *Resolver) Want(names []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	wanted := make(map[string]*host, min(len(names), MaxNames))
	for _, name := range names {
		switch known := r.hosts[name]; {
		case len(wanted) == MaxNames:
			r.stats.LeftOut++
		case known != nil:
			wanted[name] = known
		default:
			wanted[name] = &host{seen: map[netip.Addr]time.Time{}}
		}
	}
	r.hosts = wanted
	r.publish()
	select {
	case r.changed <- struct{}{}:
	default:
	}
}

// Run asks until ctx ends. As long as nothing is wanted it sleeps.
func (r *Resolver) Run(ctx context.Context) error {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for ctx.Err() == nil {
		due, next := r.due(time.Now())
		if len(due) > 0 {
			r.ask(ctx, due)
			continue // others may be due by now
		}
		var later <-chan time.Time // nil: nothing is wanted
		if !next.IsZero() {
			timer.Reset(time.Until(next))
			later = timer.C
		}
		select {
		case <-ctx.Done():
		case <-r.changed:
		case <-later:
		}
	}
	return nil
}

// due lists the names that are to be asked for, those first that wait for longest, and not too many: the next time
// others may be wanted. It says when the next one is due; zero: there is none.
func (r *Resolver) due(now time.Time) (names []string, next time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for name, h := range r.hosts {
		switch {
		case !h.due.After(now):
			names = append(names, name)
		case next.IsZero() || h.due.Before(next):
			next = h.due
		}
	}
	slices.SortFunc(names, func(a, b string) int {
		return cmp.Or(r.hosts[a].due.Compare(r.hosts[b].due), cmp.Compare(a, b))
	})
	return names[:min(len(names), 2*atOnce)], next
}

// ask asks for some names, a few at the same time, and waits for the answers.
func (r *Resolver) ask(ctx context.Context, names []string) {
	var group errgroup.Group
	group.SetLimit(atOnce)
	for _, name := range names {
		if ctx.Err() != nil {
			break
		}
		group.Go(func() error {
			limited, cancel := context.WithTimeout(ctx, timeout)
			defer cancel()
			addrs, err := r.cfg.Lookup(limited, name)
			if ctx.Err() == nil {
				r.answer(name, addrs, err)
			}
			return nil
		})
	}
	_ = group.Wait() // they return none
}

// answer takes down what was answered. Where nothing was, what is known stays.
func (r *Resolver) answer(name string, addrs []netip.Addr, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	h := r.hosts[name]
	if h == nil {
		return // not wanted any more
	}
	now := time.Now()
	interval := r.cfg.Interval
	h.due = now.Add(interval - interval/10 + rand.N(interval/5+1))
	var none *net.DNSError
	if errors.As(err, &none) && none.IsNotFound {
		addrs, err = nil, nil
	}
	if err != nil {
		r.stats.Failed++
		if h.err == nil {
			r.cfg.Log.Warn("ask for the addresses of a name; those that are known stay", "name", name, "error", err)
		}
		h.err = err
		return
	}
	h.err = nil
	if h.note(addrs, now, keep*interval, &r.stats.Crowded) {
		r.publish()
	}
}

// note takes down addresses, and forgets those that were not answered for so long. It says whether it has others now.
func (h *host) note(addrs []netip.Addr, now time.Time, old time.Duration, crowded *uint64) bool {
	before := len(h.seen)
	maps.DeleteFunc(h.seen, func(_ netip.Addr, at time.Time) bool { return now.Sub(at) >= old })
	changed := len(h.seen) != before
	for _, a := range addrs {
		a = a.Unmap().WithZone("")
		_, known := h.seen[a]
		if !known && len(h.seen) >= MaxAddresses {
			*crowded++
			if !h.forgetOldest(now) {
				continue
			}
		}
		h.seen[a] = now
		changed = changed || !known
	}
	return changed
}

// forgetOldest makes room; false: all are of now.
func (h *host) forgetOldest(now time.Time) bool {
	var oldest netip.Addr
	at := now
	for a, seen := range h.seen {
		if seen.Before(at) || seen.Equal(at) && oldest.IsValid() && a.Less(oldest) {
			oldest, at = a, seen
		}
	}
	delete(h.seen, oldest)
	return oldest.IsValid()
}

// publish puts what is known before those who match.
func (r *Resolver) publish() {
	known := make(map[string][]netip.Addr, len(r.hosts))
	for name, h := range r.hosts {
		known[name] = slices.Collect(maps.Keys(h.seen))
	}
	r.table.Store(rule.NewNameTable(known))
}

// Stats of now.
func (r *Resolver) Stats() Stats {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.stats
	s.Names = len(r.hosts)
	for _, name := range slices.Sorted(maps.Keys(r.hosts)) {
		h := r.hosts[name]
		if len(h.seen) > 0 {
			s.Known++
		}
		if h.err != nil {
			s.LastError = fmt.Sprintf("%s: %v", name, h.err)
		}
	}
	return s
}

// System asks as this machine is set up to: /etc/hosts, and the name servers of /etc/resolv.conf, or the one at server
// (HOST:PORT) instead of these. Only a name without a dot is searched for in the domains that /etc/resolv.conf lists:
// else whoever may name a service in a cluster could have it answer for another name.
func System(server string) func(ctx context.Context, name string) ([]netip.Addr, error) {
	resolver := &net.Resolver{PreferGo: true}
	if server != "" {
		resolver.Dial = func(ctx context.Context, network, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, network, server)
		}
	}
	return func(ctx context.Context, name string) ([]netip.Addr, error) {
		if _, err := netip.ParseAddr(name); err != nil && strings.Contains(name, ".") {
			name = strings.TrimSuffix(name, ".") + "."
		}
		return resolver.LookupNetIP(ctx, "ip", name)
	}
}
