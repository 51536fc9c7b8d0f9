/*
 * statement.c: the statements that are open in this session; see statement.h.
 * Here they begin.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "postgres.h"

#include "access/parallel.h"
#include "access/transam.h"
#include "access/xact.h"
#include "tcop/pquery.h"
#include "tcop/tcopprot.h"
#include "utils/timestamp.h"

#include "client.h"
#include "objects.h"
#include "params.h"
#include "session.h"
#include "slots.h"
#include "statement_private.h"

weir_open_statements weir_open;

/* Closed statements kept for the next; more than a few deep is rare. */
#define SPARE_MAX 8
static weir_statement *spare;
static int spares;

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

void
weir_statement_free(weir_statement *s)
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
	return weir_open.depth == 0 && (ActivePortal != NULL || !weir_has_client());
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
		if (weir_open.running && weir_open.running->source && strcmp(source, weir_open.running->source) == 0)
			/* The same string, but not always the same copy of it. */
			return (weir_slice) {source + (weir_open.running->text.start - weir_open.running->source), weir_open.running->text.length};
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
	s->serial = ++weir_open.last_serial;
	s->older = weir_open.newest;
	weir_open.newest = s;
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
	if (weir_open.depth == 0 && IsParallelWorker())
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
	weir_statement *s = weir_open.newest;

	while (s && s->query != query)
		s = s->older;
	return s;
}

weir_statement *
weir_statement_find_top(const char *source)
{
	weir_statement *s = weir_open.newest;

	while (s && !(s->top && s->source && strcmp(s->source, source) == 0))
		s = s->older;
	return s;
}

weir_statement *
weir_statement_of_client(void)
{
	weir_statement *s = weir_open.newest;

	while (s && !(s->top && s->frames > 0))
		s = s->older;
	return s;
}

void
weir_statement_add_relations(List *range_table, List *permissions)
{
	/* The executor checks permissions too; its relations are listed already. */
	if (weir_open.running && !weir_open.running->query)
		weir_put_relations(weir_open.running, range_table, permissions);
}

void
weir_statement_add_function(Oid function)
{
	if (weir_open.running && function >= FirstNormalObjectId)
		weir_put_function(weir_open.running, function);
	else if (!weir_open.running) {
		weir_plan_show();
		weir_add_early_function(function);
	}
}

void
weir_statements_show_open(void)
{
	const weir_statement *s = weir_open.newest;

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
	s = open_statement(weir_open.depth == 0 && (source == debug_query_string || !weir_has_client()), source, query->stmt_location, query->stmt_len, query->canSetTag);
	weir_in_error = false;
	if (!s)
		return;
	s->verb = weir_verb_of_operation(query->commandType);
	weir_put_known_relations(s, query);
	weir_statement_close(s, outcome);
}
