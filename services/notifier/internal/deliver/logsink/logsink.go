// Package logsink writes events to a file, one JSON object a line, or into
// notifier's own log.
//
// Before: internal/deliver. Next: whoever reads the file.
package logsink

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"sync"

	"google.golang.org/protobuf/encoding/protojson"

	notifierv1 "github.com/weir-das/weir/proto/gen/weir/notifier/v1"
)

// Sink writes to one file, or to a log where file is empty.
type Sink struct {
	file string
	log  *slog.Logger
	mu   sync.Mutex // one line at a time
}

// New makes sure that the file can be written.
func New(file string, log *slog.Logger) (*Sink, error) {
	s := &Sink{file: file, log: log}
	if file == "" {
		return s, nil
	}
	return s, s.append(nil)
}

// append opens the file each time, so that it may be rotated.
func (s *Sink) append(line []byte) error {
	f, err := os.OpenFile(s.file, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o640)
	if err != nil {
		return fmt.Errorf("file: %w", err)
	}
	_, err = f.Write(line)
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	return err
}

// Deliver writes the event.
func (s *Sink) Deliver(ctx context.Context, e *notifierv1.Event) error {
	if s.file == "" {
		s.log.InfoContext(ctx, "event", "event", e.GetEventId(), "source", e.GetSourceId(), "message", e.GetMessage(), "key", e.GetIdempotencyKey())
		return nil
	}
	raw, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(e)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	if err := json.Compact(&b, raw); err != nil {
		return err
	}
	b.WriteByte('\n')
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.append(b.Bytes())
}
