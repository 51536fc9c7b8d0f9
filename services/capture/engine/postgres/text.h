/*
 * text.h: which part of a query string is the statement.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef WEIR_TEXT_H
#define WEIR_TEXT_H

#include "postgres.h"

typedef struct weir_slice {
	const char *start;
	size_t length;
} weir_slice;

/*
 * weir_statement_text is one statement of a query string: as the parser found
 * it, with the semicolon that ends it, without white space around it. A string
 * with one statement is thus the client's text as it is. location and length
 * are the parser's (-1 and 0: unknown, all the rest).
 */
extern weir_slice weir_statement_text(const char *source, int location, int length);

/* weir_clip is how many bytes up to limit are whole characters of the server encoding. */
extern size_t weir_clip(const char *text, size_t length, size_t limit);

#endif
