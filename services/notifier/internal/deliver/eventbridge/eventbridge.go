// Package eventbridge puts events on an EventBridge bus, in the shape in which
// RDS puts its own: what was written for aws.rds works with another source.
//
// Before: internal/deliver. Next: the bus's rules.
package eventbridge

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge/types"

	notifierv1 "github.com/weir-das/weir/proto/gen/weir/notifier/v1"
	"github.com/weir-das/weir/services/notifier/internal/events"
)

// Options say which bus.
type Options struct {
	Region, Account, Endpoint string
	EventBus                  string // default where empty
	Source                    string // weir.rds where empty; AWS lets nobody use its own, aws.rds
}

// Sink puts events on one bus.
type Sink struct {
	client *eventbridge.Client
	opt    Options
}

// New finds credentials as the AWS SDK does.
func New(ctx context.Context, o Options) (*Sink, error) {
	cfg, err := config.LoadDefaultConfig(ctx, func(l *config.LoadOptions) error {
		l.Region = cmp.Or(o.Region, l.Region)
		l.RetryMaxAttempts = 1 // trying again is the lane's
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("AWS configuration: %w", err)
	}
	if cfg.Region == "" {
		return nil, errors.New("region: empty, and AWS_REGION is not set")
	}
	o.Region, o.Account = cfg.Region, cmp.Or(o.Account, events.NoAccount)
	o.EventBus, o.Source = cmp.Or(o.EventBus, "default"), cmp.Or(o.Source, "weir.rds")
	return &Sink{opt: o, client: eventbridge.NewFromConfig(cfg, func(c *eventbridge.Options) {
		if o.Endpoint != "" {
			c.BaseEndpoint = aws.String(o.Endpoint)
		}
	})}, nil
}

// detail is what RDS puts into detail, and one object of Weir's.
type detail struct {
	EventCategories  []string
	SourceType       string
	SourceArn        string
	Date             string
	Message          string
	SourceIdentifier string
	EventID          string
	Weir             events.Extra
}

// Deliver puts the event.
func (s *Sink) Deliver(ctx context.Context, e *notifierv1.Event) error {
	arn := events.ARN(s.opt.Region, s.opt.Account, e)
	at := e.GetOccurredAt().AsTime()
	d := detail{
		EventCategories: e.GetCategories(), SourceType: "CLUSTER", SourceArn: arn, Date: at.Format("2006-01-02T15:04:05.000Z"),
		Message: e.GetMessage(), SourceIdentifier: e.GetSourceId(), EventID: e.GetEventId(), Weir: events.ExtraOf(e),
	}
	detailType := "RDS DB Cluster Event"
	if e.GetSourceType() == "db-instance" {
		d.SourceType, detailType = "DB_INSTANCE", "RDS DB Instance Event"
	}
	body, err := json.Marshal(d)
	if err != nil {
		return fmt.Errorf("encoding an event: %w", err)
	}
	out, err := s.client.PutEvents(ctx, &eventbridge.PutEventsInput{Entries: []types.PutEventsRequestEntry{{
		EventBusName: aws.String(s.opt.EventBus), Source: aws.String(s.opt.Source), DetailType: aws.String(detailType),
		Detail: aws.String(string(body)), Resources: []string{arn}, Time: aws.Time(at),
	}}})
	if err != nil {
		return fmt.Errorf("putting the event: %w", err)
	}
	if out.FailedEntryCount > 0 && len(out.Entries) == 1 {
		return fmt.Errorf("putting the event: %s: %s", aws.ToString(out.Entries[0].ErrorCode), aws.ToString(out.Entries[0].ErrorMessage))
	}
	return nil
}
