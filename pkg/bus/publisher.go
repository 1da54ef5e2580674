package bus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/plumbline-io/plumbline/pkg/alert"
)

// Source is where alerts wait until they are stored; *spool.Spool is one.
type Source interface {
	// Next waits for an alert. If ctx has ended, it returns one only if it need not wait.
	Next(ctx context.Context) (alert.ID, []byte, error)
	Ack(alert.ID)
	Retry(alert.ID)
}

// PublisherConfig of an agent's side of the bus.
type PublisherConfig struct {
	URL            string // nats://host:port
	PasswordFile   string // of user "agent"; read at each connect
	Tenant         string // "": default
	Cluster        string // "": default
	Node           string
	Source         Source
	Heartbeat      func() Heartbeat // nil: no heartbeats; called by one goroutine
	HeartbeatEvery time.Duration    // 0: 30 s; each is up to a tenth earlier
	MaxInFlight    int              // alerts sent and not yet stored; 0: 1024
	DrainTimeout   time.Duration    // how long Run goes on after its end to see alerts stored; 0: 2 s
	StoreTimeout   time.Duration    // when to ask for, or to resend, an alert that nobody confirmed; 0: 5 s
	MaxBackoff     time.Duration    // between attempts to connect or to send; 0: 30 s
	Logger         *slog.Logger     // nil: none
}

func (c *PublisherConfig) setDefaults() error {
	u, err := url.Parse(c.URL)
	switch {
	case err != nil:
		return fmt.Errorf("control plane URL: %w", err)
	case u.Scheme != "nats" || u.Host == "":
		return fmt.Errorf("control plane URL %q: want nats://host:port", c.URL)
	case c.PasswordFile == "":
		return errors.New("no password file for the control plane")
	case c.Node == "":
		return errors.New("no node name")
	case c.Source == nil:
		return errors.New("no source of alerts")
	}
	setDefault(&c.Tenant, "default")
	setDefault(&c.Cluster, "default")
	setDefault(&c.HeartbeatEvery, 30*time.Second)
	setDefault(&c.MaxInFlight, 1024)
	setDefault(&c.DrainTimeout, 2*time.Second)
	setDefault(&c.StoreTimeout, 5*time.Second)
	setDefault(&c.MaxBackoff, maxReconnectWait)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return nil
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// PublisherStats counts since NewPublisher.
type PublisherStats struct {
	Connected  bool   `json:"connected"`
	LastError  string `json:"last_error,omitempty"` // "" while connected and nothing is refused
	InFlight   int    `json:"in_flight"`
	Published  uint64 `json:"published"`  // sent, repetitions included
	Stored     uint64 `json:"stored"`     // confirmed by the control plane
	Retried    uint64 `json:"retried"`    // given back to the source
	Duplicates uint64 `json:"duplicates"` // JetStream knew it already
	Heartbeats uint64 `json:"heartbeats"`
}

// Publisher drains a Source to the control plane and sends heartbeats. Stats is safe for concurrent
// use.
type Publisher struct {
	cfg     PublisherConfig
	origin  origin
	flights *flights
	ready   *gate         // open while connected and not backing off
	due     chan struct{} // a heartbeat, before its time

	published, stored, retried, duplicates, heartbeats atomic.Uint64
	connected                                          atomic.Bool

	nc      *nats.Conn // set by Run before it starts anything
	replies string     // prefix of the subjects to which JetStream acks

	landing sync.Mutex // from when alerts are confirmed until the source knows

	mu       sync.Mutex
	lastErr  string
	failures int // refused publishes in a row

	withoutPassword error // of the last attempt to connect
}

// NewPublisher checks the configuration. It does not connect.
func NewPublisher(cfg PublisherConfig) (*Publisher, error) {
	if err := cfg.setDefaults(); err != nil {
		return nil, err
	}
	return &Publisher{
		cfg:     cfg,
		origin:  origin{cfg.Tenant, cfg.Cluster, cfg.Node},
		flights: newFlights(cfg.MaxInFlight),
		ready:   newGate(),
		due:     make(chan struct{}, 1),
	}, nil
}

// Stats returns the counters and the state of the connection.
func (p *Publisher) Stats() PublisherStats {
	p.mu.Lock()
	lastErr := p.lastErr
	p.mu.Unlock()
	return PublisherStats{
		Connected: p.connected.Load(), LastError: lastErr, InFlight: p.flights.count(),
		Published: p.published.Load(), Stored: p.stored.Load(), Retried: p.retried.Load(),
		Duplicates: p.duplicates.Load(), Heartbeats: p.heartbeats.Load(),
	}
}

// Run publishes until ctx ends, and then until everything is stored, but no longer than
// DrainTimeout. A control plane that is down or refuses is no error: Run tries for ever, and Stats
// says why.
func (p *Publisher) Run(ctx context.Context) error {
	nc, err := p.connect()
	if err != nil {
		return fmt.Errorf("publish alerts: %w", err)
	}
	defer nc.Close()
	hard, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(p.cfg.DrainTimeout, cancel) })
	defer stop()

	var wg sync.WaitGroup
	wg.Go(func() { p.tend(hard) })
	wg.Go(func() { p.beat(ctx) })
	p.send(ctx, hard)
	cancel()
	wg.Wait()
	p.landing.Lock() // a confirmation that came last is with the source before Run returns, and none comes after it
	defer p.landing.Unlock()
	for _, id := range p.flights.land(func(flightKey, *flight) bool { return true }) {
		p.cfg.Source.Retry(id)
	}
	return nil
}

func (p *Publisher) connect() (*nats.Conn, error) {
	opts := append(forever("plumbline-agent "+p.cfg.Node, p.cfg.MaxBackoff),
		credentials(AgentUser, p.cfg.PasswordFile, p.noPassword),
		nats.CustomInboxPrefix(inbox(AgentUser)+"."+token(p.cfg.Node)),
		nats.ConnectHandler(func(*nats.Conn) { p.isUp() }),
		nats.ReconnectHandler(func(*nats.Conn) { p.isUp() }),
		nats.NoCallbacksAfterClientClose(),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) { p.isDown(lostError(p.cfg.URL, err)) }),
		nats.ReconnectErrHandler(func(_ *nats.Conn, err error) { p.isDown(connectError(p.cfg.URL, err)) }),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { p.note(err) }),
	)
	nc, err := nats.Connect(p.cfg.URL, opts...)
	if err != nil {
		return nil, err
	}
	p.nc, p.replies = nc, nc.NewInbox()
	_, ackErr := nc.Subscribe(p.replies+".*.*", p.onAck)
	_, storedErr := nc.Subscribe(p.origin.subject(storedSubjects), p.onStored)
	if err := errors.Join(ackErr, storedErr); err != nil {
		nc.Close()
		return nil, err
	}
	return nc, nil
}

func (p *Publisher) isUp() {
	if !p.connected.Swap(true) {
		p.cfg.Logger.Info("connected to the control plane", "url", p.cfg.URL)
	}
	p.note(nil)
	p.ready.set(true)
	p.Beat()
}

// Beat sends a heartbeat soon instead of at its time. It never waits, and is safe for concurrent use.
func (p *Publisher) Beat() {
	select {
	case p.due <- struct{}{}:
	default:
	}
}

func (p *Publisher) isDown(err error) {
	p.ready.set(false)
	p.mu.Lock()
	if errors.Is(err, ErrRefused) && p.withoutPassword != nil {
		err = p.withoutPassword // no wonder
	}
	p.withoutPassword = nil
	p.mu.Unlock()
	was := p.connected.Swap(false)
	if p.note(err) || was {
		p.cfg.Logger.Warn("no connection to the control plane, alerts wait in the spool", "error", err, "hint", hintFor(err))
	}
}

// noPassword keeps the error for the refusal that follows.
func (p *Publisher) noPassword(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.withoutPassword = err
}

// note keeps the error for Stats and says whether it is another than the last one.
func (p *Publisher) note(err error) bool {
	text := ""
	if err != nil {
		text = err.Error()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	other := text != p.lastErr
	p.lastErr = text
	return other
}

// send is the only goroutine that takes alerts from the source.
func (p *Publisher) send(ctx, hard context.Context) {
	for {
		if p.ready.wait(hard) != nil || p.flights.reserve(hard) != nil {
			return
		}
		id, data, err := p.cfg.Source.Next(ctx)
		if err == nil {
			p.publish(id, data)
			continue
		}
		p.flights.release()
		if p.flights.count() == 0 { // ctx has ended and nothing is left
			return
		}
		select {
		case <-hard.Done():
			return
		case <-p.flights.idle: // what came back meanwhile is sent again
		}
	}
}

func (p *Publisher) publish(id alert.ID, data []byte) {
	var a alert.Alert
	p.flights.start(id, time.Now())
	if err := json.Unmarshal(data, &a); err != nil { // the spool's checksum was right: sent as it is, to be rejected there
		p.cfg.Logger.Error("alert not readable", "alert", id.String(), "error", err)
	}
	key := flightKey{id.Epoch, id.Seq}
	msg := nats.NewMsg(alertSubject(p.origin, a))
	msg.Header.Set(nats.MsgIdHdr, id.String())
	msg.Reply = p.replies + "." + id.Epoch + "." + strconv.FormatUint(id.Seq, 10)
	msg.Data = data
	if err := p.nc.PublishMsg(msg); err != nil {
		p.refused(key, err)
		return
	}
	p.published.Add(1)
}

// onAck handles JetStream's answer to one publish.
func (p *Publisher) onAck(m *nats.Msg) {
	parts := strings.Split(m.Subject, ".")
	seq, err := strconv.ParseUint(parts[len(parts)-1], 10, 64)
	if err != nil {
		return
	}
	key := flightKey{parts[len(parts)-2], seq}
	var ack struct {
		Stream    string `json:"stream"`
		Duplicate bool   `json:"duplicate"`
		Error     *struct {
			Description string `json:"description"`
		} `json:"error"`
	}
	switch {
	case m.Header.Get("Status") != "":
		p.refused(key, fmt.Errorf("publish alert: no stream takes it (status %s)", m.Header.Get("Status")))
	case json.Unmarshal(m.Data, &ack) != nil:
		p.refused(key, errors.New("publish alert: acknowledgement is not readable"))
	case ack.Error != nil:
		p.refused(key, fmt.Errorf("publish alert: %s", ack.Error.Description))
	default:
		if ack.Duplicate {
			p.duplicates.Add(1)
		}
		p.flights.get(key, func(f *flight) { f.kept = true })
		p.mu.Lock()
		p.failures, p.lastErr = 0, ""
		p.mu.Unlock()
	}
}

// refused backs off and gives the alert back after it.
func (p *Publisher) refused(key flightKey, err error) {
	p.mu.Lock()
	p.failures++
	wait := min(p.cfg.MaxBackoff, 50*time.Millisecond<<min(p.failures, 16))
	p.mu.Unlock()
	if p.note(err) {
		p.cfg.Logger.Warn("alert not accepted, sent again later", "error", err)
	}
	at := time.Now().Add(wait)
	p.flights.get(key, func(f *flight) { f.retryAt = at })
	if p.ready.isOpen() {
		p.ready.set(false)
		time.AfterFunc(wait, func() { p.ready.set(p.connected.Load()) })
	}
}

// onStored handles the control plane's confirmation.
func (p *Publisher) onStored(m *nats.Msg) {
	var s stored
	if err := json.Unmarshal(m.Data, &s); err != nil {
		p.note(fmt.Errorf("read confirmation: %w", err))
		return
	}
	p.confirm(s)
}

func (p *Publisher) confirm(s stored) {
	p.landing.Lock()
	defer p.landing.Unlock()
	ids := p.flights.landRanges(s)
	for _, id := range ids {
		p.cfg.Source.Ack(id)
	}
	p.stored.Add(uint64(len(ids)))
}
