/*
 * slots.h: what each session is doing, kept where its death does not take it
 * along.
 *
 * A session that is killed writes nothing, and neither does one that is thrown
 * out because another was killed. So what its events would need lies in a slot
 * while the statement runs: who, since when, which command, the beginning of
 * the text with its secrets taken out. Whoever finds a slot left behind writes
 * the events that its owner owed: the statement, and the end of the session.
 *
 * The slots are a file beside the ring, in memory like it, so that they outlive
 * even the last process of the server: "kill -9 -1" is told at the next start,
 * with the statement that said so. A server that stops in order removes it.
 *
 * Only its session writes into a slot: no lock, no system call, one copy.
 *
 * Before: statement.c and session.c, which say what goes on.
 * Next: guard.c, which looks at the slots of sessions that live.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef WEIR_SLOTS_H
#define WEIR_SLOTS_H

#include "postgres.h"

#include "datatype/timestamp.h"

#include "encode.h"
#include "redact.h"
#include "weir.h"

/* How much of a statement's text a slot keeps, in bytes. */
#define WEIR_SLOT_TEXT 2048

/* What goes into a slot when a client's statement begins. */
typedef struct weir_slot_statement {
	uint64 statement_id;
	uint64 substatement_id;
	TimestampTz started;
	enum weir_class class;
	const char *command;
	weir_slice text;
	weir_secrecy secrecy;
} weir_slot_statement;

/*
 * weir_slots_start makes the slots, once, in the postmaster, when the number of
 * sessions is known; and tells what a server that died left in them. It throws
 * where there is no room for them.
 */
extern void weir_slots_start(const char *ring_file);

/*
 * weir_slots_recover writes what dead sessions owe and frees their slots; in the
 * postmaster. all_dead says that no session lives: after weir_ring_recover. Else
 * the living are left alone.
 */
extern void weir_slots_recover(bool all_dead);

/* weir_slots_remove removes the file, at the end of a server that owes nothing. */
extern void weir_slots_remove(void);

/* weir_slots_removed says whether the file was taken away while the server runs. */
extern bool weir_slots_removed(void);

/* weir_slots_first says whether this is the first time in this life of the server that it is asked for a hash. */
extern bool weir_slots_first(uint64 hash);

/* weir_slots_guard_looks keeps when the guard looked last. */
extern void weir_slots_guard_looks(TimestampTz now);

/* weir_slots_guard_silent returns the guard's process, once, when it has not looked for 4 s; else 0. */
extern int weir_slots_guard_silent(TimestampTz now);

/* weir_slots_settings is room for what the guard remembers of the settings; NULL where there are no slots. */
#define WEIR_SLOTS_SETTINGS 3072
extern char *weir_slots_settings(void);

/* weir_slot_join takes a slot for this session, weir_slot_leave gives it back. */
extern void weir_slot_join(void);
extern void weir_slot_leave(void);

/* weir_slot_session keeps the session's block, field 4 of an Activity. */
extern void weir_slot_session(const weir_buffer *block);

/* weir_slot_logged_in says that the end of this session is an event. */
extern void weir_slot_logged_in(void);

/* weir_slot_begin says that a client's statement runs; weir_slot_end that its event is written. */
extern void weir_slot_begin(const weir_slot_statement *statement);
extern void weir_slot_end(void);

/* weir_slot_numbered keeps the last statement id given out. */
extern void weir_slot_numbered(uint64 statement_id);

/*
 * weir_slot_thrown_out keeps what the server tells its client when it throws
 * the session out without letting it end: the body of a NoticeResponse.
 * Async-signal-safe, for that is where it is sent from.
 */
extern void weir_slot_thrown_out(const char *body, size_t length);

/* weir_slots_tell_long writes a KIND_STARTED event for each statement that has run for longer than so many µs, once. */
extern void weir_slots_tell_long(TimestampTz now, int64 longer_us);

#endif
