/*
 * values.c: secrets outside of SQL, in what literals hold; see scan.h.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include <string.h>

#include "scan.h"

void
weir_take_run(level *l, size_t *at)
{
	weir_lexer *x = &l->s->lexer;
	bool quoted = false;
	size_t start;
	int32_t c;

	while (weir_is_blank(weir_lexer_peek(x, l->depth, *at)))
		weir_lexer_read(x, l->depth, at);
	start = *at;
	c = weir_lexer_peek(x, l->depth, start);
	/* The place of a value that is put in later: '… password=%s', '… password=' || $1. */
	if (c == WEIR_END || c == '%')
		l->ends_open = true;
	if (c == '"') {
		quoted = true;
		weir_lexer_read(x, l->depth, at);
	}
	for (;;) {
		size_t here = *at;

		c = weir_lexer_read(x, l->depth, at);
		if (c == '\\') {
			weir_lexer_read(x, l->depth, at);
			continue;
		}
		if (c == '"' && quoted) {
			int32_t d = weir_lexer_peek(x, l->depth, *at);

			quoted = false;
			if (d == WEIR_END || weir_is_blank(d) || strchr(",}])&;", d))
				break;
			continue;
		}
		if (c == WEIR_END || (!quoted && (weir_is_blank(c) || (c == '&' && here < l->uri_end)))) {
			*at = here;
			break;
		}
	}
	weir_hide(l->s, start, *at);
	l->expect = NOTHING;
}

/*
 * A password may hold what should have been escaped: the last @ counts, in a
 * URI of PostgreSQL also behind a slash.
 */
bool
weir_take_uri(level *l, size_t *at, bool postgres)
{
	weir_lexer *x = &l->s->lexer;
	size_t next = *at;
	size_t colon = 0, end = 0;
	bool host_ended = false;
	bool port = true;

	if (weir_lexer_read(x, l->depth, &next) != '/' || weir_lexer_read(x, l->depth, &next) != '/')
		return false;
	*at = next;
	for (;;) {
		size_t here = next;
		int32_t c = weir_lexer_read(x, l->depth, &next);

		if (c == WEIR_END || weir_is_blank(c) || c == '"' || c == '<' || c == '>') {
			l->uri_end = here;
			break;
		}
		if (c == ':' && colon == 0 && !host_ended)
			colon = next;
		else if (colon && !host_ended && (c < '0' || c > '9') && !strchr(",:/?#", c))
			port = false;
		if (c == '@' && colon && (postgres || !host_ended))
			end = here;
		else if (c == '/' || c == '?' || c == '#')
			host_ended = true;
	}
	/* It has no host: cut off, it may have been a password. */
	if (end == 0 && colon && postgres && !port)
		end = l->uri_end;
	if (end > 0) {
		weir_hide(l->s, colon, end);
		*at = end;
	}
	l->percent = false;
	return true;
}
