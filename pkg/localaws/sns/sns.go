// Package sns is the Simple Notification Service as a publisher sees it: topics
// and Publish, in the Query protocol. What is published is kept for a test to
// look at; there are no subscriptions.
//
// Before: services/notifier publishes. Next: nobody; tests read Messages.
package sns

import (
	"context"
	"crypto/rand"
	"encoding/xml"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/weir-das/weir/pkg/localaws/inject"
	"github.com/weir-das/weir/pkg/localaws/internal/wire"
)

const (
	maxMessage = 256 << 10
	maxTopics  = 1000
	maxKept    = 10_000 // messages; then the oldest are forgotten
	namespace  = "http://sns.amazonaws.com/doc/2010-03-31/"
)

// Message is one that was published.
type Message struct {
	ID, TopicARN, Subject, Text string
	Attributes                  map[string]string // those of type String
	GroupID, DeduplicationID    string            // of a FIFO topic
}

// Options say how ARNs look.
type Options struct{ Region, AccountID string }

// Service is the endpoint. It may be used concurrently.
type Service struct {
	opt    Options
	faults inject.Plan

	mu       sync.Mutex
	topics   map[string]bool // by ARN
	messages []Message
	seen     map[string]bool // topic and deduplication id
}

// New makes a service with no topics.
func New(opt Options) *Service {
	return &Service{opt: opt, topics: make(map[string]bool), seen: make(map[string]bool)}
}

// Fail injects a fault and returns the function that removes it.
func (s *Service) Fail(f inject.Fault) (remove func()) { return s.faults.Add(f) }

// ClearFaults removes all injected faults.
func (s *Service) ClearFaults() { s.faults.Clear() }

// Messages are those that were published, oldest first.
func (s *Service) Messages() []Message {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Message(nil), s.messages...)
}

var topicName = regexp.MustCompile(`^[A-Za-z0-9_-]{1,256}$`)

// Call carries out the action that a form names and returns its answer in XML; or the error the client gets.
func (s *Service) Call(ctx context.Context, form url.Values) ([]byte, error) {
	action := form.Get("Action")
	do, known := map[string]func(url.Values) (any, error){"CreateTopic": s.createTopic, "DeleteTopic": s.deleteTopic, "ListTopics": s.listTopics, "Publish": s.publish}[action]
	if !known {
		return nil, &wire.Error{Code: "InvalidAction", Message: fmt.Sprintf("The action %s is not valid for this endpoint.", action), Status: http.StatusBadRequest}
	}
	hit, faulty := s.faults.Befall(ctx, action, false)
	fault := wire.Fault(hit.Code, hit.Message)
	if faulty && !hit.Lost {
		return nil, fault
	}
	result, err := do(form)
	if err != nil {
		return nil, err
	}
	if faulty {
		return nil, fault
	}
	inner, err := xml.Marshal(result)
	if err != nil {
		return nil, err
	}
	return fmt.Appendf(nil, `<%sResponse xmlns="%s">%s<ResponseMetadata><RequestId>%s</RequestId></ResponseMetadata></%sResponse>`,
		action, namespace, inner, strings.ToLower(rand.Text()), action), nil
}

// Failure is an error in XML.
func Failure(e *wire.Error) []byte {
	kind := "Sender"
	if e.Status >= http.StatusInternalServerError {
		kind = "Receiver"
	}
	var text strings.Builder
	_ = xml.EscapeText(&text, []byte(e.Message))
	return fmt.Appendf(nil, `<ErrorResponse xmlns="%s"><Error><Type>%s</Type><Code>%s</Code><Message>%s</Message></Error><RequestId>%s</RequestId></ErrorResponse>`,
		namespace, kind, e.Code, text.String(), strings.ToLower(rand.Text()))
}

func invalid(format string, args ...any) error {
	return &wire.Error{Code: "InvalidParameter", Message: "Invalid parameter: " + fmt.Sprintf(format, args...), Status: http.StatusBadRequest}
}

type createTopicResult struct {
	XMLName  xml.Name `xml:"CreateTopicResult"`
	TopicArn string
}

func (s *Service) createTopic(form url.Values) (any, error) {
	name := form.Get("Name")
	if !topicName.MatchString(strings.TrimSuffix(name, ".fifo")) {
		return nil, invalid("Topic Name")
	}
	arn := "arn:aws:sns:" + s.opt.Region + ":" + s.opt.AccountID + ":" + name
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.topics[arn] && len(s.topics) >= maxTopics {
		return nil, &wire.Error{Code: "TopicLimitExceeded", Message: fmt.Sprintf("This local endpoint keeps %d topics.", maxTopics), Status: http.StatusForbidden}
	}
	s.topics[arn] = true
	return createTopicResult{TopicArn: arn}, nil
}

type deleteTopicResult struct {
	XMLName xml.Name `xml:"DeleteTopicResult"`
}

func (s *Service) deleteTopic(form url.Values) (any, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.topics, form.Get("TopicArn"))
	return deleteTopicResult{}, nil
}

type member struct{ TopicArn string }

type listTopicsResult struct {
	XMLName xml.Name `xml:"ListTopicsResult"`
	Topics  []member `xml:"Topics>member"`
}

func (s *Service) listTopics(url.Values) (any, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []member
	for arn := range s.topics {
		all = append(all, member{arn})
	}
	slices.SortFunc(all, func(a, b member) int { return strings.Compare(a.TopicArn, b.TopicArn) })
	return listTopicsResult{Topics: all}, nil
}

type publishResult struct {
	XMLName   xml.Name `xml:"PublishResult"`
	MessageId string
}

func (s *Service) publish(form url.Values) (any, error) {
	m := Message{
		TopicARN: form.Get("TopicArn"), Subject: form.Get("Subject"), Text: form.Get("Message"),
		GroupID: form.Get("MessageGroupId"), DeduplicationID: form.Get("MessageDeduplicationId"), Attributes: make(map[string]string),
	}
	fifo := strings.HasSuffix(m.TopicARN, ".fifo")
	switch {
	case len(strings.Split(m.TopicARN, ":")) != 6:
		return nil, invalid("TopicArn Reason: no value for required parameter")
	case m.Text == "":
		return nil, invalid("Empty message")
	case len(m.Text) > maxMessage:
		return nil, invalid("Message too long")
	case len(m.Subject) > 100 || strings.ContainsAny(m.Subject, "\n\r"):
		return nil, invalid("Subject")
	case fifo && m.GroupID == "":
		return nil, invalid("The MessageGroupId parameter is required for FIFO topics")
	case fifo && m.DeduplicationID == "":
		return nil, invalid("The topic should either have ContentBasedDeduplication enabled or MessageDeduplicationId provided explicitly")
	case !fifo && m.DeduplicationID != "":
		return nil, invalid("MessageDeduplicationId Reason: The request includes MessageDeduplicationId parameter that is not valid for this topic type")
	}
	for i := 1; form.Has(fmt.Sprintf("MessageAttributes.entry.%d.Name", i)); i++ {
		at := func(what string) string { return form.Get(fmt.Sprintf("MessageAttributes.entry.%d.%s", i, what)) }
		if at("Value.DataType") == "" || at("Value.StringValue") == "" && at("Value.BinaryValue") == "" {
			return nil, &wire.Error{Code: "ParameterValueInvalid", Message: fmt.Sprintf("The message attribute '%s' must contain non-empty message attribute value for message attribute type 'String'.", at("Name")), Status: http.StatusBadRequest}
		}
		m.Attributes[at("Name")] = at("Value.StringValue")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.topics[m.TopicARN] {
		return nil, &wire.Error{Code: "NotFound", Message: "Topic does not exist", Status: http.StatusNotFound}
	}
	m.ID = strings.ToLower(rand.Text())
	if fifo {
		key := m.TopicARN + " " + m.DeduplicationID
		if s.seen[key] {
			return publishResult{MessageId: m.ID}, nil
		}
		s.seen[key] = true
	}
	s.messages = append(s.messages, m)
	s.messages = s.messages[max(0, len(s.messages)-maxKept):]
	return publishResult{MessageId: m.ID}, nil
}
