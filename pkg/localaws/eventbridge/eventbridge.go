// Package eventbridge is the one call of EventBridge that a sender of events
// makes, PutEvents: each entry is held against AWS's rules, and what passes is
// kept for a test to look at. There are no rules, targets or archives.
//
// Before: services/notifier puts events. Next: nobody; tests read Events.
package eventbridge

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/weir-das/weir/pkg/localaws/inject"
	"github.com/weir-das/weir/pkg/localaws/internal/operation"
	"github.com/weir-das/weir/pkg/localaws/internal/wire"
)

const (
	maxBytes = 256 << 10 // of one call's entries
	maxKept  = 10_000    // events; then the oldest are forgotten
)

// Event is one that was taken.
type Event struct {
	ID, Bus, Source, DetailType, Detail string
	Resources                           []string
	Time                                time.Time // as given; zero if it was not
}

// Service is the endpoint. It may be used concurrently.
type Service struct {
	set operation.Set

	mu     sync.Mutex
	events []Event
}

// New makes a service with no events.
func New() *Service {
	s := &Service{}
	text := &wire.Field{Type: wire.TypeString}
	entry := &wire.Field{Type: wire.TypeStruct, Fields: []wire.Field{
		{Name: "Source"}, {Name: "DetailType"}, {Name: "Detail"}, {Name: "EventBusName", Min: 1, Max: 1600},
		{Name: "Resources", Type: wire.TypeList, Elem: text}, {Name: "Time", Type: wire.TypeTime}, {Name: "TraceHeader", Min: 1, Max: 500},
	}}
	s.set.Operations = map[string]operation.Operation{
		"PutEvents": {Do: s.putEvents, PerRecord: true, Fields: []wire.Field{
			{Name: "Entries", Type: wire.TypeList, Required: true, Min: 1, Max: 10, Elem: entry}, {Name: "EndpointId", Min: 1, Max: 50},
		}},
	}
	return s
}

// Fail injects a fault and returns the function that removes it.
func (s *Service) Fail(f inject.Fault) (remove func()) { return s.set.Faults.Add(f) }

// ClearFaults removes all injected faults.
func (s *Service) ClearFaults() { s.set.Faults.Clear() }

// Knows says whether op is an operation.
func (s *Service) Knows(op string) bool { return s.set.Knows(op) }

// Call carries out an operation it knows and writes its answer; or returns the error the client gets.
func (s *Service) Call(ctx context.Context, op string, body wire.Value, cbor bool, out *wire.Writer) error {
	return s.set.Call(ctx, op, body, cbor, out)
}

// Events are those that were taken, oldest first.
func (s *Service) Events() []Event {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Event(nil), s.events...)
}

func (s *Service) putEvents(c operation.Call, out *wire.Writer) error {
	n := c.Len("Entries")
	size := 0
	for i := range n {
		e := c.At("Entries", i)
		size += len(e.Str("Source")) + len(e.Str("DetailType")) + len(e.Str("Detail"))
		for _, r := range e.Strs("Resources") {
			size += len(r)
		}
	}
	if size > maxBytes {
		return wire.Errorf("ValidationException", "Total size of the entries in the request is over the limit.")
	}
	failed := 0
	out.Map().Key("Entries").List()
	for i := range n {
		id, code, message := s.put(c, c.At("Entries", i))
		out.Map()
		if code != "" {
			failed++
			out.Key("ErrorCode").Str(code).Key("ErrorMessage").Str(message)
		} else {
			out.Key("EventId").Str(id)
		}
		out.EndMap()
	}
	out.EndList().Key("FailedEntryCount").Int(int64(failed)).EndMap()
	return nil
}

// put takes one entry, or says why not in EventBridge's words.
func (s *Service) put(c operation.Call, in wire.Input) (id, code, message string) {
	for _, name := range []string{"Source", "DetailType", "Detail"} {
		if in.Str(name) == "" {
			return "", "InvalidArgument", fmt.Sprintf("Parameter %s is not valid. Reason: %s is a required argument.", name, name)
		}
	}
	if strings.HasPrefix(in.Str("Source"), "aws.") {
		return "", "NotAuthorizedForSourceException", "Not authorized for the source."
	}
	var detail map[string]any
	if json.Unmarshal([]byte(in.Str("Detail")), &detail) != nil {
		return "", "MalformedDetail", "Detail is malformed."
	}
	if fault := c.Record(); fault != nil {
		return "", fault.Code, fault.Message
	}
	e := Event{
		ID: strings.ToLower(rand.Text()), Bus: in.Str("EventBusName"), Source: in.Str("Source"), DetailType: in.Str("DetailType"),
		Detail: in.Str("Detail"), Resources: in.Strs("Resources"),
	}
	if in.Has("Time") {
		e.Time = in.Time("Time")
	}
	if e.Bus == "" {
		e.Bus = "default"
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.events = append(s.events, e)
	s.events = s.events[max(0, len(s.events)-maxKept):]
	return e.ID, "", ""
}
