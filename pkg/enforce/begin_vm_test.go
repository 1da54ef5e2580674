package enforce_test

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/plumbline-io/plumbline/pkg/enforce"
	"github.com/plumbline-io/plumbline/pkg/event"
	"github.com/plumbline-io/plumbline/pkg/rule"
	"github.com/plumbline-io/plumbline/pkg/sensor"
	"github.com/plumbline-io/plumbline/pkg/sensor/sensortest"
)

// beginPrefix begins the deed of sending what stands behind it, quoted, with a bar between two writes, on a new connection to the port.
const beginPrefix = "begin "

// Beginnings of connections, as programs send them.
const (
	helloRecord    = "\x16\x03\x01\x00\xc8\x01\x00\x00\xc4\x03\x03"
	recordOfData   = "\x17\x03\x03\x00\x05hello"
	postgresTLS    = "\x00\x00\x00\x08\x04\xd2\x16\x2f"
	postgresGSS    = "\x00\x00\x00\x08\x04\xd2\x16\x30"
	postgresCancel = "\x00\x00\x00\x10\x04\xd2\x16\x2eprocessk"
	postgresStart  = "\x00\x00\x00\x0f\x00\x03\x00\x00user\x00me"
	mysqlTLS       = "\x20\x00\x00\x01\x85\xae\xff\x19\x00\x00\x00\x01\xff" + "01234567890123456789012"
	mysqlLogin     = "\x54\x00\x00\x01\x85\xa6\xff\x19\x00\x00\x00\x01\xff"
	ldapTLS        = "\x30\x1d\x02\x01\x01\x77\x18\x80\x161.3.6.1.4.1.1466.20037"
	ldapBind       = "\x30\x0c\x02\x01\x01\x60\x07\x02\x01\x03\x04\x00\x80\x00"
	ldapWho        = "\x30\x1e\x02\x01\x01\x77\x19\x80\x171.3.6.1.4.1.4203.1.11.3"
)

// beginWith makes a connection in a way and sends writes.
func beginWith(how string, port int) error {
	way, quoted, _ := strings.Cut(how, " ")
	writes, err := strconv.Unquote(quoted)
	if err != nil {
		return err
	}
	family, at := unix.AF_INET, unix.Sockaddr(&unix.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}})
	of := family
	switch way {
	case "6":
		family, at = unix.AF_INET6, &unix.SockaddrInet6{Port: port, Addr: [16]byte{15: 1}}
		of = family
	case "mapped":
		of = unix.AF_INET6
	}
	server, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(server)
	if err := errors.Join(unix.Bind(server, at), unix.Listen(server, 1)); err != nil {
		return err
	}
	return withSocket(of, unix.SOCK_STREAM, func(fd int) error {
		to := at
		if way == "mapped" {
			to = &unix.SockaddrInet6{Port: port, Addr: [16]byte{10: 0xff, 0xff, 127, 0, 0, 1}}
		}
		parts := strings.Split(writes, "|")
		if way == "fast" {
			if err := unix.Sendto(fd, []byte(parts[0]), unix.MSG_FASTOPEN, to); err != nil {
				return err
			}
			parts = parts[1:]
		} else if err := unix.Connect(fd, to); err != nil {
			return err
		}
		taken, _, err := unix.Accept4(server, unix.SOCK_CLOEXEC)
		if err != nil {
			return err
		}
		defer unix.Close(taken)
		if way == "answer" {
			if _, err := unix.Write(taken, []byte("220 ready")); err != nil {
				return err
			}
		}
		return sendParts(way, fd, taken, parts)
	})
}

// sendParts sends each part after the one before has arrived, as who waits for an answer does.
func sendParts(way string, fd, taken int, parts []string) (err error) {
	for _, part := range parts {
		data := []byte(part)
		switch way {
		case "writev":
			_, err = unix.Writev(fd, [][]byte{data[:1], {}, data[1:]})
		case "sendmsg":
			err = unix.Sendmsg(fd, data, nil, nil, 0)
		default:
			_, err = unix.Write(fd, data)
		}
		if err != nil {
			return err
		}
		if n, err := unix.Read(taken, make([]byte, 512)); err != nil || n == 0 {
			return errors.Join(err, unix.EPIPE)
		}
	}
	return nil
}

// What a connection begins with is told while a rule asks, by whatever call it is sent, of who made it and not of who took it; what
// goes on, and connections that others ask for, are not.
func TestTCPBegin(t *testing.T) {
	sensortest.OnlyOn(t, "5.10", "newest", "6.12-arm64")
	if !sensortest.InVM() {
		t.Skip("the hook is the whole machine's")
	}
	w := newWatched(t)
	use := func(condition string, asks bool) {
		set, problems := rule.Load(rule.File{Name: "r.yaml", Data: []byte(ruleText("r", condition, ""))})
		if len(problems) > 0 {
			t.Fatal(problems)
		}
		if in, err := w.enforcer.LoadRules(set); err != nil || len(in.Blind) > 0 || slices.Contains(in.Operations, event.OpTCPBegin) != asks {
			t.Fatalf("%+v, %v, %+v", in, err, w.enforcer.Status())
		}
		if got := slices.ContainsFunc(w.enforcer.Status(), func(s sensor.Status) bool { return s.Hook == "fentry/tcp_sendmsg" && s.Supported }); got != asks {
			t.Errorf("%s: hooked %t: %+v", condition, got, w.enforcer.Status())
		}
	}
	port, want := 24_000, []string{}
	run := func(way string, writes []string, kinds ...string) {
		port++
		if code := w.does.run(t, beginPrefix+way+" "+strconv.Quote(strings.Join(writes, "|")), strconv.Itoa(port)); code != 0 {
			t.Errorf("begin %s %q: error number %d", way, writes, code)
		}
		address := "127.0.0.1"
		if way == "6" {
			address = "::1"
		}
		for _, kind := range kinds {
			want = append(want, fmt.Sprintf("%s %s", event.Key{
				Op: event.OpTCPBegin, Protocol: event.ProtocolTCP, Address: netip.PrefixFrom(netip.MustParseAddr(address), netip.MustParseAddr(address).BitLen()), Port: uint16(port),
			}, kind))
		}
	}
	of := func(writes ...string) []string { return writes }
	const http = "GET / HTTP/1.1\r\n\r\n"

	use("evt.operation = connect and fd.sip = 192.0.2.1", false)
	run("4", of(http))
	use("evt.type = tcp_begin", true)
	for _, way := range []string{"4", "6", "mapped", "writev", "sendmsg", "answer", "fast"} {
		run(way, of(http, http), "plaintext")
		run(way, of(helloRecord, recordOfData, http), "tls")
	}
	run("4", of("\x16"), "plaintext")
	run("4", of("\x16\x02\x00"), "plaintext")
	run("4", of(recordOfData), "plaintext")
	run("4", of(postgresTLS, helloRecord, recordOfData), "upgrade", "tls")
	run("4", of(postgresGSS, postgresTLS, helloRecord), "upgrade", "tls") // the second one is told with the first
	run("4", of(postgresTLS, postgresStart, http), "upgrade", "plaintext")
	run("4", of(postgresCancel), "plaintext")
	run("4", of(postgresStart), "plaintext")
	run("4", of(mysqlTLS, helloRecord), "upgrade", "tls")
	run("4", of(mysqlTLS, mysqlLogin), "upgrade", "plaintext")
	run("4", of(mysqlLogin), "plaintext")
	run("4", of(ldapTLS, helloRecord), "upgrade", "tls")
	run("4", of(ldapBind), "plaintext")
	run("4", of(ldapWho), "plaintext")
	for _, commands := range [][]string{
		{"EHLO a\r\n", "STARTTLS\r\n"},
		{"ehlo mail.example.org\r\n", "starttls\r\n"},
		{"LHLO a\r\n", "STARTTLS\r\n"},
		{"CAPA\r\n", "STLS\r\n"},
		{"STLS\r\n"},
		{"FEAT\r\n", "AUTH TLS\r\n"},
		{"AUTH SSL\r\n"},
	} {
		run("4", append(slices.Clone(commands), helloRecord, recordOfData, http), "upgrade", "tls")
	}
	run("4", of("EHLO a\r\n", "QUIT\r\n"), "upgrade")
	run("4", of("EHLO a\r\n", "MAIL FROM:<me>\r\n", "RCPT TO:<you>\r\n"), "upgrade", "plaintext")
	run("4", of("EHLO a\r\n", "AUTH PLAIN AG1lAG1l\r\n"), "upgrade", "plaintext")
	run("4", of("CAPA\r\n", "USER me\r\n"), "upgrade", "plaintext")
	run("4", of(strings.Repeat("FEAT\r\n", 80), strings.Repeat("FEAT\r\n", 80), strings.Repeat("FEAT\r\n", 80), http), "upgrade") // so much is no request
	run("4", of("HELO a\r\n"), "plaintext")
	run("4", of("USER me\r\n"), "plaintext")
	use("evt.operation = connect and fd.sip = 192.0.2.1", false)
	run("4", of(http))
	use(fmt.Sprintf("evt.type = tcp_begin and fd.sport = %d and fd.sip = 127.0.0.1", port+2), true)
	run("4", of(http)) // another port
	run("4", of(http), "plaintext")

	told := func() (list []string) {
		for _, ev := range w.events.Of(event.Access) {
			if ev.Access.Op != event.OpTCPBegin {
				continue
			}
			list = append(list, fmt.Sprintf("%s %s", ev.Access.Key, ev.Access.Begins))
			if a := &ev.Access; ev.Hook != event.HookFentry || ev.Verdict != event.Allow || a.Comm == "" || a.Start == 0 || ev.Workload != w.scope.Workload || a.Known || a.Path != "" || a.Said != "" {
				t.Errorf("%+v", ev)
			}
		}
		return list
	}
	sensortest.Until(t, "beginnings are told", func() bool { return len(told()) >= len(want) })
	got := told()
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	known, err := w.enforcer.Entries(w.scope.Workload, 1)
	if err != nil || len(known) == 0 || slices.ContainsFunc(known, func(k enforce.Entry) bool { return k.Key.Op == event.OpTCPBegin }) {
		t.Errorf("learnt: %+v, %v", known, err)
	}
}
