package bus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/plumbline-io/plumbline/pkg/alert"
)

// Handler answers one request of an operator with a list, each item in JSON. An error is sent to the
// operator as it is.
type Handler func(ctx context.Context, request []byte) ([]json.RawMessage, error)

// reply is one message of an answer; long answers have several.
type reply struct {
	Items []json.RawMessage `json:"items,omitempty"`
	Error string            `json:"error,omitempty"`
	Last  bool              `json:"last,omitempty"`
}

// chunkBytes is when an answer's message is full; an item more still fits MaxPayload.
const chunkBytes = 256 << 10

func (h *Hub) answer(ctx context.Context, m *nats.Msg, handle Handler) {
	items, err := handle(ctx, m.Data)
	if err != nil {
		h.respond(m, reply{Error: err.Error(), Last: true})
		return
	}
	var r reply
	size := 0
	for _, item := range items {
		r.Items = append(r.Items, item)
		if size += len(item); size >= chunkBytes {
			h.respond(m, r)
			r, size = reply{}, 0
		}
	}
	r.Last = true
	h.respond(m, r)
}

func (h *Hub) respond(m *nats.Msg, r reply) {
	b, err := json.Marshal(r)
	if err == nil {
		err = m.Respond(b)
	}
	if err != nil {
		h.cfg.Logger.Warn("operator's request not answered", "subject", m.Subject, "error", err)
	}
}

// ClientConfig of an operator's connection.
type ClientConfig struct {
	URL          string
	PasswordFile string        // of user "operator"
	Timeout      time.Duration // for connecting, and between the messages of an answer; 0: 5 s
}

// Client asks the control plane. It is not safe for concurrent use.
type Client struct {
	cfg ClientConfig
	nc  *nats.Conn
}

// Dial connects; its error wraps ErrUnreachable, ErrRefused or ErrNoPassword.
func Dial(cfg ClientConfig) (*Client, error) {
	setDefault(&cfg.Timeout, 5*time.Second)
	password, err := readPassword(cfg.PasswordFile)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoPassword, err)
	}
	nc, err := nats.Connect(cfg.URL, nats.Name("plumbline operator"), nats.UserInfo(OperatorUser, password),
		nats.CustomInboxPrefix(inbox(OperatorUser)), nats.Timeout(cfg.Timeout), nats.MaxReconnects(-1),
		nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {})) // the default writes to stderr
	if err != nil {
		return nil, connectError(cfg.URL, err)
	}
	return &Client{cfg: cfg, nc: nc}, nil
}

// Close ends the connection.
func (c *Client) Close() { c.nc.Close() }

// Request asks api.v1.<verb> and calls each with every item of the answer.
func (c *Client) Request(ctx context.Context, verb string, request any, each func(json.RawMessage) error) error {
	b, err := json.Marshal(request)
	if err != nil {
		return fmt.Errorf("ask for %s: %w", verb, err)
	}
	to := c.nc.NewInbox()
	sub, err := c.nc.SubscribeSync(to)
	if err != nil {
		return fmt.Errorf("ask for %s: %w", verb, err)
	}
	defer func() { _ = sub.Unsubscribe() }()
	if err := c.nc.PublishRequest(apiSubjects+"."+verb, to, b); err != nil {
		return fmt.Errorf("ask for %s: %w: %w", verb, ErrUnreachable, err)
	}
	for {
		r, err := c.receive(ctx, sub)
		if err != nil {
			return fmt.Errorf("ask for %s: %w", verb, err)
		}
		for _, item := range r.Items {
			if err := each(item); err != nil {
				return err
			}
		}
		if r.Last {
			return nil
		}
	}
}

func (c *Client) receive(ctx context.Context, sub *nats.Subscription) (r reply, err error) {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	m, err := sub.NextMsgWithContext(ctx)
	switch {
	case err != nil && errors.Is(err, context.Canceled):
		return r, err
	case err != nil:
		return r, fmt.Errorf("%w: %w", ErrUnreachable, err)
	case m.Header.Get("Status") == "503":
		return r, fmt.Errorf("%w: its server is up, but nobody answers", ErrUnreachable)
	}
	if err := json.Unmarshal(m.Data, &r); err != nil {
		return r, fmt.Errorf("read answer: %w", err)
	}
	if r.Error != "" {
		return r, errors.New(r.Error)
	}
	return r, nil
}

// Watch returns a channel that is signalled when alerts were stored; it may miss some, and never
// blocks the sender. Its capacity is 1.
func (c *Client) Watch() (<-chan struct{}, error) {
	news := make(chan struct{}, 1)
	_, err := c.nc.Subscribe(storedSubjects+".>", func(*nats.Msg) {
		select {
		case news <- struct{}{}:
		default:
		}
	})
	if err == nil {
		err = c.nc.FlushTimeout(c.cfg.Timeout)
	}
	if err != nil {
		return nil, fmt.Errorf("watch alerts: %w: %w", ErrUnreachable, err)
	}
	return news, nil
}

// ParseID reads the text of an alert.ID; a node name may contain dots.
func ParseID(text string) (alert.ID, error) {
	parts := strings.Split(text, ".")
	if len(parts) < 3 {
		return alert.ID{}, fmt.Errorf("alert id %q: want node.epoch.seq", text)
	}
	n := len(parts)
	seq, err := strconv.ParseUint(parts[n-1], 10, 64)
	if err != nil {
		return alert.ID{}, fmt.Errorf("alert id %q: %w", text, err)
	}
	return alert.ID{Node: strings.Join(parts[:n-2], "."), Epoch: parts[n-2], Seq: seq}, nil
}
