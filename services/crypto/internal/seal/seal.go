// Package seal turns a record in clear into ciphertext that the journal has on
// disk: gzip, an AWS Encryption SDK message, the outer record, a publish.
//
// One idea: a record is acknowledged when the journal has acknowledged it, and
// nothing that happens before that is remembered. Records of one stream are
// sealed and published side by side and acknowledged in order; when one cannot
// be journalled now, the stream ends with the reason, and whoever owns the window
// (capture) sends what was not acknowledged again, here or to another replica.
// Nothing is retried in this package.
//
// Clear text lives in the request's buffer and in pooled compression buffers; it
// is never logged. What is pooled is ciphertext's input, gzip, which is as secret
// as the record: it stays in this process's memory.
//
// Before: services/capture/internal/outbox. Next: pkg/journal.
package seal

import (
	"bytes"
	"context"
	"fmt"
	"sync"

	"github.com/klauspost/compress/gzip"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/weir-das/weir/pkg/das"
	"github.com/weir-das/weir/pkg/esdk"
	"github.com/weir-das/weir/pkg/fault"
	"github.com/weir-das/weir/pkg/journal"
	"github.com/weir-das/weir/pkg/obs"
	"github.com/weir-das/weir/pkg/spoolkey"
	cryptov1 "github.com/weir-das/weir/proto/gen/weir/crypto/v1"
	"github.com/weir-das/weir/services/crypto/internal/keys"
)

// maxPlaintext is the largest record in bytes.
const maxPlaintext = 16 << 20

// Journal is where sealed records go.
type Journal interface {
	// Publish returns nil once the record is on disk. Its errors are marked:
	// Invalid for a record that can never be taken, Busy or NotReady for one that
	// may be taken later. It does not keep m.Data.
	Publish(ctx context.Context, m journal.Message) error
}

// Keys are the data keys.
type Keys interface {
	// Get returns the key to seal n bytes for a cluster with.
	Get(ctx context.Context, keyID, cluster string, n int) (*keys.Key, error)
}

// sealer seals single records. It is safe for concurrent use.
type sealer struct {
	keys    Keys
	journal Journal
	tracer  trace.Tracer
	// cores has one token for each record that may be compressed and encrypted at
	// a time: more at once would only make each of them later.
	cores   chan struct{}
	spool   *spoolkey.Ring // nil where there is no key
	writers sync.Pool      // of *gzip.Writer
	buffers sync.Pool      // of *buffers
}

// buffers is what one record needs on its way. Both grow to the largest record
// they have seen.
type buffers struct {
	zipped bytes.Buffer
	sealed []byte
	outer  []byte
}

// maxPooled is the largest buffer that is kept for the next record, in bytes.
const maxPooled = 2 << 20

func newSealer(k Keys, j Journal, tracer trace.Tracer, cores, level int) (*sealer, error) {
	if _, err := gzip.NewWriterLevel(nil, level); err != nil {
		return nil, fmt.Errorf("gzip level %d: %w", level, err)
	}
	s := &sealer{keys: k, journal: j, tracer: tracer, cores: make(chan struct{}, cores)}
	s.writers.New = func() any {
		w, _ := gzip.NewWriterLevel(nil, level) // checked above
		return w
	}
	s.buffers.New = func() any { return new(buffers) }
	return s, nil
}

// seal returns nil once the record is on the journal's disk. Invalid means that
// this record can never be sealed; any other error, that the stream must end.
func (s *sealer) seal(ctx context.Context, open *cryptov1.SealOpen, r *cryptov1.SealRecord) (err error) {
	ctx = obs.ExtractTraceparent(ctx, r.GetTraceparent())
	ctx, span := s.tracer.Start(ctx, "seal", trace.WithAttributes(
		attribute.String("weir.instance", open.GetInstanceResourceId()),
		attribute.Int("weir.plaintext_bytes", len(r.GetPlaintext()))))
	defer func() {
		if err != nil {
			span.SetStatus(codes.Error, fault.Of(err).String())
		}
		span.End()
	}()
	plaintext, err := s.clear(open, r)
	if err != nil {
		return err
	}
	if n := len(plaintext); n == 0 || n > maxPlaintext {
		return fault.As(fault.Invalid, fmt.Errorf("record of %d bytes in clear, want 1 to %d", n, maxPlaintext))
	}
	b := s.buffers.Get().(*buffers)
	defer s.release(b)
	if err := s.encrypt(ctx, open, plaintext, b); err != nil {
		return err
	}
	span.SetAttributes(attribute.Int("weir.sealed_bytes", len(b.outer)))
	id := ""
	if r.GetMessageId() != "" {
		// The sender's id says which record of which epoch; two instances may have
		// the same, and the journal is one for all.
		id = open.GetInstanceResourceId() + "/" + r.GetMessageId()
	}
	return s.journal.Publish(ctx, journal.Message{
		Cluster:       open.GetClusterResourceId(),
		ClusterID:     open.GetClusterId(),
		Instance:      open.GetInstanceResourceId(),
		KinesisStream: open.GetKinesisStream(),
		PartitionKey:  r.GetPartitionKey(),
		ID:            id,
		Traceparent:   obs.InjectTraceparent(ctx),
		Data:          b.outer,
	})
}

// encrypt leaves the outer record of plaintext in b.outer.
func (s *sealer) encrypt(ctx context.Context, open *cryptov1.SealOpen, plaintext []byte, b *buffers) error {
	// The key first: asking KMS may take its time, and needs no core.
	key, err := s.keys.Get(ctx, open.GetKmsKeyId(), open.GetClusterResourceId(), len(plaintext))
	if err != nil {
		// The key's fault, not the record's: the stream ends, no record is lost.
		return &keyError{err}
	}
	select {
	case s.cores <- struct{}{}:
		defer func() { <-s.cores }()
	case <-ctx.Done():
		return fault.As(fault.NotReady, ctx.Err())
	}
	b.zipped.Reset()
	w := s.writers.Get().(*gzip.Writer)
	defer s.writers.Put(w)
	w.Reset(&b.zipped)
	if _, err := w.Write(plaintext); err != nil {
		return fmt.Errorf("compressing: %w", err)
	}
	if err := w.Close(); err != nil {
		return fmt.Errorf("compressing: %w", err)
	}
	// Known before encrypting: a record that is too large is not worth it.
	if n := das.OuterLen(open.GetVersion(), esdk.SealedLen(b.zipped.Len()), len(key.Ciphertext)); n > journal.MaxRecord {
		return fault.As(fault.Invalid, fmt.Errorf("record of %d bytes in clear makes a sealed one of %d, the journal takes %d", len(plaintext), n, journal.MaxRecord))
	}
	b.sealed = key.Seal(b.sealed[:0], b.zipped.Bytes())
	b.outer = das.AppendOuter(b.outer[:0], open.GetVersion(), b.sealed, key.Ciphertext)
	return nil
}

// release returns b to the pool, unless one record has made it very large.
func (s *sealer) release(b *buffers) {
	if b.zipped.Cap() <= maxPooled && cap(b.outer) <= maxPooled {
		s.buffers.Put(b)
	}
}

// keyError is why there is no key. It keeps its mark for the stream's status,
// and is told from an error of the record or the journal by its type.
type keyError struct{ error }

func (e *keyError) Unwrap() error { return e.error }
