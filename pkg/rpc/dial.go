package rpc

import (
	"fmt"
	"strings"
	"time"

	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"

	"github.com/weir-das/weir/pkg/obs"
)

// A peer that vanishes without a word (power, a dropped route) is noticed after at most keepaliveTime + keepaliveTimeout.
const (
	keepaliveTime    = 20 * time.Second
	keepaliveTimeout = 5 * time.Second
)

// Dial returns a connection to the service called serverName (as in its certificate) at target, host:port. Every address
// behind the host is used in turn. It connects when it is first used and reconnects for as long as it is open; it fails
// only if the certificates are wrong. Calls fail with gRPC statuses: pass them through fault.FromStatus.
func Dial(target, serverName string, tls TLS, tel *obs.Telemetry) (*grpc.ClientConn, error) {
	return dial(target, serverName, tls, tel)
}

func dial(target, serverName string, tls TLS, tel *obs.Telemetry, extra ...grpc.DialOption) (*grpc.ClientConn, error) {
	creds, err := tls.ClientConfig(serverName, tel.Log)
	if err != nil {
		return nil, fmt.Errorf("dialling %s: %w", serverName, err)
	}
	if !strings.Contains(target, "://") && !strings.HasPrefix(target, "unix:") {
		target = "dns:///" + target
	}
	conn, err := grpc.NewClient(target, append([]grpc.DialOption{
		grpc.WithTransportCredentials(credentials.NewTLS(creds)),
		grpc.WithDefaultServiceConfig(`{"loadBalancingConfig":[{"round_robin":{}}]}`),
		// Neither DNS records nor grpc decide how we retry: the client that owns the window does.
		grpc.WithDisableServiceConfig(),
		grpc.WithDisableRetry(),
		// grpc's own ceiling is two minutes, in which a ring would fill.
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 3 * time.Second},
			MinConnectTimeout: 5 * time.Second,
		}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: keepaliveTime, Timeout: keepaliveTimeout, PermitWithoutStream: true}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage), grpc.MaxCallSendMsgSize(maxMessage)),
		grpc.WithStaticStreamWindowSize(streamWindow),
		grpc.WithStaticConnWindowSize(connectionWindow),
		grpc.WithStatsHandler(otelgrpc.NewClientHandler(otelOptions(tel)...)),
	}, extra...)...)
	if err != nil {
		return nil, fmt.Errorf("dialling %s at %s: %w", serverName, target, err)
	}
	return conn, nil
}
