/*
 * session.c: who is connected; see session.h.
 *
 * The block is a whole field of an Activity, built when something in it
 * changed and copied otherwise. Roles are named by the catalogs, so a change
 * is noticed only in a live transaction; that is where roles change.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "postgres.h"

#include <netdb.h>
#include <sys/socket.h>

#include "access/xact.h"
#include "commands/dbcommands.h"
#include "mb/pg_wchar.h"
#include "storage/ipc.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "event.h"
#include "outcome.h"
#include "port.h"
#include "session.h"
#include "slots.h"
#include "statement.h"
#include "watch.h"
#include "weir.h"

#define FIELD_SESSION 4
#define HOST_MAX 255

static uint8 block_space[2048];
static weir_buffer block = WEIR_BUFFER_INIT(block_space);

/* What the block was built from. */
static char application[NAMEDATALEN];
static Oid role;
static bool named; /* user and database are known */

/* Names that only the catalogs know. */
static char user_name[NAMEDATALEN];
static char database_name[NAMEDATALEN];
static char effective_name[NAMEDATALEN];

static bool begun;
static bool logged_in;
static bool doomed;
static weir_outcome doom;

static void session_end(int code, Datum arg);

/* read_names asks the catalogs who the session is; in a live transaction. */
static void
read_names(Oid role_now)
{
	Oid login = GetAuthenticatedUserId();
	MemoryContext scratch = AllocSetContextCreate(CurrentMemoryContext, "weir session", ALLOCSET_SMALL_SIZES);
	MemoryContext old = MemoryContextSwitchTo(scratch);
	char *name;

	/* A worker has no port; and it has no login of its own in every version. */
	if (!OidIsValid(login))
		login = GetSessionUserId();
	if (MyProcPort && MyProcPort->user_name)
		strlcpy(user_name, MyProcPort->user_name, sizeof user_name);
	else if ((name = GetUserNameFromId(login, true)))
		strlcpy(user_name, name, sizeof user_name);
	if (!database_name[0] && OidIsValid(MyDatabaseId) && (name = get_database_name(MyDatabaseId)))
		strlcpy(database_name, name, sizeof database_name);
	effective_name[0] = '\0';
	if (role_now != login && (name = GetUserNameFromId(role_now, true)))
		strlcpy(effective_name, name, sizeof effective_name);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(scratch);
}

/* put_server_address writes the address the client reached. */
static void
put_server_address(weir_buffer *b)
{
	char host[NI_MAXHOST];

	if (getnameinfo((struct sockaddr *) &MyProcPort->laddr.addr, MyProcPort->laddr.salen, host, sizeof host, NULL, 0,
					NI_NUMERICHOST) == 0)
		weir_put_string(b, 10, host);
}

static void
put_peer(weir_buffer *b)
{
	if (MyProcPort->raddr.addr.ss_family == AF_UNIX) {
		weir_put_uint(b, 8, 1);
		return;
	}
	/* A name by reverse lookup can be longer than is worth carrying in every event. */
	if (MyProcPort->remote_host)
		weir_put_bytes(b, 5, MyProcPort->remote_host, strnlen(MyProcPort->remote_host, HOST_MAX));
	weir_put_string(b, 6, MyProcPort->remote_port);
	put_server_address(b);
}

static void
build(void)
{
	uint8 space[1536];
	weir_buffer b;
	const char *user = user_name;
	const char *database = database_name;

	if (!named && MyProcPort) {
		/* A login that is not complete: what the client asked for. */
		user = MyProcPort->user_name;
		database = MyProcPort->database_name;
	}
	weir_buffer_init(&b, space, sizeof space);
	weir_put_uint(&b, 1, MyProcPid);
	weir_put_time(&b, 2, MyStartTimestamp);
	weir_put_string(&b, 3, user);
	weir_put_string(&b, 4, database);
	if (MyProcPort)
		put_peer(&b);
	weir_put_string(&b, 7, application);
	if (GetDatabaseEncoding() != PG_UTF8)
		weir_put_string(&b, 9, pg_encoding_to_char(GetDatabaseEncoding()));
	weir_put_string(&b, 11, effective_name);

	weir_buffer_reset(&block);
	weir_put_bytes(&block, FIELD_SESSION, b.data, b.length);
	weir_buffer_reset(&b);
	weir_slot_session(&block);
}

void
weir_session_refresh(void)
{
	const char *now = application_name ? application_name : "";
	bool live = weir_catalogs_readable();
	Oid role_now = live ? GetOuterUserId() : role;

	if (!logged_in && !now[0] && MyProcPort && MyProcPort->application_name)
		now = MyProcPort->application_name;
	if (block.length && named == (named || live) && role_now == role && strcmp(now, application) == 0)
		return;
	if (live) {
		read_names(role_now);
		role = role_now;
		named = true;
	}
	strlcpy(application, now, sizeof application);
	build();
}

void
weir_put_session(weir_buffer *b)
{
	if (!block.length)
		weir_session_refresh();
	weir_put_raw(b, block.data, block.length);
}

void
weir_session_begin(void)
{
	if (begun)
		return;
	begun = true;
	weir_outcome_init();
	weir_slot_join();
	if (block.length)
		weir_slot_session(&block);
	/*
	 * Registered after the server's own callback, so it is called before that
	 * one aborts the transaction: what runs then is still to be seen.
	 */
	before_shmem_exit(session_end, (Datum) 0);
}

bool
weir_session_logged_in(void)
{
	return logged_in;
}

/* put_login writes a CONNECT; outcome is NULL where it succeeded. */
static void
put_login(const weir_outcome *outcome)
{
	weir_event event = {.kind = WEIR_KIND_CONNECT, .class = WEIR_CLASS_MISC, .command = "CONNECT"};

	event.started = MyStartTimestamp;
	weir_number_event(&event.statement_id, &event.substatement_id);
	weir_event_put(&event, GetCurrentTimestamp(), outcome);
}

void
weir_session_ready(void)
{
	if (logged_in)
		return;
	logged_in = true;
	weir_session_begin();
	if (!named && MyProcPort) {
		strlcpy(user_name, MyProcPort->user_name ? MyProcPort->user_name : "", sizeof user_name);
		strlcpy(database_name, MyProcPort->database_name ? MyProcPort->database_name : "", sizeof database_name);
		named = true;
		role = GetOuterUserId();
		weir_buffer_reset(&block);
	}
	weir_session_refresh();
	put_login(NULL);
	weir_slot_logged_in();
	/* Libraries that are loaded with the session. */
	weir_watch();
}

void
weir_session_missed(void)
{
	logged_in = true;
}

void
weir_session_refused(const weir_outcome *outcome)
{
	weir_session_refresh();
	put_login(outcome);
}

void
weir_session_doomed(const weir_outcome *outcome)
{
	doomed = true;
	doom = *outcome;
}

/* session_end writes what is still open, then the DISCONNECT. */
static void
session_end(int code, Datum arg)
{
	weir_event event = {.kind = WEIR_KIND_DISCONNECT, .class = WEIR_CLASS_MISC, .command = "DISCONNECT"};
	bool told;

	if (!weir_ring_is_open || weir_ring_mode(&weir_the_ring) == WEIR_MODE_OFF) {
		weir_slot_leave();
		return;
	}
	told = weir_statements_end(doomed ? &doom : NULL);
	if (!logged_in) {
		weir_slot_leave();
		return;
	}
	event.started = event.ended = GetCurrentTimestamp();
	event.has_exit_code = true;
	event.exit_code = code;
	weir_number_event(&event.statement_id, &event.substatement_id);
	/* An idle session that was ended has no other event to say why. */
	weir_event_put(&event, event.started, doomed && !told ? &doom : NULL);
	weir_slot_leave();
}
