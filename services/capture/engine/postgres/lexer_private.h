/*
 * lexer_private.h: what characters.c, which reads characters, and lexer.c, which
 * makes tokens of them, share.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef WEIR_LEXER_PRIVATE_H
#define WEIR_LEXER_PRIVATE_H

#include "lexer.h"

/* All characters beyond ASCII: they are part of names, and of nothing else that matters. */
#define BEYOND_ASCII 0x80

static inline int32_t
lower(int32_t c)
{
	return c >= 'A' && c <= 'Z' ? c + ('a' - 'A') : c;
}

static inline bool
starts_word(int32_t c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || c >= BEYOND_ASCII;
}

static inline bool
is_digit(int32_t c)
{
	return c >= '0' && c <= '9';
}

static inline bool
is_word(int32_t c)
{
	return starts_word(c) || is_digit(c) || c == '$';
}

/* weir_lexer_comment_at says what comment begins at a place, and moves behind its beginning. */
extern bool weir_lexer_comment_at(weir_lexer *lexer, int depth, size_t *at, bool *block);

/* weir_lexer_skip_comment moves behind a comment; *at is behind its beginning. */
extern void weir_lexer_skip_comment(weir_lexer *lexer, int depth, size_t *at, bool block, size_t *body_end);

/* weir_lexer_skip_blank moves behind white space and comments. */
extern void weir_lexer_skip_blank(weir_lexer *lexer, int depth, size_t *at);

#endif
