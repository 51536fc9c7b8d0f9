/*
 * statement_end.c: how a statement ends, and when that is certain; see
 * statement.h.
 *
 * The outcome of a client's statement is certain only when the client gets its
 * answer: in an implicit transaction a deferred constraint fails at commit,
 * when the executor is long done. So the event of a top-level statement that
 * seems to have succeeded is held, one per session, until the next statement,
 * the commit, ReadyForQuery or an error says what became of it.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "postgres.h"

#include "access/xact.h"
#include "storage/ipc.h"
#include "utils/timestamp.h"

#include "client.h"
#include "objects.h"
#include "slots.h"
#include "statement_private.h"
#include "watch.h"

/* event_of is what its beginning and its end tell alike of a statement. */
static weir_event
event_of(const weir_statement *s, enum weir_kind kind)
{
	return (weir_event) {
		.kind = kind,
		.started = s->started,
		.statement_id = s->ids.statement,
		.substatement_id = s->substatement_id,
		.class = s->verb.class,
		.command = s->verb.command,
		.details = &s->details,
		.has_text = true,
		.text = s->text,
		.secrecy = s->secrecy,
	};
}

void
weir_statement_tell_started(const weir_statement *s)
{
	weir_event event = event_of(s, WEIR_KIND_STARTED);

	weir_event_put(&event, GetCurrentTimestamp(), NULL);
}

static void
unlink_statement(weir_statement *s)
{
	weir_statement **link = &weir_open.newest;

	while (*link != s)
		link = &(*link)->older;
	*link = s->older;
}

/* weir_statement_close_at is weir_statement_close for several that end together. */
void
weir_statement_close_at(weir_statement *s, const weir_outcome *outcome, TimestampTz now)
{
	weir_event event = event_of(s, WEIR_KIND_STATEMENT);

	weir_put_objects_omitted(s);
	/* A change that failed affected nothing; rows that were read have been seen. */
	event.has_rows = s->has_rows && (!outcome || s->verb.class == WEIR_CLASS_READ);
	event.rows = s->rows;
	if (s->top && !outcome && weir_has_client() && !proc_exit_inprogress) {
		weir_event_hold(&event, now);
		weir_client.answered = false;
	} else {
		weir_event_put(&event, now, outcome);
		if (s->top)
			weir_slot_end();
	}
	if (s->top && outcome)
		weir_client.told = true;
	if (s == weir_client.last_run)
		weir_client.last_run = NULL;
	unlink_statement(s);
	weir_statement_free(s);
}

void
weir_statement_close(weir_statement *s, const weir_outcome *outcome)
{
	weir_statement_close_at(s, outcome, GetCurrentTimestamp());
}

bool
weir_statements_end(const weir_outcome *outcome)
{
	bool any = false;

	if (weir_event_held() && outcome && !weir_client.answered && !weir_open.newest) {
		weir_event_release(outcome);
		any = true;
	} else
		weir_event_release(NULL);
	while (weir_open.newest) {
		weir_statement *s = weir_open.newest;
		bool cut_short = s->frames > 0;

		if (cut_short && !outcome)
			outcome = weir_outcome_unsaid();
		any |= cut_short;
		weir_run_leave(s, false);
		weir_statement_close_at(s, cut_short ? outcome : NULL, GetCurrentTimestamp());
	}
	weir_open.running = NULL;
	weir_numbering_forget();
	return any && outcome;
}

/* end_suspended closes what no call is in and a transaction takes along: cursors. They did what they did. */
static void
end_suspended(SubTransactionId subtransaction)
{
	weir_statement *s = weir_open.newest;

	while (s) {
		weir_statement *older = s->older;

		if (s->frames == 0 && (subtransaction == InvalidSubTransactionId || s->subtransaction == subtransaction))
			weir_statement_close_at(s, NULL, GetCurrentTimestamp());
		s = older;
	}
}

static void
on_transaction(XactEvent event, void *arg)
{
	switch (event) {
		case XACT_EVENT_COMMIT:
		case XACT_EVENT_PREPARE:
			weir_event_release(NULL);
			if (weir_watching())
				weir_watch();
			break;
		case XACT_EVENT_ABORT:
			end_suspended(InvalidSubTransactionId);
			if (weir_watching())
				weir_watch();
			break;
		default:
			break;
	}
}

static void
on_subtransaction(SubXactEvent event, SubTransactionId own, SubTransactionId parent, void *arg)
{
	weir_statement *s;

	switch (event) {
		case SUBXACT_EVENT_ABORT_SUB:
			weir_outcome_settled();
			end_suspended(own);
			break;
		case SUBXACT_EVENT_COMMIT_SUB:
			for (s = weir_open.newest; s; s = s->older)
				if (s->subtransaction == own)
					s->subtransaction = parent;
			break;
		default:
			break;
	}
}

void
weir_statements_init(void)
{
	RegisterXactCallback(on_transaction, NULL);
	RegisterSubXactCallback(on_subtransaction, NULL);
}
