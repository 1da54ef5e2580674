package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/plumbline-io/plumbline/pkg/baseline"
	"github.com/plumbline-io/plumbline/pkg/event"
)

// api answers the node-local verbs on a Unix socket. Whoever may open the socket may change modes,
// so only root may.
type api struct {
	agent    *Agent
	listener net.Listener
	server   *http.Server
}

// modeRequest asks for another mode of a workload.
type modeRequest struct {
	Workload string `json:"workload"`
	Mode     string `json:"mode"`
	Reason   string `json:"reason"` // not empty: do it although the baseline is not ready
}

// apiError is the body of every answer that is not 200.
type apiError struct {
	Error string `json:"error"`
}

func listenAPI(socket string, a *Agent) (*api, error) {
	listener, err := listenSocket(socket)
	if err != nil {
		return nil, err
	}
	s := &api{agent: a, listener: listener}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /status", s.status)
	mux.HandleFunc("GET /baseline", s.baseline)
	mux.HandleFunc("POST /baseline/allow", s.allow)
	mux.HandleFunc("POST /mode", s.mode)
	mux.HandleFunc("POST /pause", s.pause)
	mux.HandleFunc("POST /release", s.release)
	mux.HandleFunc("POST /rules/reload", s.reload)
	mux.HandleFunc("GET /events", s.events)
	s.server = &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	return s, nil
}

// Run serves until ctx ends.
func (s *api) Run(ctx context.Context) error {
	s.server.BaseContext = func(net.Listener) context.Context { return ctx }
	stop := context.AfterFunc(ctx, func() { _ = s.server.Close() })
	defer stop()
	if err := s.server.Serve(s.listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve %s: %w", s.listener.Addr(), err)
	}
	return nil
}

func (s *api) status(w http.ResponseWriter, _ *http.Request) {
	status, err := s.agent.DetailedStatus()
	if err != nil {
		fail(w, err)
		return
	}
	answer(w, status)
}

func (s *api) baseline(w http.ResponseWriter, r *http.Request) {
	yaml, err := s.agent.registry.Baseline(r.URL.Query().Get("workload"))
	if err != nil {
		fail(w, err)
		return
	}
	w.Header().Set("Content-Type", "application/yaml")
	_, _ = w.Write(yaml)
}

func (s *api) mode(w http.ResponseWriter, r *http.Request) {
	var req modeRequest
	if !readRequest(w, r, &req) {
		return
	}
	mode, err := event.ParseMode(req.Mode)
	var done ModeChange
	if err == nil {
		done, err = s.agent.setMode(req, mode)
	}
	if err != nil {
		fail(w, err)
		return
	}
	if s.agent.publisher != nil {
		s.agent.publisher.Beat() // the inventory need not be behind
	}
	answer(w, done)
}

// pauseRequest asks for a pause of enforcement.
type pauseRequest struct {
	Seconds float64 `json:"seconds"` // 0: ends it
	Reason  string  `json:"reason"`
}

func (s *api) pause(w http.ResponseWriter, r *http.Request) {
	var req pauseRequest
	dec := json.NewDecoder(http.MaxBytesReader(w, r.Body, 64<<10))
	dec.DisallowUnknownFields()
	err := dec.Decode(&req)
	if err == nil {
		err = s.agent.Pause(time.Duration(req.Seconds*float64(time.Second)), req.Reason)
	}
	if err != nil {
		fail(w, err)
		return
	}
	answer(w, req)
}

// releaseRequest asks for a quarantined workload to go on.
type releaseRequest struct {
	Workload string `json:"workload"`
	Reason   string `json:"reason"`
}

func (s *api) release(w http.ResponseWriter, r *http.Request) {
	var req releaseRequest
	if !readRequest(w, r, &req) {
		return
	}
	if err := s.agent.release(req.Workload, req.Reason); err != nil {
		fail(w, err)
		return
	}
	answer(w, req)
}

func (s *api) reload(w http.ResponseWriter, _ *http.Request) {
	s.agent.rules.Reload("request")
	answer(w, s.agent.rulesStatus())
}

func (s *api) allow(w http.ResponseWriter, r *http.Request) {
	var req allowRequest
	if !readRequest(w, r, &req) {
		return
	}
	done, err := s.agent.allow(req)
	if err != nil {
		fail(w, err)
		return
	}
	answer(w, done)
}

// readRequest fills into from the body; if it cannot, it answers so and returns false.
func readRequest(w http.ResponseWriter, r *http.Request, into any) bool {
	dec := json.NewDecoder(http.MaxBytesReader(w, r.Body, 64<<10))
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil {
		fail(w, fmt.Errorf("read request: %w", err))
		return false
	}
	return true
}

// events streams JSON lines until the client goes or the agent ends.
func (s *api) events(w http.ResponseWriter, r *http.Request) {
	lines, missed, end := s.agent.stream.Subscribe()
	defer end()
	flush := http.NewResponseController(w)
	w.Header().Set("Content-Type", "application/x-ndjson")
	w.WriteHeader(http.StatusOK)
	if flush.Flush() != nil {
		return
	}
	for {
		select {
		case <-r.Context().Done():
			return
		case line := <-lines:
			if n := missed.Swap(0); n > 0 {
				_, _ = fmt.Fprintf(w, "{\"kind\":\"missed\",\"missed\":%d}\n", n)
			}
			if _, err := w.Write(append(line, '\n')); err != nil || flush.Flush() != nil {
				return
			}
		}
	}
}

func answer(w http.ResponseWriter, value any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(value)
}

func fail(w http.ResponseWriter, err error) {
	code := http.StatusConflict
	switch {
	case errors.Is(err, errUnknownWorkload):
		code = http.StatusNotFound
	case errors.Is(err, baseline.ErrNotReady):
		code = http.StatusPreconditionFailed
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(apiError{Error: err.Error()})
}
