package gotls

import (
	"fmt"

	"github.com/plumbline-io/plumbline/pkg/gobin"
	"github.com/plumbline-io/plumbline/pkg/sensor"
)

// facts are the places of the probes, as file offsets, and the layout of tls.Conn in one executable.
type facts struct {
	client, server []uint64 // where the functions begin
	ends           []uint64 // RETs of both
	alert          []uint64
	serverChain    []uint64
	clientChain    []uint64
	layout         bpfConnLayout
}

// The functions of crypto/tls that we hook. The first two are called through a function value and are
// therefore never inlined; they exist in Go 1.20 to 1.27.
const (
	clientHandshake = "crypto/tls.(*Conn).clientHandshake"
	serverHandshake = "crypto/tls.(*Conn).serverHandshake"
	sendAlert       = "crypto/tls.(*Conn).sendAlertLocked"
	verifyServer    = "crypto/tls.(*Conn).verifyServerCertificate"
	verifyClient    = "crypto/tls.(*Conn).processCertsFromClient"
)

// oldest is the first release whose tables and types we have checked.
const oldest = 20

// find returns nil if the program has no crypto/tls.
func find(f *gobin.File) (*facts, error) {
	fns, err := f.Functions(clientHandshake, serverHandshake, sendAlert, verifyServer, verifyClient)
	if err != nil {
		return nil, err
	}
	_, hasClient := fns[clientHandshake]
	_, hasServer := fns[serverHandshake]
	if !hasClient && !hasServer {
		return nil, nil
	}
	if v := f.Version(); v.Minor != 0 && v.Minor < oldest {
		return nil, fmt.Errorf("%w: %s is older than Go 1.%d", sensor.ErrNotSupported, v.Text, oldest)
	}
	if !sameMachine(f) {
		return nil, fmt.Errorf("%w: the program is for %s", sensor.ErrNotSupported, f.Arch())
	}
	layout, err := layoutOf(f)
	if err != nil {
		return nil, err
	}
	found := &facts{layout: layout}
	return found, found.place(f, fns)
}

// place finds the places of the probes. Functions that are not linked have none.
func (found *facts) place(f *gobin.File, fns map[string]gobin.Function) error {
	for name, to := range map[string]*[]uint64{
		clientHandshake: &found.client, serverHandshake: &found.server, sendAlert: &found.alert,
		verifyServer: &found.serverChain, verifyClient: &found.clientChain,
	} {
		fn, ok := fns[name]
		if !ok {
			continue
		}
		body, err := f.Body(fn)
		if err != nil {
			return err
		}
		*to = []uint64{body}
		if name == clientHandshake || name == serverHandshake {
			rets, err := f.Returns(fn)
			if err != nil {
				return err
			}
			found.ends = append(found.ends, rets...)
		}
	}
	return nil
}

// maxOffset is far above the size of tls.Conn, 896 bytes in Go 1.27.
const maxOffset = 4096

// layoutOf reads the layout from the program's type descriptors, and falls back to the table of
// releases.
func layoutOf(f *gobin.File) (bpfConnLayout, error) {
	conn, err := f.Struct("crypto/tls", "Conn")
	if err != nil {
		if l, ok := knownLayout(f.Version().Minor); ok {
			return l, nil
		}
		return bpfConnLayout{}, fmt.Errorf("layout of %s: %w", f.Version().Text, err)
	}
	var l bpfConnLayout
	for name, to := range map[string]*uint16{
		"vers": &l.Version, "cipherSuite": &l.Suite, "didResume": &l.Resumed,
		"peerCertificates": &l.Peers, "serverName": &l.Name, "clientProtocol": &l.Alpn,
	} {
		offset, ok := conn.Fields[name]
		if !ok || offset == 0 || offset > maxOffset {
			return bpfConnLayout{}, fmt.Errorf("%w: tls.Conn of %s has no usable field %s", sensor.ErrNotSupported, f.Version().Text, name)
		}
		*to = uint16(offset)
	}
	if offset := conn.Fields["curveID"]; offset <= maxOffset {
		l.Curve = uint16(offset)
	}
	return l, nil
}

// knownLayout is what DWARF says about the fields of tls.Conn in each release, the same on amd64 and
// arm64. TestKnownLayouts compares it with the type descriptors of every toolchain it is given.
func knownLayout(minor int) (bpfConnLayout, bool) {
	switch minor {
	case 20:
		return bpfConnLayout{Version: 64, Resumed: 88, Suite: 90, Peers: 144, Name: 216, Alpn: 352}, true
	case 21, 22:
		return bpfConnLayout{Version: 72, Resumed: 97, Suite: 98, Peers: 152, Name: 224, Alpn: 360}, true
	case 23, 24:
		return bpfConnLayout{Version: 72, Resumed: 97, Suite: 100, Curve: 102, Peers: 152, Name: 224, Alpn: 368}, true
	case 25, 26:
		return bpfConnLayout{Version: 72, Resumed: 97, Suite: 100, Curve: 102, Peers: 160, Name: 208, Alpn: 352}, true
	case 27:
		return bpfConnLayout{Version: 72, Resumed: 97, Suite: 100, Curve: 102, Peers: 160, Name: 232, Alpn: 376}, true
	}
	return bpfConnLayout{}, false
}
