package main

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/plumbline-io/plumbline/pkg/agent"
	"github.com/plumbline-io/plumbline/pkg/baseline"
	"github.com/plumbline-io/plumbline/pkg/event"
)

// What no profile can hold counts in the verdict, in each format.
func TestVerdict(t *testing.T) {
	for name, c := range map[string]struct {
		out  agent.RecordOutcome
		code int
		says string
	}{
		"same":     {agent.RecordOutcome{Runs: 1}, 0, "same"},
		"nameless": {agent.RecordOutcome{Runs: 1, Nameless: 7, Killed: 1}, exitNewBehaviour, "7 operations on files that no baseline can name"},
		"killed":   {agent.RecordOutcome{Runs: 1, Killed: 2}, exitCoverageTooSmall, "2 processes that the command left running were ended"},
		"lost":     {agent.RecordOutcome{Runs: 1, Lost: map[string]uint64{"map_full": 900}}, exitCoverageTooSmall, "lost: map_full 900"},
	} {
		for _, format := range []string{"text", "json", "junit"} {
			t.Run(name+"/"+format, func(t *testing.T) {
				p := baseline.New("w", "unit", event.AllDimensions)
				p.BeginRun()
				seen := baseline.New("w", "unit", event.AllDimensions)
				var b bytes.Buffer
				err := verdict(&b, verification{"f", baseline.Verify(p, seen, 1), c.out, p}, format)
				var exit exitError
				if errors.As(err, &exit); exit.code != c.code || err != nil && exit.code == 0 {
					t.Errorf("got %v, want exit code %d", err, c.code)
				}
				if says := strings.Contains(b.String(), c.says); !says && (format == "text" || c.code == exitCoverageTooSmall) {
					t.Errorf("printed %s", b.String())
				}
			})
		}
	}
}
