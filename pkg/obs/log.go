package obs

import (
	"fmt"
	"io"
	"log/slog"
	"os"
)

// Keys of log attributes, so that one search finds the same thing in the logs of every service.
const (
	KeyService  = "service"
	KeyStream   = "stream"
	KeySeq      = "seq" // position in a stream or journal
	KeyPeer     = "peer"
	KeyErr      = "err"
	KeyCluster  = "cluster"
	KeyInstance = "instance"
	KeyEpoch    = "epoch"
	KeyNumber   = "number" // of an event in its epoch
	KeyMethod   = "method"
)

// NewLog returns a log for one service: text if w is a terminal, otherwise one JSON object a line. An unknown level is
// taken as info; Config.Validate is where it is refused.
func NewLog(w io.Writer, level, service string) *slog.Logger {
	l, err := parseLevel(level)
	if err != nil {
		l = slog.LevelInfo
	}
	opts := &slog.HandlerOptions{Level: l}
	var h slog.Handler = slog.NewJSONHandler(w, opts)
	if isTerminal(w) {
		h = slog.NewTextHandler(w, opts)
	}
	return slog.New(h).With(KeyService, service)
}

func parseLevel(s string) (slog.Level, error) {
	if s == "" {
		return slog.LevelInfo, nil
	}
	var l slog.Level
	if err := l.UnmarshalText([]byte(s)); err != nil {
		return 0, fmt.Errorf("%q, want debug, info, warn or error", s)
	}
	return l, nil
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
