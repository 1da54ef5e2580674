package falco

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/plumbline-io/plumbline/pkg/alert"
)

// MaxBody is the longest alert that is taken by HTTP, in bytes.
const MaxBody = 64 << 10

// patience is how long a peer may take for a request; none can hold a connection for ever.
const patience = 5 * time.Second

// Receiver takes what Falco's http_output posts: one alert in JSON per request, at any path.
type Receiver struct {
	handle func(alert.Alert)
	log    *slog.Logger

	mu    sync.Mutex
	ended bool
	stats ReceiverStats
}

// ReceiverStats counts since NewReceiver.
type ReceiverStats struct {
	Alerts    uint64 // handed on
	Refused   uint64 // lost: what came was no complete alert
	LastError string // why the last one was refused
}

// NewReceiver makes a Receiver. handle gets one alert at a time, and none once Serve has returned.
func NewReceiver(handle func(alert.Alert), log *slog.Logger) *Receiver {
	return &Receiver{handle: handle, log: log}
}

// Stats is safe for concurrent use.
func (r *Receiver) Stats() ReceiverStats {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.stats
}

// Serve answers on a listener until ctx ends, and closes it.
func (r *Receiver) Serve(ctx context.Context, listener net.Listener) error {
	server := &http.Server{Handler: r, ReadTimeout: patience, WriteTimeout: 2 * patience, IdleTimeout: 24 * patience, MaxHeaderBytes: 16 << 10}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	err := server.Serve(listener)
	r.mu.Lock()
	r.ended = true
	r.mu.Unlock()
	if !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("receive Falco's alerts: %w", err)
	}
	return nil
}

// ServeHTTP takes one alert. What it refuses, it answers with the reason.
func (r *Receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	code, err := r.take(w, req)
	if err != nil {
		r.noteRefused(err)
		http.Error(w, err.Error(), code)
	}
}

func (r *Receiver) take(w http.ResponseWriter, req *http.Request) (code int, err error) {
	if req.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		return http.StatusMethodNotAllowed, fmt.Errorf("read Falco's alert: method %.20q: want POST", req.Method)
	}
	if kind := req.Header.Get("Content-Type"); kind != "" {
		if media, _, err := mime.ParseMediaType(kind); err != nil || media != "application/json" {
			return http.StatusUnsupportedMediaType,
				fmt.Errorf("read Falco's alert: content type %.60q: want application/json; has Falco json_output: true?", kind)
		}
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, req.Body, MaxBody))
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return http.StatusRequestEntityTooLarge, fmt.Errorf("read Falco's alert: more than %d bytes", MaxBody)
	case err != nil:
		return http.StatusBadRequest, fmt.Errorf("read Falco's alert: %w", err)
	}
	a, err := Parse(body)
	if err != nil {
		return http.StatusBadRequest, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ended {
		return http.StatusServiceUnavailable, errors.New("read Falco's alert: the agent ends")
	}
	r.handle(a)
	r.stats.Alerts++
	return http.StatusOK, nil
}

func (r *Receiver) noteRefused(err error) {
	r.mu.Lock()
	r.stats.Refused++
	r.stats.LastError = err.Error()
	first := r.stats.Refused == 1
	r.mu.Unlock()
	if first {
		r.log.Warn("alert from Falco refused; further ones are only counted", "error", err)
	}
}
