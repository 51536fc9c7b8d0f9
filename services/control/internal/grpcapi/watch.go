package grpcapi

import (
	"context"
	"errors"
	"fmt"
	"math"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/weir-das/weir/pkg/fault"
	"github.com/weir-das/weir/pkg/rpc"
	controlv1 "github.com/weir-das/weir/proto/gen/weir/control/v1"
	"github.com/weir-das/weir/services/control/internal/registry"
)

// What a capture may say about itself, in bytes.
const (
	maxEngineVersion  = 256
	maxCaptureAddress = 300
	maxSource         = 512
	maxTrouble        = 1024
	maxResourceID     = 64
	maxEnded          = 8 << 10 // all of them
)

// WatchInstance sends what is wanted of the instance at once and after every
// change, until the instance is deleted or this replica stops. People may watch
// too.
func (s *Server) WatchInstance(req *controlv1.WatchInstanceRequest, out grpc.ServerStreamingServer[controlv1.WatchInstanceResponse]) error {
	ctx := out.Context()
	if err := admit(ctx, both, "WatchInstance"); err != nil {
		return err
	}
	cluster, id, err := ids(req)
	if err != nil {
		return err
	}
	// Followed first and read then, so that no change falls in between.
	wake, stop := s.reg.Follow(cluster)
	defer stop()
	incarnation := s.reg.Incarnation()
	c, err := s.reg.Get(ctx, cluster)
	if err != nil {
		return err
	}
	var resourceID string
	var sent *controlv1.Desired
	for {
		in, ok := c.Instance(id)
		if !ok || (sent != nil && in.ResourceID != resourceID) { // the latter: deleted, and its name used again
			return registry.UnknownInstance(cluster, id)
		}
		resourceID = in.ResourceID
		if d := desired(c, in); !proto.Equal(d, sent) {
			if err := out.Send(&controlv1.WatchInstanceResponse{Desired: d}); err != nil {
				return err
			}
			sent = d
		}
		for newer := false; !newer; {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-rpc.Draining(ctx):
				return fault.As(fault.NotReady, errors.New("this control is stopping, watch another"))
			case <-wake:
			}
			if s.reg.Incarnation() != incarnation {
				return fault.As(fault.NotReady, errors.New("NATS had lost what is wanted, and it was written back: watch again"))
			}
			seen, exists, known := s.reg.Seen(cluster)
			if known && !exists {
				return registry.UnknownInstance(cluster, id)
			}
			if newer = exists && seen.Revision > c.Revision; newer {
				c = seen
			}
		}
	}
}

// ReportInstance keeps what a capture says, where every replica sees it, or
// answers what it said last.
func (s *Server) ReportInstance(ctx context.Context, req *controlv1.ReportInstanceRequest) (*controlv1.ReportInstanceResponse, error) {
	if err := admit(ctx, captures, "ReportInstance"); err != nil {
		return nil, err
	}
	cluster, id, err := ids(req)
	if err != nil {
		return nil, err
	}
	in, err := s.instance(ctx, cluster, id)
	if err != nil {
		return nil, err
	}
	if req.GetAsk() {
		last, err := s.reg.Report(ctx, in)
		if err != nil {
			return nil, err
		}
		return &controlv1.ReportInstanceResponse{Last: last}, nil
	}
	if err := checkReport(req.GetReport()); err != nil {
		return nil, err
	}
	rep := proto.CloneOf(req.GetReport())
	rep.ReportedAt = timestamppb.New(s.now())
	if of := rep.GetInstanceResourceId(); of != "" && of != in.ResourceID {
		rep.Generation = 0 // of a registration before this one
	}
	if err := s.reg.PutReport(ctx, in, rep); err != nil {
		return nil, err
	}
	return &controlv1.ReportInstanceResponse{}, nil
}

// instance finds an instance, in memory where it can: reports come every
// second from each of them.
func (s *Server) instance(ctx context.Context, cluster, id string) (registry.Instance, error) {
	c, _, _ := s.reg.Seen(cluster)
	in, ok := c.Instance(id)
	if ok {
		return in, nil
	}
	c, err := s.reg.Get(ctx, cluster)
	if err != nil {
		return registry.Instance{}, err
	}
	if in, ok = c.Instance(id); !ok {
		return registry.Instance{}, registry.UnknownInstance(cluster, id)
	}
	return in, nil
}

func checkReport(rep *controlv1.InstanceReport) error {
	var errs []error
	switch {
	case rep == nil:
		errs = append(errs, errors.New("report: missing"))
	case len(rep.GetEngineVersion()) > maxEngineVersion:
		errs = append(errs, fmt.Errorf("report.engine_version: %d bytes, want at most %d", len(rep.GetEngineVersion()), maxEngineVersion))
	case len(rep.GetCaptureAddress()) > maxCaptureAddress:
		errs = append(errs, fmt.Errorf("report.capture_address: %d bytes, want at most %d", len(rep.GetCaptureAddress()), maxCaptureAddress))
	case len(rep.GetSource()) > maxSource:
		errs = append(errs, fmt.Errorf("report.source: %d bytes, want at most %d", len(rep.GetSource()), maxSource))
	case len(rep.GetInstanceResourceId()) > maxResourceID:
		errs = append(errs, fmt.Errorf("report.instance_resource_id: %d bytes, want at most %d", len(rep.GetInstanceResourceId()), maxResourceID))
	case len(rep.GetTrouble()) > maxTrouble:
		errs = append(errs, fmt.Errorf("report.trouble: %d bytes, want at most %d", len(rep.GetTrouble()), maxTrouble))
	case endedBytes(rep) > maxEnded:
		errs = append(errs, fmt.Errorf("report.ended: %d bytes, want at most %d", endedBytes(rep), maxEnded))
	case rep.GetGeneration() > math.MaxInt64:
		// It would count as having carried out everything for ever.
		errs = append(errs, fmt.Errorf("report.generation: %d, no such generation", rep.GetGeneration()))
	}
	return fault.As(fault.Invalid, errors.Join(errs...))
}

func endedBytes(rep *controlv1.InstanceReport) (n int) {
	for _, end := range rep.GetEnded() {
		n += proto.Size(end)
	}
	return n
}
