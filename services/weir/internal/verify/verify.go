// Package verify is `weir verify`: it reads an activity stream as an outsider
// does, with Kinesis and KMS and nothing else, and says whether it is whole.
//
// Reading and decrypting are those of `weir tail`; what is made of the records is
// internal/proof's. This package says what to read, when enough is read, and
// what the answer is: whole, not whole, or not known. Whatever keeps it from
// looking at everything makes the answer "not known", never "whole".
//
// Before: Kinesis, or a file of records that somebody kept.
// Next: a person, an auditor, or a script that looks at the exit code.
package verify

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kms"

	"github.com/weir-das/weir/services/weir/internal/proof"
	"github.com/weir-das/weir/services/weir/internal/tail"
)

// lead is how far before --from and behind --to records are read, to see which
// of them came out of order.
const lead = time.Minute

// source is where records come from.
type source struct {
	kinesis *kinesis.Client
	kms     *kms.Client
	stream  string // the Kinesis stream
	cluster string // its resource id
	pace    time.Duration
}

// reading collects what a source gives. Its methods may be called by several
// goroutines.
type reading struct {
	mu      sync.Mutex // guards what follows
	checker *proof.Checker
	save    io.Writer // nil where nothing is to be kept
	locked  uint64    // records whose data key is not to be had
	why     error     // of the first of them
	latest  time.Time // arrival of the latest record
}

func (r *reading) take(src proof.Source, plain []byte) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if src.Arrived.After(r.latest) {
		r.latest = src.Arrived
	}
	if r.save != nil {
		if err := keep(r.save, plain); err != nil {
			return err
		}
	}
	return r.checker.Add(src, plain)
}

func (r *reading) refuse(src proof.Source, why error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if tail.Locked(why) {
		if r.locked++; r.locked == 1 {
			r.why = why
		}
		return
	}
	r.checker.Unreadable(src, why)
}

// span is what part of a stream is read.
type span struct {
	from, to time.Time // zero is as far as the stream goes
	patience time.Duration
}

// limits asks Kinesis since when the stream holds everything. trimmed says that
// this is so because it forgets, and not because it is new.
func (s source) limits(ctx context.Context) (horizon time.Time, trimmed bool, err error) {
	out, err := s.kinesis.DescribeStreamSummary(ctx, &kinesis.DescribeStreamSummaryInput{StreamName: &s.stream})
	if err != nil {
		return time.Time{}, false, fmt.Errorf("asking Kinesis about %s: %w", s.stream, err)
	}
	d := out.StreamDescriptionSummary
	made := aws.ToTime(d.StreamCreationTimestamp)
	forgets := time.Now().Add(-time.Duration(aws.ToInt32(d.RetentionPeriodHours)) * time.Hour)
	if made.Before(forgets) {
		return forgets, true, nil
	}
	return made, false, nil
}

// read reads the stream into r.
func (s source) read(ctx context.Context, r *reading, p span, log *slog.Logger) error {
	finish := make(chan struct{})
	close(finish)
	opts := tail.Options{
		Kinesis: s.kinesis, KMS: s.kms, Stream: s.stream, ResourceID: s.cluster, From: tail.TrimHorizon, Finish: finish,
		Plain: true, Log: log, Pace: s.pace,
		Take:   func(rec tail.Record) error { return r.take(where(rec), rec.Plain) },
		Refuse: func(rec tail.Record, why error) { r.refuse(where(rec), why) },
		Wait:   r.waiting(p),
	}
	if !p.from.IsZero() {
		opts.From = tail.At(p.from.Add(-lead))
	}
	if !p.to.IsZero() {
		opts.Until = p.to.Add(lead)
	}
	_, err := tail.Run(ctx, opts)
	return err
}

func where(rec tail.Record) proof.Source {
	return proof.Source{Shard: rec.Shard, Sequence: rec.Sequence, Arrived: rec.Arrived}
}

// waiting says whether it is worth to read on at the end of the stream: what is
// missing may be on its way, for records overtake each other. What is spoken of
// from now on is not judged any more.
func (r *reading) waiting(p span) func() bool {
	var since time.Time
	return func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		if since.IsZero() {
			since = time.Now()
			r.checker.Cut()
		}
		// Nothing is on its way in a stream that has long been quiet.
		quiet := time.Since(r.latest) > p.patience+lead
		return !quiet && time.Since(since) < p.patience && r.checker.Waiting()
	}
}
