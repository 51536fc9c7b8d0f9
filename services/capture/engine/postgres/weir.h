/*
 * weir.h: what the files of the module share.
 *
 * Read them in this order: weir.c (load, settings), hooks.c (where the server
 * calls), statement.c (a statement begins), call.c (which runs inside which),
 * statement_end.c, numbering.c, event.c (a statement becomes bytes), messages.c,
 * session.c and client.c (logins, errors outside any executor, and when an
 * outcome is certain), redact.c (secrets stay here); then sync.c and gate.c
 * (waiting until a record is durable, or refusing), slots.c (what a session that
 * is killed owes), watch.c and guard.c (attacks on all this). The rest are their
 * tools.
 *
 * Two rules hold everywhere. Nothing here throws by itself: catalogs are read
 * only inside a live transaction, memory comes from malloc or fixed arrays, and
 * what does not fit is cut and counted. And nothing here looks at a setting
 * that a session can change.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef WEIR_H
#define WEIR_H

#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"

#include "../ring/ring.h"

/* The longest statement text kept, in bytes; the architecture's figure. */
#define WEIR_TEXT_LIMIT (1024 * 1024)
/* The longest bind value kept. */
#define WEIR_VALUE_LIMIT (64 * 1024)
/* The longest error message kept. */
#define WEIR_MESSAGE_LIMIT (8 * 1024)
/* How many relations and functions one statement lists. */
#define WEIR_OBJECTS_MAX 64

extern weir_ring weir_the_ring;

/* True where the ring is open: in a server and all its processes. */
extern bool weir_ring_is_open;

/* weir_audited says whether this process is one whose statements count. */
extern bool weir_audited(void);

/* weir_watching is the first line of every hook: one load and a branch where the mode is off. */
static inline bool
weir_watching(void)
{
	return weir_ring_is_open && weir_ring_mode(&weir_the_ring) != WEIR_MODE_OFF && weir_audited();
}

/*
 * weir_has_client says whether errors go to a client, and so show as messages.
 * A background worker's do not.
 */
static inline bool
weir_has_client(void)
{
	return MyProcPort != NULL;
}

/* True while an error is being handled, before its transaction is aborted. */
extern bool weir_in_error;

/* weir_catalogs_readable: in a live transaction, and it has not failed. */
static inline bool
weir_catalogs_readable(void)
{
	return !weir_in_error && IsTransactionState();
}

/* Values of weir.activity.v1. */
enum weir_kind {
	WEIR_KIND_STATEMENT = 1,
	WEIR_KIND_CONNECT = 2,
	WEIR_KIND_DISCONNECT = 3,
	WEIR_KIND_STARTED = 4,
	WEIR_KIND_NOTICE = 5
};

enum weir_notice_kind {
	WEIR_NOTICE_HOOK_REPLACED = 1,
	WEIR_NOTICE_MESSAGES_REPLACED = 2,
	WEIR_NOTICE_LIBRARY_LOADED = 3,
	WEIR_NOTICE_SETTING_CHANGED = 4,
	WEIR_NOTICE_RING_REMOVED = 5,
	WEIR_NOTICE_BREAK_GLASS = 6,
	WEIR_NOTICE_SESSION_CRASHED = 7,
	WEIR_NOTICE_GUARD_SILENT = 8
};

enum weir_class {
	WEIR_CLASS_READ = 1,
	WEIR_CLASS_WRITE = 2,
	WEIR_CLASS_FUNCTION = 3,
	WEIR_CLASS_ROLE = 4,
	WEIR_CLASS_DDL = 5,
	WEIR_CLASS_MISC = 6
};

enum weir_object_type {
	WEIR_OBJECT_TABLE = 1,
	WEIR_OBJECT_INDEX = 2,
	WEIR_OBJECT_SEQUENCE = 3,
	WEIR_OBJECT_TOAST_TABLE = 4,
	WEIR_OBJECT_VIEW = 5,
	WEIR_OBJECT_MATERIALIZED_VIEW = 6,
	WEIR_OBJECT_COMPOSITE_TYPE = 7,
	WEIR_OBJECT_FOREIGN_TABLE = 8,
	WEIR_OBJECT_FUNCTION = 9,
	WEIR_OBJECT_UNKNOWN = 10
};

#endif
