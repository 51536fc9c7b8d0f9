/*
 * slots_private.h: a slot's layout, for the files that make slots.c up.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef WEIR_SLOTS_PRIVATE_H
#define WEIR_SLOTS_PRIVATE_H

#include "slots.h"

/*
 * One session. Its owner writes; `serial_told` is the guard's. A page each, so
 * that sessions do not disturb one another.
 */
typedef struct weir_slot {
	uint32 pid; /* the owner's; 0: free */
	uint32 sequence; /* odd while the owner changes what follows */
	uint32 session_in_force; /* 0 or 1 */
	uint32 session_length[2];
	bool open; /* a client's statement runs, or its event is not written yet */
	bool logged_in;
	bool has_client;
	bool unexpected; /* thrown out by a signal that the server did not send */
	uint32 serial; /* of the statement, among this slot's */
	uint32 serial_told; /* the last that was told as having run for long */
	uint64 last_id; /* of the statements numbered so far */
	uint64 statement_id;
	uint64 substatement_id;
	TimestampTz started;
	uint64 text_length; /* of the whole text; 0 where all is kept */
	uint32 text_kept;
	uint32 class;
	char command[64];
	char thrown_out[8]; /* SQLSTATE of what the server told the client, else empty */
	char thrown_out_message[136];
	uint8 session[2][832];
	char text[WEIR_SLOT_TEXT];
} __attribute__((aligned(4096))) weir_slot;

StaticAssertDecl(sizeof(weir_slot) == 4096, "a slot is a page");

typedef struct weir_slots_table {
	uint64 magic; /* written last */
	uint32 layout;
	uint32 count;
	uint64 slot_size;
	int64 guard_looked; /* when the guard looked last; 0: never */
	uint32 guard_pid;
	uint32 guard_told; /* 1 when its silence was told */
	uint64 first[256]; /* hashes that weir_slots_first was asked for */
	char settings[WEIR_SLOTS_SETTINGS];
	weir_slot slot[];
} weir_slots_table;

/* NULL until weir_slots_start. */
extern weir_slots_table *weir_slots;

/* weir_slot_clear frees a slot. */
extern void weir_slot_clear(weir_slot *s);

/*
 * weir_slot_copy takes a whole copy of a slot while its owner may be writing.
 * False where it was busy.
 */
extern bool weir_slot_copy(const weir_slot *s, weir_slot *copy);

/*
 * weir_slot_tell_end writes what a session that is gone owes: its statement,
 * its DISCONNECT and, where nothing else says why it ended, a notice.
 */
extern void weir_slot_tell_end(const weir_slot *s, const char *why);

#endif
