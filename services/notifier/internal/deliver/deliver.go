// Package deliver brings events to those who asked for them: EventBridge, SNS,
// webhooks, a log.
//
// The one idea: every sink has a durable consumer of its own on the stream of
// events. A sink that is slow, or away, holds up no other and loses nothing; a
// replica that dies leaves its events to the next. So an event is delivered at
// least once, always under the same key, by which a receiver knows it again.
//
// While NATS is away there is no stream. Then events are delivered from memory,
// and what was so delivered is not delivered again by this replica when the
// stream has it.
//
// Before: internal/events, which keeps them, and internal/grpcapi, while nobody
// can. Next: whoever receives.
package deliver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	notifierv1 "github.com/weir-das/weir/proto/gen/weir/notifier/v1"
	"github.com/weir-das/weir/services/notifier/internal/deliver/eventbridge"
	"github.com/weir-das/weir/services/notifier/internal/deliver/logsink"
	"github.com/weir-das/weir/services/notifier/internal/deliver/sns"
	"github.com/weir-das/weir/services/notifier/internal/deliver/webhook"
	"github.com/weir-das/weir/services/notifier/internal/events"
)

// Config is one sink.
type Config struct {
	Name string `koanf:"name"` // letters, digits and hyphens; it names the sink's place in the stream
	Type string `koanf:"type"` // eventbridge, sns, webhook or log

	Categories []string `koanf:"categories"` // only events of these; empty: all
	Sources    []string `koanf:"sources"`    // only these clusters and instances; empty: all

	Region   string `koanf:"region"`   // of AWS
	Account  string `koanf:"account"`  // of AWS, in the events' ARNs
	Endpoint string `koanf:"endpoint"` // of AWS, where it is not the region's own
	EventBus string `koanf:"event_bus"`
	Source   string `koanf:"source"` // of EventBridge; aws.rds is AWS's own
	TopicARN string `koanf:"topic_arn"`

	URL        string `koanf:"url"`
	SecretFile string `koanf:"secret_file"`
	CAFile     string `koanf:"ca_file"`

	File string `koanf:"file"` // a log's; notifier's own log where empty

	Timeout     time.Duration `koanf:"timeout"`       // of one try; 10 s where 0
	MaxAttempts int           `koanf:"max_attempts"`  // 100 where 0
	GiveUpAfter time.Duration `koanf:"give_up_after"` // since it was recorded; 24 h where 0
}

// What zero values mean.
const (
	defaultTimeout     = 10 * time.Second
	defaultMaxAttempts = 100
	defaultGiveUpAfter = 24 * time.Hour
)

// Validate reports everything that is wrong.
func (c Config) Validate() error {
	var errs []error
	invalid := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if c.Name == "" || len(c.Name) > 40 || strings.Trim(c.Name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-") != "" {
		invalid("name: %q, want 1 to 40 letters, digits and hyphens", c.Name)
	}
	switch c.Type {
	case "eventbridge":
		if strings.HasPrefix(c.Source, "aws.") {
			invalid("source: %q, and what begins with aws. is AWS's own: want another, such as weir.rds", c.Source)
		}
	case "sns":
		if !strings.HasPrefix(c.TopicARN, "arn:") {
			invalid("topic_arn: %q, want the topic's ARN", c.TopicARN)
		}
	case "webhook":
		if u, err := url.Parse(c.URL); err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
			invalid("url: %q, want https://…", c.URL)
		}
		if c.SecretFile == "" {
			invalid("secret_file: empty; a receiver must be able to tell who sent it")
		}
	case "log":
	default:
		invalid("type: %q, want eventbridge, sns, webhook or log", c.Type)
	}
	if c.Timeout < 0 || c.MaxAttempts < 0 || c.GiveUpAfter < 0 {
		invalid("timeout, max_attempts, give_up_after: below 0")
	}
	return errors.Join(errs...)
}

// ValidateAll is Validate of each, and that no name is there twice.
func ValidateAll(all []Config) error {
	var errs []error
	seen := make(map[string]bool)
	for i, c := range all {
		if err := c.Validate(); err != nil {
			errs = append(errs, fmt.Errorf("[%d]: %w", i, err))
		}
		if name := strings.ToLower(c.Name); seen[name] {
			errs = append(errs, fmt.Errorf("[%d]: name: %q is there twice", i, c.Name))
		} else {
			seen[name] = true
		}
	}
	return errors.Join(errs...)
}

// Sink is where events go. It returns nil once the receiver has taken the event,
// and tries once: trying again is the lane's.
type Sink interface {
	Deliver(ctx context.Context, e *notifierv1.Event) error
}

// sink makes the sink that c describes.
func (c Config) sink(ctx context.Context, log *slog.Logger) (Sink, error) {
	switch c.Type {
	case "eventbridge":
		return eventbridge.New(ctx, eventbridge.Options{Region: c.Region, Account: c.Account, Endpoint: c.Endpoint, EventBus: c.EventBus, Source: c.Source})
	case "sns":
		return sns.New(ctx, sns.Options{Region: c.Region, Account: c.Account, Endpoint: c.Endpoint, TopicARN: c.TopicARN})
	case "webhook":
		return webhook.New(webhook.Options{URL: c.URL, SecretFile: c.SecretFile, CAFile: c.CAFile})
	default:
		return logsink.New(c.File, log)
	}
}

// Sinks are all lanes together.
type Sinks struct {
	lanes []*lane
}

// Open makes the sinks. What is wrong with one that could be known now is an error.
func Open(ctx context.Context, configs []Config, js jetstream.JetStream, letters *events.DeadLetters, now func() time.Time, log *slog.Logger) (*Sinks, error) {
	s := &Sinks{}
	for _, c := range configs {
		sink, err := c.sink(ctx, log)
		if err != nil {
			return nil, fmt.Errorf("sink %s: %w", c.Name, err)
		}
		l := newLane(c, sink, js, letters, now, log)
		if _, err := l.consumer(ctx); err != nil {
			return nil, fmt.Errorf("sink %s: making its place in the stream of events: %w", c.Name, err)
		}
		s.lanes = append(s.lanes, l)
	}
	return s, nil
}

// Run delivers until ctx ends.
func (s *Sinks) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	for _, l := range s.lanes {
		wg.Go(func() { l.consume(ctx) })
		wg.Go(func() { l.deliverDirectly(ctx) })
	}
	wg.Wait()
	return nil
}

// Direct delivers an event that could not be recorded, once for each key. It
// returns false where too many wait already, or nobody would be told.
func (s *Sinks) Direct(e *notifierv1.Event) bool {
	taken := false
	for _, l := range s.lanes {
		taken = l.take(e) || taken
	}
	return taken
}

// Retry tries once more to deliver an event that was given up.
func (s *Sinks) Retry(ctx context.Context, sink string, e *notifierv1.Event) error {
	for _, l := range s.lanes {
		if strings.EqualFold(l.cfg.Name, sink) {
			return l.try(ctx, e)
		}
	}
	return fmt.Errorf("the configuration has no sink %s any more", sink)
}

// wants says whether the sink asked for the event.
func (c Config) wants(e *notifierv1.Event) bool {
	if len(c.Sources) > 0 && !slices.ContainsFunc(c.Sources, func(s string) bool { return strings.EqualFold(s, e.GetSourceId()) }) {
		return false
	}
	return len(c.Categories) == 0 || slices.ContainsFunc(e.GetCategories(), func(have string) bool { return slices.Contains(c.Categories, have) })
}
