package publisher

import (
	"context"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/weir-das/weir/pkg/journal"
	publisherv1 "github.com/weir-das/weir/proto/gen/weir/publisher/v1"
	"github.com/weir-das/weir/services/publisher/internal/kinesis"
	"github.com/weir-das/weir/services/publisher/internal/relay"
)

// streamPrefix and the cluster's resource id are a Kinesis stream's name.
const streamPrefix = "aws-rds-das-"

// handler implements PublisherService.
type handler struct {
	publisherv1.UnsafePublisherServiceServer

	journal *journal.Journal
	kinesis *kinesis.Client
	relay   *relay.Relay
}

// EnsureStream implements PublisherService.
func (h *handler) EnsureStream(ctx context.Context, req *publisherv1.EnsureStreamRequest) (*publisherv1.EnsureStreamResponse, error) {
	arn, created, err := h.kinesis.Ensure(ctx, req.GetName())
	if err != nil {
		return nil, err
	}
	return &publisherv1.EnsureStreamResponse{Arn: arn, Created: created}, nil
}

// DeleteStream implements PublisherService.
func (h *handler) DeleteStream(ctx context.Context, req *publisherv1.DeleteStreamRequest) (*publisherv1.DeleteStreamResponse, error) {
	if err := h.kinesis.Delete(ctx, req.GetName()); err != nil {
		return nil, err
	}
	return &publisherv1.DeleteStreamResponse{}, nil
}

// GetStatus implements PublisherService. What waits is the journal's answer and
// the same from every replica; the rest is this replica's own.
func (h *handler) GetStatus(ctx context.Context, req *publisherv1.GetStatusRequest) (*publisherv1.GetStatusResponse, error) {
	waiting, err := h.journal.State(ctx, req.GetClusterResourceId())
	if err != nil {
		return nil, err
	}
	stream := ""
	if req.GetClusterResourceId() != "" {
		stream = streamPrefix + req.GetClusterResourceId()
	}
	own := h.relay.Status(stream)
	resp := &publisherv1.GetStatusResponse{
		Waiting: waiting.Records, Taken: own.Taken, Accepted: own.Accepted, LastError: own.LastError,
	}
	if !waiting.Oldest.IsZero() {
		resp.OldestWaitingSince = timestamppb.New(waiting.Oldest)
	}
	return resp, nil
}
