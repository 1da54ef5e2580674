// Package telemetry publishes the agent's own metrics in Prometheus form. It is the only importer of
// the OpenTelemetry SDK. It must never compute anything on the event path: it asks for a snapshot when
// it is scraped.
//
//	t, err := telemetry.New("v1.2.3", snapshot)
//	http.Handle("/metrics", t.Handler())
package telemetry

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.opentelemetry.io/otel/attribute"
	otelprometheus "go.opentelemetry.io/otel/exporters/prometheus"
	"go.opentelemetry.io/otel/metric"
	sdk "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"
)

// Snapshot is the state of the agent at one moment.
type Snapshot struct {
	Events    map[string]uint64 // by kind
	Lost      map[string]uint64 // by reason
	Workloads map[string]int    // by mode
	Denied    uint64            // operations, by baselines and rules
	Audited   uint64            // operations outside a baseline that were let pass
	Alerts    uint64
	Spooled   int   // alerts that wait for the control plane
	Connected bool  // to the control plane
	RSS       int64 // bytes
	Rules     int   // in force
	// RuleReloads counts by result: used or refused.
	RuleReloads map[string]uint64
	Responses   []Responses
	Quarantined int // workloads whose processes are stopped
}

// Responses are those of one action that ended in the same way.
type Responses struct {
	Action, Outcome string
	Count           uint64
}

// Telemetry holds the metrics. It is safe for concurrent use.
type Telemetry struct {
	registry *prometheus.Registry
	provider *sdk.MeterProvider
	snapshot func() (Snapshot, error)
	latest   atomic.Pointer[Snapshot] // taken for the current scrape
}

// instruments are the metrics; the names follow the OpenTelemetry conventions, from which the
// Prometheus names are made.
type instruments struct {
	events, lost, alerts, verdicts, reloads, responses        metric.Int64ObservableCounter
	workloads, spooled, connected, memory, rules, quarantined metric.Int64ObservableGauge
}

const service = "plumbline-agent"

// New registers the metrics. snapshot is called for each scrape, from any goroutine; if it fails, so
// does the scrape.
func New(version string, snapshot func() (Snapshot, error)) (*Telemetry, error) {
	registry := prometheus.NewRegistry()
	exporter, err := otelprometheus.New(otelprometheus.WithRegisterer(registry))
	if err != nil {
		return nil, fmt.Errorf("make metrics exporter: %w", err)
	}
	self := resource.NewSchemaless(attribute.String("service.name", service), attribute.String("service.version", version))
	t := &Telemetry{
		registry: registry, snapshot: snapshot,
		provider: sdk.NewMeterProvider(sdk.WithReader(exporter), sdk.WithResource(self)),
	}
	meter := t.provider.Meter(service, metric.WithInstrumentationVersion(version))
	in, err := newInstruments(meter)
	if err == nil {
		_, err = meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
			if s := t.latest.Load(); s != nil {
				in.observe(o, *s)
			}
			return nil
		}, in.events, in.lost, in.alerts, in.verdicts, in.reloads, in.workloads, in.spooled, in.connected, in.memory, in.rules, in.responses, in.quarantined)
	}
	if err != nil {
		return nil, fmt.Errorf("register metrics: %w", err)
	}
	return t, nil
}

// newInstruments names the metrics. Those that count nothing have no unit: the unit 1 would make
// Prometheus call them a ratio.
func newInstruments(meter metric.Meter) (instruments, error) {
	var errs []error
	counter := func(name, unit, text string) metric.Int64ObservableCounter {
		c, err := meter.Int64ObservableCounter(name, metric.WithUnit(unit), metric.WithDescription(text))
		errs = append(errs, err)
		return c
	}
	gauge := func(name, unit, text string) metric.Int64ObservableGauge {
		g, err := meter.Int64ObservableGauge(name, metric.WithUnit(unit), metric.WithDescription(text))
		errs = append(errs, err)
		return g
	}
	in := instruments{
		events:      counter("agent.events", "{event}", "Events decoded, by kind."),
		lost:        counter("agent.events.lost", "{event}", "What was not delivered or not done, by reason."),
		alerts:      counter("agent.alerts", "{alert}", "Alerts raised."),
		verdicts:    counter("enforce.verdicts", "{operation}", "Operations that were denied, by a baseline or a rule, or are outside the baseline and were let pass (audit)."),
		reloads:     counter("agent.rules.reloads", "{reload}", "Times that changed rule files were read, by what became of them."),
		responses:   counter("agent.responses", "{response}", "Responses to alerts, by action and by what became of them."),
		quarantined: gauge("agent.workloads.quarantined", "{workload}", "Workloads whose processes are stopped."),
		rules:       gauge("agent.rules", "{rule}", "Rules in force."),
		workloads:   gauge("agent.workloads", "{workload}", "Workloads known, by mode."),
		spooled:     gauge("agent.alerts.spooled", "{alert}", "Alerts on disk that wait for the control plane."),
		connected:   gauge("agent.control_plane.connected", "", "1 if the control plane is connected, 0 if not or if there is none."),
		memory:      gauge("process.memory.usage", "By", "Resident memory of the agent."),
	}
	return in, errors.Join(errs...)
}

func (in *instruments) observe(o metric.Observer, s Snapshot) {
	for kind, n := range s.Events {
		o.ObserveInt64(in.events, int64(n), metric.WithAttributes(attribute.String("kind", kind)))
	}
	for reason, n := range s.Lost {
		o.ObserveInt64(in.lost, int64(n), metric.WithAttributes(attribute.String("reason", reason)))
	}
	for mode, n := range s.Workloads {
		o.ObserveInt64(in.workloads, int64(n), metric.WithAttributes(attribute.String("mode", mode)))
	}
	o.ObserveInt64(in.alerts, int64(s.Alerts))
	o.ObserveInt64(in.verdicts, int64(s.Denied), metric.WithAttributes(attribute.String("verdict", "deny")))
	o.ObserveInt64(in.verdicts, int64(s.Audited), metric.WithAttributes(attribute.String("verdict", "audit")))
	o.ObserveInt64(in.spooled, int64(s.Spooled))
	connected := int64(0)
	if s.Connected {
		connected = 1
	}
	o.ObserveInt64(in.connected, connected)
	o.ObserveInt64(in.memory, s.RSS)
	for result, n := range s.RuleReloads {
		o.ObserveInt64(in.reloads, int64(n), metric.WithAttributes(attribute.String("result", result)))
	}
	o.ObserveInt64(in.rules, int64(s.Rules))
	for _, r := range s.Responses {
		o.ObserveInt64(in.responses, int64(r.Count), metric.WithAttributes(attribute.String("action", r.Action), attribute.String("outcome", r.Outcome)))
	}
	o.ObserveInt64(in.quarantined, int64(s.Quarantined))
}

// Handler answers scrapes, with status 500 if there is no snapshot: counters that vanish and come back
// would be taken for a restart.
func (t *Telemetry) Handler() http.Handler {
	scrape := promhttp.HandlerFor(t.registry, promhttp.HandlerOpts{})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s, err := t.snapshot()
		if err != nil {
			http.Error(w, fmt.Sprintf("read state of agent: %v", err), http.StatusInternalServerError)
			return
		}
		t.latest.Store(&s)
		scrape.ServeHTTP(w, r)
	})
}

// patience is how long a scraper may take for its request; no peer can hold a connection for ever.
const patience = 5 * time.Second

// Serve answers scrapes on a listener until ctx ends, and closes it.
func (t *Telemetry) Serve(ctx context.Context, listener net.Listener) error {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", t.Handler())
	server := &http.Server{
		Handler:           mux,
		ReadHeaderTimeout: patience, WriteTimeout: 2 * patience, IdleTimeout: 24 * patience,
	}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	err := server.Serve(listener)
	if errors.Is(err, http.ErrServerClosed) {
		err = nil
	}
	if err := errors.Join(err, t.provider.Shutdown(context.WithoutCancel(ctx))); err != nil {
		return fmt.Errorf("serve metrics: %w", err)
	}
	return nil
}
