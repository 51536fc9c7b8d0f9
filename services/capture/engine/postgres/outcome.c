/*
 * outcome.c: the error a statement or a session ended with; see outcome.h.
 *
 * An error is read where it passes first: in the PG_CATCH of the innermost
 * statement, for an exception block further out may swallow it, or in the
 * message to the client, for what fails outside any executor. Both are read in
 * the server encoding.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "postgres.h"

#include "mb/pg_wchar.h"
#include "storage/pmsignal.h"
#include "tcop/tcopprot.h"
#include "utils/elog.h"
#include "utils/memutils.h"

#include "outcome.h"
#include "port.h"
#include "text.h"
#include "weir.h"

#define FIELD_SQLSTATE 13
#define FIELD_ERROR_MESSAGE 14

static char message_space[WEIR_MESSAGE_LIMIT];
static weir_outcome outcome;

/* True while the error in `outcome` unwinds; thrown_code is its SQLSTATE as the server packs it. */
static bool unwinding;
static int thrown_code;

/* Made early and with room for most errors: an error is no time to ask for memory. */
static MemoryContext copy_context;

void
weir_outcome_init(void)
{
	if (!copy_context)
		copy_context = AllocSetContextCreate(TopMemoryContext, "weir errors", 16 * 1024, 16 * 1024, 64 * 1024);
}

/* message_limit keeps a message from crowding out its statement in a small ring. */
static size_t
message_limit(void)
{
	return Min(WEIR_MESSAGE_LIMIT, weir_ring_largest(&weir_the_ring) / 8);
}

static void
set_outcome(const char *sqlstate, const char *message, size_t length)
{
	weir_slice text = {message, length};
	weir_secrets found;
	const weir_secrets *hidden = weir_secrets_in(text, WEIR_CONTENT, &found);
	size_t shown = weir_shown_length(text, hidden);

	strlcpy(outcome.sqlstate, sqlstate, sizeof outcome.sqlstate);
	outcome.message = message_space;
	outcome.length = 0;
	if (shown > message_limit()) {
		weir_shown_hash(text, hidden, outcome.sha256);
		outcome.length = shown;
	}
	outcome.kept = weir_show(message_space, message_limit(), text, hidden);
}

/* copy_thrown reads the error in hand from the server's error stack, and says of what level it is. */
static int
copy_thrown(int code)
{
	MemoryContext old;
	ErrorData *error;
	int level;

	/* Copying needs memory, which is what this error is about. */
	if (code == ERRCODE_OUT_OF_MEMORY) {
		set_outcome(unpack_sql_state(code), "out of memory", strlen("out of memory"));
		return ERROR;
	}
	/* A login can fail before the session began. */
	weir_outcome_init();
	old = MemoryContextSwitchTo(copy_context);
	error = CopyErrorData();
	if (error->message)
		set_outcome(unpack_sql_state(code), error->message, strlen(error->message));
	else
		set_outcome(unpack_sql_state(code), "", 0);
	level = error->elevel;
	MemoryContextSwitchTo(old);
	MemoryContextReset(copy_context);
	return level;
}

const weir_outcome *
weir_outcome_being_thrown(void)
{
	int code = geterrcode();

	if (!unwinding || code != thrown_code) {
		(void) copy_thrown(code);
		thrown_code = code;
		unwinding = true;
	}
	return &outcome;
}

const weir_outcome *
weir_outcome_of_inner(weir_slice *query)
{
	int code = geterrcode();
	MemoryContext old;
	ErrorData *error;

	if (code == ERRCODE_OUT_OF_MEMORY)
		return NULL;
	weir_outcome_init();
	/* The query is read from this copy by the caller, so the memory is freed with the next error. */
	MemoryContextReset(copy_context);
	old = MemoryContextSwitchTo(copy_context);
	error = CopyErrorData();
	MemoryContextSwitchTo(old);
	if (error->elevel != ERROR || !error->internalquery)
		return NULL;
	*query = weir_statement_text(error->internalquery, 0, 0);
	set_outcome(unpack_sql_state(code), error->message ? error->message : "", error->message ? strlen(error->message) : 0);
	thrown_code = code;
	unwinding = true;
	return &outcome;
}

const weir_outcome *
weir_outcome_unsaid(void)
{
	const char *message = "the session ended while the statement ran";
	int code = ERRCODE_OPERATOR_INTERVENTION;

	if (!PostmasterIsAlive()) {
		message = "the server's main process died while the statement ran";
		code = ERRCODE_CRASH_SHUTDOWN;
	} else if (MyProcPort && whereToSendOutput == DestNone) {
		message = "the connection to the client was lost while the statement ran";
		code = ERRCODE_CONNECTION_FAILURE;
	}
	set_outcome(unpack_sql_state(code), message, strlen(message));
	return &outcome;
}

void
weir_outcome_settled(void)
{
	unwinding = false;
}

const weir_outcome *
weir_outcome_of_message(const char *body, size_t length, bool *fatal)
{
	const char *end = body + length;
	const char *sqlstate = "XX000";
	const char *message = "";

	*fatal = false;
#if PG_VERSION_NUM < 140000
	/* Protocol 2 has one line for people, translated and with the place in the query; the error itself is being reported. */
	if (PG_PROTOCOL_MAJOR(FrontendProtocol) < 3) {
		unwinding = false;
		*fatal = copy_thrown(geterrcode()) >= FATAL;
		return &outcome;
	}
#endif
	while (body < end && *body) {
		const char *value = body + 1;

		switch (*body) {
			case 'V': /* severity, never translated */
				*fatal = strcmp(value, "FATAL") == 0 || strcmp(value, "PANIC") == 0;
				break;
			case 'C':
				sqlstate = value;
				break;
			case 'M':
				message = value;
				break;
			default:
				break;
		}
		body = value + strlen(value) + 1;
	}
	unwinding = false;
	/*
	 * The message is in the client's encoding. Where that is not the server's,
	 * the server's own is still on the error stack: it is being reported.
	 */
	if (CurrentMemoryContext == ErrorContext && pg_get_client_encoding() != GetDatabaseEncoding())
		(void) copy_thrown(geterrcode());
	else
		set_outcome(sqlstate, message, strlen(message));
	return &outcome;
}

void
weir_outcome_redact(weir_outcome *o, weir_quotes quotes)
{
	const char *start = o->message;
	const char *end = start + o->kept;
	weir_secrets quoted = {.count = 1};
	char shown[WEIR_MESSAGE_LIMIT];

	if (o->message != message_space || quotes == WEIR_QUOTES_NOTHING)
		return;
	/* The one that a session ends with is a copy; the text is the same. */
	outcome = *o;
	if (quotes == WEIR_QUOTES_SOMEWHERE) {
		/* From the first to the last, for what is quoted may have some in it; of a message that was cut to its end. */
		start = memchr(start, '"', outcome.kept);
		if (!start++)
			return;
		while (!outcome.length && end > start && *--end != '"')
			;
		if (end == start)
			end = outcome.message + outcome.kept;
	}
	quoted.at[0].start = start - outcome.message;
	quoted.at[0].end = end - outcome.message;
	outcome.kept = weir_show(shown, sizeof shown, weir_outcome_text(&outcome), &quoted);
	memcpy(message_space, shown, outcome.kept);
	outcome.length = 0;
	*o = outcome;
}

void
weir_put_outcome(weir_buffer *b, const weir_outcome *o)
{
	weir_put_string(b, FIELD_SQLSTATE, o->sqlstate);
	if (o->length)
		weir_put_cut_text(b, FIELD_ERROR_MESSAGE, weir_outcome_text(o), o->length, o->sha256);
	else
		weir_put_text(b, FIELD_ERROR_MESSAGE, weir_outcome_text(o), NULL, WEIR_MESSAGE_LIMIT);
}
