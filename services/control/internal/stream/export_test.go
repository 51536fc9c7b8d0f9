package stream

import (
	"context"
	"errors"
	"time"

	controlv1 "github.com/weir-das/weir/proto/gen/weir/control/v1"
	"github.com/weir-das/weir/services/control/internal/registry"
)

// Pass looks at a cluster once, at the revision given, which may be an old one.
func (r *Reconciler) Pass(ctx context.Context, c registry.Cluster) error {
	o := r.pass(ctx, c)
	return errors.Join(o.stepErr, o.tellErr)
}

// Settled is the judgement of what the captures have made of what they were told.
func Settled(c registry.Cluster, reports map[string]*controlv1.InstanceReport, now time.Time, lim Limits) (bool, string) {
	return settled(c, reports, now, lim)
}

// MaxNotices is how many events may wait.
const MaxNotices = maxNotices
