package mesh

import (
	"context"

	"github.com/weir-das/weir/pkg/certs"
	"github.com/weir-das/weir/pkg/obs"
	"github.com/weir-das/weir/pkg/rpc"
	capturev1 "github.com/weir-das/weir/proto/gen/weir/capture/v1"
	publisherv1 "github.com/weir-das/weir/proto/gen/weir/publisher/v1"
)

// Numbers is where a ring stands.
type Numbers struct {
	Epoch, Number, Stored, Durable, Lost uint64
	Spooled                              uint64 // bytes in the spool
	RingBytes, RingUsed                  uint64 // how many bytes the ring has, and how many of them are taken
	// Of synchronous mode: whether the path is healthy, and how many sessions were
	// let go and statements refused.
	Healthy           bool
	Released, Refused uint64
	Unnumbered        uint64 // events without a number
}

func (m *Mesh) askCapture(ctx context.Context) (Numbers, error) {
	conn, err := rpc.Dial(m.Addr(Capture), "capture.weir", certs.TLS(m.Path("certs"), "client"), obs.Discard())
	if err != nil {
		return Numbers{}, err
	}
	defer conn.Close()
	s, err := capturev1.NewCaptureServiceClient(conn).GetStatus(ctx, &capturev1.GetStatusRequest{})
	if err != nil {
		return Numbers{}, err
	}
	return Numbers{
		Epoch: s.GetEpoch(), Number: s.GetNumber(), Stored: s.GetStored(), Spooled: s.GetSpoolUsedBytes(), Durable: s.GetDurable(), Lost: s.GetLost(),
		Healthy: s.GetPath() == capturev1.PathState_PATH_STATE_HEALTHY, Released: s.GetReleased(), Refused: s.GetRefused(),
		Unnumbered: s.GetUnnumbered(), RingBytes: s.GetRingBytes(), RingUsed: s.GetRingUsedBytes(),
	}, nil
}

func (m *Mesh) askPublisher(ctx context.Context) (waiting uint64, err error) {
	conn, err := rpc.Dial(m.Addr(Publisher), "publisher.weir", certs.TLS(m.Path("certs"), "client"), obs.Discard())
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	s, err := publisherv1.NewPublisherServiceClient(conn).GetStatus(ctx, &publisherv1.GetStatusRequest{})
	return s.GetWaiting(), err
}
