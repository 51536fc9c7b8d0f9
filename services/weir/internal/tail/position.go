package tail

import (
	"fmt"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"
)

// Position is where in the stream to begin. The zero value is its end.
type Position struct {
	kind types.ShardIteratorType // "" means LATEST
	at   time.Time               // of AT_TIMESTAMP
}

// The two ends of a stream.
var (
	Latest      = Position{}
	TrimHorizon = Position{kind: types.ShardIteratorTypeTrimHorizon}
)

// At is the first record that Kinesis took at t or later.
func At(t time.Time) Position {
	return Position{kind: types.ShardIteratorTypeAtTimestamp, at: t}
}

// ParsePosition reads what --from takes: trim-horizon, latest, a time in
// RFC 3339, or how long ago. now is the time that "ago" counts from.
func ParsePosition(s string, now time.Time) (Position, error) {
	switch strings.ToLower(s) {
	case "latest":
		return Latest, nil
	case "trim-horizon", "trim_horizon":
		return TrimHorizon, nil
	}
	if t, err := time.Parse(time.RFC3339, s); err == nil {
		return At(t), nil
	}
	if d, err := time.ParseDuration(s); err == nil && d >= 0 {
		return At(now.Add(-d)), nil
	}
	return Position{}, fmt.Errorf("%q is no position: want trim-horizon, latest, a time such as 2026-01-31T15:04:05Z, or how long ago such as 15m", s)
}

// Time is the time that a position names; false for the ends of a stream.
func (p Position) Time() (t time.Time, ok bool) { return p.at, !p.at.IsZero() }

func (p Position) String() string {
	switch p.kind {
	case types.ShardIteratorTypeTrimHorizon:
		return "trim-horizon"
	case types.ShardIteratorTypeAtTimestamp:
		return p.at.Format(time.RFC3339Nano)
	default:
		return "latest"
	}
}
