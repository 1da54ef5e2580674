// Package natsserver runs a NATS server with JetStream inside the control plane. It is the only importer of
// nats-server, so that agents do not carry one. It must never know what goes over the bus: who may do what
// is bus.Users.
//
//	s, err := natsserver.New(natsserver.Config{DataDir: dir, Listen: "127.0.0.1:4222", Tenant: "default"})
//	err = s.Start()
//	defer s.Stop()
package natsserver

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/plumbline-io/plumbline/pkg/bus"
)

// Config of a Server.
type Config struct {
	DataDir string       // streams are kept in nats/ below it, the passwords beside
	Listen  string       // host:port; port 0: any free one
	Tenant  string       // agents may publish for this tenant only
	Logger  *slog.Logger // nil: none
}

// Server is an embedded NATS server with JetStream. Start and Stop may alternate; they are not safe
// for concurrent use with each other.
type Server struct {
	cfg      Config
	password string // of the control plane's own connection, new with each Server

	mu      sync.Mutex
	running *server.Server
	addr    string // where it listens, kept over Stop so that a port 0 stays the same
}

// New makes the users' passwords if they do not exist: see bus.MakePasswords.
func New(cfg Config) (*Server, error) {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if _, _, err := splitListen(cfg.Listen); err != nil {
		return nil, err
	}
	s := &Server{cfg: cfg, password: rand.Text(), addr: cfg.Listen}
	if err := bus.MakePasswords(cfg.DataDir); err != nil {
		return nil, err
	}
	return s, nil
}

func splitListen(listen string) (string, int, error) {
	host, text, err := net.SplitHostPort(listen)
	if err != nil {
		return "", 0, fmt.Errorf("listen on %q: %w", listen, err)
	}
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return "", 0, fmt.Errorf("listen on %q: port must be a number up to 65535", listen)
	}
	return host, int(port), nil
}

// Start begins to listen. It returns once clients can connect.
func (s *Server) Start() error {
	opts, err := s.options()
	if err != nil {
		return err
	}
	// The server would report an occupied port through its logger only.
	probe, err := net.Listen("tcp", s.addr)
	if err != nil {
		return fmt.Errorf("start server: %w", err)
	}
	if err := probe.Close(); err != nil {
		return fmt.Errorf("start server: %w", err)
	}
	ns, err := server.NewServer(opts)
	if err != nil {
		return fmt.Errorf("start server: %w", err)
	}
	log := &serverLog{logger: s.cfg.Logger, fatal: make(chan string, 1)}
	ns.SetLoggerV2(log, false, false, false)
	go ns.Start()
	if err := waitReady(ns, log.fatal); err != nil {
		ns.Shutdown()
		return fmt.Errorf("start server: %w", err)
	}
	s.mu.Lock()
	s.running, s.addr = ns, ns.Addr().String()
	s.mu.Unlock()
	return nil
}

func waitReady(ns *server.Server, fatal <-chan string) error {
	for range 300 {
		if ns.ReadyForConnections(100 * time.Millisecond) {
			if !ns.JetStreamEnabled() {
				return errors.New("JetStream did not start")
			}
			return nil
		}
		select {
		case text := <-fatal:
			return errors.New(text)
		default:
		}
	}
	return errors.New("not ready after 30 s")
}

func (s *Server) options() (*server.Options, error) {
	host, port, err := splitListen(s.addr)
	if err != nil {
		return nil, err
	}
	users, err := s.users()
	if err != nil {
		return nil, err
	}
	return &server.Options{
		ServerName: "plumbline", Host: host, Port: listenPort(port),
		NoSigs: true, DisableJetStreamBanner: true, Users: users,
		JetStream: true, StoreDir: filepath.Join(s.cfg.DataDir, "nats"),
		JetStreamMaxStore: bus.StreamBytes + bus.StreamBytes/16, JetStreamMaxMemory: 16 << 20,
		// JetStream acks before it syncs; the default interval is two minutes.
		SyncInterval:  time.Second,
		WriteDeadline: 10 * time.Second,
		MaxPayload:    bus.MaxPayload,
	}, nil
}

func listenPort(port int) int {
	if port == 0 {
		return server.RANDOM_PORT
	}
	return port
}

func (s *Server) users() ([]*server.User, error) {
	known, err := bus.Users(s.cfg.DataDir, s.cfg.Tenant, s.password)
	if err != nil {
		return nil, err
	}
	var users []*server.User
	for _, u := range known {
		user := &server.User{Username: u.Name, Password: u.Password}
		if u.Publish != nil || u.Subscribe != nil {
			user.Permissions = &server.Permissions{
				Publish: &server.SubjectPermission{Allow: u.Publish}, Subscribe: &server.SubjectPermission{Allow: u.Subscribe},
			}
		}
		users = append(users, user)
	}
	return users, nil
}

// Password is that of the control plane's own connection.
func (s *Server) Password() string { return s.password }

// URL is where clients connect, once Start has returned.
func (s *Server) URL() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return "nats://" + s.addr
}

// InProcessConn makes a connection without the network, for the control plane itself.
func (s *Server) InProcessConn() (net.Conn, error) {
	s.mu.Lock()
	ns := s.running
	s.mu.Unlock()
	if ns == nil {
		return nil, errors.New("connect in process: server is stopped")
	}
	return ns.InProcessConn()
}

// Stop ends the server and waits until its files are closed.
func (s *Server) Stop() {
	s.mu.Lock()
	ns := s.running
	s.running = nil
	s.mu.Unlock()
	if ns != nil {
		ns.Shutdown()
		ns.WaitForShutdown()
	}
}

// Sync makes a new stream durable: JetStream does not sync its description, and a power cut
// would leave an empty file and no stream.
func (s *Server) Sync() error {
	return filepath.WalkDir(filepath.Join(s.cfg.DataDir, "nats"), func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		f, err := os.Open(path)
		if errors.Is(err, os.ErrNotExist) { // a temporary file that is gone
			return nil
		}
		if err != nil {
			return err
		}
		return errors.Join(f.Sync(), f.Close())
	})
}

// serverLog hands the server's words to slog. The server is chatty: its notices are our debug.
type serverLog struct {
	logger *slog.Logger
	fatal  chan string
}

func (l *serverLog) log(level slog.Level, format string, v ...any) {
	l.logger.Log(context.Background(), level, "nats server", "detail", fmt.Sprintf(format, v...))
}

func (l *serverLog) Noticef(format string, v ...any) { l.log(slog.LevelDebug, format, v...) }
func (l *serverLog) Warnf(format string, v ...any) {
	level := slog.LevelWarn
	if strings.HasPrefix(format, "Plaintext passwords") { // ours are random, made by us and in no file of the server
		level = slog.LevelDebug
	}
	l.log(level, format, v...)
}
func (l *serverLog) Errorf(format string, v ...any) { l.log(slog.LevelError, format, v...) }
func (l *serverLog) Debugf(format string, v ...any) { l.log(slog.LevelDebug, format, v...) }
func (l *serverLog) Tracef(format string, v ...any) { l.log(slog.LevelDebug, format, v...) }
func (l *serverLog) Fatalf(format string, v ...any) {
	l.log(slog.LevelError, format, v...)
	select {
	case l.fatal <- fmt.Sprintf(format, v...):
	default:
	}
}
