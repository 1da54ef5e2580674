package bus

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/nats-io/nats.go"
)

const askAtOnce = 1000

// tend looks after alerts that got no answer: not acknowledged, refused, or never confirmed.
func (p *Publisher) tend(ctx context.Context) {
	tick := time.NewTicker(min(time.Second, p.cfg.StoreTimeout/4))
	defer tick.Stop()
	wasUp := false
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			up := p.connected.Load()
			if up && p.flights.count() > 0 {
				p.resend(now, !wasUp)
				p.ask(ctx, now)
			}
			wasUp = up
		}
	}
}

// resend gives back what JetStream refused, what it did not answer, and what it kept long ago and
// the control plane, though asked, has not: then the stream was lost. After a new connection,
// nothing that was not acknowledged is waited for.
func (p *Publisher) resend(now time.Time, reconnected bool) {
	late, lost := now.Add(-p.cfg.StoreTimeout), now.Add(-10*p.cfg.StoreTimeout)
	ids := p.flights.land(func(_ flightKey, f *flight) bool {
		switch {
		case !f.retryAt.IsZero():
			return !now.Before(f.retryAt)
		case !f.kept:
			return reconnected || f.sent.Before(late)
		}
		return !f.asked.IsZero() && f.sent.Before(lost)
	})
	for _, id := range ids {
		p.cfg.Source.Retry(id)
	}
	p.retried.Add(uint64(len(ids)))
}

// ask closes the gap that a lost confirmation leaves.
func (p *Publisher) ask(ctx context.Context, now time.Time) {
	ranges := p.flights.unconfirmed(now.Add(-p.cfg.StoreTimeout), now, askAtOnce)
	for epoch, seqs := range ranges {
		answer, err := p.askEpoch(ctx, stored{Epoch: epoch, Seqs: seqs})
		if err != nil {
			if p.note(err) {
				p.cfg.Logger.Warn("control plane does not confirm alerts", "error", err)
			}
			return
		}
		p.confirm(answer)
	}
}

func (p *Publisher) askEpoch(ctx context.Context, question stored) (answer stored, err error) {
	b, err := json.Marshal(question)
	if err != nil {
		return answer, fmt.Errorf("ask what is stored: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, p.cfg.StoreTimeout)
	defer cancel()
	m, err := p.nc.RequestWithContext(ctx, p.origin.subject(askSubjects), b)
	if err == nil {
		err = json.Unmarshal(m.Data, &answer)
	}
	if err != nil {
		return stored{}, fmt.Errorf("ask what is stored: %w", err)
	}
	return answer, nil
}

// beat sends a heartbeat with each new connection, when it is asked to, and at intervals.
func (p *Publisher) beat(ctx context.Context) {
	if p.cfg.Heartbeat == nil {
		return
	}
	timer := time.NewTimer(p.cfg.HeartbeatEvery)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.due:
		case <-timer.C:
		}
		if p.connected.Load() {
			p.heartbeat()
		}
		timer.Reset(p.cfg.HeartbeatEvery - rand.N(p.cfg.HeartbeatEvery/10+1))
	}
}

func (p *Publisher) heartbeat() {
	hb := p.cfg.Heartbeat()
	hb.Node, hb.Tenant, hb.Cluster = p.cfg.Node, p.cfg.Tenant, p.cfg.Cluster
	hb.Time, hb.Every = time.Now().UTC(), p.cfg.HeartbeatEvery.Seconds()
	hb.Sequence = p.heartbeats.Load() + 1
	b, err := json.Marshal(hb)
	if err == nil {
		err = p.nc.PublishMsg(&nats.Msg{Subject: p.origin.subject(heartbeatSubjects), Data: b})
	}
	if err != nil {
		p.note(fmt.Errorf("send heartbeat: %w", err))
		return
	}
	p.heartbeats.Add(1)
}
