package main

import (
	"errors"
	"net/netip"

	"golang.org/x/sys/unix"
)

// say connects to an address and port and sends texts, one after the other; "postgres" stands for a request for TLS.
func say(args []string) error {
	if len(args) < 3 {
		return errors.New("want an address, a port and what to send")
	}
	to, err := netip.ParseAddrPort(args[0] + ":" + args[1])
	if err != nil {
		return err
	}
	return withSocket(unix.AF_INET, unix.SOCK_STREAM, func(fd int) error {
		if err := unix.Connect(fd, &unix.SockaddrInet4{Addr: to.Addr().As4(), Port: int(to.Port())}); err != nil {
			return err
		}
		for _, text := range args[2:] {
			if text == "postgres" {
				text = "\x00\x00\x00\x08\x04\xd2\x16\x2f"
			}
			if _, err := unix.Write(fd, []byte(text)); err != nil {
				return err
			}
		}
		return nil
	})
}
