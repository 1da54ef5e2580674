package output

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/plumbline-io/plumbline/pkg/alert"
)

// Syslog writes one message of RFC 5424 per alert.
type Syslog struct {
	network, address string
	format           alert.Format // of its text
	pid              int
	conn             net.Conn // nil: not connected
}

// facility is authpriv: alerts hold command lines.
const facility = 10

// NewSyslog reads where syslog is: unix:///dev/log, udp://HOST:PORT or tcp://HOST:PORT. The port is 514
// if there is none. It does not connect.
func NewSyslog(address string, format alert.Format) (*Syslog, error) {
	u, err := url.Parse(address)
	if err != nil {
		return nil, fmt.Errorf("read address of syslog: %w", err)
	}
	s := &Syslog{format: format, pid: os.Getpid()}
	rest := u.User != nil || u.RawQuery != "" || u.Fragment != ""
	switch {
	case u.Scheme == "unix" && u.Host == "" && len(u.Path) > 1 && !rest:
		s.network, s.address = "unixgram", u.Path
	case (u.Scheme == "udp" || u.Scheme == "tcp") && u.Hostname() != "" && u.Path == "" && !rest:
		port := u.Port()
		if port == "" {
			port = "514"
		}
		s.network, s.address = u.Scheme, net.JoinHostPort(u.Hostname(), port)
	default:
		return nil, fmt.Errorf("read address of syslog %q: want unix:///dev/log, udp://HOST:PORT or tcp://HOST:PORT", u.Redacted())
	}
	return s, nil
}

// Send writes a. It connects if it must, and closes the connection after an error. Syslog confirms
// nothing: an alert counts as sent once this machine has taken it.
func (s *Syslog) Send(ctx context.Context, a alert.Alert) error {
	message, err := appendSyslog(nil, a, s.format, s.pid)
	if err != nil {
		return err
	}
	if s.network == "tcp" { // octet counting, RFC 6587
		message = append(strconv.AppendInt(nil, int64(len(message)), 10), append([]byte{' '}, message...)...)
	}
	if err := s.write(ctx, message); err != nil {
		return fmt.Errorf("write to syslog: %w", errors.Join(err, s.Close()))
	}
	return nil
}

func (s *Syslog) write(ctx context.Context, message []byte) error {
	if s.conn != nil && s.network == "tcp" && isGone(s.conn) {
		_ = s.Close() // by the peer; the next one is connected to
	}
	if s.conn == nil {
		var d net.Dialer
		conn, err := d.DialContext(ctx, s.network, s.address)
		if err != nil {
			return err
		}
		s.conn = conn
	}
	conn := s.conn
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	_, err := conn.Write(message)
	if errors.Is(err, unix.EMSGSIZE) {
		return fmt.Errorf("%w: %d bytes in one datagram: %w", ErrRefused, len(message), err)
	}
	return err
}

// Close ends the connection; the next Send makes another.
func (s *Syslog) Close() error {
	if s.conn == nil {
		return nil
	}
	conn := s.conn
	s.conn = nil
	return conn.Close()
}

// isGone says whether the peer has ended the connection. The first write after that would succeed, and
// its message be lost unnoticed.
func isGone(conn net.Conn) bool {
	raw, err := conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		return true
	}
	gone := false
	err = raw.Control(func(fd uintptr) {
		var b [1]byte
		n, _, err := unix.Recvfrom(int(fd), b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
		gone = n == 0 && err == nil || err != nil && !errors.Is(err, unix.EAGAIN)
	})
	return gone || err != nil
}

// appendSyslog encodes RFC 5424: a severity of ours is one of syslog's, by number. The structured data is
// empty: its names need a registered number.
func appendSyslog(b []byte, a alert.Alert, format alert.Format, pid int) ([]byte, error) {
	b = fmt.Appendf(b, "<%d>1 ", facility*8+int(min(a.Severity, alert.Debug)))
	b = a.Time.UTC().AppendFormat(b, "2006-01-02T15:04:05.000000Z")
	b = appendName(b, a.Hostname, 255)
	b = fmt.Appendf(b, " plumbline %d", pid)
	b = appendName(b, a.Source, 32)
	b, err := format.Append(append(b, " - "...), &a)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRefused, err)
	}
	return b, nil
}

// appendName writes a header field: printable ASCII without spaces, of a length that the standard
// bounds, and "-" for nothing.
func appendName(b []byte, name string, most int) []byte {
	b = append(b, ' ')
	if name == "" {
		return append(b, '-')
	}
	for i := range min(len(name), most) {
		c := name[i]
		if c < '!' || c > '~' {
			c = '?'
		}
		b = append(b, c)
	}
	return b
}
