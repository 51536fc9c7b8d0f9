/*
 * expect.c: what the tokens of a level say of the next; see scan.h.
 *
 * A level is code, or content: the value of a connection string has no quotes
 * round it, and ends with a space.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include <string.h>

#include "scan.h"

static void
hide_param(level *l, uint32_t number)
{
	weir_secrets *f = l->s->found;

	/* Those of SQL in quotes are given by somebody outside of them. */
	if (l->depth > 0) {
		l->ends_open = true;
		return;
	}
	if (weir_secret_param(f, number))
		return;
	if (f->params == WEIR_SECRET_PARAMS_MAX)
		f->all_params = true;
	else
		f->param[f->params++] = number;
}

/* is_loose says whether words may be misspelt and quotes missing. */
static bool
is_loose(const level *l)
{
	return l->s->secrecy == WEIR_UNPARSED || (l->s->secrecy == WEIR_FAILED && l->depth > 0);
}

/* is_doubtful says whether a statement, if it cannot be parsed, may hold a password that stands anywhere. */
static bool
is_doubtful(const level *l)
{
	return is_loose(l) && l->verb != WEIR_VERB_QUERY && !l->harmless;
}

void
weir_ask(level *l)
{
	l->expect = ASKED;
	l->asked_parens = l->parens;
	l->asked_call = false;
	l->answered = false;
}

void
weir_next_statement(level *l)
{
	l->verb = WEIR_VERB_OTHER;
	l->words = 0;
	l->role = l->harmless = l->setting = l->until = false;
	l->parens = l->options = l->listed = l->config = 0;
	l->expect = NOTHING;
	l->asked_to_end = l->asked_call = false;
	l->before = false;
	l->insert = NO_INSERT;
}

/* look_into scans what a literal or comment holds. It says whether a secret would follow it. */
static bool
look_into(level *l, const weir_token *t, bool command)
{
	scan *s = l->s;
	const char *body = s->lexer.text + t->body;
	size_t length = t->inside.end > t->body ? t->inside.end - t->body : 0;
	level child = {.s = s, .depth = l->depth + 1, .undecided = true, .command = command};

	/* The quick look knows no escape but the backslash. */
	if (length == 0 || (!is_loose(&child) && !(t->inside.quoting == WEIR_UNICODE && t->inside.escape != '\\') &&
						!weir_suspect(body, length)))
		return false;
	if (child.depth == WEIR_LEVELS) {
		weir_hide(s, t->start, t->end);
		return false;
	}
	s->lexer.level[child.depth] = t->inside;
	weir_expect(&child, t->body);
	return child.ends_open;
}

/* on_end settles what was expected when a level ends. */
static void
on_end(level *l)
{
	if (!l->code && !l->pairs)
		return;
	if (l->expect == NAMED || (l->expect == ASKED && !l->answered))
		l->ends_open = true;
}

/* first_words learns what statement it is. */
static void
first_words(level *l, const weir_token *t)
{
	if (l->words == 0)
		l->verb = weir_verb_word_of(t->word);
	else if (l->words == 1 && l->verb == WEIR_VERB_DEFINE) {
		l->role = weir_word_is(t->word, "role", "user", "group");
		l->harmless = weir_names_data(t->word);
	} else if (l->words == 2 && l->role && strcmp(t->word, "mapping") == 0)
		l->role = false;
	l->words++;
	if (l->verb == WEIR_VERB_SET || (l->verb == WEIR_VERB_DEFINE && strcmp(t->word, "set") == 0))
		l->setting = true;
}

bool
weir_take_bare(level *l, const weir_token *t, size_t *at)
{
	if (t->kind == WEIR_TOKEN_WORD && weir_word_is(t->word, "null", "default", NULL))
		return false;
	if (l->expect == NAMED && ((l->code && is_doubtful(l)) || l->command)) {
		/* A password without quotes, or with the wrong ones, may be anything: the rest is hidden. */
		size_t end = l->s->lexer.level[l->depth].end;

		weir_hide(l->s, t->start, end);
		*at = end;
		return true;
	}
	if (l->expect != ASKED || !(l->setting || is_doubtful(l)) || t->kind == WEIR_TOKEN_OTHER)
		return false;
	weir_hide(l->s, t->start, t->end);
	l->answered = true;
	return true;
}

static void
on_word(level *l, const weir_token *t, size_t *at)
{
	bool plain = t->kind == WEIR_TOKEN_WORD;
	bool wide = l->options || l->setting;
	bool secret = weir_word_is_secret(t->word, t->length, wide, is_loose(l)) ||
		(l->command && !l->code && strstr(t->word, "pass"));

	if (l->undecided) {
		l->undecided = false;
		l->code = l->code || (plain && !l->command && weir_begins_code(t->word));
	}
	if (plain && weir_begins_statement(t->word) && l->parens == 0)
		weir_next_statement(l);
	else if (plain)
		first_words(l, t);
	if (weir_insert_word(l, t, secret))
		return;
	if (plain && l->expect == NAMED && weir_asks(t->word)) {
		weir_ask(l);
		return;
	}
	if (plain && l->expect == ASKED && !l->asked_to_end && weir_ends_expression(t->word) &&
		l->parens <= l->asked_parens)
		l->expect = NOTHING;
	else if (plain && l->expect == TYPED && strcmp(t->word, "default") == 0)
		weir_ask(l);
	else if (plain && l->expect == NAMED && l->code && weir_names_type(t->word)) {
		l->expect = TYPED;
		return;
	} else if (l->expect != NOTHING && l->expect != TYPED && !secret && weir_take_bare(l, t, at))
		return;
	if (plain) {
		l->until = strcmp(t->word, "until") == 0;
		l->command = l->command || (l->code && strcmp(t->word, "program") == 0);
		if (strcmp(t->word, "set_config") == 0) {
			l->config = 1;
			l->config_secret = false;
			l->config_param = 0;
		}
	}
	if (secret) {
		if (l->before && l->before_sign)
			weir_hide(l->s, l->before_start, l->before_end);
		if (l->expect != ASKED)
			l->expect = NAMED;
	} else if (l->expect == NAMED)
		l->expect = NOTHING;
	/* OPTIONS ( comes next. */
	if (plain && strcmp(t->word, "options") == 0)
		l->options = l->parens + 1;
	l->before = false;
}

/* is_secret_setting reads a literal as the name of a setting. */
static bool
is_secret_setting(level *l, const weir_token *t)
{
	char name[WEIR_WORD_MAX];
	size_t length = 0;
	size_t at = t->body;
	int32_t c;

	if (l->depth + 1 == WEIR_LEVELS)
		return true;
	l->s->lexer.level[l->depth + 1] = t->inside;
	while (length < sizeof name && (c = weir_lexer_read(&l->s->lexer, l->depth + 1, &at)) != WEIR_END)
		name[length++] = (char) c;
	return weir_is_secret_name(name, length);
}

static void
on_literal(level *l, const weir_token *t, bool command)
{
	scan *s = l->s;
	size_t count = s->found->count;
	bool until = l->until;

	l->until = false;
	l->before = false;
	/* Which escape a U& that has no end would have had, nobody knows. */
	if (l->expect == TYPED)
		l->expect = NOTHING;
	if (s->secrecy == WEIR_LITERALS || l->expect != NOTHING || (l->role && l->code && is_loose(l) && !until) ||
		(t->unterminated && t->inside.quoting == WEIR_UNICODE)) {
		weir_hide(s, t->start, t->end);
		if (l->expect == ASKED)
			l->answered = true;
		/* In a connection string it was the whole value. */
		if (l->expect == NAMED || !l->code)
			l->expect = NOTHING;
		/* password ''' || …: it goes on elsewhere. */
		if (t->unterminated && l->depth > 0)
			l->ends_open = true;
		return;
	}
	if (l->config == 2)
		l->config_secret |= is_secret_setting(l, t);
	if (look_into(l, t, command)) {
		s->found->doubt = true;
		weir_ask(l);
		l->asked_to_end = true;
	} else if (s->thorough && l->depth > 0 && l->code && s->found->count == count)
		weir_hide(s, t->start, t->end);
	l->before = true;
	l->before_sign = false;
	l->before_start = t->start;
	l->before_end = t->end;
}

static void
on_param(level *l, const weir_token *t)
{
	if (l->expect == NAMED || l->expect == ASKED) {
		hide_param(l, t->value);
		l->answered = true;
		if (l->expect == NAMED)
			l->expect = NOTHING;
	} else if (l->config == 2)
		l->config_param = t->value;
	else if (l->config == 3 && l->config_param && l->depth == 0) {
		weir_secrets *f = l->s->found;

		if (f->named == sizeof f->pair / sizeof f->pair[0])
			f->all_params = true;
		else {
			f->pair[f->named].name = l->config_param;
			f->pair[f->named++].value = t->value;
		}
	}
}

void
weir_expect(level *l, size_t at)
{
	scan *s = l->s;
	bool postgres = false;
	weir_token t;

	for (;;) {
		bool program = l->code && l->command;

		if (l->depth == 0)
			s->sure = at;
		weir_lexer_next(&s->lexer, l->depth, &at, &t);
		if (t.kind == WEIR_TOKEN_END || s->full)
			break;
		switch (t.kind) {
			case WEIR_TOKEN_COMMENT:
				look_into(l, &t, false);
				continue;
			case WEIR_TOKEN_WORD:
			case WEIR_TOKEN_NAME:
				postgres = strncmp(t.word, "postgres", 8) == 0;
				if (l->code)
					l->command = false;
				on_word(l, &t, &at);
				break;
			case WEIR_TOKEN_LITERAL:
				on_literal(l, &t, program);
				if (l->code)
					l->command = false;
				break;
			case WEIR_TOKEN_PARAM:
				on_param(l, &t);
				break;
			case WEIR_TOKEN_NUMBER:
				if (l->expect == ASKED || (l->expect == NAMED && (is_doubtful(l) || l->command))) {
					if (l->expect == NAMED)
						weir_take_bare(l, &t, &at);
					else
						weir_hide(s, t.start, t.end);
					l->answered = true;
				} else if (s->secrecy == WEIR_LITERALS)
					weir_hide(s, t.start, t.end);
				break;
			default:
				weir_expect_sign(l, &t, &at, postgres);
				break;
		}
	}
	on_end(l);
}
