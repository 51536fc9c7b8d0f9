package publisher

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/weir-das/weir/pkg/obs"
	"github.com/weir-das/weir/services/publisher/internal/kinesis"
)

// remakeWait bounds one try. Making a stream takes AWS longer; the relay, which
// tries its records again, comes back for the rest.
const remakeWait = 5 * time.Second

// remaking is the relay's Kinesis. A stream that is gone while records wait for
// it is made again: somebody deleted it behind Weir's back, or the endpoint is
// one that forgets. Control deletes a stream only when nothing waits, so what
// waits is proof that the stream is wanted.
type remaking struct {
	*kinesis.Client
	log *slog.Logger
	// told hears that a stream was made again, and whose.
	told func(stream, cluster string)
	// failed has the last error for each stream that cannot be made, a string: the
	// relay tries again every few seconds, and the log need not say it each time.
	failed sync.Map
}

// Put implements relay.Putter. The error stays what it was: the relay tries the
// records again.
func (r *remaking) Put(ctx context.Context, stream string, records []kinesis.Record) ([]error, error) {
	results, err := r.Client.Put(ctx, stream, records)
	if errors.Is(err, kinesis.ErrNoStream) && strings.HasPrefix(stream, streamPrefix) {
		cluster := strings.TrimPrefix(stream, streamPrefix) // of captures that do not say how people call it
		for _, rec := range records {
			if rec.ClusterID != "" {
				cluster = rec.ClusterID
			}
		}
		r.remake(ctx, stream, cluster)
	}
	return results, err
}

func (r *remaking) remake(ctx context.Context, stream, cluster string) {
	ctx, cancel := context.WithTimeout(ctx, remakeWait)
	defer cancel()
	_, created, err := r.Ensure(ctx, stream)
	if created {
		r.log.Warn("a Kinesis stream was gone and is made again; what nobody had read from it is lost", obs.KeyStream, stream)
		r.told(stream, cluster)
	}
	switch {
	case err == nil:
		r.failed.Delete(stream)
	case ctx.Err() == nil:
		if before, _ := r.failed.Swap(stream, err.Error()); before != err.Error() {
			r.log.Warn("a Kinesis stream is gone and cannot be made again", obs.KeyStream, stream, obs.KeyErr, err)
		}
	}
}
