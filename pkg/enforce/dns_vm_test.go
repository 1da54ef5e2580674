package enforce_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sys/unix"

	"github.com/plumbline-io/plumbline/pkg/enforce"
	"github.com/plumbline-io/plumbline/pkg/event"
	"github.com/plumbline-io/plumbline/pkg/rule"
	"github.com/plumbline-io/plumbline/pkg/sensor/sensortest"
)

// askPrefix begins the deed of asking a name server for names, and how.
const askPrefix = "ask "

// questionFor is a message as resolvers make it.
func questionFor(name string, id uint16) ([]byte, error) {
	n, err := dnsmessage.NewName(name + ".")
	if err != nil {
		return nil, err
	}
	m := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: id, RecursionDesired: true},
		Questions: []dnsmessage.Question{{Name: n, Type: dnsmessage.TypeTXT, Class: dnsmessage.ClassINET}},
	}
	return m.Pack()
}

// askFor sends what asks for names, where nobody answers.
func askFor(how, names string) error {
	var messages [][]byte
	for i, name := range strings.Split(names, ",") {
		m, err := questionFor(name, uint16(i))
		if err != nil {
			return err
		}
		messages = append(messages, m)
	}
	family, way, _ := strings.Cut(how, " ")
	of := unix.AF_INET6
	var to unix.Sockaddr
	switch family {
	case "4":
		of, to = unix.AF_INET, &unix.SockaddrInet4{Port: 53, Addr: [4]byte{127, 0, 0, 1}}
	case "6":
		to = &unix.SockaddrInet6{Port: 53, Addr: [16]byte{15: 1}}
	case "mapped":
		to = &unix.SockaddrInet6{Port: 53, Addr: [16]byte{10: 0xff, 0xff, 127, 0, 0, 1}}
	default: // another port
		of, to = unix.AF_INET, &unix.SockaddrInet4{Port: 54, Addr: [4]byte{127, 0, 0, 1}}
	}
	return withSocket(of, unix.SOCK_DGRAM, func(server int) error {
		if err := unix.Bind(server, to); err != nil {
			return err
		}
		return withSocket(of, unix.SOCK_DGRAM, func(fd int) error { return sendEach(fd, way, messages, to) })
	})
}

// sendEach sends messages in one of several ways.
func sendEach(fd int, way string, messages [][]byte, to unix.Sockaddr) error {
	send := func(m []byte) error { return unix.Sendto(fd, m, 0, to) }
	if way != "sendto" && way != "sendmsg" {
		if err := unix.Connect(fd, to); err != nil {
			return err
		}
	}
	switch way {
	case "sendmsg":
		send = func(m []byte) error { return unix.Sendmsg(fd, m, nil, to, 0) }
	case "write":
		send = func(m []byte) error { _, err := unix.Write(fd, m); return err }
	case "writev":
		send = func(m []byte) error {
			_, err := unix.Writev(fd, [][]byte{m[:1], m[1:20], {}, m[20:21], m[21:]})
			return err
		}
	case "pieces": // more than are looked at
		send = func(m []byte) error { _, err := unix.Writev(fd, slices.Collect(slices.Chunk(m, 2))); return err }
	case "sendmmsg":
		return sendAll(fd, messages)
	}
	for _, m := range messages {
		if err := send(m); err != nil {
			return err
		}
	}
	return nil
}

// sendAll sends several messages by one sendmmsg(2), the first of them twice.
func sendAll(fd int, messages [][]byte) error {
	type header struct {
		unix.Msghdr
		sent uint32
	}
	var vectors []unix.Iovec
	for _, m := range append([][]byte{messages[0]}, messages...) {
		vectors = append(vectors, unix.Iovec{Base: &m[0], Len: uint64(len(m))})
	}
	var headers []header
	for i := range vectors {
		headers = append(headers, header{Msghdr: unix.Msghdr{Iov: &vectors[i], Iovlen: 1}})
	}
	n, _, errno := unix.Syscall6(unix.SYS_SENDMMSG, uintptr(fd), uintptr(unsafe.Pointer(&headers[0])), uintptr(len(headers)), 0, 0, 0)
	if errno != 0 {
		return errno
	}
	if int(n) != len(headers) {
		return fmt.Errorf("%d of %d messages were sent", n, len(headers))
	}
	return nil
}

// watched is a scope whose deeds are told of while a rule asks, and what is told.
type watched struct {
	enforcer *enforce.Enforcer
	scope    *sensortest.Scope
	events   *sensortest.Events
	does     *doer
}

func newWatched(t *testing.T) *watched {
	t.Helper()
	scope := sensortest.NewScope(t)
	scope.Held = event.AllDimensions
	e, err := enforce.Open(scope.Shared, enforce.Config{Strength: enforce.Cgroup, Dimensions: event.AllDimensions, Cgroups: []string{scope.Dir}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	scope.Set(t, event.Learn, 1)
	return &watched{e, scope, sensortest.Collect(t, scope.Shared, e), newDoer(t, scope)}
}

// use puts a rule in force. The hooks are there while it asks.
func (a *watched) use(t *testing.T, condition string) {
	t.Helper()
	set, problems := rule.Load(rule.File{Name: "r.yaml", Data: []byte(ruleText("r", condition, ""))})
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	asks := strings.Contains(condition, "dns")
	if in, err := a.enforcer.LoadRules(set); err != nil || len(in.Blind) > 0 || slices.Contains(in.Operations, event.OpDNSQuery) != asks {
		t.Fatalf("%+v, %v, %+v", in, err, a.enforcer.Status())
	}
	hooks := 0
	for _, s := range a.enforcer.Status() {
		if strings.HasPrefix(s.Hook, "fentry/udp") && s.Supported {
			hooks++
		}
	}
	if want := 2 * map[bool]int{true: 1}[asks]; hooks != want {
		t.Errorf("%s: %d hooks, want %d: %+v", condition, hooks, want, a.enforcer.Status())
	}
}

func (a *watched) ask(t *testing.T, how, names string) {
	t.Helper()
	if code := a.does.run(t, askPrefix+how, names); code != 0 {
		t.Errorf("ask %s: error number %d", how, code)
	}
}

func (a *watched) told(t *testing.T) (list []string) {
	for _, ev := range a.events.Of(event.Access) {
		access := &ev.Access
		if access.Op != event.OpDNSQuery {
			continue
		}
		list = append(list, fmt.Sprintf("%s %s %s", access.Key, access.Question.Type, access.Question.Name))
		if ev.Hook != event.HookFentry || ev.Verdict != event.Allow || access.Comm == "" || access.Start == 0 || ev.Workload != a.scope.Workload || access.Known {
			t.Errorf("%+v", ev)
		}
	}
	return list
}

// A question to a name server is told with the name while a rule asks, by whatever call it is sent, each name once, and
// never learnt; while none asks, the hooks are not there.
func TestDNS(t *testing.T) {
	sensortest.OnlyOn(t, "5.10", "newest", "6.12-arm64")
	if !sensortest.InVM() {
		t.Skip("the hooks are the whole machine's")
	}
	a := newWatched(t)
	var want []string
	expect := func(address string, names ...string) {
		for _, name := range names {
			want = append(want, fmt.Sprintf("dns_query udp %s port 53 TXT %s", address, name))
		}
	}
	a.use(t, "evt.operation = connect and fd.sip = 192.0.2.1")
	a.ask(t, "4 sendto", "nobody.asks")
	a.use(t, "evt.type = dns_query")
	for family, address := range map[string]string{"4": "127.0.0.1", "6": "::1", "mapped": "127.0.0.1"} {
		for _, way := range []string{"sendto", "sendmsg", "write", "writev", "sendmmsg"} {
			one, two, three := way+".one."+family, way+".two."+family, strings.Repeat("x.", 100)+way+"."+family
			a.ask(t, family+" "+way, strings.Join([]string{one, two, three}, ","))
			expect(address, one, two, three)
		}
	}
	a.ask(t, "other sendto", "another.port")
	longest := strings.Join([]string{strings.Repeat("a", 63), strings.Repeat("b", 63), strings.Repeat("c", 63), strings.Repeat("d", 61)}, ".")
	a.ask(t, "4 sendto", longest+",Small.Letters")
	expect("127.0.0.1", longest, "small.letters")
	a.ask(t, "4 pieces", "in.more.pieces.than.are.looked.at")
	want = append(want, "dns_query udp 127.0.0.1 port 53 TYPE0 ") // no name in 16 bytes
	a.use(t, "evt.operation = connect and fd.sip = 192.0.2.1")
	a.ask(t, "4 sendto", "nobody.asks.again")
	// The kernel knows how long the names are that rules ask for, and from whom.
	a.use(t, "dns.name_length >= 30 and fd.sip = 127.0.0.1")
	long := strings.Repeat("a", 23) + ".long." // and another letter
	a.ask(t, "4 sendto", long[1:]+"a,"+long+"b")
	a.ask(t, "6 sendto", long+"c")
	expect("127.0.0.1", long+"b")
	a.use(t, "evt.type = dns_query and fd.l4proto = tcp")
	a.ask(t, "4 sendto", "by.another.protocol")
	a.use(t, "evt.type = dns_query")
	a.ask(t, "4 sendto", "the.last")
	expect("127.0.0.1", "the.last")

	sensortest.Until(t, "questions are told", func() bool { return len(a.told(t)) >= len(want) })
	got := a.told(t)
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	known, err := a.enforcer.Entries(a.scope.Workload, 1)
	if err != nil || len(known) == 0 || slices.ContainsFunc(known, func(k enforce.Entry) bool { return k.Key.Op == event.OpDNSQuery }) {
		t.Errorf("learnt: %+v, %v", known, err)
	}
}
