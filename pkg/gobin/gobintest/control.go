package gobintest

import (
	"bufio"
	"encoding/json"
	"io"
	"os/exec"
	"testing"
)

// Request is one command to a running specimen; see specimen/main.go.
type Request struct {
	Do       string
	Times    int
	Version  uint16
	Suite    uint16
	Name     string
	ALPN     string
	Mutual   bool
	Nested   bool
	Distrust bool
	Nameless bool
	Stranger bool
	Resume   bool
	Parallel int
	Padding  int
}

// Side is what one end of the specimen's last handshake saw.
type Side struct {
	Version, Suite  uint16
	Name, ALPN      string
	Resumed         bool
	PeerFingerprint string // SHA-256, hexadecimal
	PeerNotAfter    int64
	Error           string
}

// Pauses is what the specimen's runtime counted.
type Pauses struct {
	NumGC, PauseTotalNs   uint64
	GCPauses, OtherPauses uint64
	HaveMetrics           bool // false before Go 1.22
}

// Answer is what the specimen did.
type Answer struct {
	PID            int
	Go             string
	Client, Server Side
	Completed      int
	Elapsed        int64 // nanoseconds
	Pauses         Pauses
	Error          string
}

// Process is a running specimen.
type Process struct {
	PID uint32
	in  io.WriteCloser
	out *bufio.Scanner
}

// Start starts cmd, a specimen, and ends it with the test.
func Start(t testing.TB, cmd *exec.Cmd) *Process {
	t.Helper()
	p := StartToKill(t, cmd)
	t.Cleanup(func() {
		p.in.Close() // the end of its input ends it
		if err := cmd.Wait(); err != nil {
			t.Errorf("specimen: %v", err)
		}
	})
	return p
}

// StartToKill starts cmd, a specimen, which the test ends itself.
func StartToKill(t testing.TB, cmd *exec.Cmd) *Process {
	t.Helper()
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := &Process{PID: uint32(cmd.Process.Pid), in: in, out: bufio.NewScanner(out)}
	// Only its answer shows that it runs: Start may return while the child still is a copy of us.
	p.Do(t, Request{Do: "pid"})
	return p
}

// Do lets the specimen carry out a request.
func (p *Process) Do(t testing.TB, r Request) Answer {
	t.Helper()
	line, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.in.Write(append(line, '\n')); err != nil {
		t.Fatalf("specimen: %v", err)
	}
	if !p.out.Scan() {
		t.Fatalf("specimen: no answer: %v", p.out.Err())
	}
	var a Answer
	if err := json.Unmarshal(p.out.Bytes(), &a); err != nil {
		t.Fatalf("specimen: %v in %q", err, p.out.Text())
	}
	if a.Error != "" {
		t.Fatalf("specimen: %s", a.Error)
	}
	return a
}
