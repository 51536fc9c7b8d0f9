/*
 * client.c: what the client is told, and which statement it is about; see
 * client.h.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "postgres.h"

#include <ctype.h>

#include "tcop/tcopprot.h"
#include "utils/timestamp.h"

#include "client.h"
#include "objects.h"
#include "session.h"

weir_client_state weir_client;

/*
 * put_with_early_functions writes an event that no statement was opened for,
 * with the functions that ran in it. called says that it can have been a call
 * of a function by its number, and so of one of the server's own.
 */
static void
put_with_early_functions(weir_event *event, bool called, const weir_outcome *outcome)
{
	weir_buffer objects;
	uint8 space[1024];

	weir_buffer_init(&objects, space, sizeof space);
	if (weir_put_early_functions(&objects, called)) {
		event->class = WEIR_CLASS_FUNCTION;
		event->command = "EXECUTE";
		event->details = &objects;
	}
	weir_event_put(event, GetCurrentTimestamp(), outcome);
	weir_buffer_reset(&objects);
}

/* put_call writes the event of functions that ran without a statement. */
static void
put_call(bool called)
{
	weir_event event = {.kind = WEIR_KIND_STATEMENT};

	if (!weir_early_functions(called))
		return;
	weir_event_release(NULL);
	event.started = GetCurrentStatementStartTimestamp();
	weir_number_event(&event.statement_id, &event.substatement_id);
	put_with_early_functions(&event, called, NULL);
}

/* statement_failed writes the event of a statement that never was open: it failed before. */
static void
statement_failed(const char *source, const weir_outcome *outcome)
{
	weir_event event = {.kind = WEIR_KIND_STATEMENT};
	int location = 0;
	weir_verb verb;

	/* Of several statements in one string those before the one that failed have their events. */
	if (source && source == weir_client.source && weir_client.answered)
		location = weir_client.end;
	/* The semicolon is of the statement before. */
	if (location > 0 && source[location] == ';')
		location++;
	event.has_text = source != NULL;
	event.text = weir_statement_text(source, location, 0);
	event.secrecy = WEIR_UNPARSED;
	verb = weir_verb_of_text(event.text);
	event.class = verb.class;
	event.command = verb.command;
	event.started = GetCurrentStatementStartTimestamp();
	weir_number_event(&event.statement_id, &event.substatement_id);
	weir_session_refresh();
	put_with_early_functions(&event, source == NULL, outcome);
}

void
weir_inner_failed(void)
{
	weir_event event = {.kind = WEIR_KIND_STATEMENT};
	const weir_outcome *outcome = weir_outcome_of_inner(&event.text);
	weir_verb verb;

	if (!outcome)
		return;
	event.has_text = true;
	event.secrecy = WEIR_UNPARSED;
	verb = weir_verb_of_text(event.text);
	event.class = verb.class;
	event.command = verb.command;
	event.started = GetCurrentTimestamp();
	event.statement_id = weir_number_nested(&event.substatement_id).statement;
	weir_event_put(&event, event.started, outcome);
}

void
weir_client_error(const weir_outcome *outcome)
{
	weir_statement *s;

	if (weir_client.told) {
		weir_client.told = false;
		return;
	}
	/*
	 * The statement before may have failed after all, at its commit: before its
	 * answer went out, or, in the extended protocol, at Sync, when no query
	 * string is set.
	 */
	if (weir_event_held() && (!weir_client.answered || debug_query_string == NULL)) {
		weir_event_release(outcome);
		return;
	}
	weir_event_release(NULL);
	/* Between two calls, say at an interrupt, the statement is open and nobody is in it. */
	s = debug_query_string ? weir_statement_find_top(debug_query_string) : NULL;
	if (s) {
		weir_statement_close(s, outcome);
		weir_client.told = false;
		return;
	}
	statement_failed(debug_query_string, outcome);
}

void
weir_client_answered(void)
{
	/* A portal of the extended protocol is dropped only later; its statement ends with its answer. */
	if (weir_client.last_run && weir_client.last_run->frames == 0)
		weir_statement_close(weir_client.last_run, NULL);
	weir_client.answered = true;
}

void
weir_client_called(void)
{
	put_call(true);
}

void
weir_client_suspended(void)
{
	weir_client.last_run = NULL;
}

/* first_word copies the first word of a command in capitals. */
static void
first_word(const char *text, char *word, size_t size)
{
	size_t n = 0;

	text += strspn(text, " \t\r\n");
	for (; n + 1 < size && (isalpha((unsigned char) *text) || *text == '_'); text++)
		word[n++] = pg_ascii_toupper((unsigned char) *text);
	word[n] = '\0';
}

void
weir_client_replicates(void)
{
	weir_event event = {.kind = WEIR_KIND_STATEMENT, .class = WEIR_CLASS_MISC};
	char command[NAMEDATALEN];

	/* SQL in a replication session, and the result sets a command is made of, are not meant. */
	if (MyBackendType != B_WAL_SENDER || !debug_query_string || weir_client.replicated || weir_client.source || weir_event_held())
		return;
	weir_client.replicated = true;
	first_word(debug_query_string, command, sizeof command);
	event.command = command;
	event.started = GetCurrentStatementStartTimestamp();
	event.has_text = true;
	event.text = weir_statement_text(debug_query_string, 0, 0);
	event.secrecy = WEIR_UNPARSED;
	weir_number_event(&event.statement_id, &event.substatement_id);
	weir_event_put(&event, GetCurrentTimestamp(), NULL);
}

void
weir_client_ready(void)
{
	weir_event_release(NULL);
	/* A user's functions may have run in a trigger deferred to the commit; one of the server's own was part of that. */
	put_call(false);
	weir_forget_early_functions();
	weir_numbering_idle();
	weir_statements_show_open();
	memset(&weir_client, 0, sizeof weir_client);
}
