/*
 * messages.c: what the server tells its client, seen on the way.
 *
 * Some things have no hook, or one that a session can blind: errors before any
 * executor, the end of a login, the moment an outcome is certain. All of them
 * are messages. The server's table of message functions is replaced once, in
 * the postmaster, by a copy with ours in front.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "postgres.h"

#include <dlfcn.h>

#include "tcop/tcopprot.h"

#include "hooks.h"
#include "outcome.h"
#include "port.h"
#include "session.h"
#include "slots.h"
#include "client.h"
#include "sync.h"
#include "weir.h"

static const PQcommMethods *server_methods;
static PQcommMethods methods;
static emit_log_hook_type next_log;

/* on_error finds an ErrorResponse its event. */
static void
on_error(const char *body, size_t length)
{
	bool fatal;
	const weir_outcome *outcome = weir_outcome_of_message(body, length, &fatal);

	/* The transaction looks alive until the server aborts it, which is after this message. */
	weir_in_error = true;
	if (!weir_session_logged_in()) {
		if (fatal)
			weir_session_refused(outcome);
	} else if (fatal)
		/* Nothing unwinds: what is open is closed when the process exits. */
		weir_session_doomed(outcome);
	else
		weir_client_error(outcome);
	weir_in_error = false;
}

/* unwatched leaves nothing behind when the mode is switched off, and remembers logins that nobody is told of. */
static void
unwatched(char type)
{
	if (weir_event_held())
		weir_event_release(NULL);
	if (type == 'Z')
		weir_session_missed();
}

static int
put_message(char type, const char *body, size_t length)
{
	bool sql;

	/* Rows, which are most messages, pass with one comparison. */
	if (type == 'D')
		return server_methods->putmessage(type, body, length);
	if (!weir_watching()) {
		unwatched(type);
		return server_methods->putmessage(type, body, length);
	}
	switch (type) {
		case 'C': /* CommandComplete */
			weir_client_answered();
			/* BASE_BACKUP answers with result sets first; only PostgreSQL 13 calls all of them so. */
			if (strcmp(body, "SELECT") != 0 || PG_VERSION_NUM < 140000)
				weir_client_replicates();
			if (weir_synchronous())
				weir_sync_answer(false, weir_client.source != NULL);
			break;
		case 'W': /* CopyBothResponse */
			weir_client_replicates();
			break;
		case 's': /* PortalSuspended */
			weir_client_suspended();
			break;
		case 'V': /* FunctionCallResponse */
			weir_client_called();
			if (weir_synchronous())
				weir_sync_answer(false, true);
			break;
		case 'E': /* ErrorResponse */
			on_error(body, length);
			break;
		case 'N': /* NoticeResponse */
			weir_slot_thrown_out(body, length);
			break;
		case 'Z': /* ReadyForQuery */
			sql = weir_client.source != NULL;
			weir_client_ready();
			weir_session_ready();
			if (weir_synchronous())
				weir_sync_answer(true, sql);
			break;
		default:
			break;
	}
	return server_methods->putmessage(type, body, length);
}

/*
 * on_log stands in for the messages where there is no client, in a background
 * worker and a single-user server: a statement of theirs that fails before it
 * has a plan is in the log alone.
 */
static void
on_log(ErrorData *error)
{
	if (next_log)
		next_log(error);
	if (error->elevel != ERROR || weir_has_client() || !debug_query_string || !weir_watching())
		return;
	weir_in_error = true;
	weir_client_error(weir_outcome_being_thrown());
	weir_in_error = false;
}

void
weir_messages_init(void)
{
	next_log = emit_log_hook;
	emit_log_hook = on_log;
	server_methods = PqCommMethods;
	methods = *server_methods;
	methods.putmessage = put_message;
	PqCommMethods = &methods;
}

static const PQcommMethods *expected;
static bool replacement_told;

void
weir_messages_expect(void)
{
	expected = PqCommMethods;
}

bool
weir_messages_intact(void)
{
	/* A worker's messages go to its leader: the server itself exchanges its table. */
	return PqCommMethods == expected || !weir_has_client();
}

bool
weir_messages_put_back(char *subject, size_t size)
{
	bool news = !replacement_told;
	Dl_info library;

	replacement_told = true;
	if (dladdr((void *) PqCommMethods->putmessage, &library) && library.dli_fname)
		snprintf(subject, size, "put back: were of %s", library.dli_fname);
	else
		strlcpy(subject, "put back", size);
	PqCommMethods = expected;
	return news;
}
