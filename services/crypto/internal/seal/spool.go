package seal

import (
	"context"
	"errors"
	"fmt"

	"github.com/weir-das/weir/pkg/fault"
	"github.com/weir-das/weir/pkg/rpc"
	"github.com/weir-das/weir/pkg/spoolkey"
	cryptov1 "github.com/weir-das/weir/proto/gen/weir/crypto/v1"
)

// GetSpoolKey implements CryptoService.
func (s *Server) GetSpoolKey(ctx context.Context, _ *cryptov1.GetSpoolKeyRequest) (*cryptov1.GetSpoolKeyResponse, error) {
	if peer := rpc.PeerName(ctx); peer != signsFor {
		return nil, fault.As(fault.Denied, fmt.Errorf("%s has no spool", peer))
	}
	if s.sealer.spool == nil {
		return &cryptov1.GetSpoolKeyResponse{}, nil
	}
	public := s.sealer.spool.Public()
	return &cryptov1.GetSpoolKeyResponse{PublicKey: public.Bytes(), KeyId: public.ID()}, nil
}

// clear is the record in clear, out of the spool's seal where it has one.
//
// A record whose key is not here can be opened once its key is: that is told to
// the operator and to the sender, who keeps it, and it is no record's fault. One
// that does not open though the key is here never will.
func (s *sealer) clear(open *cryptov1.SealOpen, r *cryptov1.SealRecord) ([]byte, error) {
	if len(r.GetSealedPlaintext()) == 0 {
		return r.GetPlaintext(), nil
	}
	if len(r.GetPlaintext()) != 0 || len(r.GetSealedPlaintext()) > maxPlaintext+spoolkey.Overhead {
		return nil, fault.As(fault.Invalid, fmt.Errorf("record of %d bytes in clear and %d sealed", len(r.GetPlaintext()), len(r.GetSealedPlaintext())))
	}
	err := spoolkey.ErrUnknown
	if s.spool != nil {
		var plaintext []byte
		plaintext, err = s.spool.Open(r.GetSpoolKeyId(), spoolkey.Binding{
			Cluster: open.GetClusterResourceId(), Instance: open.GetInstanceResourceId(), KMSKey: open.GetKmsKeyId(),
			KinesisStream: open.GetKinesisStream(), Version: open.GetVersion(), MessageID: r.GetMessageId(),
		}, r.GetSealedPlaintext())
		if err == nil {
			return plaintext, nil
		}
	}
	if errors.Is(err, spoolkey.ErrUnknown) {
		return nil, fault.As(fault.NotReady, fmt.Errorf("a record from a spool: %w: add the key %.80q to spool_key_file again, or remove the spool at "+
			"its capture, which counts its events as lost", spoolkey.ErrUnknown, r.GetSpoolKeyId()))
	}
	return nil, fault.As(fault.Invalid, err)
}
