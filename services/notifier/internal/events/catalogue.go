package events

import (
	notifierv1 "github.com/weir-das/weir/proto/gen/weir/notifier/v1"
)

// RDS's words for what an event is about.
const (
	sourceCluster  = "db-cluster"
	sourceInstance = "db-instance"

	categoryConfiguration = "configuration change"
	categoryNotification  = "notification"
)

// Entry is what is known about one kind of event.
type Entry struct {
	Kind       notifierv1.EventKind
	ID         string // RDS's own where it has one
	SourceType string
	Category   string
	Message    string   // RDS's own text, to the letter, where it has one
	ToDo       string   // what an operator does about it; for docs/events.md
	From       []string // the certificate names of those who may tell it
	Detail     bool     // whether what else is known follows the message
}

// Catalogue holds every kind of event. docs/events.md shows it, and a test
// holds the two together.
//
// AWS publishes no event id for an interrupted audit, so those are Weir's own:
// an id of RDS's that means something else would be worse than a new one.
func Catalogue() []Entry {
	return []Entry{
		{
			Kind: notifierv1.EventKind_EVENT_KIND_STREAM_STARTED, ID: "RDS-EVENT-0179",
			SourceType: sourceCluster, Category: categoryConfiguration,
			Message: "Database Activity Streams is started on your database cluster.",
			ToDo:    "Nothing, if you asked for it.",
			From:    []string{"control.weir"},
		},
		{
			Kind: notifierv1.EventKind_EVENT_KIND_STREAM_STOPPED, ID: "RDS-EVENT-0180",
			SourceType: sourceCluster, Category: categoryConfiguration,
			Message: "Database Activity Streams is stopped on your database cluster.",
			ToDo:    "If nobody should have stopped it, start it again and find out who holds a certificate that may stop streams.",
			From:    []string{"control.weir"},
		},
		{
			Kind: notifierv1.EventKind_EVENT_KIND_ENGINE_LOST, ID: "WEIR-EVENT-0001",
			SourceType: sourceInstance, Category: categoryNotification,
			Message: "The database instance is no longer audited: no server with Weir's module is running.",
			ToDo:    "If the server was stopped on purpose, nothing: starting it brings WEIR-EVENT-0002. If it runs, look whether `weir` still stands in its `shared_preload_libraries`; what it did since then is not recorded.",
			From:    []string{"capture.weir"},
			Detail:  true,
		},
		{
			Kind: notifierv1.EventKind_EVENT_KIND_ENGINE_RETURNED, ID: "WEIR-EVENT-0002",
			SourceType: sourceInstance, Category: categoryNotification,
			Message: "The database instance is audited again.",
			ToDo:    "Compare its time with the WEIR-EVENT-0001 before it: in between nothing was recorded.",
			From:    []string{"capture.weir"},
			Detail:  true,
		},
	}
}
