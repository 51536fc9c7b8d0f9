package seal

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/weir-das/weir/pkg/das"
	"github.com/weir-das/weir/pkg/fault"
	"github.com/weir-das/weir/pkg/rpc"
	cryptov1 "github.com/weir-das/weir/proto/gen/weir/crypto/v1"
)

// maxNumber bounds epochs and numbers: readers of JSON keep 53 bits.
const maxNumber = 1<<53 - 1

// signsFor is who may have something signed. Control may call crypto too, to
// check keys, and has no chain.
const signsFor = "capture.weir"

// SignCheckpoint implements CryptoService.
func (s *Server) SignCheckpoint(ctx context.Context, req *cryptov1.SignCheckpointRequest) (*cryptov1.SignCheckpointResponse, error) {
	if peer := rpc.PeerName(ctx); peer != signsFor {
		return nil, fault.As(fault.Denied, fmt.Errorf("%s has no chain to sign", peer))
	}
	c := das.Checkpoint{
		Epoch: req.GetEpoch(), N: req.GetNumber(), Instance: req.GetInstanceResourceId(), At: time.Now().UTC().Truncate(time.Microsecond),
	}
	err := errors.Join(
		check("cluster_resource_id", req.GetClusterResourceId(), clusterID),
		check("instance_resource_id", c.Instance, instanceID))
	if c.Epoch == 0 || c.Epoch > maxNumber || c.N > maxNumber || len(req.GetHash()) != len(c.Hash) {
		err = errors.Join(err, fmt.Errorf("epoch %d, number %d, a hash of %d bytes", c.Epoch, c.N, len(req.GetHash())))
	}
	if err != nil {
		return nil, fault.As(fault.Invalid, err)
	}
	copy(c.Hash[:], req.GetHash())
	signature, err := s.signer.Sign(ctx, c.Text(req.GetClusterResourceId()))
	if err != nil {
		return nil, err
	}
	return &cryptov1.SignCheckpointResponse{
		Signature: signature.Bytes, Algorithm: signature.Algorithm, KeyId: signature.KeyID, At: timestamppb.New(c.At),
	}, nil
}
