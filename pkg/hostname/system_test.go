package hostname

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// nameServer is a real one, on the loopback.
type nameServer struct {
	conn net.PacketConn
	done chan struct{}

	mu     sync.Mutex
	hosts  map[string][]string
	broken bool
	asked  map[string]int
}

func newNameServer(t *testing.T, hosts map[string][]string) *nameServer {
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &nameServer{conn: conn, done: make(chan struct{}), hosts: hosts, asked: map[string]int{}}
	go s.serve(t)
	t.Cleanup(func() { conn.Close(); <-s.done })
	return s
}

func (s *nameServer) serve(t *testing.T) {
	defer close(s.done)
	buf := make([]byte, 1500)
	for {
		n, from, err := s.conn.ReadFrom(buf)
		if err != nil {
			return
		}
		var m dnsmessage.Message
		if err := m.Unpack(buf[:n]); err != nil || len(m.Questions) != 1 {
			t.Errorf("%v: %v", m, err)
			continue
		}
		s.answer(&m)
		reply, err := m.Pack()
		if err != nil {
			t.Error(err)
			continue
		}
		_, _ = s.conn.WriteTo(reply, from)
	}
}

func (s *nameServer) answer(m *dnsmessage.Message) {
	s.mu.Lock()
	defer s.mu.Unlock()
	q := m.Questions[0]
	s.asked[q.Name.String()]++
	m.Response, m.RecursionAvailable, m.Additionals = true, true, nil
	list, ok := s.hosts[q.Name.String()]
	switch {
	case s.broken:
		m.RCode = dnsmessage.RCodeServerFailure
	case !ok:
		m.RCode = dnsmessage.RCodeNameError
	}
	for _, text := range list {
		a := netip.MustParseAddr(text)
		head := dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, TTL: 1}
		switch {
		case s.broken:
		case a.Is4() && q.Type == dnsmessage.TypeA:
			m.Answers = append(m.Answers, dnsmessage.Resource{Header: head, Body: &dnsmessage.AResource{A: a.As4()}})
		case a.Is6() && q.Type == dnsmessage.TypeAAAA:
			m.Answers = append(m.Answers, dnsmessage.Resource{Header: head, Body: &dnsmessage.AAAAResource{AAAA: a.As16()}})
		}
	}
}

func (s *nameServer) set(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
}

// eventually waits for a condition.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal(what)
		}
	}
}

// A name server is asked over the network: what it says is known, what it says anew becomes known, and while it
// fails, what it said last stays.
func TestNameServer(t *testing.T) {
	const name = "api.plumbline.test"
	server := newNameServer(t, map[string][]string{name + ".": {"192.0.2.1", "192.0.2.2", "2001:db8::1"}})
	r := New(Config{Lookup: System(server.conn.LocalAddr().String()), Interval: 20 * time.Millisecond})
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- r.Run(ctx) }()
	server.set(func() {
		if len(server.asked) != 0 {
			t.Errorf("asked without need: %v", server.asked)
		}
	})
	r.Want([]string{name, "nobody.plumbline.test", "127.0.0.9"})
	eventually(t, "not known", func() bool {
		return of(r, "192.0.2.1") == name && of(r, "192.0.2.2") == name && of(r, "2001:db8::1") == name && of(r, "127.0.0.9") == "127.0.0.9"
	})
	eventually(t, "not asked", func() (is bool) {
		server.set(func() { is = server.asked["nobody.plumbline.test."] > 0 })
		return is
	})
	server.set(func() {
		if server.asked["127.0.0.9."] != 0 {
			t.Errorf("asked: %v", server.asked)
		}
		server.hosts[name+"."] = []string{"192.0.2.3"}
	})
	eventually(t, "not known anew", func() bool { return of(r, "192.0.2.3") == name })
	if got := r.Stats(); got.Names != 3 || got.Known != 2 || got.Failed != 0 || got.LastError != "" {
		t.Errorf("%+v", got)
	}
	server.set(func() { server.broken = true })
	eventually(t, "no failure", func() bool { return r.Stats().Failed > 3 })
	if got := r.Stats(); of(r, "192.0.2.3") != name || got.LastError == "" {
		t.Errorf("%+v", got)
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	r.Want(nil)
	if of(r, "192.0.2.3") != "" {
		t.Error("known, and not wanted")
	}
}
