// Package window keeps the windows: times in which records were lost, may have
// been, or none were made.
//
// The one idea: a window is one document, changed by compare-and-swap alone, and
// it is written before its events. What is known of an open window only grows
// and of a closed one nothing changes, so calls may come twice, late and through
// any replica. The document says which of its two events have been told; whoever
// finds one that was not (the caller that tries again, or a replica's sweep after
// a crash) tells it from the document, under the same key.
//
//	WEIR_WINDOWS  <instance>/<epoch>/<cause>/<number or time>
//
// Before: internal/grpcapi, which checks what is said. Next: internal/events.
package window

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/weir-das/weir/pkg/backoff"
	"github.com/weir-das/weir/pkg/fault"
	notifierv1 "github.com/weir-das/weir/proto/gen/weir/notifier/v1"
)

const (
	bucket = "WEIR_WINDOWS"
	// StreamName is the bucket's stream.
	StreamName = "KV_" + bucket
	// Retention is how long a window is kept after it has closed: as long as its events.
	Retention = 14 * 24 * time.Hour
	// MaxListed is how many windows List returns at most.
	MaxListed = 1000
	// maxSwaps bounds how often one change is tried against others that win.
	maxSwaps = 30
)

// Tell records an event of a window: that it opened, or that it closed. It must
// do no harm to tell the same twice.
type Tell func(ctx context.Context, w *notifierv1.Window, detail string) error

// Options say how the bucket is made.
type Options struct {
	Replicas int   // 1 where it is 0
	MaxBytes int64 // a full bucket refuses windows
}

// Store keeps windows. It is safe for concurrent use.
type Store struct {
	kv   jetstream.KeyValue
	tell Tell
	now  func() time.Time
}

// Open makes the bucket where it is missing.
func Open(ctx context.Context, js jetstream.JetStream, opts Options, tell Tell, now func() time.Time) (*Store, error) {
	cfg := jetstream.KeyValueConfig{
		Bucket: bucket, Description: "Weir: windows of loss",
		Storage: jetstream.FileStorage, Replicas: max(opts.Replicas, 1), MaxBytes: opts.MaxBytes,
	}
	switch have, err := js.Stream(ctx, StreamName); {
	case err == nil: // never made smaller or less safe than somebody has made it
		cfg.Replicas = max(cfg.Replicas, have.CachedInfo().Config.Replicas)
		cfg.MaxBytes = max(cfg.MaxBytes, have.CachedInfo().Config.MaxBytes)
	case !errors.Is(err, jetstream.ErrStreamNotFound):
		return nil, unavailable("looking for bucket "+bucket, err)
	}
	kv, err := js.CreateOrUpdateKeyValue(ctx, cfg)
	if err != nil {
		return nil, unavailable("opening bucket "+bucket, err)
	}
	return &Store{kv: kv, tell: tell, now: now}, nil
}

// document is a window as it is kept.
type document struct {
	window *notifierv1.Window // as it is known now
	opened *notifierv1.Window // as it was when it opened: what the first event says
	details
	revision uint64
}

type details struct {
	OpenDetail  string    `json:"open_detail,omitempty"`
	CloseDetail string    `json:"close_detail,omitempty"`
	OpenTold    bool      `json:"open_told,omitempty"`
	CloseTold   bool      `json:"close_told,omitempty"`
	ClosedAt    time.Time `json:"closed_at,omitzero"`
}

// Put brings what is known of a window up to date and tells what is to be told
// of it, its opening and, where w is not open, its end. It returns the window as
// it is kept, once that and its events are on disk.
func (s *Store) Put(ctx context.Context, w *notifierv1.Window, detail string) (*notifierv1.Window, error) {
	d, err := s.change(ctx, w.GetId(), func(d *document) error { return s.merge(d, w, detail) })
	if err != nil {
		return nil, err
	}
	return d.window, s.tellAll(ctx, d)
}

// merge puts w into what is kept. Of two ends the first counts.
func (s *Store) merge(d *document, w *notifierv1.Window, detail string) error {
	w = proto.CloneOf(w)
	if d.window == nil {
		d.opened = proto.CloneOf(w)
		d.opened.Open = true
		d.window, d.OpenDetail = w, detail
	}
	have := d.window
	if have.GetInstanceId() != w.GetInstanceId() || have.GetEpoch() != w.GetEpoch() {
		return fault.As(fault.Conflict, fmt.Errorf("window %s: kept for epoch %d of %s", w.GetId(), have.GetEpoch(), have.GetInstanceId()))
	}
	switch {
	case !d.ClosedAt.IsZero():
		return nil
	case !w.GetOpen(): // whoever closes it knows all
		d.window, d.CloseDetail, d.ClosedAt = w, detail, s.now()
	default:
		if w.GetCount() > have.GetCount() || w.GetLast() > have.GetLast() {
			d.window = w
		}
	}
	return nil
}

// tellAll tells what was not told, in order, and writes down that it was.
func (s *Store) tellAll(ctx context.Context, d document) error {
	if d.OpenTold && (d.CloseTold || d.ClosedAt.IsZero()) {
		return nil
	}
	if !d.OpenTold {
		if err := s.tell(ctx, d.opened, d.OpenDetail); err != nil {
			return err
		}
	}
	closed := !d.ClosedAt.IsZero()
	if closed && !d.CloseTold {
		if err := s.tell(ctx, d.window, d.CloseDetail); err != nil {
			return err
		}
	}
	_, err := s.change(ctx, d.window.GetId(), func(now *document) error {
		if now.window != nil { // else it was forgotten
			now.OpenTold, now.CloseTold = true, now.CloseTold || closed
		}
		return nil
	})
	return err
}

// change makes a change on the newest revision of a document, and again where
// another replica was faster. A change that changes nothing writes nothing.
func (s *Store) change(ctx context.Context, id string, change func(*document) error) (document, error) {
	doing := "keeping window " + id
	wait := backoff.Backoff{Min: 5 * time.Millisecond, Max: 200 * time.Millisecond}
	for range maxSwaps {
		var d document
		var was []byte
		switch e, err := s.kv.Get(ctx, id); {
		case err == nil:
			was = e.Value()
			if d, err = decode(id, was, e.Revision()); err != nil {
				return d, err
			}
		case !errors.Is(err, jetstream.ErrKeyNotFound):
			return d, unavailable(doing, err)
		}
		if err := change(&d); err != nil || d.window == nil {
			return d, err
		}
		doc, err := d.encode()
		if err != nil || string(doc) == string(was) {
			return d, err
		}
		if was == nil {
			_, err = s.kv.Create(ctx, id, doc)
		} else {
			_, err = s.kv.Update(ctx, id, doc, d.revision)
		}
		switch {
		case err == nil:
			return d, nil
		case !errors.Is(err, jetstream.ErrKeyExists) && !errors.Is(err, jetstream.ErrKeyRevisionMismatch):
			return d, unavailable(doing, err)
		}
		if err := wait.Wait(ctx); err != nil {
			return d, unavailable(doing, err)
		}
	}
	return document{}, fault.As(fault.NotReady, fmt.Errorf("%s: changed by others %d times in a row", doing, maxSwaps))
}

// Query says which windows.
type Query struct {
	ClusterID, InstanceID string // empty: all
	Epoch                 uint64 // 0: all
	OpenOnly              bool
}

// List returns windows by their begin, the newest MaxListed of them.
func (s *Store) List(ctx context.Context, q Query) ([]*notifierv1.Window, error) {
	docs, err := s.all(ctx)
	if err != nil {
		return nil, err
	}
	var some []*notifierv1.Window
	for _, d := range docs {
		w := d.window
		if q.ClusterID != "" && !strings.EqualFold(q.ClusterID, w.GetClusterId()) ||
			q.InstanceID != "" && !strings.EqualFold(q.InstanceID, w.GetInstanceId()) ||
			q.Epoch != 0 && q.Epoch != w.GetEpoch() || q.OpenOnly && !w.GetOpen() {
			continue
		}
		some = append(some, w)
	}
	return some[max(0, len(some)-MaxListed):], nil
}

// all returns every document, by its window's begin.
func (s *Store) all(ctx context.Context) ([]document, error) {
	const doing = "listing windows"
	w, err := s.kv.WatchAll(ctx, jetstream.IgnoreDeletes())
	if err != nil {
		return nil, unavailable(doing, err)
	}
	defer func() { // the client library blocks for ever on a channel that nobody reads
		_ = w.Stop()
		for range w.Updates() {
		}
	}()
	var docs []document
	for {
		select {
		case <-ctx.Done():
			return nil, unavailable(doing, ctx.Err())
		case e, ok := <-w.Updates():
			if !ok {
				return nil, unavailable(doing, jetstream.ErrConnectionClosed)
			}
			if e == nil { // everything that was there has been seen
				slices.SortStableFunc(docs, func(a, b document) int {
					return a.window.GetBegin().AsTime().Compare(b.window.GetBegin().AsTime())
				})
				return docs, nil
			}
			d, err := decode(e.Key(), e.Value(), e.Revision())
			if err != nil {
				return nil, err
			}
			docs = append(docs, d)
		}
	}
}

// kept is a document's JSON.
type kept struct {
	Version int             `json:"v"`
	Window  json.RawMessage `json:"window"`
	Opened  json.RawMessage `json:"opened"`
	details
}

func (d document) encode() ([]byte, error) {
	k := kept{Version: 1, details: d.details}
	var err error
	if k.Window, err = protojson.Marshal(d.window); err == nil {
		k.Opened, err = protojson.Marshal(d.opened)
	}
	if err != nil {
		return nil, fmt.Errorf("encoding window %s: %w", d.window.GetId(), err)
	}
	// It takes out the spaces that protojson puts in at random: documents are compared.
	return json.Marshal(k)
}

func decode(id string, b []byte, revision uint64) (document, error) {
	var k kept
	d := document{window: new(notifierv1.Window), opened: new(notifierv1.Window), revision: revision}
	err := json.Unmarshal(b, &k)
	for part, into := range map[*json.RawMessage]*notifierv1.Window{&k.Window: d.window, &k.Opened: d.opened} {
		if err == nil {
			err = protojson.UnmarshalOptions{DiscardUnknown: true}.Unmarshal(*part, into)
		}
	}
	if err == nil && k.Version != 1 {
		err = fmt.Errorf("version %d, want 1", k.Version)
	}
	if err != nil {
		return document{}, fault.As(fault.Corrupted, fmt.Errorf("decoding window %s: %w", id, err))
	}
	d.details = k.details
	return d, nil
}

func unavailable(doing string, err error) error {
	return fault.As(fault.NotReady, fmt.Errorf("%s: %w", doing, err))
}
