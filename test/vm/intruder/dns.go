package main

import (
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sys/unix"
)

// ask asks the name server at an address for the names behind it. Nobody need answer.
func ask(args []string) error {
	return withNameServer(args[0], func(send func(name string) error) error {
		for _, name := range args[1:] {
			if err := send(name); err != nil {
				return err
			}
		}
		return nil
	})
}

// tunnel sends data in so many names below a domain.
func tunnel(args []string) error {
	if len(args) != 3 {
		return errors.New("want the address of a name server, how many names, and their domain")
	}
	n, err := strconv.ParseUint(args[1], 10, 16)
	if err != nil {
		return err
	}
	return withNameServer(args[0], func(send func(name string) error) error {
		for i := range n {
			data := sha256.Sum256(binary.BigEndian.AppendUint64(nil, i))
			label := strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(data[:]))
			if err := send(label + "." + label + "." + args[2]); err != nil {
				return err
			}
		}
		return nil
	})
}

func withNameServer(address string, do func(send func(name string) error) error) error {
	at, err := netip.ParseAddr(address)
	if err != nil {
		return err
	}
	return withSocket(unix.AF_INET, unix.SOCK_DGRAM, func(fd int) error {
		return do(func(name string) error {
			asked, err := dnsmessage.NewName(name + ".")
			if err != nil {
				return fmt.Errorf("ask for %s: %w", name, err)
			}
			m := dnsmessage.Message{
				Header:    dnsmessage.Header{RecursionDesired: true},
				Questions: []dnsmessage.Question{{Name: asked, Type: dnsmessage.TypeTXT, Class: dnsmessage.ClassINET}},
			}
			packed, err := m.Pack()
			if err != nil {
				return fmt.Errorf("ask for %s: %w", name, err)
			}
			return unix.Sendto(fd, packed, 0, &unix.SockaddrInet4{Addr: at.As4(), Port: 53})
		})
	})
}
