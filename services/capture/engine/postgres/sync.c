/*
 * sync.c: synchronous mode: a session waits until its record is durable; see
 * sync.h.
 *
 * What a wait is for is the last number that this session wrote, so everything
 * it has to tell is written before. What can end it otherwise is what ends the
 * wait of synchronous replication: the user's cancel, the administrator's
 * terminate, the server's end; and the two of our own, the time-out and a path
 * that is not healthy.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/ipc.h"
#include "storage/pmsignal.h"
#include "utils/timestamp.h"
#if PG_VERSION_NUM >= 140000
#include "utils/backend_status.h"
#include "utils/wait_event.h"
#endif

#include "event.h"
#include "gate.h"
#include "sync_private.h"

enum wait_end {
	DURABLE,
	NOT_DURABLE, /* released by the path, the time-out or the end of the mode */
	CANCELLED,
	ENDING
};

/* The number up to which the client has been told, with or without a record. */
static uint64 settled;

/* True from the first completion that the client is told of until it is ready for the next query. */
static bool completed;

/* tell_degraded is for the one session that turned the path. */
static void
tell_degraded(void)
{
	ereport(LOG_SERVER_ONLY,
			(errmsg("weir: no record became durable within %u ms: the path to the journal counts as not healthy",
					weir_ring_sync_timeout_ms(&weir_the_ring)),
			 weir_fails_closed() ? errdetail("Statements are refused until capture says that it is healthy.")
			 : errdetail("Sessions do not wait until capture says that it is healthy.")));
}

/* interrupted says what the server wants of this session, where an answer can be given. */
static enum wait_end
interrupted(void)
{
	if (InterruptHoldoffCount != 0 || CritSectionCount != 0)
		return DURABLE;
	if (ProcDiePending)
		return ENDING;
	if (QueryCancelPending && QueryCancelHoldoffCount == 0)
		return CANCELLED;
	return DURABLE;
}

static enum wait_end
wait_for(uint64 number)
{
	weir_wait wait = weir_wait_begin(number);
	enum wait_end end;

	for (;;) {
		enum weir_waited waited;

		pgstat_report_wait_start(weir_wait_event(WAIT_DURABLE));
		waited = weir_ring_wait(&weir_the_ring, &wait);
		pgstat_report_wait_end();
		switch (waited) {
			case WEIR_WAIT_AGAIN:
				break;
			case WEIR_WAIT_DURABLE:
				return DURABLE;
			case WEIR_WAIT_TIMEOUT:
				tell_degraded();
				return NOT_DURABLE;
			case WEIR_WAIT_DEGRADED:
			case WEIR_WAIT_UNSYNCED:
				return NOT_DURABLE;
		}
		end = interrupted();
		if (end != DURABLE)
			return end;
		/* Nobody is left to hear of anything. */
		if (!PostmasterIsAlive())
			proc_exit(1);
	}
}

bool
weir_sync_before(void)
{
	uint64 number = weir_event_last();

	if (weir_event_unnumbered())
		return false;
	if (weir_ring_durable(&weir_the_ring, number))
		return true;
	for (;;) {
		switch (wait_for(number)) {
			case DURABLE:
				return true;
			case NOT_DURABLE:
				return false;
			case CANCELLED:
			case ENDING:
				CHECK_FOR_INTERRUPTS();
				break;
		}
	}
}

/*
 * release lets the client be told of what has no durable record. Where
 * statements are refused, a login and an error tell of nothing that was done:
 * nobody was let go.
 */
static void
release(uint64 number)
{
	if (completed || !weir_fails_closed())
		weir_ring_released(&weir_the_ring, number, weir_unix_us(GetCurrentTimestamp()));
	settled = number;
}

/*
 * refuse_answer is for fail_operation: what is not durable is not told. A
 * transaction that is open can be rolled back; one that is over can not, and the
 * client that loses its connection knows that it does not know.
 */
static void
refuse_answer(void)
{
	if (IsTransactionOrTransactionBlock()) {
		weir_ring_refused(&weir_the_ring);
		ereport(ERROR, (errcode(WEIR_ERRCODE_REFUSED),
						errmsg("statement undone: its audit record could not be made durable"), weir_gate_why()));
	}
	settled = weir_event_last();
	ereport(FATAL, (errcode(WEIR_ERRCODE_UNRECORDED),
					errmsg("terminating connection: the transaction is complete, but its last audit record may not be durable"),
					errdetail("What it did has a durable record; how it ended may have none. "
							  "The policy fail_operation lets nobody be told of that."),
					weir_gate_hint()));
}

/* settle ends the wait for an answer. It returns where the client may be told. */
static void
settle(enum wait_end end, uint64 number)
{
	bool owed = weir_fails_closed() && weir_gate_owes();

	weir_event_forgive();
	switch (end) {
		case DURABLE:
			settled = number;
			weir_gate_settled();
			return;
		case ENDING:
			/* With the error that follows the client learns that the session ended, and not how the statement did. */
			ereport(WARNING, (errmsg("canceling the wait for the audit record and terminating connection due to administrator command"),
							  errdetail("The statement is complete, but its record may not be durable yet.")));
			CHECK_FOR_INTERRUPTS();
			break;
		case CANCELLED:
			if (owed)
				break;
			QueryCancelPending = false;
			ereport(WARNING, (errmsg("canceling the wait for the audit record due to user request"),
							  errdetail("The statement is complete, but its record may not be durable yet.")));
			break;
		case NOT_DURABLE:
			break;
	}
	if (owed)
		refuse_answer();
	release(number);
	weir_gate_settled();
}

/* show_waiting makes pg_stat_activity show a session that waits as one that works; ReadyForQuery comes when it is set to idle. */
static void
show_waiting(bool waiting)
{
#if PG_VERSION_NUM >= 140000
	uint64 query = pgstat_get_my_query_id();
#endif

	if (waiting)
		pgstat_report_activity(STATE_RUNNING, NULL);
	else if (!IsTransactionOrTransactionBlock())
		pgstat_report_activity(STATE_IDLE, NULL);
	else if (IsAbortedTransactionBlockState())
		pgstat_report_activity(STATE_IDLEINTRANSACTION_ABORTED, NULL);
	else
		pgstat_report_activity(STATE_IDLEINTRANSACTION, NULL);
#if PG_VERSION_NUM >= 140000
	if (waiting)
		pgstat_report_query_id(query, true);
#endif
}

static void
answer(bool ready)
{
	uint32 level = __atomic_load_n(&weir_the_ring.header->sync_level, __ATOMIC_RELAXED);
	bool open = IsTransactionOrTransactionBlock();
	enum wait_end end;
	uint64 number;

	if (open && (!ready || (level != WEIR_LEVEL_STATEMENT && level != WEIR_LEVEL_STRICT)))
		return;
	/* With the transaction over and no error, how the statement ended is certain. */
	weir_event_release(NULL);
	number = weir_event_last();
	if (weir_event_unnumbered()) { /* no wait makes it durable */
		settle(NOT_DURABLE, number);
		return;
	}
	if (number <= settled)
		return;
	if (weir_ring_durable(&weir_the_ring, number)) {
		settle(DURABLE, number);
		return;
	}
	if (ready)
		show_waiting(true);
	end = wait_for(number);
	if (ready)
		show_waiting(false);
	settle(end, number);
}

void
weir_sync_answer(bool ready, bool sql)
{
	if (!weir_has_client() || (MyBackendType == B_WAL_SENDER && !sql))
		return;
	/* With the extended protocol the transaction is open still when the completion goes by. */
	if (!ready)
		completed = true;
	answer(ready);
	if (ready)
		completed = false;
}

void
weir_sync_make_room(uint32 length)
{
	weir_wait wait;
	bool shown = false;

	/* The postmaster writes for those who died; it waits for nobody. */
	if (weir_ring_has_room(&weir_the_ring, length) || !IsUnderPostmaster)
		return;
	wait = weir_wait_begin(0);
	while (weir_ring_wait_room(&weir_the_ring, &wait, length) == WEIR_WAIT_AGAIN && !ProcDiePending && !QueryCancelPending) {
		if (!shown)
			pgstat_report_wait_start(weir_wait_event(WAIT_ROOM));
		shown = true;
	}
	if (shown)
		pgstat_report_wait_end();
}
