package render

import (
	"math"
	"time"

	"github.com/weir-das/weir/pkg/das"
	activityv1 "github.com/weir-das/weir/proto/gen/weir/activity/v1"
)

// activity is a weir.activity.v1.Activity. Its bytes point into the payload.
// What a field means is said in activity.proto.
type activity struct {
	kind           activityv1.Kind
	class          activityv1.Class
	startedAt      timestamp
	endedAt        timestamp
	session        session
	statementID    uint64
	substatementID uint64
	command        []byte
	objects        []object
	objectCount    int // those beyond maxObjects included
	objectsOmitted uint32
	text           text
	params         []param
	paramCount     int // likewise
	paramsOmitted  uint32
	rows           uint64
	hasRows        bool
	sqlstate       []byte
	errorMessage   text
	exitCode       int32
	hasExitCode    bool
	notice         notice
}

type notice struct {
	kind    activityv1.NoticeKind
	subject []byte
}

type timestamp struct {
	set     bool
	seconds int64
	nanos   int32
}

type session struct {
	set         bool
	pid         int32
	startedAt   timestamp
	user        []byte
	database    []byte
	remoteHost  []byte
	remotePort  []byte
	application []byte
	local       bool
	encoding    []byte
	serverHost  []byte
	effective   []byte // the role in force
}

type object struct {
	kind    activityv1.ObjectType
	name    []byte
	command []byte
	class   activityv1.Class
}

type text struct {
	set    bool
	kept   []byte
	length uint64 // of the whole text; 0 where all was kept
	sha256 []byte
}

type param struct {
	null  bool
	value text
}

// reset empties a, keeping the room of its lists.
func (a *activity) reset() {
	clear(a.objects)
	clear(a.params)
	*a = activity{objects: a.objects[:0], params: a.params[:0]}
}

// The range of a protobuf Timestamp: the years 1 to 9999.
const (
	minSeconds = -62_135_596_800
	maxSeconds = 253_402_300_799
)

// valid says whether a has what every event has, in the range it can have.
func (a *activity) valid() bool {
	return a.kind != activityv1.Kind_KIND_UNSPECIFIED && a.session.set &&
		a.startedAt.set && a.startedAt.valid() && a.endedAt.set && a.endedAt.valid() &&
		a.session.startedAt.valid() && a.rows <= math.MaxInt64 &&
		a.text.valid() && a.errorMessage.valid()
}

func (t *timestamp) valid() bool {
	return t.seconds >= minSeconds && t.seconds <= maxSeconds && t.nanos >= 0 && t.nanos <= 999_999_999
}

// time is the instant, as pkg/das takes it.
func (t *timestamp) time() time.Time { return time.Unix(t.seconds, int64(t.nanos)) }

// cut says whether the engine kept only the beginning of t.
func (t *text) cut() bool { return t.length != 0 }

func (t *text) valid() bool { return len(t.sha256) == 0 || len(t.sha256) == len(das.Hash{}) }
