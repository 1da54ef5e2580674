package bus

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/plumbline-io/plumbline/pkg/alert"
)

const (
	streamName   = "ALERTS"
	consumerName = "store"
	batchLimit   = 500
	// ackWait is when an alert comes again that was delivered and not stored, as after a restart.
	// batchesAhead of alerts must be stored within it, else they come twice, which costs only time.
	ackWait      = 5 * time.Second
	batchesAhead = 2
)

// HubConfig of the control plane's side of the bus.
type HubConfig struct {
	Server Server
	Logger *slog.Logger // nil: none

	// Store is called with each batch until it returns nil; then the batch counts as stored for
	// good. Alerts may come more than once. Called by one goroutine.
	Store func(context.Context, []Delivery) error
	// Stored returns those of the ids that are stored. Called by one goroutine.
	Stored func(context.Context, []alert.ID) ([]alert.ID, error)
	// Heartbeat is called by one goroutine. Lost heartbeats are not repeated.
	Heartbeat func(context.Context, Heartbeat) error
	// API answers operators, by the last token of api.v1.<verb>. Called by one goroutine per verb.
	API map[string]Handler
}

// Delivery is one message from the stream of alerts.
type Delivery struct {
	Tenant, Cluster, Node string // from the subject, which the server's permissions enforce
	ID                    string // as the sender named it, alert.ID's text if it is honest
	Data                  []byte
}

// Hub receives what agents send and operators ask.
type Hub struct {
	cfg      HubConfig
	nc       *nats.Conn
	consumer jetstream.Consumer
}

// NewHub connects to the started server and makes the stream and its consumer. When it returns,
// heartbeats and requests are already received; their handlers get ctx. The caller must call Run.
func NewHub(ctx context.Context, cfg HubConfig) (*Hub, error) {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	h := &Hub{cfg: cfg}
	opts := append(forever("plumbline control plane", 200*time.Millisecond),
		nats.InProcessServer(cfg.Server),
		nats.UserInfo(controlPlaneUser, cfg.Server.Password()),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			cfg.Logger.Warn("bus", "error", err)
		}))
	nc, err := nats.Connect("", opts...)
	if err != nil {
		return nil, fmt.Errorf("connect to own server: %w", err)
	}
	h.nc = nc
	err = h.makeStream(ctx)
	if err == nil {
		err = h.subscribe(ctx)
	}
	if err != nil {
		nc.Close()
		return nil, err
	}
	return h, nil
}

// makeStream makes a full stream refuse new alerts, so that they wait in the spools.
func (h *Hub) makeStream(ctx context.Context) error {
	js, err := jetstream.New(h.nc)
	if err != nil {
		return fmt.Errorf("make stream: %w", err)
	}
	_, err = js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{
		Name: streamName, Subjects: []string{alertSubjects + ".>"},
		Storage: jetstream.FileStorage, Compression: jetstream.S2Compression,
		Discard: jetstream.DiscardNew, MaxAge: 72 * time.Hour, MaxBytes: StreamBytes,
		Duplicates: 5 * time.Minute, AllowDirect: true,
	})
	if err != nil {
		return fmt.Errorf("make stream: %w", err)
	}
	h.consumer, err = js.CreateOrUpdateConsumer(ctx, streamName, jetstream.ConsumerConfig{
		Durable: consumerName, AckPolicy: jetstream.AckExplicitPolicy,
		AckWait: ackWait, MaxAckPending: batchesAhead * batchLimit, MaxDeliver: -1,
	})
	if err != nil {
		return fmt.Errorf("make consumer: %w", err)
	}
	if err := h.cfg.Server.Sync(); err != nil {
		return fmt.Errorf("sync stream: %w", err)
	}
	return nil
}

// Run hands alerts to Store until ctx ends. Everything that Store has accepted by then is acknowledged.
func (h *Hub) Run(ctx context.Context) error {
	defer h.nc.Close()
	if err := h.serve(ctx); err != nil && ctx.Err() == nil {
		return err
	}
	// The acknowledgements of the last batch should reach the server; if not, it comes again.
	if err := h.nc.FlushTimeout(time.Second); err != nil {
		h.cfg.Logger.Debug("end bus", "error", err)
	}
	return nil
}

func (h *Hub) serve(ctx context.Context) error {
	// Capacity: one batch ahead. When it is full the callback waits, and the server with it.
	arrived := make(chan jetstream.Msg, batchLimit)
	cc, err := h.consumer.Consume(func(m jetstream.Msg) {
		select {
		case arrived <- m:
		case <-ctx.Done():
		}
	}, jetstream.PullMaxMessages(batchesAhead*batchLimit), jetstream.ConsumeErrHandler(func(_ jetstream.ConsumeContext, err error) {
		h.cfg.Logger.Debug("read stream", "error", err)
	}))
	if err != nil {
		return fmt.Errorf("read stream: %w", err)
	}
	defer cc.Stop()
	for {
		batch, err := nextBatch(ctx, arrived)
		if err != nil {
			return err
		}
		if err := h.store(ctx, batch); err != nil {
			return err
		}
	}
}

// nextBatch waits for one message and takes with it what has arrived besides: no alert waits for a
// batch to fill.
func nextBatch(ctx context.Context, arrived <-chan jetstream.Msg) ([]jetstream.Msg, error) {
	var batch []jetstream.Msg
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case m := <-arrived:
		batch = append(batch, m)
	}
	for len(batch) < batchLimit {
		select {
		case m := <-arrived:
			batch = append(batch, m)
		default:
			return batch, nil
		}
	}
	return batch, nil
}

// store stores, acknowledges and confirms a batch; its error is that ctx has ended.
func (h *Hub) store(ctx context.Context, batch []jetstream.Msg) error {
	deliveries := make([]Delivery, 0, len(batch))
	for _, m := range batch {
		o, err := parseOrigin(alertSubjects, m.Subject())
		if err != nil {
			h.cfg.Logger.Warn("alert from nowhere", "error", err)
		}
		deliveries = append(deliveries, Delivery{o.Tenant, o.Cluster, o.Node, m.Headers().Get(nats.MsgIdHdr), m.Data()})
	}
	if err := h.storeUntilDone(ctx, deliveries); err != nil {
		return err
	}
	for _, m := range batch {
		if err := m.Ack(); err != nil { // comes again, is stored once
			h.cfg.Logger.Debug("acknowledge alert", "error", err)
		}
	}
	h.confirm(deliveries)
	return nil
}

// storeUntilDone repeats a batch until it is stored or ctx ends.
func (h *Hub) storeUntilDone(ctx context.Context, batch []Delivery) error {
	for wait := 100 * time.Millisecond; ; wait = min(2*wait, 5*time.Second) {
		err := h.cfg.Store(ctx, batch)
		if err == nil || ctx.Err() != nil {
			return err
		}
		h.cfg.Logger.Error("alerts not stored, tried again", "count", len(batch), "error", err)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
	}
}

// confirm tells each node what of its alerts is stored. A confirmation that gets lost is asked for.
func (h *Hub) confirm(batch []Delivery) {
	type sender struct {
		origin origin
		epoch  string
	}
	seqs := make(map[sender][][2]uint64)
	for _, d := range batch {
		if id, err := ParseID(d.ID); err == nil {
			k := sender{origin{d.Tenant, d.Cluster, d.Node}, id.Epoch}
			seqs[k] = addSeq(seqs[k], id.Seq)
		}
	}
	for k, ranges := range seqs {
		b, err := json.Marshal(stored{k.epoch, ranges})
		if err == nil {
			err = h.nc.Publish(k.origin.subject(storedSubjects), b)
		}
		if err != nil {
			h.cfg.Logger.Debug("confirm alerts", "node", k.origin.Node, "error", err)
		}
	}
}

func (h *Hub) subscribe(ctx context.Context) error {
	subs := map[string]nats.MsgHandler{
		heartbeatSubjects + ".*.*.*": func(m *nats.Msg) { h.onHeartbeat(ctx, m) },
		askSubjects + ".*.*.*":       func(m *nats.Msg) { h.onAsk(ctx, m) },
	}
	for verb, handle := range h.cfg.API {
		subs[apiSubjects+"."+verb] = func(m *nats.Msg) { h.answer(ctx, m, handle) }
	}
	for subject, handle := range subs {
		if _, err := h.nc.Subscribe(subject, handle); err != nil {
			return fmt.Errorf("subscribe to %s: %w", subject, err)
		}
	}
	if err := h.nc.FlushTimeout(5 * time.Second); err != nil { // now the server knows them
		return fmt.Errorf("subscribe: %w", err)
	}
	return nil
}

func (h *Hub) onHeartbeat(ctx context.Context, m *nats.Msg) {
	var hb Heartbeat
	o, err := parseOrigin(heartbeatSubjects, m.Subject)
	if err == nil {
		err = json.Unmarshal(m.Data, &hb)
	}
	if err == nil && (origin{hb.Tenant, hb.Cluster, hb.Node}) != o {
		err = fmt.Errorf("heartbeat of %q came from %q", hb.Node, o.Node)
	}
	if err == nil {
		err = h.cfg.Heartbeat(ctx, hb)
	}
	if err != nil {
		h.cfg.Logger.Warn("heartbeat not kept", "subject", m.Subject, "error", err)
	}
}

func (h *Hub) onAsk(ctx context.Context, m *nats.Msg) {
	answer, err := h.whatIsStored(ctx, m)
	if err == nil {
		var b []byte
		if b, err = json.Marshal(answer); err == nil {
			err = m.Respond(b)
		}
	}
	if err != nil && ctx.Err() == nil {
		h.cfg.Logger.Warn("agent's question not answered", "subject", m.Subject, "error", err)
	}
}

func (h *Hub) whatIsStored(ctx context.Context, m *nats.Msg) (answer stored, err error) {
	o, err := parseOrigin(askSubjects, m.Subject)
	if err != nil {
		return answer, err
	}
	var question stored
	if err := json.Unmarshal(m.Data, &question); err != nil {
		return answer, err
	}
	var ids []alert.ID
	for _, r := range question.Seqs {
		for seq := r[0]; seq <= r[1] && len(ids) < askAtOnce; seq++ {
			ids = append(ids, alert.ID{Node: o.Node, Epoch: question.Epoch, Seq: seq})
		}
	}
	have, err := h.cfg.Stored(ctx, ids)
	if err != nil {
		return answer, err
	}
	answer.Epoch = question.Epoch
	for _, id := range have {
		answer.Seqs = addSeq(answer.Seqs, id.Seq)
	}
	return answer, nil
}
