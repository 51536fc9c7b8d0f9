package render

import (
	"strings"

	"github.com/weir-das/weir/pkg/das"
	activityv1 "github.com/weir-das/weir/proto/gen/weir/activity/v1"
)

// Limits of what travels beside the list, in bytes, rendered. The event at the
// statement's end has all of its text.
const (
	maxStartedText = 64 << 10
	maxSubject     = 8 << 10 // a path, with room for escapes
)

// Beside is what the last Append rendered, where it is no Aurora event; both
// are nil where it is one. The caller may keep it.
func (r *Renderer) Beside() (*das.Started, *das.Notice) { return r.started, r.notice }

// appendStarted appends a statement that began, as one object.
func (r *Renderer) appendStarted(dst []byte, number uint64) []byte {
	a := &r.activity
	s := das.Started{
		N: number, SessionID: strings.Clone(r.sessionID()),
		StatementID: a.statementID, SubstatementID: a.substatementID, StartTime: a.startedAt.time(),
		Class:        className(a.kind, a.class),
		Command:      strings.Clone(r.name("command", a.command, maxCode)),
		DBUserName:   strings.Clone(r.name("dbUserName", a.session.user, maxName)),
		DatabaseName: strings.Clone(r.name("databaseName", a.session.database, maxName)),
	}
	if a.text.set {
		text := r.text("commandText", &a.text)
		s.CommandText = das.Some(strings.Clone(r.cut("commandText", text, &a.text, maxStartedText)))
	}
	r.started = &s
	return s.Append(dst)
}

// appendNotice appends what the engine noticed, as one object.
func (r *Renderer) appendNotice(dst []byte, number uint64) []byte {
	a := &r.activity
	n := das.Notice{
		N: number, Time: a.endedAt.time(), Kind: noticeName(a.notice.kind),
		Subject:    strings.Clone(r.name("subject", a.notice.subject, maxSubject)),
		SessionID:  strings.Clone(r.sessionID()),
		DBUserName: strings.Clone(r.name("dbUserName", a.session.user, maxName)),
	}
	r.notice = &n
	return n.Append(dst)
}

// noticeName is what consumers read for a kind of notice.
func noticeName(kind activityv1.NoticeKind) string {
	switch kind {
	case activityv1.NoticeKind_NOTICE_KIND_HOOK_REPLACED:
		return das.NoticeHookReplaced
	case activityv1.NoticeKind_NOTICE_KIND_MESSAGES_REPLACED:
		return das.NoticeMessagesReplaced
	case activityv1.NoticeKind_NOTICE_KIND_LIBRARY_LOADED:
		return das.NoticeLibraryLoaded
	case activityv1.NoticeKind_NOTICE_KIND_SETTING_CHANGED:
		return das.NoticeSettingChanged
	case activityv1.NoticeKind_NOTICE_KIND_RING_REMOVED:
		return das.NoticeRingRemoved
	case activityv1.NoticeKind_NOTICE_KIND_BREAK_GLASS:
		return das.NoticeBreakGlass
	case activityv1.NoticeKind_NOTICE_KIND_SESSION_CRASHED:
		return das.NoticeSessionCrashed
	case activityv1.NoticeKind_NOTICE_KIND_GUARD_SILENT:
		return das.NoticeGuardSilent
	default:
		return das.NoticeUnknown
	}
}

// Detail is what the last Append knows of its event and Aurora's fields have no
// place for; nil where there is nothing. The caller may keep it.
func (r *Renderer) Detail() *das.Detail { return r.detail }

// fillDetail fills it.
func (r *Renderer) fillDetail(number uint64) {
	if role := r.activity.session.effective; len(role) > 0 {
		r.detail = &das.Detail{N: number, EffectiveUserName: strings.Clone(r.name("effectiveUserName", role, maxName))}
	}
}
