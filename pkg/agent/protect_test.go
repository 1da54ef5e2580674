package agent

import (
	"context"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/plumbline-io/plumbline/pkg/detect"
)

// ends remembers until when the agent is protected.
type ends []uint64

func (e *ends) ProtectUntil(until uint64) error {
	*e = append(*e, until)
	return nil
}

// While an agent in a container runs, the end of its protection is moved on long before it is there.
func TestGoOnProtecting(t *testing.T) {
	begin, err := monotonic() // goes on by itself, whatever the time is in the bubble
	if err != nil {
		t.Fatal(err)
	}
	var kernel ends
	synctest.Test(t, func(t *testing.T) {
		a := &Agent{cfg: Config{Log: slog.New(slog.DiscardHandler)}, own: detect.Subject{Kind: "container"}}
		ctx, cancel := context.WithTimeout(t.Context(), 10*protectFor)
		defer cancel()
		if err := a.goOnProtecting(ctx, &kernel); err != nil {
			t.Error(err)
		}
	})
	if often := int(10 * protectFor / time.Second); len(kernel) < often-1 {
		t.Errorf("moved on %d times in %s", len(kernel), 10*protectFor)
	}
	for _, until := range kernel {
		if until < begin+uint64(protectFor) {
			t.Fatalf("until %s from the begin on", time.Duration(until-begin))
		}
	}
}
