/*
 * lexer.h: PostgreSQL's lexical rules, also inside quotes.
 *
 * SQL is quoted in SQL: in blocks, function bodies, EXECUTE. A level is a piece
 * of the text as the server would see it: the text itself, or what a literal of
 * the level below means once its quotes and escapes are undone. Nothing is
 * copied: characters are decoded as they are read, and every token knows the
 * bytes of the text that it stands for.
 *
 * Nothing of PostgreSQL is in here. The text need not be valid, or end.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef WEIR_LEXER_H
#define WEIR_LEXER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* How deep quotes in quotes are read. */
#define WEIR_LEVELS 6

/* Names are compared by their first bytes; the server's own are cut at 63. */
#define WEIR_WORD_MAX 64

/* What read returns at the end of a level. */
#define WEIR_END (-1)

typedef enum weir_quoting {
	WEIR_RAW,	  /* as it stands: the text, $$…$$, a comment */
	WEIR_QUOTED,  /* '…': a quote is doubled */
	WEIR_ESCAPED, /* E'…' */
	WEIR_UNICODE  /* U&'…' */
} weir_quoting;

typedef struct weir_level {
	weir_quoting quoting;
	char quote;	 /* ' or " */
	char escape; /* of U& */
	size_t end;	 /* offset in the text */
} weir_level;

typedef struct weir_lexer {
	const char *text;
	weir_level level[WEIR_LEVELS];
	bool backslashes; /* '…' is read as E'…': standard_conforming_strings is off */
	bool ambiguous;	  /* set where that makes a difference */
	uint64_t budget;  /* characters that may still be read; 0: everything has ended */
} weir_lexer;

typedef enum weir_token_kind {
	WEIR_TOKEN_END,
	WEIR_TOKEN_WORD,
	WEIR_TOKEN_NAME, /* in double quotes */
	WEIR_TOKEN_LITERAL,
	WEIR_TOKEN_NUMBER,
	WEIR_TOKEN_PARAM,
	WEIR_TOKEN_COMMENT,
	WEIR_TOKEN_OTHER
} weir_token_kind;

typedef struct weir_token {
	weir_token_kind kind;
	size_t start, end; /* in the text, quotes and UESCAPE included */
	/* Of a literal or a comment: what is inside. */
	size_t body;
	weir_level inside;
	bool unterminated;
	/* Of a word or a name, in lower case: its first bytes. */
	char word[WEIR_WORD_MAX];
	size_t length;
	/* Of a parameter its number; of anything else its character. */
	uint32_t value;
} weir_token;

extern void weir_lexer_init(weir_lexer *lexer, const char *text, size_t length, bool backslashes);

/* weir_lexer_read reads one character of a level at *at and moves it; WEIR_END at its end. Beyond ASCII all are one. */
extern int32_t weir_lexer_read(weir_lexer *lexer, int depth, size_t *at);

/* weir_lexer_peek reads without moving. */
extern int32_t weir_lexer_peek(weir_lexer *lexer, int depth, size_t at);

/* weir_lexer_next reads one token of a level, behind white space. */
extern void weir_lexer_next(weir_lexer *lexer, int depth, size_t *at, weir_token *token);

static inline bool
weir_is_blank(int32_t c)
{
	return c == ' ' || (c >= '\t' && c <= '\r');
}

#endif
