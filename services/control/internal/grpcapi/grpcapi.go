// Package grpcapi answers weir.control.v1.ControlService: it checks who asks and
// what for, and turns the registry's documents into messages.
//
// It starts and stops nothing itself. A request that changes a stream changes
// the document, and the reconciler of whichever replica leads does the rest.
//
// The server's allow-list lets captures and people call the service; which of
// its methods each may call is decided here, in admit. Every capture has the
// same certificate name, so one capture can still speak for another's instance.
//
// Before: services/weir and services/capture, which call it.
// Next: services/control/internal/registry.
package grpcapi

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/weir-das/weir/pkg/fault"
	"github.com/weir-das/weir/pkg/rpc"
	controlv1 "github.com/weir-das/weir/proto/gen/weir/control/v1"
	cryptov1 "github.com/weir-das/weir/proto/gen/weir/crypto/v1"
	"github.com/weir-das/weir/services/control/internal/proof"
	"github.com/weir-das/weir/services/control/internal/registry"
	"github.com/weir-das/weir/services/control/internal/stream"
)

// capture is the certificate name of every capture.
const capture = "capture.weir"

// Server implements the service.
type Server struct {
	controlv1.UnsafeControlServiceServer

	reg    *registry.Registry
	crypto cryptov1.CryptoServiceClient
	proof  *proof.Proof
	lim    stream.Limits
	now    func() time.Time
	log    *slog.Logger
}

var _ controlv1.ControlServiceServer = (*Server)(nil)

// New returns a Server. now is the clock that reports and documents are stamped with.
func New(reg *registry.Registry, crypto cryptov1.CryptoServiceClient, prf *proof.Proof, lim stream.Limits, now func() time.Time, log *slog.Logger) *Server {
	return &Server{reg: reg, crypto: crypto, proof: prf, lim: lim, now: now, log: log}
}

// callers are those who may call a method, of those whom the server lets in.
type callers int

const (
	people   callers = iota // everybody but captures
	captures                // captures alone
	both
)

func admit(ctx context.Context, who callers, method string) error {
	peer := rpc.PeerName(ctx)
	if who == both || (peer == capture) == (who == captures) {
		return nil
	}
	return fault.As(fault.Denied, fmt.Errorf("%s may not call %s", peer, method))
}
