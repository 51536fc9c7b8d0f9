package registry

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/weir-das/weir/pkg/fault"
)

// docVersion is written into every document. A document of a later version is
// refused rather than half understood.
const docVersion = 1

// maxInstances bounds a document: NATS refuses messages over 1 MiB.
const maxInstances = 256

// Cluster is one document: a set of instances that share an activity stream.
type Cluster struct {
	Version    int        `json:"v"`
	ID         string     `json:"id"`
	ResourceID string     `json:"resource_id"`
	Engine     string     `json:"engine"`
	CreatedAt  time.Time  `json:"created_at"`
	Instances  []Instance `json:"instances,omitempty"` // by id
	Stream     Stream     `json:"stream"`

	// Revision is the document's place in the bucket, which only grows.
	Revision uint64 `json:"-"`
}

// Instance is one database server of a cluster.
type Instance struct {
	ID         string `json:"id"`
	ResourceID string `json:"resource_id"`
}

// Status is where a stream is, in Aurora's words.
type Status string

// A stream goes round: stopped, starting, started, stopping, stopped. From
// starting it may also turn to stopping.
const (
	Stopped  Status = "stopped"
	Starting Status = "starting"
	Started  Status = "started"
	Stopping Status = "stopping"

	// Restored is of notices alone: the document was written back after NATS had
	// lost it.
	Restored Status = "restored"
)

// Stream is what is wanted of a cluster's stream, and where it is.
type Stream struct {
	Status Status    `json:"status"`
	Since  time.Time `json:"since"` // when Status was reached

	KinesisStream string `json:"kinesis_stream"`
	Params        Params `json:"params,omitzero"`          // as last asked for
	DeleteKinesis bool   `json:"delete_kinesis,omitempty"` // once it has stopped

	// Told is what the captures were told last.
	Told Told `json:"told"`

	// Problem is why the next step was not taken, or what the last one left undone.
	Problem string `json:"problem,omitempty"`

	// Notices are events the notifier has not recorded yet, oldest first. They
	// lie here so that a status and the event about it are one write: neither
	// exists without the other, whoever dies when.
	Notices []Notice `json:"notices,omitempty"`
}

// Params are what a start of the stream says.
type Params struct {
	Mode         string `json:"mode"`       // async or sync
	KMSKeyID     string `json:"kms_key_id"` // as it was given
	RecordLayout string `json:"record_layout"`

	// What follows is empty but in synchronous mode, and whole in it.
	SyncLevel   string        `json:"sync_level,omitempty"`   // transaction, statement or strict
	OnFailure   string        `json:"on_failure,omitempty"`   // continue or fail_operation
	SyncTimeout time.Duration `json:"sync_timeout,omitempty"` // in ns
}

// SameRecords says whether records made for p are the ones that q wants: how
// sessions and the stream go together may differ, and be changed while it runs.
func (p Params) SameRecords(q Params) bool {
	return p.KMSKeyID == q.KMSKeyID && p.RecordLayout == q.RecordLayout
}

// Told changes as a whole, with Generation. Its Params stay when Recording
// ends, for what was recorded before is still to be sealed.
type Told struct {
	Generation uint64    `json:"generation"` // counts the changes
	Recording  bool      `json:"recording"`
	Params     Params    `json:"params,omitzero"`
	At         time.Time `json:"at,omitzero"`
}

// Notice is one event still to be told. Each status is reached at most once a
// generation, so that cluster and generation name the event for good; of what was
// restored the time does too.
type Notice struct {
	Status     Status    `json:"status"` // started, stopped or restored
	Generation uint64    `json:"generation"`
	At         time.Time `json:"at"`
}

// Instance returns the cluster's instance with that id.
func (c Cluster) Instance(id string) (Instance, bool) {
	i, ok := c.find(id)
	if !ok {
		return Instance{}, false
	}
	return c.Instances[i], true
}

func (c Cluster) find(id string) (int, bool) {
	return slices.BinarySearchFunc(c.Instances, id, func(in Instance, id string) int {
		return strings.Compare(in.ID, id)
	})
}

// clone keeps a change from reaching the mirror's copy.
func (c Cluster) clone() Cluster {
	c.Instances = slices.Clone(c.Instances)
	c.Stream.Notices = slices.Clone(c.Stream.Notices)
	return c
}

func (c Cluster) encode() ([]byte, error) {
	b, err := json.Marshal(c)
	if err != nil {
		return nil, fmt.Errorf("encoding cluster %s: %w", c.ID, err)
	}
	return b, nil
}

func decode(key string, b []byte, revision uint64) (Cluster, error) {
	var c Cluster
	if err := json.Unmarshal(b, &c); err != nil {
		return Cluster{}, fault.As(fault.Corrupted, fmt.Errorf("decoding %s at revision %d: %w", key, revision, err))
	}
	if c.Version != docVersion {
		return Cluster{}, fault.As(fault.Corrupted, fmt.Errorf("decoding %s at revision %d: version %d, want %d", key, revision, c.Version, docVersion))
	}
	c.Revision = revision
	return c, nil
}
