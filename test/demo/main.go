// Demo shows Plumbline from a kernel event to an alert in the control plane: it starts everything,
// explains each step in plain text, checks that what it says did happen, and leaves nothing behind.
// It confines the agent to a cgroup that it makes and must never look at anything outside.
//
//	demo -bin bin
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	bin := flag.String("bin", "bin", "directory of plumbline, plumbline-agent and demo-service")
	flag.Parse()
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	ctx, cancelTime := context.WithTimeout(ctx, 10*time.Minute)
	defer cancelTime()
	if err := run(ctx, *bin); err != nil {
		fmt.Fprintf(os.Stderr, "\ndemo failed: %v\n", err)
		os.Exit(1)
	}
}

// run plays every step on one stage and always clears it.
func run(ctx context.Context, bin string) (err error) {
	if os.Geteuid() != 0 {
		return fmt.Errorf("it loads programs into the kernel and makes a cgroup: run it as root")
	}
	s, err := newStage(bin)
	if err != nil {
		return err
	}
	defer func() {
		say("Clearing up")
		if clearErr := s.clear(); err == nil {
			err = clearErr
		}
		if err == nil {
			explain("Nothing is left: no process, no cgroup, no pinned program, no file.")
			fmt.Println("\nThe demo is over; everything it announced was seen to happen.")
		}
	}()
	for _, step := range []struct {
		title string
		play  func(context.Context) error
	}{
		{"Starting the control plane and an agent confined to one cgroup", s.start},
		{"Watching an HTTPS service that knows nothing of it", s.watch},
		{"Learning what the service executes, and holding it to that", s.learn},
		{"Attacking the service", s.attack},
		{"Reading the alerts in the control plane", s.readAlerts},
	} {
		say(step.title)
		if err := step.play(ctx); err != nil {
			if ctx.Err() != nil {
				err = fmt.Errorf("%w (%w)", err, context.Cause(ctx))
			}
			return err
		}
	}
	return nil
}
