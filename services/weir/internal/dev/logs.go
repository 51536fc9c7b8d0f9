package dev

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"sync/atomic"

	"github.com/weir-das/weir/pkg/obs"
)

// logs is where the services log to: all of it into a file, and what somebody
// should know to the terminal too, while the mesh runs.
type logs struct {
	file  *os.File
	level string
	err   io.Writer
	// loud is true while the mesh runs. As it starts and stops, parts miss
	// each other, and say so; that is no news.
	loud atomic.Bool
}

// openLogs begins a new file and keeps the one before it.
func openLogs(name, level string, stderr io.Writer) (*logs, error) {
	if err := os.Rename(name, name+".1"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("log: %w", err)
	}
	f, err := os.OpenFile(name, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("log: %w", err)
	}
	return &logs{file: f, level: level, err: stderr}, nil
}

// of is one service's log.
func (l *logs) of(service string) *slog.Logger {
	return slog.New(tee{
		all:  obs.NewLog(l.file, l.level, service).Handler(),
		news: slog.NewTextHandler(l.err, &slog.HandlerOptions{Level: slog.LevelWarn}).WithAttrs([]slog.Attr{slog.String(obs.KeyService, service)}),
		loud: &l.loud,
	})
}

// Close ends the file. Nothing may log any more.
func (l *logs) Close() error { return l.file.Close() }

// tee gives every record to all, and to news what it wants while loud is set.
type tee struct {
	all, news slog.Handler
	loud      *atomic.Bool
}

func (t tee) Enabled(ctx context.Context, level slog.Level) bool {
	return t.all.Enabled(ctx, level) || t.loud.Load() && t.news.Enabled(ctx, level)
}

func (t tee) Handle(ctx context.Context, r slog.Record) error {
	var errs [2]error
	if t.all.Enabled(ctx, r.Level) {
		errs[0] = t.all.Handle(ctx, r.Clone())
	}
	if t.loud.Load() && t.news.Enabled(ctx, r.Level) {
		errs[1] = t.news.Handle(ctx, r)
	}
	return errors.Join(errs[:]...)
}

func (t tee) WithAttrs(attrs []slog.Attr) slog.Handler {
	t.all, t.news = t.all.WithAttrs(attrs), t.news.WithAttrs(attrs)
	return t
}

func (t tee) WithGroup(name string) slog.Handler {
	t.all, t.news = t.all.WithGroup(name), t.news.WithGroup(name)
	return t
}
