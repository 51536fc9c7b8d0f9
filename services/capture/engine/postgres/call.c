/*
 * call.c: the server's calls into statements, and which statement runs inside
 * which; see statement.h.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "client.h"
#include "statement_private.h"

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

/* on_error is called for every error raised within a call, notices included, the innermost call first. */
static void
on_error(void *arg)
{
	const weir_call *call = arg;

	/* Only a query that another statement runs has a position of this kind. */
	if (weir_open.depth == call->depth + 1 && getinternalerrposition() > 0 && weir_watching())
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
	call->running = weir_open.running;
	call->ids = weir_numbering_enter(s ? &s->ids : NULL);
	call->mark = weir_open.last_serial;
	call->depth = weir_open.depth++;
	if (!s)
		return;
	s->frames++;
	weir_open.running = s;
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
	weir_open.running = call->running;
	weir_open.depth = call->depth;
}

bool
weir_calls_are_open(void)
{
	return weir_open.depth > 0;
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
	weir_statement *s = weir_open.newest;

	/* Statements are in the order of opening: what began within this call is on top. */
	while (s && s->serial > call->mark) {
		weir_statement *older = s->older;

		if (s != call->statement)
			weir_statement_close_at(s, outcome, now);
		s = older;
	}
	pop(call);
	if (call->statement)
		weir_statement_close_at(call->statement, outcome, now);
}
