package gotls_test

import (
	"crypto/tls"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/plumbline-io/plumbline/pkg/event"
	"github.com/plumbline-io/plumbline/pkg/gobin/gobintest"
	"github.com/plumbline-io/plumbline/pkg/sensor"
	"github.com/plumbline-io/plumbline/pkg/sensor/gotls"
	"github.com/plumbline-io/plumbline/pkg/sensor/sensortest"
)

// specimens are the builds that every handshake test runs with: as production does, and others.
func specimens() []gobintest.Specimen {
	list := []gobintest.Specimen{gobintest.Production(), {}}
	for _, toolchain := range gobintest.Toolchains()[1:] {
		list = append(list, gobintest.Specimen{Toolchain: toolchain, Stripped: true, PIE: true})
	}
	return list
}

// A prime number of handshakes, each field of each event known.
func TestHandshakes(t *testing.T) {
	for _, s := range specimens() {
		t.Run(s.Name(), func(t *testing.T) {
			st := newStage(t, s)
			const n = 23
			a := st.Do(t, gobintest.Request{
				Do: "handshake", Times: n, Version: tls.VersionTLS13, Name: "one.example.org", ALPN: "h2", Mutual: true,
			})
			if a.Completed != n || a.Client.ALPN != "h2" || a.Server.Name != "one.example.org" {
				t.Fatalf("specimen: %+v", a)
			}
			got := st.next(t, 2*n)
			for _, h := range got[event.Client] {
				expect(t, h, a.Client, "server")
			}
			for _, h := range got[event.Server] {
				expect(t, h, a.Server, "client")
				if h.Alert != -1 {
					t.Errorf("alert %d", h.Alert)
				}
			}
			st.noLoss(t)
		})
	}
}

// Each kind of handshake, five times.
func TestKinds(t *testing.T) {
	sensortest.OnlyOn(t, "5.10", "newest")
	st := newStage(t, gobintest.Production())
	const n = 5
	badCertificate, handshakeFailure, unknownAuthority, certificateRequired := int16(42), int16(40), int16(48), int16(116)
	for name, c := range map[string]struct {
		req                      gobintest.Request
		clientAlert, serverAlert int16
		clientPeer, serverPeer   string // that an event must name though the handshake failed
	}{
		"tls 1.3":           {req: gobintest.Request{Version: tls.VersionTLS13, Name: "a.example.org"}, clientAlert: -1, serverAlert: -1},
		"tls 1.2":           {req: gobintest.Request{Version: tls.VersionTLS12, Suite: tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, Name: "b.example.org", ALPN: "acme-tls/1"}, clientAlert: -1, serverAlert: -1},
		"tls 1.0":           {req: gobintest.Request{Version: tls.VersionTLS10, Suite: tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA, Name: "c.example.org"}, clientAlert: -1, serverAlert: -1},
		"mutual":            {req: gobintest.Request{Version: tls.VersionTLS12, Name: "d.example.org", Mutual: true}, clientAlert: -1, serverAlert: -1},
		"distrusted client": {req: gobintest.Request{Version: tls.VersionTLS13, Name: "j.example.org", Mutual: true, Stranger: true}, clientAlert: -1, serverAlert: unknownAuthority, serverPeer: "client"},
		"no trust":          {req: gobintest.Request{Version: tls.VersionTLS12, Name: "e.example.org", Distrust: true}, clientAlert: badCertificate, serverAlert: -1, clientPeer: "server"},
		"nameless":          {req: gobintest.Request{Version: tls.VersionTLS12, Name: "f.example.org", Mutual: true, Nameless: true}, clientAlert: -1, serverAlert: handshakeFailure},
		"nameless 1.3":      {req: gobintest.Request{Version: tls.VersionTLS13, Name: "g.example.org", Mutual: true, Nameless: true}, clientAlert: -1, serverAlert: certificateRequired},
		"medium":            {req: gobintest.Request{Version: tls.VersionTLS13, Name: "h.example.org", Mutual: true, Padding: 900}, clientAlert: -1, serverAlert: -1},
		"large":             {req: gobintest.Request{Version: tls.VersionTLS13, Name: "i.example.org", Mutual: true, Padding: 2000}, clientAlert: -1, serverAlert: -1},
		"long name":         {req: gobintest.Request{Version: tls.VersionTLS13, Name: longName()}, clientAlert: -1, serverAlert: -1},
	} {
		t.Run(name, func(t *testing.T) {
			c.req.Do, c.req.Times = "handshake", n
			a := st.Do(t, c.req)
			t.Logf("%+v", a)
			got := st.next(t, 2*n)
			for _, h := range got[event.Client] {
				expect(t, refused(t, h, c.clientPeer), a.Client, "server")
				if h.Alert != c.clientAlert {
					t.Errorf("client sent alert %d, want %d", h.Alert, c.clientAlert)
				}
			}
			for _, h := range got[event.Server] {
				expect(t, refused(t, h, c.serverPeer), a.Server, "client")
				if h.Alert != c.serverAlert {
					t.Errorf("server sent alert %d, want %d", h.Alert, c.serverAlert)
				}
			}
			st.noLoss(t)
		})
	}
}

// refused takes out a peer whose certificate did not pass, of which crypto/tls itself says nothing.
func refused(t *testing.T, h event.HandshakeInfo, who string) event.HandshakeInfo {
	t.Helper()
	if who == "" {
		return h
	}
	if id := "spiffe://example.org/ns/test/sa/" + who; h.PeerSPIFFEID != id || h.PeerFingerprint == [32]byte{} || !h.HasPeer || h.OK {
		t.Errorf("refused peer is %+v", h)
	}
	h.HasPeer = false
	return h
}

// longName is a valid name of 253 bytes, the longest there is.
func longName() string {
	label := strings.Repeat("a", 62) + "."
	return strings.Repeat(label, 3) + strings.Repeat("b", 60) + ".org"
}

func TestResumed(t *testing.T) {
	sensortest.OnlyOn(t, "5.10", "newest")
	st := newStage(t, gobintest.Production())
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		st.Do(t, gobintest.Request{Do: "handshake", Times: 7, Version: version, Name: "r.example.org", Resume: true})
		for role, of := range st.next(t, 14) {
			for i, h := range of {
				if !h.OK || h.Resumed != (i > 0) {
					t.Errorf("%x role %d handshake %d: resumed %t", version, role, i, h.Resumed)
				}
			}
		}
	}
}

// A handshake inside of another one, in the same goroutine.
func TestNested(t *testing.T) {
	sensortest.OnlyOn(t, "5.10", "newest")
	st := newStage(t, gobintest.Production())
	const n = 11
	st.Do(t, gobintest.Request{Do: "handshake", Times: n, Version: tls.VersionTLS13, Name: "outer.example.org", Nested: true})
	names := map[event.Role]map[string]int{event.Client: {}, event.Server: {}}
	for role, of := range st.next(t, 4*n) {
		for _, h := range of {
			if !h.OK || h.Version != tls.VersionTLS13 {
				t.Errorf("%+v", h)
			}
			names[role][h.ServerName]++
		}
	}
	for role, of := range names {
		if of["outer.example.org"] != n || of["nested.example.org"] != n {
			t.Errorf("role %d: %v, want %d of each", role, of, n)
		}
	}
	st.noLoss(t)
}

// Many at a time: goroutines move between threads in the middle of a handshake.
func TestParallel(t *testing.T) {
	sensortest.OnlyOn(t, "5.10", "newest")
	st := newStage(t, gobintest.Production())
	lines, each := 16, 37
	if sensortest.InVM() {
		each = 5 // the machine is emulated
	}
	a := st.Do(t, gobintest.Request{
		Do: "handshake", Times: each, Parallel: lines, Version: tls.VersionTLS13, Name: "p.example.org", Mutual: true,
	})
	if a.Completed != lines*each {
		t.Fatalf("specimen: %+v", a)
	}
	for _, of := range st.next(t, 2*lines*each) {
		for _, h := range of {
			if !h.OK || h.ServerName != "p.example.org" || h.Suite != a.Client.Suite || h.PeerSPIFFEID == "" {
				t.Errorf("%+v", h)
			}
		}
	}
	if n := gotls.InFlight(st.sensor); n != 0 {
		t.Errorf("%d still in flight", n)
	}
	st.noLoss(t)
}

// A certificate that does not fit is said to be there; the rest of the event is whole.
func TestTooLargeCertificate(t *testing.T) {
	sensortest.OnlyOn(t, "5.10", "newest")
	st := newStage(t, gobintest.Production())
	a := st.Do(t, gobintest.Request{Do: "handshake", Times: 3, Version: tls.VersionTLS13, Name: "z.example.org", Padding: 6000})
	for _, h := range st.next(t, 6)[event.Client] {
		if !h.OK || !h.HasPeer || h.PeerFingerprint != [32]byte{} || h.PeerSPIFFEID != "" || h.Suite != a.Client.Suite || h.ServerName != "z.example.org" {
			t.Errorf("%+v", h)
		}
	}
}

// A process that nobody follows, and one outside of the scope, are not seen.
func TestOnlyFollowed(t *testing.T) {
	sensortest.OnlyOn(t, "5.10", "newest")
	st := newStage(t, gobintest.Production())
	path := gobintest.Build(t, gobintest.Production())
	req := gobintest.Request{Do: "handshake", Times: 3, Version: tls.VersionTLS13, Name: "o.example.org"}
	gobintest.Start(t, st.scope.Command(t, path)).Do(t, req)
	outside := gobintest.Start(t, exec.Command(path))
	if mine, err := st.sensor.Follow(image(t, outside.PID)); !mine || err != nil {
		t.Fatalf("follow: %t, %v", mine, err)
	}
	outside.Do(t, req)
	st.Do(t, req)
	st.next(t, 6)
	st.sensor.Forget(st.PID)
	sensortest.Until(t, "the probes are gone", func() bool {
		before := len(st.got.All())
		st.Do(t, req)
		st.Do(t, gobintest.Request{Do: "pid"})
		return len(st.got.All()) == before
	})
}

// Without PerProcess a new process of a file that is followed is covered from its first instruction;
// the scope still decides.
func TestWholeFile(t *testing.T) {
	sensortest.OnlyOn(t, "5.10", "newest")
	scope := sensortest.NewScope(t)
	shared, err := sensor.NewShared(sensor.Config{Hierarchy: sensor.HierarchyV2, Scoped: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { shared.Close() })
	scope.Shared = shared
	scope.Set(t, event.Learn, 1)
	g, err := gotls.Open(shared)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { g.Close() })
	got := sensortest.Collect(t, shared, g)
	path := gobintest.Build(t, gobintest.Production())
	first := gobintest.Start(t, scope.Command(t, path))
	if mine, err := g.Follow(image(t, first.PID)); !mine || err != nil {
		t.Fatalf("follow: %t, %v", mine, err)
	}
	req := gobintest.Request{Do: "handshake", Times: 11, Version: tls.VersionTLS13, Name: "w.example.org"}
	second := gobintest.Start(t, scope.Command(t, path))
	second.Do(t, req)
	if mine, err := g.Follow(image(t, second.PID)); !mine || err != nil {
		t.Fatalf("follow: %t, %v", mine, err)
	}
	second.Do(t, req) // each handshake once, though both were followed
	g.Forget(first.PID)
	second.Do(t, req)
	gobintest.Start(t, exec.Command(path)).Do(t, req) // out of scope
	for _, ev := range got.Wait(t, event.Handshake, 3*22) {
		if ev.Tgid != second.PID || !ev.Handshake.OK || ev.Handshake.ServerName != "w.example.org" {
			t.Errorf("%+v", ev)
		}
	}
}

// A process killed in the middle of handshakes leaves nothing in flight.
func TestForgetDropsInFlight(t *testing.T) {
	scope := sensortest.NewScope(t)
	g, err := gotls.Open(scope.Shared)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { g.Close() })
	cmd := scope.Command(t, gobintest.Build(t, gobintest.Production()))
	p := gobintest.StartToKill(t, cmd)
	if mine, err := g.Follow(image(t, p.PID)); !mine || err != nil {
		t.Fatalf("follow: %t, %v", mine, err)
	}
	p.Do(t, gobintest.Request{Do: "stall", Times: 17})
	sensortest.Until(t, "17 handshakes are in flight", func() bool { return gotls.InFlight(g) == 17 })
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	g.Forget(p.PID)
	if n := gotls.InFlight(g); n != 0 {
		t.Errorf("%d still in flight", n)
	}
}

func TestNotMine(t *testing.T) {
	if _, err := exec.LookPath("/bin/cat"); err != nil {
		t.Skip("needs a C program: ", err)
	}
	scope := sensortest.NewScope(t)
	g, err := gotls.Open(scope.Shared)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { g.Close() })
	cat := scope.Command(t, "/bin/cat")
	in, err := cat.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cat.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cat.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.Close(); cat.Wait() })
	if _, err := in.Write([]byte{'1'}); err != nil {
		t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 1)); err != nil { // it is cat by now
		t.Fatal(err)
	}
	for range 2 { // the second answer comes from memory
		if mine, err := g.Follow(image(t, uint32(cat.Process.Pid))); mine || err != nil {
			t.Errorf("C program: %t, %v", mine, err)
		}
	}
	if mine, err := g.Follow(sensor.Image{PID: 1, File: "/proc/0/exe"}); mine || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("process that is gone: %t, %v", mine, err)
	}
	if status := g.Status(); len(status) != 1 || !status[0].Supported {
		t.Errorf("status: %+v", status)
	}
}

// A whole handshake of both ends, which is two events, with the program left alone and observed.
func BenchmarkHandshake(b *testing.B) {
	st := newStage(b, gobintest.Production())
	req := gobintest.Request{Do: "handshake", Version: tls.VersionTLS13, Name: "b.example.org", Mutual: true}
	b.Run("observed", func(b *testing.B) {
		req.Times = b.N
		b.ResetTimer()
		st.Do(b, req)
	})
	st.sensor.Forget(st.PID)
	gotls.WaitDetached(st.sensor)
	b.Run("off", func(b *testing.B) {
		req.Times = b.N
		b.ResetTimer()
		st.Do(b, req)
	})
}
