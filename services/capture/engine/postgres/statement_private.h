/*
 * statement_private.h: what statement.c, call.c and statement_end.c share.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef WEIR_STATEMENT_PRIVATE_H
#define WEIR_STATEMENT_PRIVATE_H

#include "statement.h"

typedef struct weir_open_statements {
	weir_statement *newest;
	uint64 last_serial;
	/* The statement whose call is innermost, and how deep the calls are. */
	weir_statement *running;
	int depth;
} weir_open_statements;

extern weir_open_statements weir_open;

/* weir_statement_close_at is weir_statement_close for several that end together. */
extern void weir_statement_close_at(weir_statement *s, const weir_outcome *outcome, TimestampTz now);

/* weir_statement_free keeps a closed statement for the next; it must not be in the list any more. */
extern void weir_statement_free(weir_statement *s);

#endif
