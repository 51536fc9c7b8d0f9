/*
 * text.c: which part of a query string is the statement; see text.h.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "postgres.h"

#include <limits.h>

#include "mb/pg_wchar.h"

#include "text.h"

static inline bool
is_space(char c)
{
	return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f' || c == '\v';
}

weir_slice
weir_statement_text(const char *source, int location, int length)
{
	weir_slice text;

	if (!source)
		source = "";
	/* A statement read back from a catalog, a rule's, does not know its place; its length is of another string. */
	if (location < 0)
		location = length = 0;
	source += location;
	text.start = source;
	text.length = length > 0 ? (size_t) length : strlen(source);
	/* The parser's length stops short of the semicolon. */
	if (length > 0 && source[length] == ';')
		text.length++;
	while (text.length > 0 && is_space(text.start[0])) {
		text.start++;
		text.length--;
	}
	while (text.length > 0 && is_space(text.start[text.length - 1]))
		text.length--;
	return text;
}

size_t
weir_clip(const char *text, size_t length, size_t limit)
{
	size_t clipped;

	if (length <= limit)
		return length;
	if (GetDatabaseEncoding() != PG_UTF8)
		return pg_encoding_mbcliplen(GetDatabaseEncoding(), text, (int) Min(length, INT_MAX), (int) limit);
	/* No need to walk a megabyte from its beginning: UTF-8 can be read backwards. */
	clipped = limit;
	while (clipped > 0 && limit - clipped < 4 && ((unsigned char) text[clipped] & 0xC0) == 0x80)
		clipped--;
	return clipped;
}
