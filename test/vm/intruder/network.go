package main

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"

	"golang.org/x/sys/unix"
)

func connect(args []string) error {
	to, err := netip.ParseAddrPort(args[0] + ":" + args[1])
	if err != nil {
		return err
	}
	return connectTo(to)
}

func connectTo(to netip.AddrPort) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("make socket: %w", err)
	}
	defer unix.Close(fd)
	return unix.Connect(fd, &unix.SockaddrInet4{Addr: to.Addr().As4(), Port: int(to.Port())})
}

// listen takes a port of this machine.
func listen(port string) error {
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return err
	}
	return withSocket(unix.AF_INET, unix.SOCK_STREAM, func(fd int) error {
		return errors.Join(unix.Bind(fd, &unix.SockaddrInet4{Port: int(n)}), unix.Listen(fd, 1))
	})
}

// send sends a datagram without a connect.
func send(args []string) error {
	to, err := netip.ParseAddrPort(args[0] + ":" + args[1])
	if err != nil {
		return err
	}
	return withSocket(unix.AF_INET, unix.SOCK_DGRAM, func(fd int) error {
		return unix.Sendto(fd, []byte{0}, 0, &unix.SockaddrInet4{Addr: to.Addr().As4(), Port: int(to.Port())})
	})
}

// connectUnix connects to a socket by its path, or by its abstract name after an @.
func connectUnix(name string) error { return withUnix(name, unix.Connect) }

// bindUnix gives a socket such a name.
func bindUnix(name string) error { return withUnix(name, unix.Bind) }

func withUnix(name string, do func(fd int, name unix.Sockaddr) error) error {
	return withSocket(unix.AF_UNIX, unix.SOCK_STREAM, func(fd int) error { return do(fd, &unix.SockaddrUnix{Name: name}) })
}

// withSocket does something with a socket.
func withSocket(family, kind int, do func(fd int) error) error {
	fd, err := unix.Socket(family, kind|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("make socket: %w", err)
	}
	defer unix.Close(fd)
	return do(fd)
}

// dup connects to an address and port, makes the connection the descriptor args[2] and those behind it, and becomes the
// program that is named last, if one is.
func dup(args []string) error {
	if len(args) < 3 {
		return errors.New("want an address, a port and descriptors")
	}
	to, err := netip.ParseAddrPort(args[0] + ":" + args[1])
	if err != nil {
		return err
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("make socket: %w", err)
	}
	if err := unix.Connect(fd, &unix.SockaddrInet4{Addr: to.Addr().As4(), Port: int(to.Port())}); err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	for _, text := range args[2:] {
		number, err := strconv.Atoi(text)
		if err != nil {
			return unix.Exec(text, []string{text}, nil)
		}
		if err := unix.Dup3(fd, number, 0); err != nil {
			return fmt.Errorf("make descriptor %d: %w", number, err)
		}
	}
	return nil
}

// scan tries the ports from args[1] to args[2] of an address, where nobody need answer.
func scan(args []string) error {
	if len(args) != 3 {
		return errors.New("want an address, the first port and the last")
	}
	address, err := netip.ParseAddr(args[0])
	if err != nil {
		return err
	}
	first, err := strconv.ParseUint(args[1], 10, 16)
	if err != nil {
		return err
	}
	last, err := strconv.ParseUint(args[2], 10, 16)
	if err != nil {
		return err
	}
	for port := first; port <= last; port++ {
		err := connectTo(netip.AddrPortFrom(address, uint16(port)))
		if err != nil && !errors.Is(err, unix.ECONNREFUSED) {
			return fmt.Errorf("connect to port %d: %w", port, err)
		}
	}
	return nil
}

// addAddress gives the loopback interface another address, so that what is sent there stays on this machine.
// It must be run in a guest.
func addAddress(text string) error {
	address, err := netip.ParseAddr(text)
	if err != nil {
		return err
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("make socket: %w", err)
	}
	defer unix.Close(fd)
	request, err := unix.NewIfreq("lo:1")
	if err != nil {
		return err
	}
	if err := request.SetInet4Addr(address.AsSlice()); err != nil {
		return err
	}
	return unix.IoctlIfreq(fd, unix.SIOCSIFADDR, request)
}

func socket(kind string) error {
	family, of := unix.AF_INET, unix.SOCK_DGRAM
	if kind == "packet" {
		family, of = unix.AF_PACKET, unix.SOCK_RAW
	}
	_, err := unix.Socket(family, of, 0)
	return err
}
