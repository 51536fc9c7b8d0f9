/*
 * suspect.c: the quick look that most statements pass; see secrets.h.
 *
 * It looks for pairs of bytes, sixteen places at a time, and only then at what
 * is there. A text with a secret has one of these words in it, or one that is
 * hidden by an escape or by a literal's break, which are looked for too.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include <string.h>

#include "lexer.h"
#include "secrets.h"

#define BLOCK 16

static inline unsigned char
lower(unsigned char c)
{
	return c >= 'A' && c <= 'Z' ? c + ('a' - 'A') : c;
}

/* has says whether a word in lower case begins at p. */
static bool
has(const char *p, const char *end, const char *word)
{
	for (; *word; word++, p++)
		if (p >= end || lower((unsigned char) *p) != (unsigned char) *word)
			return false;
	return true;
}

/* The words begin with the pair that was found; "secret" and "set_config" have it in their middle. */
static bool
is_word_at(const char *text, const char *p, const char *end)
{
	switch (lower((unsigned char) *p)) {
		case 'p':
			return has(p, end, "pass");
		case ':':
			return has(p, end, "://");
		case 'o':
			return has(p, end, "options");
		case 'c':
			return has(p, end, "cret") || (p > text && has(p - 1, end, "scram"));
		case 't':
			return has(p, end, "t_config");
		default:
			return false;
	}
}

/* is_hidden_at says whether a literal or name may be other than it looks. */
static bool
is_hidden_at(const char *p, const char *end)
{
	switch (*p) {
		case '\\':
			return true;
		case '&':
			return p + 1 < end && (p[1] == '\'' || p[1] == '"');
		case '\n':
		case '\r':
			while (p < end && weir_is_blank(*p))
				p++;
			return p < end && *p == '\'';
		default:
			return false;
	}
}

/* Sixteen bytes at once, by the compilers' vector extension: no intrinsics, no architecture. */
typedef unsigned char block __attribute__((vector_size(BLOCK)));

static inline block
load(const unsigned char *p)
{
	block b;

	memcpy(&b, p, sizeof b);
	return b;
}

/* pairs says whether any of the BLOCK places from p may matter; p has one byte more. Without a branch. */
static inline bool
pairs(const unsigned char *p, bool sql)
{
	block raw = load(p);
	block next = load(p + 1);
	block c = raw | 0x20;
	block d = next | 0x20;
	block any = (block) ((c == 'p') & (d == 'a')) | (block) ((c == ':') & (d == '/')) | (block) ((c == 'c') & (d == 'r'));
	uint64_t half[2];

	if (sql)
		any |= (block) ((c == 'o') & (d == 'p')) | (block) ((c == 't') & (next == '_')) |
			(block) ((raw == '&') & ((next == '\'') | (next == '"'))) | (block) (raw == '\\') | (block) (raw == '\n') |
			(block) (raw == '\r');
	memcpy(half, &any, sizeof half);
	return (half[0] | half[1]) != 0;
}

static inline bool
block_is_suspect(const char *text, const char *p, const char *end, bool sql)
{
	for (int i = 0; i < BLOCK && p + i < end; i++)
		if (is_word_at(text, p + i, end) || (sql && is_hidden_at(p + i, end)))
			return true;
	return false;
}

static inline bool
suspect(const char *text, size_t length, bool sql)
{
	const char *end = text + length;
	const char *p = text;
	unsigned char last[BLOCK + 1] = {0};

	for (; end - p > BLOCK; p += BLOCK)
		if (pairs((const unsigned char *) p, sql) && block_is_suspect(text, p, end, sql))
			return true;
	memcpy(last, p, end - p);
	return pairs(last, sql) && block_is_suspect(text, p, end, sql);
}

bool
weir_suspect(const char *text, size_t length)
{
	return suspect(text, length, true);
}

bool
weir_suspect_content(const char *text, size_t length)
{
	return suspect(text, length, false);
}
