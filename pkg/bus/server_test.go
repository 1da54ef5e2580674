package bus_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/plumbline-io/plumbline/pkg/bus"
	"github.com/plumbline-io/plumbline/pkg/bus/natsserver"
)

// TestPermissions: what each user must not do, by the server's own word.
func TestPermissions(t *testing.T) {
	dir := t.TempDir()
	s := startServer(t, dir, "127.0.0.1:0")
	startHub(t, s, &memory{})
	for name, tc := range map[string]struct {
		user, publish, subscribe string
		allowed                  bool
	}{
		"agent sends an alert":               {user: bus.AgentUser, publish: "alert.v1.default.c.n.error.x.w.y", allowed: true},
		"agent sends for another tenant":     {user: bus.AgentUser, publish: "alert.v1.other.c.n.error.x.w.y"},
		"agent reads alerts":                 {user: bus.AgentUser, subscribe: "alert.v1.>"},
		"agent reads everything":             {user: bus.AgentUser, subscribe: ">"},
		"agent deletes the stream":           {user: bus.AgentUser, publish: "$JS.API.STREAM.DELETE.ALERTS"},
		"agent reads the stream":             {user: bus.AgentUser, publish: "$JS.API.DIRECT.GET.ALERTS"},
		"agent acknowledges":                 {user: bus.AgentUser, publish: "$JS.ACK.ALERTS.store.1.1.1.1.1"},
		"agent asks as an operator":          {user: bus.AgentUser, publish: "api.v1.alerts"},
		"agent confirms alerts":              {user: bus.AgentUser, publish: "stored.v1.default.default.n1"},
		"agent reads operators' answers":     {user: bus.AgentUser, subscribe: "_INBOX.operator.>"},
		"agent reads the system":             {user: bus.AgentUser, subscribe: "$SYS.>"},
		"operator asks":                      {user: bus.OperatorUser, publish: "api.v1.alerts", allowed: true},
		"operator sends an alert":            {user: bus.OperatorUser, publish: "alert.v1.default.c.n.error.x.w.y"},
		"operator sends a heartbeat":         {user: bus.OperatorUser, publish: "agent.v1.default.c.n"},
		"operator confirms alerts":           {user: bus.OperatorUser, publish: "stored.v1.default.default.n1"},
		"operator deletes the stream":        {user: bus.OperatorUser, publish: "$JS.API.STREAM.DELETE.ALERTS"},
		"operator watches confirmations":     {user: bus.OperatorUser, subscribe: "stored.v1.>", allowed: true},
		"operator reads alerts as they come": {user: bus.OperatorUser, subscribe: "alert.v1.>"},
	} {
		t.Run(name, func(t *testing.T) {
			if err := try(t, s, dir, tc.user, tc.publish, tc.subscribe); (err == nil) != tc.allowed {
				t.Errorf("allowed %v, want %v: %v", err == nil, tc.allowed, err)
			}
		})
	}
}

// try returns what the server objects to.
func try(t *testing.T, s *natsserver.Server, dir, user, publish, subscribe string) error {
	t.Helper()
	password, err := bus.ReadPassword(bus.PasswordFile(dir, user))
	if err != nil {
		t.Fatal(err)
	}
	refused := make(chan error, 1)
	nc, err := nats.Connect(s.URL(), nats.UserInfo(user, password),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { refused <- err }))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	if publish != "" {
		err = nc.Publish(publish, []byte("{}"))
	} else {
		_, err = nc.SubscribeSync(subscribe)
	}
	if err == nil {
		err = nc.Flush() // the server answers in order: an objection comes before the pong
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := nc.LastError(); err != nil {
		return err
	}
	select {
	case err := <-refused:
		return err
	default:
		return nil
	}
}

func TestDialErrors(t *testing.T) {
	dir := t.TempDir()
	s := startServer(t, dir, "127.0.0.1:0")
	for name, tc := range map[string]struct {
		url, file string
		want      error
	}{
		"wrong password":   {s.URL(), bus.PasswordFile(dir, bus.AgentUser), bus.ErrRefused},
		"nobody listens":   {"nats://127.0.0.1:1", bus.PasswordFile(dir, bus.OperatorUser), bus.ErrUnreachable},
		"no such host":     {"nats://host.invalid:4222", bus.PasswordFile(dir, bus.OperatorUser), bus.ErrUnreachable},
		"no password file": {s.URL(), filepath.Join(dir, "none"), os.ErrNotExist},
		"no password":      {s.URL(), os.DevNull, bus.ErrNoPassword},
	} {
		t.Run(name, func(t *testing.T) {
			c, err := bus.Dial(bus.ClientConfig{URL: tc.url, PasswordFile: tc.file})
			if !errors.Is(err, tc.want) {
				t.Errorf("got %v, want %v", err, tc.want)
			}
			if c != nil {
				c.Close()
			}
		})
	}
}

func TestServerErrors(t *testing.T) {
	s := startServer(t, t.TempDir(), "127.0.0.1:0")
	second, err := natsserver.New(natsserver.Config{DataDir: t.TempDir(), Listen: s.URL()[len("nats://"):], Tenant: "default"})
	if err != nil {
		t.Fatal(err)
	}
	if err := second.Start(); err == nil || !strings.Contains(err.Error(), "address already in use") {
		t.Errorf("occupied port: %v", err)
	}
	for _, listen := range []string{"", "127.0.0.1", "127.0.0.1:x", "127.0.0.1:65536"} {
		if _, err := natsserver.New(natsserver.Config{DataDir: t.TempDir(), Listen: listen}); err == nil {
			t.Errorf("listen on %q was accepted", listen)
		}
	}
}

func TestPasswordsAreKept(t *testing.T) {
	dir := t.TempDir()
	var before string
	for range 2 {
		if _, err := natsserver.New(natsserver.Config{DataDir: dir, Listen: "127.0.0.1:0"}); err != nil {
			t.Fatal(err)
		}
		agent, err := bus.ReadPassword(bus.PasswordFile(dir, bus.AgentUser))
		if err != nil || len(agent) != 32 || before != "" && agent != before {
			t.Errorf("password %q after %q, %v", agent, before, err)
		}
		before = agent
	}
	if err := os.WriteFile(bus.PasswordFile(dir, bus.AgentUser), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := natsserver.New(natsserver.Config{DataDir: dir, Listen: "127.0.0.1:0"}); err == nil {
		t.Error("an empty password was accepted")
	}
}

func TestPublisherConfig(t *testing.T) {
	for name, change := range map[string]func(*bus.PublisherConfig){
		"scheme":   func(c *bus.PublisherConfig) { c.URL = "http://h:1" },
		"no host":  func(c *bus.PublisherConfig) { c.URL = "nats://" },
		"garbage":  func(c *bus.PublisherConfig) { c.URL = "nats://[" },
		"password": func(c *bus.PublisherConfig) { c.PasswordFile = "" },
		"node":     func(c *bus.PublisherConfig) { c.Node = "" },
		"source":   func(c *bus.PublisherConfig) { c.Source = nil },
	} {
		t.Run(name, func(t *testing.T) {
			cfg := bus.PublisherConfig{URL: "nats://h:1", PasswordFile: "f", Node: "n", Source: newSource()}
			if _, err := bus.NewPublisher(cfg); err != nil {
				t.Fatal(err)
			}
			change(&cfg)
			if _, err := bus.NewPublisher(cfg); err == nil {
				t.Error("accepted")
			}
		})
	}
}
