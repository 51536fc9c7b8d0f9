package grpcapi

import (
	"context"

	"google.golang.org/protobuf/proto"

	"github.com/weir-das/weir/pkg/fault"
	notifierv1 "github.com/weir-das/weir/proto/gen/weir/notifier/v1"
	"github.com/weir-das/weir/services/notifier/internal/events"
	"github.com/weir-das/weir/services/notifier/internal/window"
)

// OpenWindow keeps that a window is open, and what is known of it.
func (s *Server) OpenWindow(ctx context.Context, req *notifierv1.OpenWindowRequest) (*notifierv1.OpenWindowResponse, error) {
	w, recorded, err := s.put(ctx, req.GetWindow(), true, req.GetDetail())
	if err != nil {
		return nil, err
	}
	return &notifierv1.OpenWindowResponse{Window: w, Recorded: recorded}, nil
}

// CloseWindow keeps that it is over.
func (s *Server) CloseWindow(ctx context.Context, req *notifierv1.CloseWindowRequest) (*notifierv1.CloseWindowResponse, error) {
	w, recorded, err := s.put(ctx, req.GetWindow(), false, req.GetDetail())
	if err != nil {
		return nil, err
	}
	return &notifierv1.CloseWindowResponse{Window: w, Recorded: recorded}, nil
}

func (s *Server) put(ctx context.Context, w *notifierv1.Window, open bool, detail string) (_ *notifierv1.Window, recorded bool, err error) {
	w = proto.CloneOf(w)
	if w != nil {
		w.Open = open
	}
	if err := checkWindow(w); err != nil {
		return nil, false, err
	}
	if err := may(ctx, s.catalogue[events.OfWindow(w, "").GetKind()]); err != nil {
		return nil, false, err
	}
	s.hop.In(1)
	ctx, cancel := context.WithTimeout(ctx, keepWait)
	defer cancel()
	kept, err := s.windows.Put(ctx, w, oneLine(detail))
	if told := ends(w, oneLine(detail)); s.unrecorded(err, told...) {
		return w, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	s.hop.Out(1)
	return kept, true, nil
}

// ends are the events of a window so far.
func ends(w *notifierv1.Window, detail string) []*notifierv1.Event {
	if w.GetOpen() {
		return []*notifierv1.Event{events.OfWindow(w, detail)}
	}
	opened := proto.CloneOf(w)
	opened.Open = true
	return []*notifierv1.Event{events.OfWindow(opened, ""), events.OfWindow(w, detail)}
}

// ListWindows lists the open windows, and those that closed of late.
func (s *Server) ListWindows(ctx context.Context, req *notifierv1.ListWindowsRequest) (*notifierv1.ListWindowsResponse, error) {
	for _, id := range []string{req.GetClusterId(), req.GetInstanceId()} {
		if id == "" {
			continue
		}
		if err := checkSource(id); err != nil {
			return nil, fault.As(fault.Invalid, err)
		}
	}
	windows, err := s.windows.List(ctx, window.Query{
		ClusterID: req.GetClusterId(), InstanceID: req.GetInstanceId(), Epoch: req.GetEpoch(), OpenOnly: req.GetOpenOnly(),
	})
	if err != nil {
		return nil, err
	}
	return &notifierv1.ListWindowsResponse{Windows: windows}, nil
}
