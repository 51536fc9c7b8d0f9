package rpc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/reflection"
	"google.golang.org/grpc/stats"

	"github.com/weir-das/weir/pkg/obs"
)

// Server is a gRPC server that knows who may call it. Register services on it, then Serve, once.
type Server struct {
	cfg    ServerConfig // immutable after NewServer
	log    *slog.Logger
	grpc   *grpc.Server
	health *health.Server

	draining  chan struct{} // closed when Serve begins to stop
	listening chan struct{} // closed when lis is set, or when Serve has returned without one
	listenOne sync.Once
	lis       net.Listener // read after listening is closed
}

// NewServer makes a server with health and reflection on it. It fails if the configuration or the certificates are wrong.
func NewServer(cfg ServerConfig, tls TLS, log *slog.Logger, tel *obs.Telemetry) (*Server, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("rpc: %w", err)
	}
	creds, err := tls.ServerConfig(log)
	if err != nil {
		return nil, err
	}
	s := &Server{
		cfg: cfg.withDefaults(), log: log, health: health.NewServer(),
		draining: make(chan struct{}), listening: make(chan struct{}),
	}
	g := &guard{allow: s.cfg.Allow, log: log, draining: s.draining}
	s.grpc = grpc.NewServer(
		grpc.Creds(credentials.NewTLS(creds)),
		grpc.MaxRecvMsgSize(maxMessage),
		grpc.MaxSendMsgSize(maxMessage),
		grpc.StaticStreamWindowSize(streamWindow),
		grpc.StaticConnWindowSize(connectionWindow),
		grpc.ChainUnaryInterceptor(g.admitUnary, g.answerUnary),
		grpc.ChainStreamInterceptor(g.admitStream, g.answerStream),
		grpc.StatsHandler(otelgrpc.NewServerHandler(append(otelOptions(tel), otelgrpc.WithFilter(isOurs))...)),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: keepaliveTime / 2, PermitWithoutStream: true}),
		grpc.KeepaliveParams(keepalive.ServerParameters{
			MaxConnectionAge: s.cfg.MaxConnectionAge, MaxConnectionAgeGrace: s.cfg.Grace,
			Time: keepaliveTime, Timeout: keepaliveTimeout,
		}),
	)
	grpc_health_v1.RegisterHealthServer(s.grpc, s.health)
	reflection.Register(s.grpc)
	return s, nil
}

// RegisterService implements grpc.ServiceRegistrar. Services start as serving.
func (s *Server) RegisterService(desc *grpc.ServiceDesc, impl any) {
	s.grpc.RegisterService(desc, impl)
	s.health.SetServingStatus(desc.ServiceName, grpc_health_v1.HealthCheckResponse_SERVING)
}

// SetServing says through the health service whether this server wants calls. It does not refuse any.
func (s *Server) SetServing(ok bool) {
	st := grpc_health_v1.HealthCheckResponse_NOT_SERVING
	if ok {
		st = grpc_health_v1.HealthCheckResponse_SERVING
	}
	s.health.SetServingStatus("", st)
	for service := range s.grpc.GetServiceInfo() {
		if !slices.Contains(builtin(), service) {
			s.health.SetServingStatus(service, st)
		}
	}
}

// Serve listens on cfg.Listen; the rest is ServeListener's.
func (s *Server) Serve(ctx context.Context) error {
	if err := s.checkAllow(); err != nil {
		s.setListener(nil)
		return err
	}
	if s.cfg.Listen == "" {
		s.setListener(nil)
		return errors.New("rpc: listen: empty, want host:port")
	}
	lis, err := (&net.ListenConfig{}).Listen(ctx, "tcp", s.cfg.Listen)
	if err != nil {
		s.setListener(nil)
		return fmt.Errorf("rpc: listen: %w", err)
	}
	return s.ServeListener(ctx, lis)
}

// ServeListener serves on lis, which it closes, until ctx ends. It then stops in order: health says NOT_SERVING, handlers
// see Draining, no new call is taken, and open calls have the grace period, after which they are cut off. It returns nil
// after that, and an error if the allow-list does not fit the registered services or serving breaks.
func (s *Server) ServeListener(ctx context.Context, lis net.Listener) error {
	if err := s.checkAllow(); err != nil {
		s.setListener(nil)
		return errors.Join(err, lis.Close())
	}
	s.setListener(lis)
	s.log.Info("serving", "addr", lis.Addr().String())

	served := make(chan error, 1)
	go func() { served <- s.grpc.Serve(lis) }()
	select {
	case err := <-served:
		// Nobody has asked it to stop. What is left of it is torn down at once.
		s.announceStop()
		s.grpc.Stop()
		return fmt.Errorf("rpc: serving: %w", err)
	case <-ctx.Done():
	}
	s.stop()
	// Serve may not have begun when it was stopped; then it says so, and that is as good.
	if err := <-served; err != nil && !errors.Is(err, grpc.ErrServerStopped) {
		return fmt.Errorf("rpc: serving: %w", err)
	}
	return nil
}

// announceStop tells everybody who wants to know that no more calls should come.
func (s *Server) announceStop() {
	s.health.Shutdown()
	close(s.draining)
}

// stop drains for at most the grace period. GracefulStop alone would wait for open streams for ever, and a mesh always has some: one
// health Watch is enough.
func (s *Server) stop() {
	s.announceStop()
	force := time.AfterFunc(s.cfg.Grace, func() {
		s.log.Warn("calls still open after the grace period, cutting them off", "grace", s.cfg.Grace.String())
		s.grpc.Stop()
	})
	defer force.Stop()
	s.grpc.GracefulStop()
}

func (s *Server) setListener(lis net.Listener) {
	s.listenOne.Do(func() {
		s.lis = lis
		close(s.listening)
	})
}

// Addr waits until the server listens and returns where; nil if Serve failed before that.
func (s *Server) Addr() net.Addr {
	<-s.listening
	if s.lis == nil {
		return nil
	}
	return s.lis.Addr()
}

// checkAllow compares the allow-list with what is registered, in both directions: a service nobody is allowed to call and
// a rule for a service that is not here are both mistakes that somebody should hear of before production does.
func (s *Server) checkAllow() error {
	info := s.grpc.GetServiceInfo()
	var errs []error
	for service := range info {
		if _, ok := s.cfg.Allow[service]; !ok {
			errs = append(errs, fmt.Errorf("allow: no entry for %s, which this server has: nobody could call it", service))
		}
	}
	for service := range s.cfg.Allow {
		if _, ok := info[service]; !ok {
			errs = append(errs, fmt.Errorf("allow: %s is not a service of this server", service))
		}
	}
	slices.SortFunc(errs, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return errors.Join(errs...)
}

// isOurs keeps health checks and reflection out of traces: they would be most of what is in them.
func isOurs(info *stats.RPCTagInfo) bool {
	return !slices.Contains(builtin(), serviceOf(info.FullMethodName))
}

// otelOptions make otelgrpc use our providers instead of the global ones.
func otelOptions(tel *obs.Telemetry) []otelgrpc.Option {
	return []otelgrpc.Option{
		otelgrpc.WithTracerProvider(tel.TracerProvider),
		otelgrpc.WithMeterProvider(tel.MeterProvider),
		otelgrpc.WithPropagators(tel.Propagator),
	}
}
