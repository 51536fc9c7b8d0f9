package grpcapi

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"

	"google.golang.org/grpc"

	"github.com/weir-das/weir/pkg/fault"
	"github.com/weir-das/weir/pkg/rpc"
	notifierv1 "github.com/weir-das/weir/proto/gen/weir/notifier/v1"
	"github.com/weir-das/weir/services/notifier/internal/events"
)

// How much a page holds.
const (
	defaultPage = 100
	maxPage     = 1000
)

// ListEvents lists what was told, in the order in which it was.
func (s *Server) ListEvents(ctx context.Context, req *notifierv1.ListEventsRequest) (*notifierv1.ListEventsResponse, error) {
	q, err := query(req)
	if err != nil {
		return nil, fault.As(fault.Invalid, err)
	}
	page, last, err := s.store.List(ctx, q)
	if err != nil {
		return nil, err
	}
	return &notifierv1.ListEventsResponse{Events: page, NextPageToken: token(last)}, nil
}

func query(req *notifierv1.ListEventsRequest) (events.Query, error) {
	q := events.Query{SourceID: req.GetSourceId(), Limit: int(req.GetPageSize())}
	var errs []error
	if q.SourceID != "" {
		errs = append(errs, checkSource(q.SourceID))
	}
	if req.GetSince() != nil {
		if err := req.GetSince().CheckValid(); err != nil {
			errs = append(errs, fmt.Errorf("since: %w", err))
		}
		q.Since = req.GetSince().AsTime()
	}
	var err error
	q.Limit, q.After, err = page(req.GetPageSize(), req.GetPageToken())
	return q, errors.Join(append(errs, err)...)
}

// page reads what all lists have.
func page(size uint32, token string) (limit int, after uint64, err error) {
	var errs []error
	switch limit = int(size); {
	case limit == 0:
		limit = defaultPage
	case limit > maxPage:
		errs = append(errs, fmt.Errorf("page_size: %d, want at most %d", limit, maxPage))
	}
	if token != "" {
		if after, err = strconv.ParseUint(token, 10, 63); err != nil || after == 0 {
			errs = append(errs, fmt.Errorf("page_token: %.32q, want one that was given", token))
		}
	}
	return limit, after, errors.Join(errs...)
}

func token(sequence uint64) string {
	if sequence == 0 {
		return ""
	}
	return strconv.FormatUint(sequence, 10)
}

// ListDeadLetters lists what sinks did not take.
func (s *Server) ListDeadLetters(ctx context.Context, req *notifierv1.ListDeadLettersRequest) (*notifierv1.ListDeadLettersResponse, error) {
	limit, after, err := page(req.GetPageSize(), req.GetPageToken())
	if req.GetSink() != "" {
		err = errors.Join(err, checkSource(req.GetSink()))
	}
	if err != nil {
		return nil, fault.As(fault.Invalid, err)
	}
	letters, last, err := s.letters.List(ctx, req.GetSink(), after, limit)
	if err != nil {
		return nil, err
	}
	return &notifierv1.ListDeadLettersResponse{DeadLetters: letters, NextPageToken: token(last)}, nil
}

// RetryDeadLetters delivers what sinks did not take once more.
func (s *Server) RetryDeadLetters(ctx context.Context, req *notifierv1.RetryDeadLettersRequest) (*notifierv1.RetryDeadLettersResponse, error) {
	if req.GetSink() != "" {
		if err := checkSource(req.GetSink()); err != nil {
			return nil, fault.As(fault.Invalid, err)
		}
	}
	answer := &notifierv1.RetryDeadLettersResponse{}
	of := make(map[string]*notifierv1.SinkRetry)
	for after := uint64(0); ; {
		letters, last, err := s.letters.List(ctx, req.GetSink(), after, maxPage)
		if err != nil {
			return nil, err
		}
		for _, l := range letters {
			sink := of[l.GetSink()]
			if sink == nil {
				sink = &notifierv1.SinkRetry{Sink: l.GetSink()}
				of[l.GetSink()], answer.Sinks = sink, append(answer.Sinks, sink)
			}
			if err := s.retry(ctx, sink, l); err != nil {
				return nil, err
			}
		}
		if after = last; after == 0 {
			return answer, nil
		}
	}
}

// retry tries one. Its errors are of what keeps the letters: a sink's are told in sink.
func (s *Server) retry(ctx context.Context, sink *notifierv1.SinkRetry, l *notifierv1.DeadLetter) error {
	if sink.GetLastError() == "" {
		err := s.sinks.Retry(ctx, l.GetSink(), l.GetEvent())
		if err == nil {
			sink.Delivered++
			return s.letters.Remove(ctx, l)
		}
		sink.LastError = oneLine(err.Error())
	}
	sink.Left++
	return nil
}

// WatchEvents sends events until the watcher leaves or this replica stops.
func (s *Server) WatchEvents(req *notifierv1.WatchEventsRequest, out grpc.ServerStreamingServer[notifierv1.WatchEventsResponse]) error {
	q, err := query(&notifierv1.ListEventsRequest{SourceId: req.GetSourceId(), Since: req.GetSince(), PageToken: req.GetResumeToken()})
	if err != nil {
		return fault.As(fault.Invalid, err)
	}
	ctx, cancel := context.WithCancel(out.Context())
	var drain sync.WaitGroup
	defer drain.Wait()
	defer cancel()
	drain.Go(func() {
		select {
		case <-rpc.Draining(ctx):
			cancel()
		case <-ctx.Done():
		}
	})
	err = s.store.Watch(ctx, q, func(e *notifierv1.Event, sequence uint64) error {
		return out.Send(&notifierv1.WatchEventsResponse{Event: e, ResumeToken: token(sequence)})
	})
	if out.Context().Err() == nil && ctx.Err() != nil {
		return fault.As(fault.NotReady, errors.New("this notifier is stopping, watch another"))
	}
	return err
}
