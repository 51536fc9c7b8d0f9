/*
 * lexer.c: PostgreSQL's lexical rules, also inside quotes; see lexer.h.
 *
 * Where the server would report an error, the rule here is to go on in the way
 * that takes more into a literal: adjacent literals need no line break between
 * them, and what has no end ends with its level.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include <string.h>

#include "lexer_private.h"

void
weir_lexer_init(weir_lexer *lexer, const char *text, size_t length, bool backslashes)
{
	lexer->text = text;
	lexer->level[0] = (weir_level) {WEIR_RAW, 0, 0, length};
	lexer->backslashes = backslashes;
	lexer->ambiguous = false;
	/* Each level reads what is inside it a few times. A text that takes more is made to: the rest of it is hidden. */
	lexer->budget = 12 * (uint64_t) length + 64 * 1024;
}

/* skip_plain moves to the next byte that can matter inside quotes, where the level is the text itself. */
static void
skip_plain(weir_lexer *lexer, int depth, size_t *at, char quote)
{
	const char *p = lexer->text + *at;
	const char *end = lexer->text + lexer->level[depth].end;

	if (depth != 0 || *at >= lexer->level[0].end)
		return;
	while (p < end && *p != quote && *p != '\\')
		p++;
	*at = p - lexer->text;
}

/* read_uescape reads UESCAPE 'c' behind a literal, where there is one. */
static void
read_uescape(weir_lexer *lexer, int depth, size_t *at, weir_level *inside)
{
	static const char word[] = "uescape";
	size_t next = *at;
	int32_t c;

	weir_lexer_skip_blank(lexer, depth, &next);
	for (size_t i = 0; word[i]; i++)
		if (lower(weir_lexer_read(lexer, depth, &next)) != word[i])
			return;
	weir_lexer_skip_blank(lexer, depth, &next);
	if (weir_lexer_read(lexer, depth, &next) != '\'')
		return;
	c = weir_lexer_read(lexer, depth, &next);
	if (c == WEIR_END || weir_lexer_read(lexer, depth, &next) != '\'')
		return;
	inside->escape = (char) c;
	*at = next;
}

/* quoted finds the end of a literal or a name; *at is behind its first quote. */
static void
quoted(weir_lexer *lexer, int depth, size_t *at, weir_token *token, weir_quoting quoting, char quote)
{
	bool escapes = quoting == WEIR_ESCAPED;

	if (quoting == WEIR_QUOTED && quote == '\'' && lexer->backslashes) {
		quoting = WEIR_ESCAPED;
		escapes = true;
	}
	token->body = *at;
	token->inside = (weir_level) {quoting, quote, '\\', 0};
	for (;;) {
		size_t here, behind;
		int32_t c;

		skip_plain(lexer, depth, at, quote);
		here = *at;
		c = weir_lexer_read(lexer, depth, at);
		if (c == WEIR_END) {
			token->inside.end = here;
			token->unterminated = true;
			break;
		}
		if (c == '\\') {
			if (escapes)
				weir_lexer_read(lexer, depth, at);
			if (quoting != WEIR_UNICODE && quote == '\'')
				lexer->ambiguous = true;
			continue;
		}
		if (c != quote)
			continue;
		if (weir_lexer_peek(lexer, depth, *at) == quote) {
			weir_lexer_read(lexer, depth, at);
			continue;
		}
		token->inside.end = here;
		if (quote == '"')
			break;
		/* Another part may follow. */
		behind = *at;
		weir_lexer_skip_blank(lexer, depth, &behind);
		if (weir_lexer_peek(lexer, depth, behind) != quote)
			break;
		weir_lexer_read(lexer, depth, &behind);
		*at = behind;
	}
	if (quoting == WEIR_UNICODE && !token->unterminated)
		read_uescape(lexer, depth, at, &token->inside);
	token->end = *at;
}

/* dollar_quoted reads $tag$…$tag$; *at is behind the first dollar sign. False where it is none. */
static bool
dollar_quoted(weir_lexer *lexer, int depth, size_t *at, weir_token *token)
{
	char tag[WEIR_WORD_MAX];
	size_t length = 0;
	size_t next = *at;
	int32_t c;

	while ((c = weir_lexer_read(lexer, depth, &next)) != '$') {
		if (!(length ? is_word(c) : starts_word(c)) || length + 1 >= sizeof tag)
			return false;
		tag[length++] = (char) c;
	}
	token->kind = WEIR_TOKEN_LITERAL;
	token->body = next;
	token->inside = (weir_level) {WEIR_RAW, 0, 0, 0};
	for (;;) {
		size_t here = next;
		size_t behind;
		size_t i = 0;

		c = weir_lexer_read(lexer, depth, &next);
		if (c == WEIR_END) {
			token->inside.end = here;
			token->unterminated = true;
			*at = here;
			break;
		}
		if (c != '$')
			continue;
		behind = next;
		while (i < length && (char) weir_lexer_read(lexer, depth, &behind) == tag[i])
			i++;
		if (i == length && weir_lexer_read(lexer, depth, &behind) == '$') {
			token->inside.end = here;
			*at = behind;
			break;
		}
	}
	token->end = *at;
	return true;
}

static void
add_to_word(weir_token *token, int32_t c)
{
	if (token->length + 1 < WEIR_WORD_MAX) {
		token->word[token->length++] = (char) lower(c);
		token->word[token->length] = '\0';
	}
}

/* name reads a name in double quotes; *at is behind the first. */
static void
name(weir_lexer *lexer, int depth, size_t *at, weir_token *token, weir_quoting quoting)
{
	quoted(lexer, depth, at, token, quoting, '"');
	token->kind = WEIR_TOKEN_NAME;
	if (depth + 1 == WEIR_LEVELS)
		return;
	lexer->level[depth + 1] = token->inside;
	for (size_t in = token->body; token->length + 1 < WEIR_WORD_MAX;) {
		int32_t c = weir_lexer_read(lexer, depth + 1, &in);

		if (c == WEIR_END)
			break;
		add_to_word(token, c);
	}
}

/* prefixed reads a literal or name behind E, B, X, N or U&; c is the letter. False where it is a word. */
static bool
prefixed(weir_lexer *lexer, int depth, size_t *at, weir_token *token, int32_t c)
{
	size_t next = *at;
	int32_t quote = weir_lexer_read(lexer, depth, &next);
	weir_quoting quoting = WEIR_QUOTED;

	c = lower(c);
	if (c == 'u' && quote == '&') {
		quote = weir_lexer_read(lexer, depth, &next);
		quoting = WEIR_UNICODE;
	} else if (c == 'e')
		quoting = WEIR_ESCAPED;
	else if (c != 'b' && c != 'x' && c != 'n')
		return false;
	if (quote == '"' && quoting == WEIR_UNICODE) {
		*at = next;
		name(lexer, depth, at, token, quoting);
		return true;
	}
	if (quote != '\'')
		return false;
	*at = next;
	token->kind = WEIR_TOKEN_LITERAL;
	quoted(lexer, depth, at, token, quoting, '\'');
	return true;
}

static void
word(weir_lexer *lexer, int depth, size_t *at, weir_token *token, int32_t c)
{
	token->kind = WEIR_TOKEN_WORD;
	do {
		add_to_word(token, c);
		token->end = *at;
		c = weir_lexer_read(lexer, depth, at);
	} while (is_word(c));
	*at = token->end;
}

/* digits reads a number, or the one of a parameter. */
static void
digits(weir_lexer *lexer, int depth, size_t *at, weir_token *token, int32_t c)
{
	uint64_t value = 0;

	for (;;) {
		token->end = *at;
		if (is_digit(c) && value < UINT32_MAX)
			value = value * 10 + (uint64_t) (c - '0');
		c = weir_lexer_read(lexer, depth, at);
		if (!is_word(c) && c != '.')
			break;
		if (token->kind == WEIR_TOKEN_PARAM && !is_digit(c))
			break;
	}
	*at = token->end;
	token->value = value < UINT32_MAX ? (uint32_t) value : UINT32_MAX;
}

void
weir_lexer_next(weir_lexer *lexer, int depth, size_t *at, weir_token *token)
{
	size_t next;
	bool block;
	int32_t c;

	token->unterminated = false;
	token->length = 0;
	token->word[0] = '\0';
	token->value = 0;
	do {
		token->start = *at;
		c = weir_lexer_read(lexer, depth, at);
	} while (weir_is_blank(c));
	token->end = *at;
	token->kind = WEIR_TOKEN_OTHER;
	if (c == WEIR_END) {
		token->kind = WEIR_TOKEN_END;
		return;
	}
	if (starts_word(c)) {
		if (!prefixed(lexer, depth, at, token, c))
			word(lexer, depth, at, token, c);
		return;
	}
	if (c == '\'' || c == '"') {
		if (c == '"')
			name(lexer, depth, at, token, WEIR_QUOTED);
		else {
			token->kind = WEIR_TOKEN_LITERAL;
			quoted(lexer, depth, at, token, WEIR_QUOTED, '\'');
		}
		return;
	}
	if (is_digit(c)) {
		token->kind = WEIR_TOKEN_NUMBER;
		digits(lexer, depth, at, token, c);
		return;
	}
	if (c == '$') {
		if (is_digit(weir_lexer_peek(lexer, depth, *at))) {
			token->kind = WEIR_TOKEN_PARAM;
			digits(lexer, depth, at, token, c);
			return;
		}
		if (dollar_quoted(lexer, depth, at, token))
			return;
	}
	next = token->start;
	if (weir_lexer_comment_at(lexer, depth, &next, &block)) {
		token->kind = WEIR_TOKEN_COMMENT;
		token->body = *at = next;
		token->inside = (weir_level) {WEIR_RAW, 0, 0, 0};
		weir_lexer_skip_comment(lexer, depth, at, block, &token->inside.end);
		token->end = *at;
		return;
	}
	token->value = (uint32_t) c;
}
