package journal

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/weir-das/weir/pkg/fault"
)

// duplicateWindow is how long the journal recognises a record that is sent
// again. Capture sends again within seconds; later duplicates are legal, and a
// consumer knows them by epoch and number.
const duplicateWindow = time.Minute

// wanted are the stream's settings for cfg.
func wanted(cfg Config) jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:         Stream,
		Description:  "Sealed records of Weir between crypto and publisher",
		Subjects:     []string{subjectAll},
		Retention:    jetstream.WorkQueuePolicy, // an acknowledged record is gone
		Storage:      jetstream.FileStorage,
		Discard:      jetstream.DiscardNew, // a full journal refuses; it never forgets
		MaxBytes:     max(cfg.MaxBytes, 0),
		MaxMsgs:      -1,
		MaxAge:       0,
		MaxMsgSize:   MaxRecord + maxHeader,
		Replicas:     max(cfg.Replicas, 1),
		Duplicates:   duplicateWindow,
		AllowDirect:  true,
		DenyDelete:   true, // records leave by being relayed, and in no other way
		DenyPurge:    true,
		MaxConsumers: -1, MaxMsgsPerSubject: -1,
	}
}

// ensureStream creates the stream, or checks the one there is.
func ensureStream(ctx context.Context, conn *Conn, cfg Config) (jetstream.Stream, error) {
	want := wanted(cfg)
	s, err := conn.js.Stream(ctx, Stream)
	switch {
	case errors.Is(err, jetstream.ErrStreamNotFound):
		if want.MaxBytes == 0 {
			want.MaxBytes = DefaultMaxBytes
		}
		if s, err = conn.js.CreateStream(ctx, want); err != nil {
			// Another service may have created it a moment ago, with a limit of its
			// own: NotReady makes Open look again.
			if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
				return nil, fault.As(fault.NotReady, fmt.Errorf("creating %s: %w", Stream, err))
			}
			return nil, apiError(fmt.Errorf("creating %s with %d bytes and %d replicas: %w", Stream, want.MaxBytes, want.Replicas, err))
		}
		conn.log.Info("journal created", "max_bytes", want.MaxBytes, "replicas", want.Replicas)
		return s, nil
	case err != nil:
		return nil, apiError(fmt.Errorf("looking for %s: %w", Stream, err))
	}
	have := s.CachedInfo().Config
	if err := checkStream(have); err != nil {
		return nil, err
	}
	next, changed := raise(have, want)
	if !changed {
		return s, nil
	}
	if s, err = conn.js.UpdateStream(ctx, next); err != nil {
		return nil, apiError(fmt.Errorf("raising %s to %d bytes and %d replicas: %w", Stream, next.MaxBytes, next.Replicas, err))
	}
	conn.log.Info("journal raised", "max_bytes", next.MaxBytes, "replicas", next.Replicas)
	return s, nil
}

// checkStream returns an error for settings under which an acknowledgement
// would promise less than Weir promises. They are not changed here: whoever set
// them must know what became of the records.
func checkStream(have jetstream.StreamConfig) error {
	var errs []error
	bad := func(setting string, have, want any) {
		errs = append(errs, fmt.Errorf("%s is %v, want %v", setting, have, want))
	}
	if have.Retention != jetstream.WorkQueuePolicy {
		bad("retention", have.Retention, jetstream.WorkQueuePolicy)
	}
	if have.Storage != jetstream.FileStorage {
		bad("storage", have.Storage, jetstream.FileStorage)
	}
	if have.Discard != jetstream.DiscardNew {
		bad("discard", have.Discard, jetstream.DiscardNew)
	}
	if have.MaxAge != 0 {
		bad("max_age", have.MaxAge, "none")
	}
	if have.NoAck {
		bad("no_ack", true, false)
	}
	if have.Sealed {
		bad("sealed", true, false)
	}
	if have.PersistMode == jetstream.AsyncPersistMode {
		bad("persist_mode", have.PersistMode, "default")
	}
	if have.MaxMsgSize > 0 && have.MaxMsgSize < MaxRecord+maxHeader {
		bad("max_msg_size", have.MaxMsgSize, MaxRecord+maxHeader)
	}
	if have.MaxMsgsPerSubject > 0 {
		bad("max_msgs_per_subject", have.MaxMsgsPerSubject, "none")
	}
	if have.Mirror != nil || len(have.Sources) > 0 || have.SubjectTransform != nil {
		bad("mirror, sources or subject_transform", "set", "none")
	}
	covered := false
	for _, s := range have.Subjects {
		covered = covered || s == subjectAll || s == subjectRoot+">"
	}
	if !covered {
		bad("subjects", have.Subjects, subjectAll)
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("stream %s exists with settings the journal cannot rest on (change them with the nats command line, or move its records and delete it): %w", Stream, err)
	}
	return nil
}

// raise makes have at least as large and as safe as want. It never shrinks:
// several services open the journal, each with its own configuration, and the
// largest wins.
func raise(have, want jetstream.StreamConfig) (jetstream.StreamConfig, bool) {
	next := have
	if have.MaxBytes > 0 && want.MaxBytes > have.MaxBytes {
		next.MaxBytes = want.MaxBytes
	}
	next.Replicas = max(have.Replicas, want.Replicas)
	next.DenyDelete, next.DenyPurge = true, true
	next.AllowDirect = true
	changed := next.MaxBytes != have.MaxBytes || next.Replicas != have.Replicas ||
		!have.DenyDelete || !have.DenyPurge || !have.AllowDirect
	return next, changed
}

// apiError marks an error of JetStream's API: NotReady where a later attempt
// may succeed, unmarked where the configuration must change first.
func apiError(err error) error {
	var api *jetstream.APIError
	switch {
	case errors.As(err, &api):
		if api.Code >= 500 && api.ErrorCode != errStorageExceeded {
			return fault.As(fault.NotReady, err)
		}
		return err
	case errors.Is(err, nats.ErrInvalidArg), errors.Is(err, nats.ErrPermissionViolation):
		return err
	}
	return fault.As(fault.NotReady, err)
}
