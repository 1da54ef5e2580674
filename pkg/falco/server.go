package falco

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/falcosecurity/client-go/pkg/api/outputs"
	"github.com/falcosecurity/client-go/pkg/api/version"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/plumbline-io/plumbline/pkg/alert"
)

// ServerConfig of a Server. Nothing must be set.
type ServerConfig struct {
	Version     string // ours, as vMAJOR.MINOR.PATCH
	Engine      uint32 // number of Falco's engine whose rules we take
	Fields      string // checksum of the fields that rules may ask for
	Capacity    int    // alerts that wait for one subscriber; 0: 1024
	Subscribers int    // at the same time; 0: 16
}

// Server speaks Falco's gRPC protocol, so that its clients read our alerts. As with Falco, a request is
// answered with what waits, and then the next request is waited for; while nobody subscribes, the newest
// alerts wait for whoever comes first.
type Server struct {
	cfg ServerConfig

	mu          sync.Mutex
	subscribers map[*subscriber]bool
	backlog     []alert.Alert // empty while there are subscribers
	stats       ServerStats
}

// subscriber is one stream. What waits is bounded by ServerConfig.Capacity; when it is full, the newest
// alert is dropped and counted.
type subscriber struct{ waiting []alert.Alert }

// ServerStats counts since NewServer.
type ServerStats struct {
	Subscribers int    // now
	Waiting     int    // now, for all of them, or for whoever comes
	Sent        uint64 // to all of them
	Dropped     uint64 // by subscribers that were too slow
	Unclaimed   uint64 // nobody subscribed, and newer ones took their place
}

// NewServer makes a Server.
func NewServer(cfg ServerConfig) *Server {
	if cfg.Capacity == 0 {
		cfg.Capacity = 1024
	}
	if cfg.Subscribers == 0 {
		cfg.Subscribers = 16
	}
	return &Server{cfg: cfg, subscribers: map[*subscriber]bool{}}
}

// Stats is safe for concurrent use.
func (s *Server) Stats() ServerStats {
	s.mu.Lock()
	defer s.mu.Unlock()
	stats := s.stats
	stats.Subscribers, stats.Waiting = len(s.subscribers), len(s.backlog)
	for sub := range s.subscribers {
		stats.Waiting += len(sub.waiting)
	}
	return stats
}

// Offer gives an alert to every subscriber. It does not wait, and is safe for concurrent use.
func (s *Server) Offer(a alert.Alert) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for sub := range s.subscribers {
		if len(sub.waiting) >= s.cfg.Capacity {
			s.stats.Dropped++
			continue
		}
		sub.waiting = append(sub.waiting, a)
	}
	if len(s.subscribers) > 0 {
		return
	}
	if len(s.backlog) >= s.cfg.Capacity {
		s.backlog = s.backlog[1:]
		s.stats.Unclaimed++
	}
	s.backlog = append(s.backlog, a)
}

// Serve answers on a listener until ctx ends, and closes it.
func (s *Server) Serve(ctx context.Context, listener net.Listener) error {
	const request = 4 << 10 // Falco's requests are empty
	server := grpc.NewServer(grpc.MaxRecvMsgSize(request), grpc.ConnectionTimeout(5*time.Second), grpc.WaitForHandlers(true))
	outputs.RegisterServiceServer(server, &outputsService{server: s})
	answer := parseVersion(s.cfg.Version)
	answer.EngineVersion, answer.EngineFieldsChecksum = s.cfg.Engine, s.cfg.Fields
	version.RegisterServiceServer(server, &versionService{answer: answer})
	stop := context.AfterFunc(ctx, server.Stop)
	defer stop()
	if err := server.Serve(listener); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
		return fmt.Errorf("serve Falco's outputs: %w", err)
	}
	return nil
}

func (s *Server) join() (*subscriber, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.subscribers) >= s.cfg.Subscribers {
		return nil, status.Errorf(codes.ResourceExhausted, "%d clients subscribe already", len(s.subscribers))
	}
	sub := &subscriber{waiting: s.backlog}
	s.backlog = nil
	s.subscribers[sub] = true
	return sub, nil
}

// leave forgets a subscriber. What the last one did not read waits for the next one; the others have
// got theirs.
func (s *Server) leave(sub *subscriber) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.subscribers, sub)
	if len(s.subscribers) == 0 {
		s.backlog = sub.waiting
	}
}

// flush sends what waits for a subscriber now.
func (s *Server) flush(sub *subscriber, send func(*outputs.Response) error) error {
	s.mu.Lock()
	n := len(sub.waiting)
	s.mu.Unlock()
	for range n {
		s.mu.Lock()
		a := sub.waiting[0]
		s.mu.Unlock()
		if err := send(encode(a)); err != nil {
			return err // it stays the first
		}
		s.mu.Lock()
		sub.waiting[0] = alert.Alert{}
		sub.waiting = sub.waiting[1:]
		s.stats.Sent++
		s.mu.Unlock()
	}
	return nil
}

// outputsService is Falco's service of that name.
type outputsService struct {
	outputs.UnimplementedServiceServer
	server *Server
}

// Sub answers each request with what waits, until the client goes.
func (o *outputsService) Sub(stream outputs.Service_SubServer) error {
	sub, err := o.server.join()
	if err != nil {
		return err
	}
	defer o.server.leave(sub)
	for {
		if _, err := stream.Recv(); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if err := o.server.flush(sub, stream.Send); err != nil {
			return err
		}
	}
}

// Get sends what waits, if there is nobody who subscribes to it.
func (o *outputsService) Get(_ *outputs.Request, stream outputs.Service_GetServer) error {
	sub, err := o.server.join()
	if err != nil {
		return err
	}
	defer o.server.leave(sub)
	return o.server.flush(sub, stream.Send)
}

// versionService is Falco's service of that name.
type versionService struct {
	version.UnimplementedServiceServer
	answer *version.Response
}

// Version tells ours.
func (v *versionService) Version(context.Context, *version.Request) (*version.Response, error) {
	return v.answer, nil
}
