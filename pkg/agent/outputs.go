package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"

	"github.com/plumbline-io/plumbline/pkg/alert"
	"github.com/plumbline-io/plumbline/pkg/falco"
	"github.com/plumbline-io/plumbline/pkg/output"
	"github.com/plumbline-io/plumbline/pkg/rule"
)

// place gets every alert beside the spool and the file. It never makes the caller of Offer wait.
type place interface {
	Offer(a alert.Alert)
	Run(ctx context.Context) error // until ctx ends, and a moment longer for what waits
	Close() error                  // of one that is not run any more
	State() OutputState
}

// OutputState is one place where alerts go in the agent's status.
type OutputState struct {
	Name    string `json:"name"` // as in the configuration
	Address string `json:"address"`
	output.Stats
	Subscribers int    `json:"subscribers,omitempty"` // falco_socket: now
	Unclaimed   uint64 `json:"unclaimed,omitempty"`   // falco_socket: nobody subscribed
}

// queued is a place behind a queue.
type queued struct {
	*output.Queue
	name, address string
}

func (q queued) State() OutputState {
	return OutputState{Name: q.name, Address: q.address, Stats: q.Stats()}
}

// falcoSocket is the place where Falco's clients subscribe.
type falcoSocket struct {
	*falco.Server
	listener net.Listener
}

func (f falcoSocket) Run(ctx context.Context) error { return f.Serve(ctx, f.listener) }

func (f falcoSocket) Close() error {
	if err := f.listener.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("close Falco's outputs: %w", err)
	}
	return nil
}

func (f falcoSocket) State() OutputState {
	s := f.Stats()
	return OutputState{
		Name: "falco_socket", Address: f.listener.Addr().String(), Subscribers: s.Subscribers, Unclaimed: s.Unclaimed,
		Stats: output.Stats{Sent: s.Sent, Dropped: s.Dropped, Queued: s.Waiting},
	}
}

// openOutputs makes the places that the configuration names.
func (a *Agent) openOutputs() error {
	if a.cfg.AlertsHTTP != "" {
		sender, err := output.NewHTTP(output.HTTPConfig{URL: a.cfg.AlertsHTTP, CAFile: a.cfg.AlertsHTTPCA})
		if err != nil {
			return err
		}
		a.addQueue("alerts_http", redacted(a.cfg.AlertsHTTP), sender)
	}
	if a.cfg.AlertsSyslog != "" {
		sender, err := output.NewSyslog(a.cfg.AlertsSyslog, a.cfg.alertsFormat())
		if err != nil {
			return err
		}
		a.addQueue("alerts_syslog", a.cfg.AlertsSyslog, sender)
	}
	if a.cfg.FalcoSocket != "" {
		listener, err := listenSocket(a.cfg.FalcoSocket)
		if err != nil {
			return err
		}
		server := falco.NewServer(falco.ServerConfig{Version: a.cfg.Version, Engine: rule.EngineVersion(), Fields: rule.FieldsChecksum()})
		a.sink.outputs = append(a.sink.outputs, falcoSocket{server, listener})
	}
	return nil
}

func (a *Agent) addQueue(name, address string, sender output.Sender) {
	q := output.New(output.Config{Sender: sender, Log: a.cfg.Log.With("output", name)})
	a.sink.outputs = append(a.sink.outputs, queued{q, name, address})
}

// redacted hides the password of a URL that was checked.
func redacted(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return ""
	}
	return u.Redacted()
}
