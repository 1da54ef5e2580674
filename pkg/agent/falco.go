package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strconv"

	"github.com/plumbline-io/plumbline/pkg/alert"
	"github.com/plumbline-io/plumbline/pkg/detect"
	"github.com/plumbline-io/plumbline/pkg/falco"
)

// falcoInput takes the alerts of a Falco that runs on this node.
type falcoInput struct {
	receiver *falco.Receiver // nil: not wanted
	listener net.Listener    // of the receiver
	client   *falco.Client   // nil: not wanted
	from     string          // where the client reads
}

// InputState is one way in which alerts of others come, in the agent's status.
type InputState struct {
	Name      string `json:"name"` // as in the configuration
	Address   string `json:"address"`
	Alerts    uint64 `json:"alerts"`
	Refused   uint64 `json:"refused"` // what came was no complete alert
	LastError string `json:"last_error,omitempty"`
}

// openFalco takes the address before anything is loaded: an occupied port is the user's to solve.
func (a *Agent) openFalco() (err error) {
	if from := &a.cfg.Falco; from.wantsClient() {
		if a.falco.from = from.Socket; from.Socket == "" {
			a.falco.from = net.JoinHostPort(from.Host, strconv.Itoa(int(from.Port)))
		}
		if a.falco.client, err = falco.New(from.client(a.cfg.Log)); err != nil {
			return err
		}
	}
	if address := a.cfg.Falco.HTTPListen; address != "" {
		if a.falco.listener, err = net.Listen("tcp", address); err != nil {
			return fmt.Errorf("listen for Falco's alerts: %w", err)
		}
		if at := a.falco.listener.Addr().(*net.TCPAddr); !at.IP.IsLoopback() {
			a.cfg.Log.Warn("whoever reaches this address can raise alerts", "address", at.String())
		}
		a.falco.receiver = falco.NewReceiver(a.raiseFalco, a.cfg.Log)
	}
	return nil
}

// Tasks are what has to run until its ctx ends, so that alerts come to raise.
func (f *falcoInput) Tasks(raise func(alert.Alert)) (all []func(context.Context) error) {
	if f.receiver != nil {
		all = append(all, func(ctx context.Context) error { return f.receiver.Serve(ctx, f.listener) })
	}
	if f.client != nil {
		all = append(all, func(ctx context.Context) error {
			return f.client.Run(ctx, func(a alert.Alert) error {
				raise(a)
				return nil
			})
		})
	}
	return all
}

// Close releases the address.
func (f *falcoInput) Close() error {
	if f.listener == nil {
		return nil
	}
	if err := f.listener.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("close Falco's input: %w", err)
	}
	return nil
}

// States tells of every way in that is wanted.
func (f *falcoInput) States() []InputState {
	var all []InputState
	if f.receiver != nil {
		s := f.receiver.Stats()
		all = append(all, InputState{"falco.http_listen", f.listener.Addr().String(), s.Alerts, s.Refused, s.LastError})
	}
	if f.client != nil {
		s := f.client.Stats()
		name := "falco.host"
		if filepath.IsAbs(f.from) {
			name = "falco.socket"
		}
		all = append(all, InputState{name, f.from, s.Alerts, s.Refused, s.LastError})
	}
	return all
}

// raiseFalco gives an alert of Falco's its workload and lets it go the way of our own.
func (a *Agent) raiseFalco(from alert.Alert) {
	if from.Hostname == "" {
		from.Hostname = a.cfg.Node
	}
	d := &from.Detail
	subject, known := a.host.Fallback(), true // the node
	if d.WorkloadKind == "container" {
		subject, known = a.container(from)
	}
	// A container that we do not see keeps the name that Falco gave it.
	if known {
		d.Workload, d.WorkloadKind, d.Baseline, d.Cgroup = subject.Name, subject.Kind, subject.Baseline, subject.Cgroup
		d.SPIFFEID, d.IdentitySource = subject.SPIFFEID, subject.IdentitySource
	}
	a.sink.Raise(from)
}

func (a *Agent) container(from alert.Alert) (detect.Subject, bool) {
	id, _ := from.Fields[falco.ContainerField].(string)
	return a.registry.Container(id)
}
