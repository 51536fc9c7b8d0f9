/*
 * event.h: one weir.activity.v1.Activity.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef WEIR_EVENT_H
#define WEIR_EVENT_H

#include "postgres.h"

#include "datatype/timestamp.h"

#include "encode.h"
#include "outcome.h"
#include "redact.h"
#include "weir.h"

/* Everything of an event but its end. */
typedef struct weir_event {
	enum weir_kind kind;
	TimestampTz started;
	TimestampTz ended;
	uint64 statement_id;
	uint64 substatement_id;
	enum weir_class class;
	const char *command;
	const weir_buffer *details; /* fields 9, 11, 16 and 17, encoded; or NULL */
	bool has_text;
	weir_slice text;
	weir_secrecy secrecy;
	bool has_rows;
	uint64 rows;
	bool has_exit_code;
	int exit_code;
} weir_event;

/* weir_event_put writes an event into the ring; outcome is NULL on success. */
extern void weir_event_put(const weir_event *event, TimestampTz ended, const weir_outcome *outcome);

/*
 * weir_event_hold keeps an event whose outcome is not certain: everything is
 * encoded, so that nothing it came from need stay. There is at most one.
 */
extern void weir_event_hold(const weir_event *event, TimestampTz ended);

/* weir_event_held says whether there is one. */
extern bool weir_event_held(void);

/* weir_event_held_statement is the id of its statement. */
extern uint64 weir_event_held_statement(void);

/* weir_event_tell_held_started writes what is held as a beginning, and goes on holding it. */
extern void weir_event_tell_held_started(void);

/* weir_event_last is the last number that this process wrote; 0 if there is none. */
extern uint64 weir_event_last(void);

/* weir_event_unnumbered says whether, in synchronous mode, something since weir_event_forgive could not even get a number. */
extern bool weir_event_unnumbered(void);
extern void weir_event_forgive(void);

/*
 * weir_event_release writes the event that is held, if there is one. With an
 * outcome it failed after all, and ended now.
 */
extern void weir_event_release(const weir_outcome *outcome);

/* weir_details_limit is how many bytes objects and parameters may take together. */
extern size_t weir_details_limit(void);

#endif
