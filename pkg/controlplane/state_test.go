package controlplane

import (
	"testing"
	"time"
)

func TestState(t *testing.T) {
	for name, tc := range map[string]struct {
		silent time.Duration
		every  float64
		want   string
	}{
		"just now":          {0, 30, "healthy"},
		"one missed":        {70 * time.Second, 30, "healthy"},
		"two missed":        {76 * time.Second, 30, "late"},
		"nine missed":       {5 * time.Minute, 30, "late"},
		"ten missed":        {6 * time.Minute, 30, "lost"},
		"promised nothing":  {2 * time.Second, 0, "healthy"},
		"clock went back":   {-time.Hour, 30, "healthy"},
		"absurdly frequent": {5 * time.Second, 0.001, "late"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := state(tc.silent, tc.every); got != tc.want {
				t.Errorf("got %s, want %s", got, tc.want)
			}
		})
	}
}
