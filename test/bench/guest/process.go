package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime/debug"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/plumbline-io/plumbline/test/bench/load"
)

const loadArgument = "load"

// process is a load in a process of its own in the scope. It is told on its standard input how many
// operations to do, and answers with how long that took.
type process struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Scanner
}

func startLoad(name string) (*process, error) {
	p := &process{cmd: exec.Command("/proc/self/exe", loadArgument, name)}
	// Without Go's own timer signals and with one thread the load is as quiet as can be.
	p.cmd.Env = append(os.Environ(), "GODEBUG=asyncpreemptoff=1", "GOMAXPROCS=1")
	p.cmd.Stderr = os.Stderr
	var err error
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p.out = bufio.NewScanner(out)
	dir, err := in(scopeDir, p.cmd)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start load: %w", err)
	}
	return p, nil
}

// do returns the nanoseconds that n operations took.
func (p *process) do(n int) (float64, error) {
	if _, err := fmt.Fprintln(p.in, n); err != nil {
		return 0, fmt.Errorf("ask load: %w", err)
	}
	if !p.out.Scan() {
		return 0, errors.Join(errors.New("ask load: it has ended"), p.out.Err())
	}
	return strconv.ParseFloat(p.out.Text(), 64)
}

func (p *process) end() error {
	return errors.Join(p.in.Close(), p.cmd.Wait())
}

// quietInput is the standard input. After a wait of which Go's scheduler knows, it would look after the process every twenty
// microseconds for the first milliseconds, and so during a third of a measurement.
type quietInput struct{}

func (quietInput) Read(b []byte) (int, error) {
	n, err := load.RawRead(unix.Stdin, b)
	if n == 0 && err == nil {
		err = io.EOF
	}
	return n, err
}

// serveLoad is such a process.
func serveLoad(name string) error {
	debug.SetGCPercent(-1)
	l, err := load.Open(name, loadDir)
	if err != nil {
		return err
	}
	for lines := bufio.NewScanner(quietInput{}); lines.Scan(); {
		n, err := strconv.Atoi(lines.Text())
		if err != nil {
			return fmt.Errorf("read number of operations: %w", err)
		}
		begin := time.Now()
		if err := l.Run(n); err != nil {
			return errors.Join(err, l.Close())
		}
		fmt.Println(time.Since(begin).Nanoseconds())
	}
	return l.Close()
}
