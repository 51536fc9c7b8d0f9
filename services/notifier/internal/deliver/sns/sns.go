// Package sns publishes events to a topic, with the message keys and attributes
// of RDS's event notifications.
//
// Before: internal/deliver. Next: the topic's subscribers.
package sns

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	"github.com/aws/aws-sdk-go-v2/service/sns/types"

	notifierv1 "github.com/weir-das/weir/proto/gen/weir/notifier/v1"
	"github.com/weir-das/weir/services/notifier/internal/events"
)

// Options say which topic.
type Options struct {
	Region, Account, Endpoint string
	TopicARN                  string
}

// Sink publishes to one topic.
type Sink struct {
	client *sns.Client
	opt    Options
}

// New finds credentials as the AWS SDK does. Region and account are the topic's
// where they are not given.
func New(ctx context.Context, o Options) (*Sink, error) {
	parts := strings.Split(o.TopicARN, ":")
	if len(parts) != 6 || parts[2] != "sns" {
		return nil, fmt.Errorf("topic_arn: %q, want arn:aws:sns:REGION:ACCOUNT:NAME", o.TopicARN)
	}
	o.Region, o.Account = cmp.Or(o.Region, parts[3]), cmp.Or(o.Account, parts[4])
	cfg, err := config.LoadDefaultConfig(ctx, func(l *config.LoadOptions) error {
		l.Region = o.Region
		l.RetryMaxAttempts = 1 // trying again is the lane's
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("AWS configuration: %w", err)
	}
	if cfg.Region == "" {
		return nil, errors.New("region: empty")
	}
	return &Sink{opt: o, client: sns.NewFromConfig(cfg, func(c *sns.Options) {
		if o.Endpoint != "" {
			c.BaseEndpoint = aws.String(o.Endpoint)
		}
	})}, nil
}

// message is RDS's, whose keys have spaces. The link leads to the catalogue.
type message struct {
	EventSource    string `json:"Event Source"`
	EventTime      string `json:"Event Time"`
	IdentifierLink string `json:"Identifier Link"`
	SourceID       string `json:"Source ID"`
	SourceARN      string `json:"Source ARN"`
	EventID        string `json:"Event ID"`
	EventMessage   string `json:"Event Message"`
}

// catalogue is where RDS's event ids lead; consumers take the id from its end.
const catalogue = "http://docs.amazonwebservices.com/AmazonRDS/latest/UserGuide/USER_Events.html#"

// Deliver publishes the event.
func (s *Sink) Deliver(ctx context.Context, e *notifierv1.Event) error {
	arn := events.ARN(s.opt.Region, s.opt.Account, e)
	body, err := json.Marshal(message{
		EventSource: e.GetSourceType(), EventTime: e.GetOccurredAt().AsTime().Format("2006-01-02 15:04:05.000"),
		IdentifierLink: "https://console.aws.amazon.com/rds/home?region=" + s.opt.Region + "#" + strings.ReplaceAll(e.GetSourceType(), "-", "") + ":id=" + e.GetSourceId(),
		SourceID:       e.GetSourceId(), SourceARN: arn, EventID: catalogue + e.GetEventId(), EventMessage: e.GetMessage(),
	})
	if err != nil {
		return fmt.Errorf("encoding an event: %w", err)
	}
	text := func(v string) types.MessageAttributeValue {
		return types.MessageAttributeValue{DataType: aws.String("String"), StringValue: aws.String(v)}
	}
	in := &sns.PublishInput{
		TopicArn: aws.String(s.opt.TopicARN), Message: aws.String(string(body)), Subject: aws.String("RDS Notification Message"),
		MessageAttributes: map[string]types.MessageAttributeValue{
			"EventID": text(e.GetEventId()), "Resource": text(arn), "WeirIdempotencyKey": text(e.GetIdempotencyKey()),
		},
	}
	if strings.HasSuffix(s.opt.TopicARN, ".fifo") { // such a topic drops what comes twice
		in.MessageGroupId, in.MessageDeduplicationId = aws.String(e.GetSourceId()), aws.String(events.KeyToken(e.GetIdempotencyKey()))
	}
	if _, err := s.client.Publish(ctx, in); err != nil {
		return fmt.Errorf("publishing the event: %w", err)
	}
	return nil
}
