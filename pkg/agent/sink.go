package agent

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"

	"github.com/plumbline-io/plumbline/pkg/alert"
)

// spooler is what the sink needs of pkg/spool.
type spooler interface {
	Append(a alert.Alert) (alert.ID, error)
}

// sink is where alerts go: the spool towards the control plane, a file of lines, and outputs. It
// never waits for a network. The event loop and the inputs from Falco use it at the same time.
type sink struct {
	spool   spooler // nil: no control plane
	outputs []place
	log     *slog.Logger
	raised  atomic.Uint64
	failed  atomic.Uint64 // not written somewhere

	mu     sync.Mutex // one alert at a time: every place gets them in one order
	file   io.WriteCloser
	format alert.Format // of the file
	line   []byte       // scratch
}

// openSink: "" writes no file, "-" writes to standard output.
func openSink(file string, format alert.Format, log *slog.Logger) (*sink, error) {
	s := &sink{format: format, log: log}
	switch file {
	case "":
	case "-":
		s.file = os.Stdout
	default:
		f, err := os.OpenFile(file, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			return nil, fmt.Errorf("open alert file: %w", err)
		}
		s.file = f
	}
	return s, nil
}

// Raise delivers an alert to every place. Nobody may change its fields any more.
func (s *sink) Raise(a alert.Alert) {
	s.raised.Add(1)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.spool != nil {
		id, err := s.spool.Append(a)
		if err != nil {
			s.fail("spool alert", err)
		}
		a.Detail.ID = id
	}
	for _, o := range s.outputs {
		o.Offer(a)
	}
	if s.file == nil {
		return
	}
	line, err := s.format.Append(s.line[:0], &a)
	if err == nil {
		s.line = append(line, '\n')
		_, err = s.file.Write(s.line)
	}
	if err != nil {
		s.fail("write alert", err)
	}
}

func (s *sink) fail(what string, err error) {
	// The counter goes into every heartbeat; the log must not become a second flood.
	if s.failed.Add(1) == 1 {
		s.log.Error(what, "error", err)
	}
}

// Close closes the file, and outputs that were not run.
func (s *sink) Close() error {
	var errs []error
	for _, o := range s.outputs {
		errs = append(errs, o.Close())
	}
	if s.file != nil && s.file != os.Stdout {
		if err := s.file.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
			errs = append(errs, fmt.Errorf("close alert file: %w", err))
		}
	}
	return errors.Join(errs...)
}
