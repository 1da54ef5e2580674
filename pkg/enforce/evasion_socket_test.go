package enforce_test

import (
	"errors"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/plumbline-io/plumbline/pkg/event"
)

const (
	protocolL2TP = 115
	protocolSCTP = 132
)

// socketEvasions reach the loopback interface by protocols whose addresses no hook of a cgroup sees, or not on
// every kernel.
func socketEvasions() map[string]evasion {
	four := &unix.SockaddrInet4{Port: 9, Addr: [4]byte{127, 0, 0, 1}}
	six := &unix.SockaddrInet6{Port: 9, Addr: [16]byte{15: 1}}
	echo, echo6 := []byte{8, 7: 0}, []byte{128, 7: 0}
	ping := inSocket(unix.AF_INET, unix.SOCK_DGRAM, unix.IPPROTO_ICMP, sendTo(four, echo))
	ping.prepare = allowPing
	ping6 := inSocket(unix.AF_INET6, unix.SOCK_DGRAM, unix.IPPROTO_ICMPV6, sendTo(six, echo6))
	ping6.prepare = allowPing
	return filed(map[string]evasion{
		"socket: UDP-Lite send":     inSocket(unix.AF_INET, unix.SOCK_DGRAM, unix.IPPROTO_UDPLITE, sendTo(four, []byte("x"))),
		"socket: UDP-Lite connect":  inSocket(unix.AF_INET, unix.SOCK_DGRAM, unix.IPPROTO_UDPLITE, connectAndWrite(four)),
		"socket: UDP-Lite6 connect": inSocket(unix.AF_INET6, unix.SOCK_DGRAM, unix.IPPROTO_UDPLITE, connectAndWrite(six)),
		"socket: ping":              ping,
		"socket: ping6":             ping6,
		"socket: L2TP":              inSocket(unix.AF_INET, unix.SOCK_DGRAM, protocolL2TP, sendTo(four, []byte("1234x"))),
		"socket: SCTP": inSocket(unix.AF_INET, unix.SOCK_STREAM, protocolSCTP, func(fd int) error {
			err := unix.Connect(fd, four)
			if errors.Is(err, unix.ECONNREFUSED) {
				return nil // it got there
			}
			return err
		}),
	})
}

// inSocket is to be stopped when the socket is made.
func inSocket(family, kind, protocol int, do func(fd int) error) evasion {
	return evasion{
		about: about(number(event.OpSocket, uint32(family<<16|kind<<8|protocol))),
		do: func(string) error {
			fd, err := unix.Socket(family, kind|unix.SOCK_CLOEXEC, protocol)
			if err != nil {
				return err
			}
			defer unix.Close(fd)
			return do(fd)
		},
	}
}

func sendTo(to unix.Sockaddr, content []byte) func(fd int) error {
	return func(fd int) error { return unix.Sendto(fd, content, 0, to) }
}

func connectAndWrite(to unix.Sockaddr) func(fd int) error {
	return func(fd int) error {
		if err := unix.Connect(fd, to); err != nil {
			return err
		}
		_, err := unix.Write(fd, []byte("x"))
		return err
	}
}

// allowPing lets every group make sockets of ICMP.
func allowPing(t *testing.T, _ string) {
	const knob = "/proc/sys/net/ipv4/ping_group_range"
	before, err := os.ReadFile(knob)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(knob, []byte("0 2147483647"), 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.WriteFile(knob, before, 0); err != nil {
			t.Error(err)
		}
	})
}
