package rpc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/weir-das/weir/pkg/fault"
	"github.com/weir-das/weir/pkg/obs"
)

// guard is the two interceptors of a server: admit, the outermost, decides who comes in; answer, the innermost, decides
// what goes out.
type guard struct {
	allow    map[string][]string // gRPC service → certificate names; immutable
	log      *slog.Logger
	draining <-chan struct{}

	// mu guards denials: what was denied, and to whom, in the last minute.
	mu      sync.Mutex
	denials map[denial]*tally
}

type denial struct{ method, caller string }

// tally is when the log told of a denial last, and how many there were since.
type tally struct {
	told time.Time
	more int
}

// tellAgain is how often the log tells of a caller that goes on trying.
const tellAgain = time.Minute

// admit returns the context for the handler of method, or why the caller may not call it.
func (g *guard) admit(ctx context.Context, method string) (context.Context, error) {
	service := serviceOf(method)
	names := certificateNames(ctx)
	for _, name := range names {
		if slices.Contains(g.allow[service], name) {
			ctx = context.WithValue(ctx, peerKey{}, name)
			return context.WithValue(ctx, drainKey{}, g.draining), nil
		}
	}
	caller := "a caller without a name in its certificate"
	if len(names) > 0 {
		caller = names[0]
	}
	g.denied(denial{method, caller})
	return nil, fault.Status(fault.As(fault.Denied, fmt.Errorf("%s may not call %s", caller, service))).Err()
}

// denied logs the first denial of its kind, and then one a minute with the number of those between: whoever has the wrong
// certificate tries again for as long as he lives.
func (g *guard) denied(d denial) {
	now := time.Now()
	g.mu.Lock()
	defer g.mu.Unlock()
	t := g.denials[d]
	if t != nil && now.Sub(t.told) < tellAgain {
		t.more++
		return
	}
	for old, t := range g.denials {
		if now.Sub(t.told) >= 2*tellAgain {
			delete(g.denials, old)
		}
	}
	log := g.log.With(obs.KeyMethod, d.method, obs.KeyPeer, d.caller)
	if t != nil && t.more > 0 {
		log = log.With("more_before", t.more)
	}
	log.Warn("call denied; the certificate's name is not in the allow-list of rpc.allow")
	if g.denials == nil {
		g.denials = make(map[denial]*tally)
	}
	g.denials[d] = &tally{told: now}
}

func (g *guard) admitUnary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	ctx, err := g.admit(ctx, info.FullMethod)
	if err != nil {
		return nil, err
	}
	return handler(ctx, req)
}

func (g *guard) admitStream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	ctx, err := g.admit(ss.Context(), info.FullMethod)
	if err != nil {
		return err
	}
	return handler(srv, admitted{ss, ctx})
}

// admitted is a stream whose context knows its peer.
type admitted struct {
	grpc.ServerStream
	ctx context.Context
}

func (a admitted) Context() context.Context { return a.ctx }

func (g *guard) answerUnary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (resp any, err error) {
	defer func() {
		if p := recover(); p != nil {
			resp, err = nil, g.panicked(ctx, info.FullMethod, p)
		}
	}()
	resp, err = handler(ctx, req)
	if err != nil {
		return nil, g.answer(ctx, info.FullMethod, err)
	}
	return resp, nil
}

func (g *guard) answerStream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = g.panicked(ss.Context(), info.FullMethod, p)
		}
	}()
	return g.answer(ss.Context(), info.FullMethod, handler(srv, ss))
}

// answer turns what a handler returned into a status. This is the one place that does (rule 16).
func (g *guard) answer(ctx context.Context, method string, err error) error {
	switch {
	case err == nil:
		return nil
	case slices.Contains(builtin(), serviceOf(method)):
		// grpc's own handlers speak in statuses, and probes rely on them.
		return err
	case fault.Of(err) == 0 && ctx.Err() != nil:
		// The caller has gone, or its deadline has: whatever the handler fell over then is no news.
		return status.FromContextError(ctx.Err()).Err()
	}
	st := fault.Status(err)
	level := slog.LevelDebug
	if c := st.Code(); c == codes.Internal || c == codes.DataLoss {
		level = slog.LevelError
	}
	g.log.Log(ctx, level, "call failed", obs.KeyMethod, method, obs.KeyPeer, PeerName(ctx), "code", st.Code().String(), obs.KeyErr, err)
	return st.Err()
}

// panicked logs a handler's panic and returns what the caller gets to see. The value of the panic is not logged, for a
// message may be in it; its type and the stack are what a programmer needs.
func (g *guard) panicked(ctx context.Context, method string, p any) error {
	what := fmt.Sprintf("%T", p)
	if err, ok := p.(runtime.Error); ok {
		what = err.Error() // an index, a nil pointer or a type: the runtime puts no data in these
	}
	g.log.ErrorContext(ctx, "handler panicked", obs.KeyMethod, method, obs.KeyPeer, PeerName(ctx), "panic", what, "stack", string(debug.Stack()))
	return fault.Status(errors.New("panic")).Err()
}

// serviceOf returns "a.b.C" of "/a.b.C/Method".
func serviceOf(method string) string {
	service, _, _ := strings.Cut(strings.TrimPrefix(method, "/"), "/")
	return service
}

// certificateNames returns the DNS names of the caller's verified certificate.
func certificateNames(ctx context.Context) []string {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return nil
	}
	info, ok := p.AuthInfo.(credentials.TLSInfo)
	if !ok || len(info.State.VerifiedChains) == 0 {
		return nil
	}
	return info.State.VerifiedChains[0][0].DNSNames
}
