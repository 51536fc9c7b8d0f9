// Package journal keeps sealed records between crypto and publisher: a NATS
// JetStream stream whose acknowledgement means that the record is on disk.
//
// One idea: an acknowledgement is a promise of durability or it is nothing. So
// the package checks what the promise rests on (file storage, discard new, no
// age limit, a payload limit that fits a record, and, on request, that every
// peer syncs each write) and sorts every failure by the only question the
// sender has: may the same record be sent again?
//
// It holds ciphertext only, and does not retry: retrying belongs to the owner
// of the window, which is capture on one side and the relay on the other.
//
// Before: services/crypto/internal/seal. Next: services/publisher/internal/relay.
package journal

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/semaphore"

	"github.com/weir-das/weir/pkg/backoff"
	"github.com/weir-das/weir/pkg/fault"
	"github.com/weir-das/weir/pkg/obs"
)

const (
	// Stream is the name of the JetStream stream.
	Stream = "WEIR_JOURNAL"
	// Durable is the name of the one consumer that all publishers share.
	Durable = "publisher"
	// MaxRecord is the largest sealed record in bytes. With headers it fits
	// both max_payload (1 MiB by default) and a Kinesis record (1 MiB).
	MaxRecord = 900 << 10

	// maxHeader is more than the headers of one message can take together:
	// every field of Message has a limit, see Message.validate.
	maxHeader = 4 << 10
	// minPayload is what the server's max_payload must be at least.
	minPayload = 1 << 20
	// inFlightBytes bounds what one process has published and not yet seen
	// acknowledged, over all its streams.
	inFlightBytes = 64 << 20
	// ackWait is how long one publish may wait for its acknowledgement. A disk
	// that syncs slower than that is as good as none.
	ackWait = 10 * time.Second
	// apiWait bounds a request to JetStream's API.
	apiWait = 5 * time.Second
)

// Journal is an opened WEIR_JOURNAL. It is safe for concurrent use.
type Journal struct {
	conn     *Conn
	cfg      Config
	stream   jetstream.Stream
	inFlight *semaphore.Weighted // bytes
}

// Open makes sure that the stream exists with the settings Weir's promises rest
// on, and that the server takes a record of the largest size. While the server
// cannot answer it tries again until ctx ends, so that services may start in
// any order; settings that are wrong are an error at once.
func Open(ctx context.Context, conn *Conn, cfg Config) (*Journal, error) {
	retry := backoff.Backoff{Min: 100 * time.Millisecond, Max: 5 * time.Second}
	for said := ""; ; {
		j, err := open(ctx, conn, cfg)
		if err == nil {
			return j, nil
		}
		if !fault.Is(err, fault.NotReady) {
			return nil, err
		}
		if said != err.Error() {
			said = err.Error()
			conn.log.Warn("journal is not ready yet", obs.KeyErr, err)
		}
		if werr := retry.Wait(ctx); werr != nil {
			return nil, errors.Join(werr, err)
		}
	}
}

func open(ctx context.Context, conn *Conn, cfg Config) (*Journal, error) {
	if err := checkPayload(conn.nc); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, apiWait)
	defer cancel()
	stream, err := ensureStream(ctx, conn, cfg)
	if err != nil {
		return nil, err
	}
	return &Journal{conn: conn, cfg: cfg, stream: stream, inFlight: semaphore.NewWeighted(inFlightBytes)}, nil
}

var (
	clusterID  = regexp.MustCompile(`^cluster-[A-Z2-7]{26}$`)
	instanceID = regexp.MustCompile(`^db-[A-Z2-7]{26}$`)
)

// Subject is where the records of an instance are published. It is an error if
// either id is not a resource id: nothing else may become part of a subject.
func Subject(cluster, instance string) (string, error) {
	switch {
	case !clusterID.MatchString(cluster):
		return "", fault.As(fault.Invalid, fmt.Errorf("cluster resource id %.64q, want cluster- and 26 of A-Z2-7", cluster))
	case !instanceID.MatchString(instance):
		return "", fault.As(fault.Invalid, fmt.Errorf("instance resource id %.64q, want db- and 26 of A-Z2-7", instance))
	}
	return subjectRoot + cluster + "." + instance, nil
}

const (
	subjectRoot = "weir.journal."
	subjectAll  = subjectRoot + "*.*"
)

// orDiscard is log, or a logger that discards if there is none.
func orDiscard(log *slog.Logger) *slog.Logger {
	if log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return log
}
