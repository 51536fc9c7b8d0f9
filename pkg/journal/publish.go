package journal

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/weir-das/weir/pkg/fault"
)

// The headers of a message. Traceparent has W3C's own name.
const (
	headerStream       = "Weir-Kinesis-Stream"
	headerPartitionKey = "Weir-Partition-Key"
	headerTraceparent  = "traceparent"
	headerClusterID    = "Weir-Cluster"
)

// Message is one sealed record on its way to Kinesis.
type Message struct {
	Cluster       string // DbClusterResourceId
	ClusterID     string // the cluster as people know it; may be empty
	Instance      string // DbiResourceId
	KinesisStream string
	PartitionKey  string // 1 to 256 characters
	ID            string // what the record holds; empty: never a duplicate. At most 512 bytes
	Traceparent   string // W3C; may be empty
	Data          []byte // the outer record: what Kinesis gets
}

func (m *Message) validate() error {
	limit := func(field, value string, least, most int) error {
		if len(value) < least || len(value) > most {
			return fmt.Errorf("%s has %d bytes, want %d to %d", field, len(value), least, most)
		}
		// A line break in a header would begin another header.
		if strings.ContainsAny(value, "\r\n\x00") {
			return fmt.Errorf("%s has a line break or a null in it", field)
		}
		return nil
	}
	err := errors.Join(
		limit("kinesis stream", m.KinesisStream, 1, 128),
		limit("partition key", m.PartitionKey, 1, 1024),
		limit("message id", m.ID, 0, 512),
		limit("cluster id", m.ClusterID, 0, 63),
		limit("traceparent", m.Traceparent, 0, 128))
	switch {
	case err != nil:
		return err
	case len(m.Data) == 0:
		return errors.New("record is empty")
	case len(m.Data) > MaxRecord:
		return fmt.Errorf("record of %d bytes, the journal takes %d", len(m.Data), MaxRecord)
	}
	return nil
}

// Publish returns nil once the journal has the record on disk (a duplicate of
// one it has counts as such). Otherwise it returns an error marked
//
//	Invalid   the record itself can never be taken: too large, malformed
//	Busy      the journal is full, by its own limit or the disk's
//	NotReady  nothing is known: not connected, no leader, no answer in time
//
// After Busy the record is not in the journal; after NotReady it may be. It does
// not retry. Any number may be in flight at once: Publish blocks while more than
// 64 MiB are, and acknowledgements come in any order. m.Data may be reused as
// soon as Publish returns.
func (j *Journal) Publish(ctx context.Context, m Message) error {
	subject, err := Subject(m.Cluster, m.Instance)
	if err != nil {
		return err
	}
	if err := m.validate(); err != nil {
		return fault.As(fault.Invalid, err)
	}
	size := int64(len(m.Data))
	if err := j.inFlight.Acquire(ctx, size); err != nil {
		return fault.As(fault.NotReady, fmt.Errorf("waiting for the journal: %w", err))
	}
	defer j.inFlight.Release(size)

	msg := &nats.Msg{Subject: subject, Data: m.Data, Header: nats.Header{
		headerStream:       {m.KinesisStream},
		headerPartitionKey: {m.PartitionKey},
	}}
	if m.ClusterID != "" {
		msg.Header[headerClusterID] = []string{m.ClusterID}
	}
	if m.Traceparent != "" {
		msg.Header[headerTraceparent] = []string{m.Traceparent}
	}
	if m.ID != "" {
		msg.Header[jetstream.MsgIDHeader] = []string{m.ID}
	}
	for began := time.Now(); ; {
		future, err := j.conn.js.PublishMsgAsync(msg, jetstream.WithRetryAttempts(0))
		if err != nil {
			return publishError(err)
		}
		select {
		case <-future.Ok():
			return nil
		case err = <-future.Err():
		case <-ctx.Done():
			return fault.As(fault.NotReady, fmt.Errorf("waiting for the journal: %w", ctx.Err()))
		}
		if !isInFlight(err) || time.Since(began) > ackWait {
			return publishError(err)
		}
		// Another replica has sent the same record a moment ago, and a cluster has not
		// agreed on it yet. Asking again tells whether it has.
		select {
		case <-time.After(askAgain):
		case <-ctx.Done():
		}
	}
}

// askAgain is how long a cluster is given to agree on a record that was sent
// twice at a time.
const askAgain = 20 * time.Millisecond

// JetStream's error codes that the client has no names for.
const (
	errAccountResources  jetstream.ErrorCode = 10002
	errInsufficient      jetstream.ErrorCode = 10023
	errStorageExceeded   jetstream.ErrorCode = 10047
	errStoreFailed       jetstream.ErrorCode = 10077
	errDuplicateInFlight jetstream.ErrorCode = 10158
)

// publishError marks why a record was not acknowledged. What is not known to be
// about the record or about room is NotReady: the same bytes may be taken later,
// and calling them refused would lose them.
func publishError(err error) error {
	var api *jetstream.APIError
	if errors.As(err, &api) {
		switch code := api.ErrorCode; {
		case code == errAccountResources, code == errInsufficient, code == errStorageExceeded,
			code == errStoreFailed && isRoom(api.Description):
			return fault.As(fault.Busy, fmt.Errorf("the journal is full, until Kinesis has taken some of it (see the publisher's log) or "+
				"journal.max_bytes is raised: %w", err))
		}
	}
	if errors.Is(err, jetstream.ErrAsyncPublishTimeout) {
		// A server that cannot write says so to its log and health check alone, and
		// writes nothing more until it is restarted, whoever asks it for what.
		return fault.As(fault.NotReady, fmt.Errorf("the journal's server does not acknowledge: if its log tells of a full or broken disk, "+
			"make room and restart it: %w", err))
	}
	if isNobody(err) {
		return fault.As(fault.NotReady, fmt.Errorf("the journal has no leader, or NATS has lost it, which passes by itself; if it does not, the log of "+
			"the journal's server tells of a full or broken disk: make room and restart it: %w", err))
	}
	// Publish admits only records that a fit server takes, so one that does not
	// has been misconfigured since: the server's fault, not the record's.
	if errors.Is(err, nats.ErrMaxPayload) || errors.Is(err, jetstream.ErrStreamMessageExceedsMaximum) {
		err = fmt.Errorf("%w (max_payload or max_msg_size of the server is below %d)", err, MaxRecord+maxHeader)
	}
	return fault.As(fault.NotReady, fmt.Errorf("publishing to the journal: %w", err))
}

// isInFlight says that the same record is being stored just now.
func isInFlight(err error) bool {
	var api *jetstream.APIError
	return errors.As(err, &api) && api.ErrorCode == errDuplicateInFlight
}

// isRoom tells a full stream or disk from other failures to store: the server
// passes them under one code, with its text as the only difference.
func isRoom(description string) bool {
	return strings.Contains(description, "maximum bytes exceeded") ||
		strings.Contains(description, "maximum messages exceeded") ||
		strings.Contains(description, "no space left") ||
		strings.Contains(description, "resource limits exceeded")
}
