package main

import (
	"bufio"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/plumbline-io/plumbline/pkg/alertstore"
	"github.com/plumbline-io/plumbline/pkg/bus"
	"github.com/plumbline-io/plumbline/pkg/spool"
)

// plumbline starts the control plane as a process of its own and returns its URL.
func plumbline(t *testing.T, dir, listen string) (*exec.Cmd, string) {
	t.Helper()
	cmd := exec.Command("plumbline", "serve", "--data-dir", dir, "--listen", listen, "--log-level", "error")
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if cmd.ProcessState == nil {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
	})
	lines := bufio.NewScanner(out)
	if !lines.Scan() {
		t.Fatalf("serve ended: %v", cmd.Wait())
	}
	url, _, _ := strings.Cut(strings.TrimPrefix(lines.Text(), "ready: "), ",")
	return cmd, url
}

// TestControlPlaneIsKilled kills the process with its NATS server under load, leaves it away for a
// while (see outage), starts it again, and counts.
func TestControlPlaneIsKilled(t *testing.T) {
	dir := t.TempDir()
	cp, url := plumbline(t, dir, "127.0.0.1:0")
	sp, err := spool.Open(t.TempDir(), spool.Config{Node: "n1"})
	if err != nil {
		t.Fatal(err)
	}
	pub, err := bus.NewPublisher(bus.PublisherConfig{
		URL: url, PasswordFile: bus.PasswordFile(dir, bus.AgentUser), Node: "n1", Source: sp,
		StoreTimeout: time.Second, MaxBackoff: time.Second,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	loadCtx, endLoad := context.WithCancel(ctx)
	var work, load sync.WaitGroup
	work.Go(func() { _ = sp.Run(ctx) })
	work.Go(func() { _ = pub.Run(ctx) })
	appended := uint64(0)
	load.Go(func() {
		tick := time.NewTicker(2 * time.Millisecond)
		defer tick.Stop()
		for loadCtx.Err() == nil {
			<-tick.C
			if _, err := sp.Append(sample(0)); err != nil {
				t.Error(err)
			}
			appended++
		}
	})
	for round := range 3 {
		goal := sp.Stats().Acked + 100
		await(t, func() bool { return sp.Stats().Acked > goal })
		_ = cp.Process.Kill()
		_ = cp.Wait()
		goal = sp.Stats().Appended + uint64(outage(t).Seconds()*400)
		await(t, func() bool { return sp.Stats().Appended > goal })
		t.Logf("round %d: %d alerts wait", round, sp.Stats().Records)
		cp, _ = plumbline(t, dir, url[len("nats://"):])
	}
	endLoad()
	load.Wait()
	began := time.Now()
	await(t, func() bool { return sp.Stats().Records == 0 })
	t.Logf("all stored %v after the end; %+v", time.Since(began).Round(time.Millisecond), pub.Stats())
	cancel()
	work.Wait()
	if err := sp.Close(); err != nil {
		t.Error(err)
	}
	_ = cp.Process.Signal(os.Interrupt)
	if err := cp.Wait(); err != nil {
		t.Error(err)
	}
	st, err := alertstore.Open(context.Background(), filepath.Join(dir, "alerts.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	epochs, err := st.Epochs(context.Background(), "n1")
	if err != nil || len(epochs) != 1 || epochs[0].Stored != appended || epochs[0].Last != appended {
		t.Errorf("%d appended, stored %+v %v", appended, epochs, err)
	}
}

// outage is how long the control plane is away: PLUMBLINE_TEST_OUTAGE, or a second.
func outage(t *testing.T) time.Duration {
	t.Helper()
	text := os.Getenv("PLUMBLINE_TEST_OUTAGE")
	if text == "" {
		return time.Second
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func await(t *testing.T, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(2 * time.Minute); !cond(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("waited 2 minutes")
		}
	}
}
