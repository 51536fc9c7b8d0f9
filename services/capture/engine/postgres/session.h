/*
 * session.h: who is connected, as a block of bytes that every event carries.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef WEIR_SESSION_H
#define WEIR_SESSION_H

#include "postgres.h"

#include "encode.h"

/*
 * weir_session_refresh brings the block up to date: application_name always,
 * the role in force where a live transaction lets it be named. Cheap where
 * nothing changed.
 */
extern void weir_session_refresh(void);

/* weir_put_session copies the block: field 4 of an Activity, tag and all. */
extern void weir_put_session(weir_buffer *b);

/*
 * weir_session_begin prepares the session for its first event and for its end;
 * idempotent. Statements may come before the login is complete.
 */
extern void weir_session_begin(void);

/* weir_session_ready is told of each ReadyForQuery: the first completes the login. */
extern void weir_session_ready(void);

/* weir_session_missed says that the login was complete while nobody watched: it has no event, then or later. */
extern void weir_session_missed(void);

/* weir_session_logged_in says whether the login was complete. */
extern bool weir_session_logged_in(void);

/* weir_session_refused writes the event of a login that failed. */
struct weir_outcome;
extern void weir_session_refused(const struct weir_outcome *outcome);

/* weir_session_doomed remembers the error that will end the session. */
extern void weir_session_doomed(const struct weir_outcome *outcome);

#endif
