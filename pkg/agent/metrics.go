package agent

import (
	"context"
	"errors"
	"fmt"
	"net"

	"github.com/plumbline-io/plumbline/pkg/telemetry"
)

// metrics is the /metrics endpoint.
type metrics struct {
	listener  net.Listener
	telemetry *telemetry.Telemetry
}

// openMetrics takes the address before anything is loaded: an occupied port is the user's to solve.
func (a *Agent) openMetrics() error {
	if a.cfg.Metrics == "" {
		return nil
	}
	t, err := telemetry.New(a.cfg.Version, a.snapshot)
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", a.cfg.Metrics)
	if err != nil {
		return fmt.Errorf("serve metrics: %w", err)
	}
	a.metrics = &metrics{listener: listener, telemetry: t}
	return nil
}

// Run answers scrapes until ctx ends.
func (m *metrics) Run(ctx context.Context) error { return m.telemetry.Serve(ctx, m.listener) }

// Close releases the address.
func (m *metrics) Close() error {
	if err := m.listener.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("close metrics: %w", err)
	}
	return nil
}

func (a *Agent) snapshot() (telemetry.Snapshot, error) {
	s, err := a.Status()
	if err != nil {
		return telemetry.Snapshot{}, err
	}
	snap := telemetry.Snapshot{
		Events: s.Events, Lost: s.Lost, Alerts: s.Alerts, Workloads: map[string]int{},
		Spooled: s.ControlPlane.Spooled, Connected: s.ControlPlane.Connected, RSS: int64(s.RSS),
		Rules: s.Rules.Rules, Quarantined: len(s.Quarantined), RuleReloads: map[string]uint64{"used": s.Rules.Reloads, "refused": s.Rules.Refused},
	}
	for _, c := range s.Responses.Counts {
		snap.Responses = append(snap.Responses, telemetry.Responses(c))
	}
	for _, w := range s.Workloads {
		snap.Workloads[w.Mode]++
		snap.Denied += w.Denied
		snap.Audited += w.Audited
	}
	return snap, nil
}
