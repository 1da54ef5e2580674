package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

const (
	serverName = "shop.plumbline.example"
	requests   = 8
)

func say(title string) { fmt.Printf("\n== %s\n", title) }

func explain(format string, args ...any) {
	fmt.Printf("   "+format+"\n", args...)
}

// quote shows what a program printed.
func quote(text string) {
	for _, line := range strings.Split(strings.TrimRight(text, "\n"), "\n") {
		fmt.Println("   | " + line)
	}
}

func (s *stage) shop() string { return "/" + filepath.Base(s.scope) + "/shop" }

func (s *stage) start(ctx context.Context) error {
	address, err := freeAddress()
	if err != nil {
		return err
	}
	s.bus = "nats://" + address
	control, err := s.launch("control-plane", "", "plumbline", "serve", "--data-dir", s.file("control"), "--listen", address)
	if err != nil {
		return err
	}
	if err := s.until(ctx, "the control plane", func() bool { return strings.Contains(control.tail(), "ready") }); err != nil {
		return err
	}
	explain("The control plane listens on %s (NATS with JetStream is built in).", s.bus)
	if _, err = s.launch("agent", "", "plumbline-agent", "run", "--scope", s.scope, "--node", "demo-node",
		"--state-dir", s.file("state"), "--socket", s.socket, "--on-stop", "release",
		"--control-plane", s.bus, "--password-file", s.file("control/agent.password")); err != nil {
		return err
	}
	var st status
	if err := s.until(ctx, "the agent", func() bool {
		return s.status(&st) == nil && st.ControlPlane.Connected
	}); err != nil {
		return err
	}
	explain("The agent attached its hooks after %.0f ms and uses %.1f MiB.", st.AttachedMs, float64(st.RSS)/(1<<20))
	explain("It sees nothing outside %s.", s.scope)
	explain("An execution that is denied here: %s (%s, the strongest means of kernel %s).", st.Means, st.Strength, st.Kernel)
	_, err = s.launch("events", "", "plumbline-agent", "events", "--socket", s.socket, "-o", "json")
	return err
}

// status is the part of `plumbline-agent status -o json` that the demo looks at.
type status struct {
	Kernel       string  `json:"kernel"`
	AttachedMs   float64 `json:"attached_ms"`
	RSS          uint64  `json:"rss_bytes"`
	Strength     string  `json:"strength"`
	Means        string  `json:"means"`
	ControlPlane struct {
		Connected bool `json:"connected"`
	} `json:"control_plane"`
	Workloads []struct {
		Name string `json:"name"`
		Mode string `json:"mode"`
	} `json:"workloads"`
	Lost map[string]uint64 `json:"lost"`
}

func (s *stage) status(st *status) error {
	out, err := s.tool("plumbline-agent", "status", "--socket", s.socket, "-o", "json")
	if err != nil {
		return err
	}
	return json.Unmarshal([]byte(out), st)
}

// seen is one line of `plumbline-agent events -o json`.
type seen struct {
	Kind      string `json:"kind"`
	PID       int    `json:"pid"`
	Workload  string `json:"workload"`
	Handshake *struct {
		Library, Role, Version, Suite, ALPN string
		OK                                  bool
		ServerName                          string  `json:"server_name"`
		Peer                                string  `json:"peer_sha256"`
		PeerSPIFFEID                        string  `json:"peer_spiffe_id"`
		Milliseconds                        float64 `json:"duration_ms"`
	} `json:"handshake"`
	Pause *struct {
		GC           bool    `json:"gc"`
		Microseconds float64 `json:"total_us"`
	} `json:"pause"`
}

func (s *stage) seen() []seen {
	out, err := os.ReadFile(s.file("events.log"))
	if err != nil {
		return nil
	}
	var all []seen
	for _, line := range strings.Split(string(out), "\n") {
		var e seen
		if json.Unmarshal([]byte(line), &e) == nil {
			all = append(all, e)
		}
	}
	return all
}

// handshakes are those of one library and role that are complete as the demo promises.
func (s *stage) handshakes(library, role string) []seen {
	var all []seen
	for _, e := range s.seen() {
		if h := e.Handshake; h != nil && h.OK && h.Library == library && h.Role == role && h.Version == "TLS 1.3" && h.Suite != "" && h.Milliseconds > 0 {
			all = append(all, e)
		}
	}
	return all
}

// served are the service's handshakes with the client's certificate: the ones that are counted.
func (s *stage) served() []seen {
	return slices.DeleteFunc(s.handshakes("go", "server"), func(e seen) bool { return e.Handshake.Peer != s.prints.client })
}

// made are the handshakes of the newest client.
func (s *stage) made() []seen {
	all := s.handshakes("openssl", "client")
	if len(all) == 0 {
		return nil
	}
	newest := all[len(all)-1].PID
	return slices.DeleteFunc(all, func(e seen) bool { return e.PID != newest })
}

// pauses counts those of the service for its garbage collector, and the others.
func (s *stage) pauses() (gc, other int, longest float64) {
	for _, e := range s.seen() {
		switch {
		case e.Pause == nil || e.Workload != s.shop():
			continue
		case e.Pause.GC:
			gc, longest = gc+1, max(longest, e.Pause.Microseconds)
		default:
			other++
		}
	}
	return gc, other, longest
}

func (s *stage) watch(ctx context.Context) error {
	var err error
	if s.https, err = freeAddress(); err != nil {
		return err
	}
	if err := s.makeSecret(); err != nil {
		return err
	}
	if _, err := s.launch("service", s.cgroup("shop"), "demo-service", "-listen", s.https, "-dir", s.dir); err != nil {
		return err
	}
	explain("The service is a Go program, stripped and position independent, in the cgroup %s.", s.shop())
	// Without the client's certificate, so that these are not counted.
	if err := s.until(ctx, "the service", func() bool {
		_, err := s.curl("/balance")
		return err == nil && len(s.handshakes("go", "server")) > 0
	}); err != nil {
		return err
	}
	explain("A curl client (OpenSSL) asks it %d times, each time with a new connection and a client certificate.", requests)
	if err := s.get(fmt.Sprintf("/balance?n=[1-%d]", requests)); err != nil {
		return fmt.Errorf("ask the service: %w", err)
	}
	if err := s.until(ctx, "the handshakes and pauses", func() bool {
		gc, _, _ := s.pauses()
		return len(s.served()) >= requests && len(s.made()) > 0 && gc > 0
	}); err != nil {
		return err
	}
	return s.showObserved()
}

func (s *stage) showObserved() error {
	served, made := s.served(), s.made()
	if len(served) != requests {
		return fmt.Errorf("count handshakes: %d on the service's side, want exactly %d", len(served), requests)
	}
	h := served[requests-1].Handshake
	if h.ServerName != serverName || h.ALPN != "http/1.1" {
		return fmt.Errorf("compare handshake: SNI %q, ALPN %q do not belong to the client", h.ServerName, h.ALPN)
	}
	explain("Seen on the service's side (Go crypto/tls): exactly %d handshakes, the last one:", requests)
	quote(fmt.Sprintf("%s  %s  sni %s  alpn %s  %.2f ms", h.Version, h.Suite, h.ServerName, h.ALPN, h.Milliseconds))
	quote(fmt.Sprintf("peer certificate sha256 %s  id %s", h.Peer, h.PeerSPIFFEID))
	h = made[len(made)-1].Handshake
	if h.Peer != s.prints.server || h.ServerName != serverName || h.ALPN != "http/1.1" {
		return fmt.Errorf("compare handshake: SNI %q, ALPN %q, peer %q are not what the client asked for", h.ServerName, h.ALPN, h.Peer)
	}
	explain("Seen on the client's side (OpenSSL): %d handshakes, the last one:", len(made))
	quote(fmt.Sprintf("%s  %s  sni %s  alpn %s  %.2f ms", h.Version, h.Suite, h.ServerName, h.ALPN, h.Milliseconds))
	quote("peer certificate sha256 " + h.Peer)
	if len(made) < requests {
		explain("A program is followed from a moment after its start: what it did before then was not seen.")
	}
	gc, other, longest := s.pauses()
	explain("Seen in the service's runtime: %d pauses for its garbage collector, the longest %.0f us, and %d others.", gc, longest, other)
	return nil
}

// get asks the service with one curl process. The path may have curl's [1-9] ranges: each is a new
// connection, half a second apart, so that the process lives long enough to be followed.
func (s *stage) get(path string) error {
	_, err := s.fetch(path)
	return err
}

func (s *stage) fetch(path string) (string, error) {
	return s.curl(path, "--cert", s.file("client.pem"), "--key", s.file("client.key"))
}

func (s *stage) curl(path string, options ...string) (string, error) {
	_, port, _ := strings.Cut(s.https, ":")
	return runIn(s.cgroup("teller"), "curl", append(options, "--silent", "--show-error", "--fail-with-body", "--http1.1", "--no-sessionid",
		"--header", "Connection: close", "--header", "@"+s.file(headerFile), "--rate", "120/m", "--max-time", "60", "--cacert", s.file("ca.pem"),
		"--resolve", serverName+":"+port+":127.0.0.1", "https://"+serverName+":"+port+path)...)
}
