/*
 * sync.h: synchronous mode: a session waits until its record is durable.
 *
 * The client is told that its transaction is over by two messages,
 * CommandComplete and ReadyForQuery. The session waits before the first of them
 * that goes out when no transaction is open any more: locks and snapshot are
 * gone, and nobody has been told yet.
 *
 * Before: messages.c, which sees the two messages go by; gate.c, which waits
 * before a statement runs and before a transaction commits.
 * Next: ../ring/ring_wait.c, which sleeps.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef WEIR_SYNC_H
#define WEIR_SYNC_H

#include "postgres.h"

#include "weir.h"

/*
 * SQLSTATEs of our own, in the class of the operator's interventions. REFUSED:
 * nothing happened, or it was rolled back; the same may be tried again later.
 * UNRECORDED: it happened, and what ends is the session.
 */
#define WEIR_ERRCODE_REFUSED MAKE_SQLSTATE('5', '7', 'W', '0', '1')
#define WEIR_ERRCODE_UNRECORDED MAKE_SQLSTATE('5', '7', 'W', '0', '2')

/* weir_synchronous is what stands before every call below where speed matters: one load. */
static inline bool
weir_synchronous(void)
{
	return unlikely(weir_ring_mode(&weir_the_ring) == WEIR_MODE_SYNC);
}

/* weir_fails_closed says whether the policy is fail_operation. */
static inline bool
weir_fails_closed(void)
{
	return weir_synchronous() &&
		__atomic_load_n(&weir_the_ring.header->on_failure, __ATOMIC_RELAXED) == WEIR_FAILURE_FAIL_OPERATION;
}

/*
 * weir_sync_answer waits, where the level asks for it, before the client is told
 * of a completion: ready is true for ReadyForQuery, false for CommandComplete
 * and the result of a function that was called by its number.
 * sql is false for replication commands, which never wait.
 *
 * It may not return: under fail_operation nobody is told of what is not durable,
 * and a session that is to end ends here, before it has told.
 */
extern void weir_sync_answer(bool ready, bool sql);

/*
 * weir_sync_before waits until everything this session wrote is durable, where
 * an error is still clean: cancel and terminate are thrown as everywhere. False
 * where the path does not answer, or is not healthy.
 */
extern bool weir_sync_before(void);

/*
 * weir_sync_make_room waits until the ring has room for a payload, for as long as
 * the path is healthy and nobody wants the session to stop; at most for the sync
 * timeout. Records are made faster than capture takes them only by statements
 * that run many others, which hold what they hold meanwhile.
 */
extern void weir_sync_make_room(uint32 length);

/* weir_sync_init names the waits; once per server, before and after it has shared memory. */
extern void weir_sync_init(void);
extern void weir_sync_init_shared(void);

#endif
