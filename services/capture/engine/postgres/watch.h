/*
 * watch.h: each session looks after its own audit.
 *
 * Whoever may load C into a session can take the module's hooks away. Then a
 * frame of ours is still on the stack, or the end of the transaction comes, and
 * sees it: the notice is written before the session does anything unseen. What
 * was taken away is put back where that can do no harm.
 *
 * Before: hooks.c, statement.c and session.c, at moments that cannot be left out.
 * Next: notice.c.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef WEIR_WATCH_H
#define WEIR_WATCH_H

#include "postgres.h"

#include "nodes/nodes.h"

/* weir_watch_start notes what is in place when the server's libraries are loaded; in the postmaster. */
extern void weir_watch_start(void);

/* weir_watch looks whether hooks, message functions and libraries are what they were: some compares. */
extern void weir_watch(void);

/* weir_watch_before tells of a statement that is a notice by itself, before it runs: LOAD. */
extern void weir_watch_before(Node *statement);

/*
 * weir_watch_setting says which setting of ours a statement changes, for
 * weir_watch_after to tell when it has: its parse tree may be gone by then.
 * False where it is none.
 */
extern bool weir_watch_setting(Node *statement, char *subject, size_t size);
extern void weir_watch_after(const char *subject);

/* weir_setting_counts says whether the audit rests on a setting; NULL is all of them. */
extern bool weir_setting_counts(const char *name);

#endif
