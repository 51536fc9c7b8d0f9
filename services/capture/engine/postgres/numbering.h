/*
 * numbering.h: statement and substatement ids.
 *
 * A client's statement gets the next id of its session and is substatement 1 of
 * it; what the server runs because of it counts on from 2.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef WEIR_NUMBERING_H
#define WEIR_NUMBERING_H

#include "postgres.h"

/* A client statement, and what runs inside it. */
typedef struct weir_ids {
	uint64 statement;
	uint64 substatements; /* given out so far */
} weir_ids;

/* weir_number_client numbers a client's statement, which is substatement 1. */
extern weir_ids weir_number_client(void);

/*
 * weir_number_nested numbers a statement inside the client statement that runs,
 * or ended just now, or is to come: a function called while it is planned runs
 * ahead of it.
 */
extern weir_ids weir_number_nested(uint64 *substatement);

/* weir_number_ahead is the id that the client's next statement will get. */
extern uint64 weir_number_ahead(void);

/* weir_number_event numbers an event outside any statement: logins, disconnects. */
extern void weir_number_event(uint64 *statement, uint64 *substatement);

/*
 * weir_numbering_enter says that a call into a statement begins: what opens now
 * is nested in it, unless another statement is running already. It returns what
 * weir_numbering_leave takes when the call is over. ids may be NULL.
 */
extern weir_ids *weir_numbering_enter(weir_ids *ids);
extern void weir_numbering_leave(weir_ids *before, const weir_ids *left, bool client);

/* weir_numbering_idle is told when the client may send the next: nothing is begun ahead of its statement any more. */
extern void weir_numbering_idle(void);

/* weir_numbering_forget drops the statement that runs, at the end of the session. */
extern void weir_numbering_forget(void);

#endif
