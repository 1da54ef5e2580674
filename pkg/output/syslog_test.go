package output

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/plumbline-io/plumbline/pkg/alert"
)

// rfc5424 is the standard's form, as far as we use it.
func rfc5424() *regexp.Regexp {
	return regexp.MustCompile(`(?s)^<(\d{1,3})>1 (\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z) ([!-~]{1,255}) plumbline (\d+) ([!-~]{1,32}) - (\{.*\})$`)
}

// ruleOf checks a message and returns the rule of its alert.
func ruleOf(t *testing.T, message []byte) string {
	t.Helper()
	m := rfc5424().FindSubmatch(message)
	if m == nil {
		t.Errorf("not RFC 5424: %q", message)
		return ""
	}
	a, err := alert.Parse(m[6])
	if err != nil {
		t.Error(err)
	}
	return a.Rule
}

func TestSyslogMessage(t *testing.T) {
	a := named("a")
	a.Severity = alert.Critical
	got, err := appendSyslog(nil, a, alert.JSON, 42)
	want := `<82>1 2026-01-02T03:04:05.678912Z n1 plumbline 42 syscall - {"time":"2026-01-02T03:04:05.678912345Z","rule":"a",`
	if err != nil || !strings.HasPrefix(string(got), want) {
		t.Errorf("got %s, %v\nwant %s...", got, err, want)
	}
	ruleOf(t, got)
	a.Output = "03:04:05.678912345: Critical two\nlines"
	got, err = appendSyslog(nil, a, alert.PlainText, 42)
	want = "<82>1 2026-01-02T03:04:05.678912Z n1 plumbline 42 syscall - 03:04:05.678912345: Critical two lines"
	if err != nil || string(got) != want {
		t.Errorf("got %s, %v\nwant %s", got, err, want)
	}
}

func TestSyslogDatagrams(t *testing.T) {
	for name, network := range map[string]string{"udp": "udp", "unix": "unixgram"} {
		t.Run(name, func(t *testing.T) {
			address := "127.0.0.1:0"
			if network == "unixgram" {
				address = filepath.Join(t.TempDir(), "log")
			}
			server, err := net.ListenPacket(network, address)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = server.Close() })
			q := syslogQueue(t, name+"://"+server.LocalAddr().String())
			stop := start(t, q)
			b := make([]byte, 64<<10)
			for i := range 5 {
				q.Offer(named(fmt.Sprint(i)))
				_ = server.SetReadDeadline(time.Now().Add(testTimeout))
				n, _, err := server.ReadFrom(b)
				if err != nil {
					t.Fatal(err)
				}
				if got := ruleOf(t, b[:n]); got != fmt.Sprint(i) {
					t.Errorf("got %q, want %d", got, i)
				}
			}
			if err := stop(); err != nil {
				t.Error(err)
			}
			if got, want := q.Stats(), (Stats{Sent: 5}); got != want {
				t.Errorf("got %+v, want %+v", got, want)
			}
		})
	}
}

func syslogQueue(t *testing.T, address string) *Queue {
	t.Helper()
	sender, err := NewSyslog(address, alert.JSON)
	if err != nil {
		t.Fatal(err)
	}
	return New(Config{Sender: sender, Attempts: 3, FirstWait: time.Millisecond})
}

// readFrame reads one message with octet counting.
func readFrame(t *testing.T, r *bufio.Reader) []byte {
	t.Helper()
	count, err := r.ReadString(' ')
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(count[:len(count)-1])
	if err != nil {
		t.Fatal(err)
	}
	message := make([]byte, n)
	if _, err := io.ReadFull(r, message); err != nil {
		t.Fatal(err)
	}
	return message
}

func acceptTCP(t *testing.T, listener net.Listener) (net.Conn, *bufio.Reader) {
	t.Helper()
	conn, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetReadDeadline(time.Now().Add(testTimeout))
	return conn, bufio.NewReader(conn)
}

// Over TCP, a receiver that ends the connection between two alerts, politely or not, loses none.
func TestSyslogTCP(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	sender, err := NewSyslog("tcp://"+listener.Addr().String(), alert.JSON)
	if err != nil {
		t.Fatal(err)
	}
	send := func(rule string) {
		t.Helper()
		ctx, cancel := context.WithTimeout(context.Background(), testTimeout)
		defer cancel()
		if err := sender.Send(ctx, named(rule)); err != nil {
			t.Fatal(err)
		}
	}
	for connection := range 6 {
		for i := range 3 {
			send(fmt.Sprint(connection, i))
		}
		conn, r := acceptTCP(t, listener)
		for i := range 3 {
			if got := ruleOf(t, readFrame(t, r)); got != fmt.Sprint(connection, i) {
				t.Errorf("got %q, want %d %d", got, connection, i)
			}
		}
		if connection%2 == 0 {
			_ = conn.(*net.TCPConn).SetLinger(0) // a reset
		}
		_ = conn.Close()
		for deadline := time.Now().Add(testTimeout); !isGone(sender.conn); time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal("the end of the connection is not seen")
			}
		}
	}
	if err := errors.Join(sender.Close(), sender.Close()); err != nil {
		t.Error(err)
	}
}

// A receiver that reads nothing: the attempt ends with its time, and the queue goes on counting.
func TestSyslogTCPHangs(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	sender, err := NewSyslog("tcp://"+listener.Addr().String(), alert.JSON)
	if err != nil {
		t.Fatal(err)
	}
	a := named("a")
	a.Output = strings.Repeat("x", 12<<20) // more than the buffers of a connection
	q := New(Config{Sender: sender, Attempts: 2, FirstWait: time.Millisecond, Timeout: 100 * time.Millisecond})
	stop := start(t, q)
	q.Offer(a)
	for deadline := time.Now().Add(testTimeout); q.Stats().Failed == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("still waiting: %+v", q.Stats())
		}
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
	if s := q.Stats(); s.Failed != 1 || s.Retried != 1 || s.Sent != 0 {
		t.Errorf("got %+v", s)
	}
}

func TestSyslogAway(t *testing.T) {
	q := syslogQueue(t, "unix://"+filepath.Join(t.TempDir(), "none"))
	stop := start(t, q)
	q.Offer(named("a"))
	for deadline := time.Now().Add(testTimeout); q.Stats().Failed == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("still waiting: %+v", q.Stats())
		}
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
	if s := q.Stats(); s.Failed != 1 || s.Retried != 2 || !strings.Contains(s.LastError, "no such file") {
		t.Errorf("got %+v", s)
	}
}

// A datagram has a bound, and trying again would not change it.
func TestSyslogTooLarge(t *testing.T) {
	server, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	sender, err := NewSyslog("udp://"+server.LocalAddr().String(), alert.JSON)
	if err != nil {
		t.Fatal(err)
	}
	a := named("a")
	a.Output = strings.Repeat("x", 70<<10)
	if err := sender.Send(context.Background(), a); !errors.Is(err, ErrRefused) {
		t.Errorf("got %v", err)
	}
	if err := sender.Send(context.Background(), named("b")); err != nil {
		t.Error(err)
	}
}

func TestNewSyslog(t *testing.T) {
	for address, want := range map[string]string{
		"unix:///dev/log":        "unixgram /dev/log",
		"udp://loghost":          "udp loghost:514",
		"tcp://loghost:601":      "tcp loghost:601",
		"tcp://[::1]:601":        "tcp [::1]:601",
		"":                       "want unix:///dev/log",
		"/dev/log":               "want unix:///dev/log",
		"unix://dev/log":         "want unix:///dev/log",
		"udp://":                 "want unix:///dev/log",
		"udp://h/path":           "want unix:///dev/log",
		"tls://h":                `"tls://h": want`,
		"tcp://user:secret@h":    "user:xxxxx@h",
		"tcp://loghost:syslog":   "invalid port",
		"tcp://loghost:601?a=b":  "want unix:///dev/log",
		"unix:///dev/log#socket": "want unix:///dev/log",
	} {
		t.Run(address, func(t *testing.T) {
			s, err := NewSyslog(address, alert.JSON)
			got := fmt.Sprint(err)
			if err == nil {
				got = s.network + " " + s.address
			}
			if !strings.Contains(got, want) {
				t.Errorf("got %s, want %s", got, want)
			}
		})
	}
}

// Whatever names say, the header stays one: nobody can forge a message with a host name.
func FuzzSyslogMessage(f *testing.F) {
	f.Add("n1", "syscall", "rule", uint8(3))
	f.Add("", "", "", uint8(9))
	f.Add("a b\n<1>1 - - - - -", strings.Repeat("é", 300), "\x00\xff\n", uint8(255))
	form := rfc5424()
	f.Fuzz(func(t *testing.T, host, source, rule string, severity uint8) {
		a := named(rule)
		a.Hostname, a.Source, a.Severity = host, source, alert.Severity(severity%8)
		message, err := appendSyslog(nil, a, alert.JSON, 1)
		if err != nil {
			t.Fatal(err)
		}
		m := form.FindSubmatch(message)
		if m == nil {
			t.Fatalf("not RFC 5424: %q", message)
		}
		if want := fmt.Sprint(80 + severity%8); string(m[1]) != want {
			t.Errorf("priority %s, want %s", m[1], want)
		}
		if strings.ContainsAny(string(message), "\n\x00") {
			t.Errorf("control characters: %q", message)
		}
	})
}
