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
	categoryFailure       = "failure"
	categoryRecovery      = "recovery"
	categorySecurity      = "security"
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
	Window     bool     // told by opening or closing a window, not by itself
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
		{
			Kind: notifierv1.EventKind_EVENT_KIND_LOSS_BEGAN, ID: "WEIR-EVENT-0003",
			SourceType: sourceInstance, Category: categoryFailure,
			Message: "Activity of the database instance is being lost: a loss window opens.",
			ToDo:    "Look at the cause. `ring_full`: find out why records do not reach the journal (`weir stream status`, the metrics of crypto and NATS), and raise `weir.ring_size` if the outage was an ordinary one. `torn`: a session or the server was killed. `corrupt`: somebody with the server's account wrote into the ring; treat it as an attack. `refused`: see capture's log. `journal_lost`: NATS has lost its data; find out why. `unnumbered`: a session stood still with the ring's lock, or somebody with the server's account holds it; the stream shows no hole.",
			From:    []string{"capture.weir"}, Detail: true, Window: true,
		},
		{
			Kind: notifierv1.EventKind_EVENT_KIND_LOSS_ENDED, ID: "WEIR-EVENT-0004",
			SourceType: sourceInstance, Category: categoryRecovery,
			Message: "Activity of the database instance is no longer being lost: the loss window closes.",
			ToDo:    "Keep it with the stream: it says which numbers have no record, how many, and from when to when. A count that is a lower bound means that the ring was gone before it was read. Of `journal_lost` it is what can be missing at most: `weir verify --events` says which numbers are.",
			From:    []string{"capture.weir"}, Detail: true, Window: true,
		},
		{
			Kind: notifierv1.EventKind_EVENT_KIND_POSSIBLE_LOSS_BEGAN, ID: "WEIR-EVENT-0005",
			SourceType: sourceInstance, Category: categoryFailure,
			Message: "Sessions of the database instance no longer wait for their records: a window of possible loss opens.",
			ToDo:    "Synchronous mode with the policy `continue` goes on when the journal does not answer within `--sync-timeout`. Restore the path. Nothing is lost yet: the records are in the ring.",
			From:    []string{"capture.weir"}, Detail: true, Window: true,
		},
		{
			Kind: notifierv1.EventKind_EVENT_KIND_POSSIBLE_LOSS_ENDED, ID: "WEIR-EVENT-0006",
			SourceType: sourceInstance, Category: categoryRecovery,
			Message: "Sessions of the database instance wait for their records again: the window of possible loss closes.",
			ToDo:    "If there is no WEIR-EVENT-0003 in that time, nothing was lost: what was let go became durable later.",
			From:    []string{"capture.weir"}, Detail: true, Window: true,
		},
		{
			Kind: notifierv1.EventKind_EVENT_KIND_AUDIT_INTERRUPTED, ID: "WEIR-EVENT-0007",
			SourceType: sourceInstance, Category: categoryFailure,
			Message: "The audit of the database instance is interrupted.",
			ToDo:    "`capture_silent`: control hears nothing of the capture; start it again. What the server does lies in the ring until that is full. `ring_unreadable`: there is no ring, or it was removed, cut short or written over; what the server does is not recorded. Start the server with the module, and find out who touched the file.",
			From:    []string{"capture.weir", "control.weir"}, Detail: true, Window: true,
		},
		{
			Kind: notifierv1.EventKind_EVENT_KIND_AUDIT_RESUMED, ID: "WEIR-EVENT-0008",
			SourceType: sourceInstance, Category: categoryRecovery,
			Message: "The audit of the database instance goes on.",
			ToDo:    "After `capture_silent` look for a WEIR-EVENT-0003: without one nothing was lost. After `ring_unreadable` nothing was recorded between the two times.",
			From:    []string{"capture.weir", "control.weir"}, Detail: true, Window: true,
		},
		{
			Kind: notifierv1.EventKind_EVENT_KIND_EPOCH_ENDED, ID: "WEIR-EVENT-0009",
			SourceType: sourceInstance, Category: categoryNotification,
			Message: "An epoch of the database instance's ring has ended.",
			ToDo:    "Nothing, if the server was restarted with another ring, or its host was. The event says which number was the last; `weir verify` holds the stream against it.",
			From:    []string{"capture.weir"}, Detail: true,
		},
		{
			Kind: notifierv1.EventKind_EVENT_KIND_SECURITY_NOTICE, ID: "WEIR-EVENT-0010",
			SourceType: sourceInstance, Category: categorySecurity,
			Message: "Somebody touched what the audit of the database instance rests on.",
			ToDo:    "Look up the number in the stream: the record says who did it, from where and when. docs/threat-model.md says what each kind may be the beginning of.",
			From:    []string{"capture.weir"}, Detail: true,
		},
		{
			Kind: notifierv1.EventKind_EVENT_KIND_REGISTRY_RESTORED, ID: "WEIR-EVENT-0011",
			SourceType: sourceCluster, Category: categoryFailure,
			Message: "What is wanted of the database cluster's activity stream was lost with NATS's data, and was written back.",
			ToDo:    "Recording went on. Find out what became of NATS's data; look for a WEIR-EVENT-0004 with `journal_lost` for each instance, and whether `weir stream status` says what you want.",
			From:    []string{"control.weir"},
		},
		{
			Kind: notifierv1.EventKind_EVENT_KIND_INSTANCE_UNKNOWN, ID: "WEIR-EVENT-0012",
			SourceType: sourceInstance, Category: categoryFailure,
			Message: "Control does not know the database instance, which is recorded as was wanted last.",
			ToDo:    "NATS has lost its data, and no control had it in memory; or somebody deleted the instance behind control's back. Register cluster and instance again and start the stream (docs/operations.md): until then nobody watches the capture.",
			From:    []string{"capture.weir"}, Detail: true,
		},
		{
			Kind: notifierv1.EventKind_EVENT_KIND_KINESIS_STREAM_REMADE, ID: "WEIR-EVENT-0013",
			SourceType: sourceCluster, Category: categoryFailure,
			Message: "The database cluster's Kinesis stream was gone and was made again: what nobody had read from it is lost.",
			ToDo:    "Find out who deleted it (CloudTrail: `DeleteStream`). `weir verify` judges the new stream from the number on where the old one ended; what the old one held is only where somebody read it (`weir verify --save`, your consumers).",
			From:    []string{"publisher.weir"}, Detail: true,
		},
	}
}
