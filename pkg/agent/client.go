package agent

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/plumbline-io/plumbline/pkg/event"
)

// What an error of the Client can be, beside what the agent says of it.
var (
	ErrNotRunning     = errors.New("no agent answers")
	ErrNoSuchWorkload = errors.New("the agent does not know the workload")
	ErrNotReady       = errors.New("the baseline is not ready to be promoted")
)

// answerError is an error in the agent's own words, and which one it is.
type answerError struct {
	text string
	kind error // nil: any other
}

func (e answerError) Error() string { return e.text }
func (e answerError) Unwrap() error { return e.kind }

// Client asks a running agent. It is safe for concurrent use.
type Client struct {
	socket string
	http   http.Client
}

// NewClient talks to the agent behind a socket. It connects with each question.
func NewClient(socket string) *Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", socket)
	}
	return &Client{socket: socket, http: http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}}
}

// Status asks for the agent's state.
func (c *Client) Status(ctx context.Context) (Status, error) {
	var s Status
	body, err := c.ask(ctx, http.MethodGet, "/status", nil)
	if err != nil {
		return s, err
	}
	if err := json.Unmarshal(body, &s); err != nil {
		return s, fmt.Errorf("read status: %w", err)
	}
	return s, nil
}

// Baseline asks for a workload's baseline as YAML, or the one of this name.
func (c *Client) Baseline(ctx context.Context, workload string) ([]byte, error) {
	return c.ask(ctx, http.MethodGet, "/baseline?workload="+url.QueryEscape(workload), nil)
}

// SetMode changes the mode of a workload, or of all that have the baseline of this name; a reason overrides the conditions
// of a promotion.
func (c *Client) SetMode(ctx context.Context, workload string, mode event.Mode, reason string) (ModeChange, error) {
	var done ModeChange
	req, err := json.Marshal(modeRequest{Workload: workload, Mode: mode.String(), Reason: reason})
	if err != nil {
		return done, err
	}
	body, err := c.ask(ctx, http.MethodPost, "/mode", bytes.NewReader(req))
	if err != nil {
		return done, err
	}
	if err := json.Unmarshal(body, &done); err != nil {
		return done, fmt.Errorf("read answer of the agent: %w", err)
	}
	return done, nil
}

// ReloadRules makes the agent read its rules again. If the status names problems, those in force have stayed.
func (c *Client) ReloadRules(ctx context.Context) (RulesStatus, error) {
	var s RulesStatus
	body, err := c.ask(ctx, http.MethodPost, "/rules/reload", nil)
	if err != nil {
		return s, err
	}
	if err := json.Unmarshal(body, &s); err != nil {
		return s, fmt.Errorf("read answer of the agent: %w", err)
	}
	return s, nil
}

// Pause stops enforcement for a time, an hour at most; 0 ends a pause.
func (c *Client) Pause(ctx context.Context, length time.Duration, reason string) error {
	req, err := json.Marshal(pauseRequest{Seconds: length.Seconds(), Reason: reason})
	if err != nil {
		return err
	}
	_, err = c.ask(ctx, http.MethodPost, "/pause", bytes.NewReader(req))
	return err
}

// Release lets a quarantined workload go on. The reason is in the alert about it.
func (c *Client) Release(ctx context.Context, workload, reason string) error {
	req, err := json.Marshal(releaseRequest{Workload: workload, Reason: reason})
	if err != nil {
		return err
	}
	_, err = c.ask(ctx, http.MethodPost, "/release", bytes.NewReader(req))
	return err
}

// Allow adds an entry to a workload's baseline, whatever its mode. False: it was allowed already. The reason
// is required; log and alerts keep it.
func (c *Client) Allow(ctx context.Context, workload string, k event.Key, reason string) (added bool, err error) {
	req, err := json.Marshal(allowRequest{Workload: workload, Key: k.String(), Reason: reason})
	if err != nil {
		return false, err
	}
	body, err := c.ask(ctx, http.MethodPost, "/baseline/allow", bytes.NewReader(req))
	if err != nil {
		return false, err
	}
	var done allowAnswer
	if err := json.Unmarshal(body, &done); err != nil {
		return false, fmt.Errorf("read answer of the agent: %w", err)
	}
	return done.Added, nil
}

// Events calls handle with each event from now on, until ctx ends or the agent does.
func (c *Client) Events(ctx context.Context, handle func(View) error) error {
	resp, err := c.do(ctx, http.MethodGet, "/events", nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var v View
		if err := json.Unmarshal(lines.Bytes(), &v); err != nil {
			return fmt.Errorf("read event: %w", err)
		}
		if err := handle(v); err != nil {
			return err
		}
	}
	if err := lines.Err(); err != nil && ctx.Err() == nil {
		return fmt.Errorf("read events: %w", err)
	}
	return nil
}

func (c *Client) ask(ctx context.Context, method, path string, body io.Reader) ([]byte, error) {
	resp, err := c.do(ctx, method, path, body)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, fmt.Errorf("read answer of the agent: %w", err)
	}
	if resp.StatusCode == http.StatusOK {
		return answer, nil
	}
	var told apiError
	if json.Unmarshal(answer, &told) != nil || told.Error == "" {
		return nil, fmt.Errorf("ask agent: %s", resp.Status)
	}
	switch resp.StatusCode {
	case http.StatusNotFound:
		return nil, answerError{told.Error, ErrNoSuchWorkload}
	case http.StatusPreconditionFailed:
		return nil, answerError{told.Error, ErrNotReady}
	}
	return nil, answerError{text: told.Error}
}

func (c *Client) do(ctx context.Context, method, path string, body io.Reader) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://agent"+path, body)
	if err != nil {
		return nil, err
	}
	resp, err := c.http.Do(req)
	var refused *net.OpError
	if errors.As(err, &refused) {
		return nil, fmt.Errorf("ask agent on %s: %w: %w", c.socket, ErrNotRunning, refused.Err)
	}
	if err != nil {
		return nil, fmt.Errorf("ask agent: %w", err)
	}
	return resp, nil
}
