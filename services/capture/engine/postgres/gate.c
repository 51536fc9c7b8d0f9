/*
 * gate.c: the failure policies that refuse; see gate.h.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "postgres.h"

#include "access/parallel.h"
#include "access/transam.h"
#include "access/xact.h"
#include "catalog/pg_proc.h"
#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "tcop/pquery.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"

#include "event.h"
#include "gate.h"
#include "notice.h"
#include "port.h"
#include "revocable.h"

enum boot_policy { BOOT_BUFFER, BOOT_REFUSE };

static const struct config_enum_entry boot_policies[] = {
	{"buffer", BOOT_BUFFER, false},
	{"refuse", BOOT_REFUSE, false},
	{NULL, 0, false},
};

static int boot_policy = BOOT_BUFFER;
static char *break_glass_role;

/* True from a statement that passed until its transaction ends: its commit has to wait. */
static bool ran;

/* True from such a commit until the client may be told of it. */
static bool owes;

/* The client's statement whose beginning has been told, and is durable. */
static uint64 begun;

/* True once the break-glass role's use has been told, until the gate is open again. */
static bool glass_broken;

/* ------------------------------------------------------------------------
 * Is it closed, and for whom.
 */

/* is_closed may wait for room; weir_gate_why says what is wrong. */
static bool
is_closed(void)
{
	if (weir_ring_mode(&weir_the_ring) == WEIR_MODE_UNTOLD)
		return boot_policy == BOOT_REFUSE;
	if (!weir_fails_closed())
		return false;
	if (weir_ring_path(&weir_the_ring) != WEIR_PATH_HEALTHY)
		return true;
	/* Room for the longest event. Capture may be a little behind; that is no reason to refuse. */
	weir_sync_make_room(weir_ring_largest(&weir_the_ring));
	CHECK_FOR_INTERRUPTS();
	return !weir_ring_has_room(&weir_the_ring, weir_ring_largest(&weir_the_ring)) ||
		weir_ring_path(&weir_the_ring) != WEIR_PATH_HEALTHY;
}

/*
 * exempt: the server's own workers, whose leaders, and replication, answer for
 * what they do; and a server in single-user mode, which is there for repairs.
 */
static bool
exempt(void)
{
	return !IsUnderPostmaster || IsParallelWorker() || (MyBackendType == B_BG_WORKER && strcmp(MyBgworkerEntry->bgw_library_name, "postgres") == 0);
}

/* breaks_glass: the role that logged in, whatever it has become, and only from this host. */
static bool
breaks_glass(void)
{
	return break_glass_role && break_glass_role[0] && MyProcPort && MyProcPort->user_name &&
		MyProcPort->raddr.addr.ss_family == AF_UNIX && strcmp(MyProcPort->user_name, break_glass_role) == 0;
}

static void
tell_broken_glass(void)
{
	if (!glass_broken)
		weir_notice(WEIR_NOTICE_BREAK_GLASS, break_glass_role);
	glass_broken = true;
}

int
weir_gate_why(void)
{
	if (weir_ring_mode(&weir_the_ring) == WEIR_MODE_UNTOLD)
		return errdetail("No capture has told this server what to do, and weir.boot_policy is \"refuse\".");
	if (weir_ring_path(&weir_the_ring) == WEIR_PATH_HEALTHY)
		return errdetail("The activity stream is synchronous with the policy fail_operation, and records are made faster than "
						 "the journal takes them.");
	return errdetail("The activity stream is synchronous with the policy fail_operation, and records do not reach the journal.");
}

int
weir_gate_hint(void)
{
	if (break_glass_role && break_glass_role[0])
		return errhint("Statements are accepted again as soon as the stream is healthy: see \"weir stream status\". Until then "
					   "ROLLBACK works, and the role \"%s\" over a local socket.", break_glass_role);
	return errhint("Statements are accepted again as soon as the stream is healthy: see \"weir stream status\". Until then "
				   "only ROLLBACK works; weir.break_glass_role can name a role that may work over a local socket.");
}

static void
refuse(const char *message)
{
	weir_ring_refused(&weir_the_ring);
	ereport(ERROR, (errcode(WEIR_ERRCODE_REFUSED), errmsg("%s", message), weir_gate_why(), weir_gate_hint()));
}

/* ------------------------------------------------------------------------
 * Statements.
 */

/* begin_durably makes the record that a statement begins durable, before it does. */
static void
begin_durably(const weir_statement *s)
{
	if (!s || s->ids.statement == begun)
		return;
	weir_statement_tell_started(s);
	if (weir_sync_before())
		begun = s->ids.statement;
	else if (weir_fails_closed() && !breaks_glass())
		refuse("statement refused: the audit record of its beginning could not be made durable");
}

void
weir_gate(weir_statement *s, const Node *utility)
{
	bool strict = weir_synchronous() &&
		__atomic_load_n(&weir_the_ring.header->sync_level, __ATOMIC_RELAXED) == WEIR_LEVEL_STRICT;

	if (exempt())
		return;
	if (!weir_ends_transaction(utility)) {
		if (!is_closed()) {
			glass_broken = false;
			ran = true;
		} else if (breaks_glass()) {
			tell_broken_glass();
			return;
		} else
			refuse("statement refused: its audit record could not be made durable");
	} else if (weir_fails_closed())
		return;
	if (strict || (weir_fails_closed() && weir_is_irrevocable(utility)))
		begin_durably(s);
}

void
weir_gate_function(Oid function)
{
	weir_statement *s;

	if (exempt() || !weir_catalogs_readable())
		return;
	s = weir_statement_of_client();
	if (s) {
		if (weir_fails_closed() && s->ids.statement != begun && !weir_function_is_harmless(function) && func_volatile(function) == PROVOLATILE_VOLATILE)
			begin_durably(s);
	} else if (!debug_query_string && !ActivePortal)
		weir_gate(NULL, NULL); /* called by its number */
}

/* ------------------------------------------------------------------------
 * Commits.
 */

/*
 * before_commit makes what a transaction did durable before it is done. A
 * transaction that wrote nothing has nothing to roll back: its client waits for
 * the answer alone.
 */
static void
before_commit(void)
{
	weir_statement *s;
	bool wrote;

	if (!weir_ring_is_open || !weir_fails_closed() || !weir_audited() || exempt() || breaks_glass())
		return;
	wrote = TransactionIdIsValid(GetTopTransactionIdIfAny());
	if (!ran && !wrote)
		return;
	if (weir_ring_path(&weir_the_ring) != WEIR_PATH_HEALTHY)
		refuse("transaction rolled back: its audit records could not be made durable");
	if (!wrote)
		return;
	/* What seems done is told of as begun: how it ended is certain only after the commit. */
	s = weir_statement_of_client();
	if (s && s->ids.statement != begun)
		weir_statement_tell_started(s);
	else if (weir_event_held() && weir_event_held_statement() != begun)
		weir_event_tell_held_started();
	if (!weir_sync_before())
		refuse("transaction rolled back: its audit records could not be made durable");
	if (s)
		begun = s->ids.statement;
}

static void
on_transaction(XactEvent event, void *arg)
{
	switch (event) {
		case XACT_EVENT_PRE_COMMIT:
		case XACT_EVENT_PRE_PREPARE:
			before_commit();
			break;
		case XACT_EVENT_COMMIT:
		case XACT_EVENT_PREPARE:
			owes |= ran;
			ran = false;
			break;
		case XACT_EVENT_ABORT:
			ran = false;
			break;
		default:
			break;
	}
}

/*
 * weir_gate_left goes to the front of those that are told of a commit. Others
 * act there for good, postgres_fdw commits on other servers, and may have
 * registered while the statement ran; the one that registered last is told first.
 */
void
weir_gate_left(void)
{
	if (!weir_fails_closed())
		return;
	UnregisterXactCallback(on_transaction, NULL);
	RegisterXactCallback(on_transaction, NULL);
}

bool
weir_gate_owes(void)
{
	return owes || (IsTransactionOrTransactionBlock() && !IsAbortedTransactionBlockState() && !breaks_glass());
}

void
weir_gate_settled(void)
{
	owes = false;
}

void
weir_gate_init(void)
{
	DefineCustomEnumVariable("weir.boot_policy", "What a server does before a capture has told it what to do.",
							 "buffer keeps events in the ring; refuse refuses statements.", &boot_policy, BOOT_BUFFER, boot_policies,
							 PGC_POSTMASTER, 0, NULL, NULL, NULL);
	DefineCustomStringVariable("weir.break_glass_role", "The role that may work over a local socket when statements are refused.",
							   "Empty for none. That it did is told in the stream.", &break_glass_role, "", PGC_SIGHUP, 0, NULL, NULL,
							   NULL);
	RegisterXactCallback(on_transaction, NULL);
}
