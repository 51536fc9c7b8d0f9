/*
 * characters.c: the characters of a level, with quotes and escapes undone; see
 * lexer.h.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "lexer_private.h"

static int
hex(int32_t c)
{
	c = lower(c);
	if (is_digit(c))
		return c - '0';
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* read_hex reads up to most digits, at least one. Without one, *at stays. */
static int32_t
read_hex(weir_lexer *lexer, int depth, size_t *at, int most, int32_t otherwise)
{
	int32_t value = 0;
	int n = 0;

	for (; n < most; n++) {
		size_t next = *at;
		int digit = hex(weir_lexer_read(lexer, depth, &next));

		if (digit < 0)
			break;
		value = (value & 0xffffff) * 16 + digit;
		*at = next;
	}
	if (n == 0)
		return otherwise;
	return value < BEYOND_ASCII ? value : BEYOND_ASCII;
}

/* read_escape reads what follows the backslash of E'…'. */
static int32_t
read_escape(weir_lexer *lexer, int depth, size_t *at)
{
	int32_t c = weir_lexer_read(lexer, depth, at);

	switch (c) {
		case 'x':
			return read_hex(lexer, depth, at, 2, c);
		case 'u':
			return read_hex(lexer, depth, at, 4, c);
		case 'U':
			return read_hex(lexer, depth, at, 8, c);
		case 'b':
		case 'f':
		case 'n':
		case 'r':
		case 't':
			return ' ';
		default:
			break;
	}
	if (c >= '0' && c <= '7') {
		int32_t value = c - '0';

		for (int n = 0; n < 2; n++) {
			size_t next = *at;

			c = weir_lexer_read(lexer, depth, &next);
			if (c < '0' || c > '7')
				break;
			value = value * 8 + (c - '0');
			*at = next;
		}
		return value < BEYOND_ASCII ? value : BEYOND_ASCII;
	}
	return c;
}

void
weir_lexer_skip_comment(weir_lexer *lexer, int depth, size_t *at, bool block, size_t *body_end)
{
	int nested = 1;

	for (;;) {
		size_t here = *at;
		int32_t c = weir_lexer_read(lexer, depth, at);

		*body_end = here;
		if (c == WEIR_END)
			return;
		if (!block) {
			if (c == '\n' || c == '\r') {
				*at = here;
				return;
			}
			continue;
		}
		if (c == '/' && weir_lexer_peek(lexer, depth, *at) == '*') {
			weir_lexer_read(lexer, depth, at);
			nested++;
		} else if (c == '*' && weir_lexer_peek(lexer, depth, *at) == '/') {
			weir_lexer_read(lexer, depth, at);
			if (--nested == 0)
				return;
		}
	}
}

bool
weir_lexer_comment_at(weir_lexer *lexer, int depth, size_t *at, bool *block)
{
	size_t next = *at;
	int32_t c = weir_lexer_read(lexer, depth, &next);

	if (c != '-' && c != '/')
		return false;
	if (weir_lexer_read(lexer, depth, &next) != (c == '-' ? '-' : '*'))
		return false;
	*block = c == '/';
	*at = next;
	return true;
}

void
weir_lexer_skip_blank(weir_lexer *lexer, int depth, size_t *at)
{
	for (;;) {
		size_t next = *at;
		size_t end;
		bool block;

		if (weir_is_blank(weir_lexer_read(lexer, depth, &next)))
			*at = next;
		else if (weir_lexer_comment_at(lexer, depth, at, &block))
			weir_lexer_skip_comment(lexer, depth, at, block, &end);
		else
			return;
	}
}

/*
 * read_quoted reads a character of a literal. Its level ends before the last
 * quote, so a quote that stands alone ends a part, and another one follows.
 */
static int32_t
read_quoted(weir_lexer *lexer, int depth, size_t *at)
{
	const weir_level *level = &lexer->level[depth];
	int below = depth - 1;

	while (*at < level->end) {
		int32_t c = weir_lexer_read(lexer, below, at);

		if (c == level->quote) {
			if (weir_lexer_peek(lexer, below, *at) == level->quote) {
				weir_lexer_read(lexer, below, at);
				return c;
			}
			weir_lexer_skip_blank(lexer, below, at);
			if (weir_lexer_read(lexer, below, at) == WEIR_END)
				return WEIR_END;
			continue;
		}
		if (c == '\\' && level->quoting == WEIR_ESCAPED)
			return read_escape(lexer, below, at);
		if (level->quoting == WEIR_UNICODE && c == level->escape && c != WEIR_END) {
			size_t next = *at;
			int32_t d = weir_lexer_read(lexer, below, &next);

			if (d == c) {
				*at = next;
				return c;
			}
			if (d != '+')
				return read_hex(lexer, below, at, 4, c);
			*at = next;
			return read_hex(lexer, below, at, 6, c);
		}
		return c;
	}
	return WEIR_END;
}

int32_t
weir_lexer_read(weir_lexer *lexer, int depth, size_t *at)
{
	unsigned char c;

	while (depth > 0) {
		if (*at >= lexer->level[depth].end)
			return WEIR_END;
		if (lexer->level[depth].quoting != WEIR_RAW)
			return read_quoted(lexer, depth, at);
		depth--;
	}
	if (*at >= lexer->level[0].end || lexer->budget == 0)
		return WEIR_END;
	lexer->budget--;
	c = (unsigned char) lexer->text[(*at)++];
	return c < BEYOND_ASCII ? c : BEYOND_ASCII;
}

int32_t
weir_lexer_peek(weir_lexer *lexer, int depth, size_t at)
{
	return weir_lexer_read(lexer, depth, &at);
}
