/*
 * statement.c: the statements that are open in this session; see statement.h.
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

#include "access/parallel.h"
#include "access/transam.h"
#include "access/xact.h"
#include "storage/ipc.h"
#include "tcop/pquery.h"
#include "tcop/tcopprot.h"
#include "utils/timestamp.h"

#include "client.h"
#include "objects.h"
#include "params.h"
#include "session.h"
#include "slots.h"
#include "statement.h"
#include "watch.h"

static weir_statement *newest;
static uint64 last_serial;

/* Closed statements kept for the next; more than a few deep is rare. */
#define SPARE_MAX 8
static weir_statement *spare;
static int spares;

/* The statement whose call is innermost, and how deep the calls are. */
static weir_statement *running;
static int depth;

/* The start the server noted for the client's message, where a statement took it already. */
static TimestampTz taken_start;

static weir_statement *
allocate(void)
{
	weir_statement *s = spare;

	if (s) {
		spare = s->older;
		spares--;
	} else if (!(s = malloc(sizeof *s)))
		return NULL;
	memset(s, 0, offsetof(weir_statement, details_space));
	weir_buffer_init(&s->details, s->details_space, sizeof s->details_space);
	return s;
}

static void
release(weir_statement *s)
{
	weir_buffer_reset(&s->details);
	free(s->kept_text);
	if (spares >= SPARE_MAX) {
		free(s);
		return;
	}
	s->older = spare;
	spare = s;
	spares++;
}

/*
 * is_top tells a client's statement from what runs inside one. At depth 0 the
 * server also runs triggers deferred to the commit, fastpath calls and login
 * triggers; what the client sent has a portal. A worker has neither.
 */
static bool
is_top(void)
{
	return depth == 0 && (ActivePortal != NULL || !weir_has_client());
}

/* continues says whether a plan belongs to the client statement before it. */
static bool
continues(const char *source, bool sets_tag)
{
	return source == weir_client.source && !weir_client.answered && !(sets_tag && weir_client.tagged);
}

static void
begin_client_statement(weir_statement *s, int end, bool sets_tag)
{
	weir_event_release(NULL);
	weir_client.told = false;
	weir_client.answered = false;
	s->top = true;
	s->ids = weir_number_client();
	s->substatement_id = 1;
	weir_client.source = s->source;
	weir_client.text = s->text;
	/* Only the simple protocol has several statements in a string; its portals have no cached plan. */
	weir_client.end = ActivePortal && !ActivePortal->cplan ? end : 0;
	weir_client.tagged = sets_tag;
}

/*
 * text_of is a statement's text. A plan made inside another statement (the
 * query of a cursor, of CREATE TABLE AS, of a rule) does not know its place in
 * the string: it has the text of that statement.
 */
static weir_slice
text_of(const char *source, int location, int length, bool top, bool sets_tag)
{
	if (location <= 0 && length == 0 && source) {
		if (running && running->source && strcmp(source, running->source) == 0)
			/* The same string, but not always the same copy of it. */
			return (weir_slice) {source + (running->text.start - running->source), running->text.length};
		if (top && continues(source, sets_tag))
			return weir_client.text;
	}
	return weir_statement_text(source, location, length);
}

/* start_time is the server's own for the first statement of a message: one clock read less. */
static TimestampTz
start_time(bool top)
{
	TimestampTz start = GetCurrentStatementStartTimestamp();

	if (!top || start == taken_start || !weir_has_client())
		return GetCurrentTimestamp();
	taken_start = start;
	return start;
}

static weir_statement *
open_statement(bool top, const char *source, int location, int length, bool sets_tag)
{
	weir_statement *s = allocate();

	weir_session_begin();
	weir_session_refresh();
	weir_outcome_settled();
	if (!s)
		return NULL;
	/* See weir_statement_text. */
	if (location < 0)
		length = 0;
	s->source = source;
	s->text = text_of(source, location, length, top, sets_tag);
	s->secrecy = weir_secrecy_of_text(s->text);
	if (!top)
		s->ids = weir_number_nested(&s->substatement_id);
	else if (continues(source, sets_tag)) {
		weir_client.tagged |= sets_tag;
		s->ids = weir_number_nested(&s->substatement_id);
	} else
		begin_client_statement(s, length > 0 ? Max(location, 0) + length : 0, sets_tag);
	s->started = start_time(top);
	s->subtransaction = GetCurrentSubTransactionId();
	s->serial = ++last_serial;
	s->older = newest;
	newest = s;
	return s;
}

/* write_unopened stands in for a statement there was no memory for: what is known of it, at once. */
static void
write_unopened(weir_verb verb, const char *source, int location, int length)
{
	weir_event event = {.kind = WEIR_KIND_STATEMENT, .class = verb.class, .command = verb.command};

	event.started = GetCurrentTimestamp();
	weir_number_event(&event.statement_id, &event.substatement_id);
	event.has_text = true;
	event.text = weir_statement_text(source, location, length);
	event.secrecy = WEIR_UNPARSED;
	weir_event_put(&event, event.started, NULL);
}

/* show lets the statement be seen by others while it runs, and after its session died in it. */
static void
show(const weir_statement *s)
{
	weir_slot_begin(&(weir_slot_statement) {
		.statement_id = s->ids.statement,
		.substatement_id = s->substatement_id,
		.started = s->started,
		.class = s->verb.class,
		.command = s->verb.command,
		.text = s->text,
		.secrecy = s->secrecy,
	});
}

weir_statement *
weir_statement_of_query(const QueryDesc *query)
{
	const PlannedStmt *plan = query->plannedstmt;
	weir_verb verb = weir_verb_of_operation(query->operation);
	weir_statement *s;

	/* The leader tells of the query its workers help with. */
	if (depth == 0 && IsParallelWorker())
		return NULL;
	s = weir_statement_find(query);
	if (s)
		weir_statement_close(s, NULL);
	s = open_statement(is_top(), query->sourceText, plan->stmt_location, plan->stmt_len, plan->canSetTag);
	if (!s) {
		write_unopened(verb, query->sourceText, plan->stmt_location, plan->stmt_len);
		return NULL;
	}
	s->query = query;
	s->verb = verb;
	/* The further plans of a rule count nothing. */
	s->has_rows = plan->canSetTag;
	if (s->top)
		show(s);
	weir_put_relations(s, plan->rtable, WEIR_PERMISSIONS(plan));
	weir_put_params(&s->details, query->params, s->text, s->secrecy, weir_details_limit() - s->details.length);
	return s;
}

weir_statement *
weir_statement_of_utility(const PlannedStmt *plan, const char *source, bool top, ParamListInfo params)
{
	weir_verb verb = weir_verb_of_utility(plan->utilityStmt);
	/* What a worker runs by itself it runs as a function would. */
	weir_statement *s = open_statement((top || !weir_has_client()) && is_top(), source, plan->stmt_location, plan->stmt_len, true);

	if (!s) {
		write_unopened(verb, source, plan->stmt_location, plan->stmt_len);
		return NULL;
	}
	s->verb = verb;
	s->secrecy = weir_secrecy_of_utility(plan->utilityStmt, s->secrecy);
	if (s->top)
		show(s);
	weir_put_params(&s->details, params, s->text, s->secrecy, weir_details_limit());
	return s;
}

weir_statement *
weir_statement_find(const QueryDesc *query)
{
	weir_statement *s = newest;

	while (s && s->query != query)
		s = s->older;
	return s;
}

weir_statement *
weir_statement_find_top(const char *source)
{
	weir_statement *s = newest;

	while (s && !(s->top && s->source && strcmp(s->source, source) == 0))
		s = s->older;
	return s;
}

weir_statement *
weir_statement_of_client(void)
{
	weir_statement *s = newest;

	while (s && !(s->top && s->frames > 0))
		s = s->older;
	return s;
}

void
weir_statement_tell_started(const weir_statement *s)
{
	weir_event event = {.kind = WEIR_KIND_STARTED};

	event.started = s->started;
	event.statement_id = s->ids.statement;
	event.substatement_id = s->substatement_id;
	event.class = s->verb.class;
	event.command = s->verb.command;
	event.details = &s->details;
	event.has_text = true;
	event.text = s->text;
	event.secrecy = s->secrecy;
	weir_event_put(&event, GetCurrentTimestamp(), NULL);
}

/*
 * keep_text copies the text of a statement that stays open between two calls.
 * The function it is part of may be gone, and the string with it, when an
 * exception block aborts the subtransaction that it was suspended in.
 */
static void
keep_text(weir_statement *s)
{
	if (s->top || s->kept_text || s->text.length == 0)
		return;
	s->kept_text = malloc(s->text.length);
	if (s->kept_text)
		memcpy(s->kept_text, s->text.start, s->text.length);
	else
		s->text.length = 0;
	s->text.start = s->kept_text;
}

static void
unlink_statement(weir_statement *s)
{
	weir_statement **link = &newest;

	while (*link != s)
		link = &(*link)->older;
	*link = s->older;
}

/* close_at is weir_statement_close for several that end together. */
static void
close_at(weir_statement *s, const weir_outcome *outcome, TimestampTz now)
{
	weir_event event = {.kind = WEIR_KIND_STATEMENT};

	weir_put_objects_omitted(s);
	event.started = s->started;
	event.statement_id = s->ids.statement;
	event.substatement_id = s->substatement_id;
	event.class = s->verb.class;
	event.command = s->verb.command;
	event.details = &s->details;
	event.has_text = true;
	event.text = s->text;
	event.secrecy = s->secrecy;
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
	release(s);
}

void
weir_statement_close(weir_statement *s, const weir_outcome *outcome)
{
	close_at(s, outcome, GetCurrentTimestamp());
}

/* on_error is called for every error raised within a call, notices included, the innermost call first. */
static void
on_error(void *arg)
{
	const weir_call *call = arg;

	/* Only a query that another statement runs has a position of this kind. */
	if (depth == call->depth + 1 && getinternalerrposition() > 0 && weir_watching())
		weir_inner_failed();
}

void
weir_call_enter(weir_call *call, weir_statement *s)
{
	call->context.callback = on_error;
	call->context.arg = call;
	call->context.previous = error_context_stack;
	error_context_stack = &call->context;
	call->statement = s;
	call->running = running;
	call->ids = weir_numbering_enter(s ? &s->ids : NULL);
	call->mark = last_serial;
	call->depth = depth++;
	if (!s)
		return;
	s->frames++;
	running = s;
}

void
weir_run_enter(weir_statement *s)
{
	if (s)
		s->in_run = true;
}

void
weir_run_leave(weir_statement *s, bool suspended)
{
	if (!s || !s->in_run)
		return;
	if (suspended)
		keep_text(s);
	s->in_run = false;
	if (s->top)
		weir_client.last_run = s;
	if (s->query->estate)
		s->rows += s->query->estate->es_processed;
}

static void
pop(const weir_call *call)
{
	weir_statement *s = call->statement;

	error_context_stack = call->context.previous;
	if (s)
		s->frames--;
	weir_numbering_leave(call->ids, s ? &s->ids : NULL, s && s->top);
	running = call->running;
	depth = call->depth;
}

bool
weir_calls_are_open(void)
{
	return depth > 0;
}

void
weir_call_leave(const weir_call *call)
{
	weir_outcome_settled();
	pop(call);
}

void
weir_call_fail(const weir_call *call)
{
	const weir_outcome *outcome = weir_outcome_being_thrown();
	TimestampTz now = GetCurrentTimestamp();
	weir_statement *s = newest;

	/* Statements are in the order of opening: what began within this call is on top. */
	while (s && s->serial > call->mark) {
		weir_statement *older = s->older;

		if (s != call->statement)
			close_at(s, outcome, now);
		s = older;
	}
	pop(call);
	if (call->statement)
		close_at(call->statement, outcome, now);
}

void
weir_statement_add_relations(List *range_table, List *permissions)
{
	/* The executor checks permissions too; its relations are listed already. */
	if (running && !running->query)
		weir_put_relations(running, range_table, permissions);
}

void
weir_statement_add_function(Oid function)
{
	if (running && function >= FirstNormalObjectId)
		weir_put_function(running, function);
	else if (!running) {
		weir_plan_show();
		weir_add_early_function(function);
	}
}

void
weir_statements_show_open(void)
{
	const weir_statement *s = newest;

	while (s && !s->top)
		s = s->older;
	if (s)
		show(s);
	else
		weir_slot_end();
}

void
weir_plan_failed(const Query *query, const char *source)
{
	const weir_outcome *outcome = weir_outcome_being_thrown();
	weir_statement *s;

	weir_plan_done();
	weir_in_error = true;
	/* A trigger deferred to the commit is planned at this depth too. */
	s = open_statement(depth == 0 && (source == debug_query_string || !weir_has_client()), source, query->stmt_location, query->stmt_len, query->canSetTag);
	weir_in_error = false;
	if (!s)
		return;
	s->verb = weir_verb_of_operation(query->commandType);
	weir_put_known_relations(s, query);
	weir_statement_close(s, outcome);
}

bool
weir_statements_end(const weir_outcome *outcome)
{
	bool any = false;

	if (weir_event_held() && outcome && !weir_client.answered && !newest) {
		weir_event_release(outcome);
		any = true;
	} else
		weir_event_release(NULL);
	while (newest) {
		weir_statement *s = newest;
		bool cut_short = s->frames > 0;

		if (cut_short && !outcome)
			outcome = weir_outcome_unsaid();
		any |= cut_short;
		weir_run_leave(s, false);
		close_at(s, cut_short ? outcome : NULL, GetCurrentTimestamp());
	}
	running = NULL;
	weir_numbering_forget();
	return any && outcome;
}

/* end_suspended closes what no call is in and a transaction takes along: cursors. They did what they did. */
static void
end_suspended(SubTransactionId subtransaction)
{
	weir_statement *s = newest;

	while (s) {
		weir_statement *older = s->older;

		if (s->frames == 0 && (subtransaction == InvalidSubTransactionId || s->subtransaction == subtransaction))
			close_at(s, NULL, GetCurrentTimestamp());
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
			for (s = newest; s; s = s->older)
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
