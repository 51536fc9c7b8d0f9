/*
 * plan.c: the client's query while it is planned; see statement.h.
 *
 * Planning calls functions that it holds for constant, so a query can fail, or
 * be the end of its session, before there is a plan to open a statement for.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "postgres.h"

#include "access/xact.h"
#include "tcop/tcopprot.h"

#include "numbering.h"
#include "objects.h"
#include "slots.h"
#include "statement.h"

/* The client's query that is being planned, outside any statement; else NULL. */
static const Query *planned;
static const char *planned_source;

void
weir_plan_prepare(const Query *query, const char *source)
{
	weir_learn_relations(query->rtable);
	/* A trigger deferred to the commit is planned at this depth too. */
	if (!weir_calls_are_open() && source == debug_query_string) {
		planned = query;
		planned_source = source;
	}
}

void
weir_plan_done(void)
{
	if (!weir_calls_are_open())
		planned = NULL;
}

void
weir_plan_show(void)
{
	weir_verb verb;
	weir_slice text;

	if (!planned || !weir_has_client() || weir_event_held())
		return;
	verb = weir_verb_of_operation(planned->commandType);
	text = weir_statement_text(planned_source, planned->stmt_location, planned->stmt_len);
	weir_slot_begin(&(weir_slot_statement) {
		.statement_id = weir_number_ahead(),
		.substatement_id = 1,
		.started = GetCurrentStatementStartTimestamp(),
		.class = verb.class,
		.command = verb.command,
		.text = text,
		.secrecy = weir_secrecy_of_text(text),
	});
}
