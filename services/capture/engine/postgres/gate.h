/*
 * gate.h: the failure policies that refuse: fail_operation, and
 * weir.boot_policy for a server whom no capture has told anything.
 *
 * What was done cannot be undone by an error: a sequence's value, a command run
 * by COPY, rows that were delivered. So a statement is refused before it runs,
 * and one that cannot be rolled back runs only when the record that it began is
 * durable. What can be rolled back is, where the commit finds the path broken.
 *
 * Exempt are the end of a transaction by ROLLBACK, replication, the server's own
 * workers, single-user mode, and one role over the local socket, whose use is
 * told of.
 *
 * Before: hooks.c, at the start of each statement of a client.
 * Next: sync.c, which waits.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef WEIR_GATE_H
#define WEIR_GATE_H

#include "postgres.h"

#include "nodes/nodes.h"

#include "statement.h"
#include "sync.h"
#include "weir.h"

/* weir_gated is what stands before weir_gate: in asynchronous mode one load. */
static inline bool
weir_gated(void)
{
	return unlikely(weir_ring_mode(&weir_the_ring) != WEIR_MODE_ASYNC);
}

/*
 * weir_gate throws where a client's statement may not run, and in the level
 * strict waits until the record of its beginning is durable. utility is NULL for
 * a query; s is NULL where the statement is planned only, or for want of memory.
 */
extern void weir_gate(weir_statement *s, const Node *utility);

/* weir_gate_function is told of each function before a query that calls it runs, and of those called by number. */
extern void weir_gate_function(Oid function);

/* weir_gate_left is told when a client's statement has run, before its transaction commits. */
extern void weir_gate_left(void);

/* weir_gate_owes says whether something was committed that the client has not been told of. */
extern bool weir_gate_owes(void);

/* weir_gate_settled says that the client may be told, or that there is nothing to tell. */
extern void weir_gate_settled(void);

/* weir_gate_why and weir_gate_hint are parts of an ereport: what is wrong, and the way out. */
extern int weir_gate_why(void);
extern int weir_gate_hint(void);

/* weir_gate_init defines the settings and registers with transactions; once per server. */
extern void weir_gate_init(void);

#endif
