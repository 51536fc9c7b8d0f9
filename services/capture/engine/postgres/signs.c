/*
 * signs.c: what parentheses, commas and operators say of the next token; see
 * scan.h.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include <string.h>

#include "scan.h"

static void
on_comma(level *l)
{
	if (l->expect == ASKED && l->parens <= l->asked_parens && !l->asked_call && !l->asked_to_end && !l->setting)
		l->expect = NOTHING;
	else if (l->expect == NAMED) {
		l->listed = l->parens;
		l->expect = NOTHING;
	} else if (l->expect == TYPED)
		l->expect = NOTHING;
	if (l->config == 2) {
		l->config = 3;
		if (l->config_secret) {
			weir_ask(l);
			l->asked_call = true;
		}
	} else if (l->config == 3)
		l->config = 0;
}

static void
on_open(level *l)
{
	l->parens++;
	if (l->expect == NAMED) { /* set_password(…) */
		weir_ask(l);
		l->asked_call = true;
	}
	if (l->config == 1)
		l->config = 2;
}

static void
on_close(level *l)
{
	if (l->expect == ASKED && l->parens <= l->asked_parens && !l->asked_to_end && l->asked_parens > 0)
		l->expect = NOTHING;
	/* (password) = 'x', (password, name) = ('x', 'y') */
	if (l->listed && l->listed == l->parens) {
		l->expect = NAMED;
		l->listed = 0;
	}
	if (l->options && l->options == l->parens)
		l->options = 0;
	if (l->parens > 0)
		l->parens--;
	l->config = 0;
}

void
weir_expect_sign(level *l, const weir_token *t, size_t *at, bool postgres)
{
	uint32_t c = t->value;

	if (c == ':' && weir_take_uri(l, at, postgres)) {
		l->expect = NOTHING;
		return;
	}
	if (*at <= l->uri_end) {
		l->percent = c == '%' || (l->percent && c != '&' && c != '?');
		if (c == '=' && l->percent)
			l->expect = NAMED;
	}
	if (l->undecided && c != '(' && c != '<')
		l->undecided = false;
	if ((c == '=' || c == ':') && (l->expect == NAMED) && (!l->code || *at <= l->uri_end)) {
		size_t value = *at;
		int32_t d;

		l->pairs = true;
		/* := and => as well */
		while ((d = weir_lexer_peek(&l->s->lexer, l->depth, value)) == '=' || d == '>' || weir_is_blank(d))
			weir_lexer_read(&l->s->lexer, l->depth, &value);
		*at = value;
		if (d == '\'')
			weir_ask(l);
		else
			weir_take_run(l, at);
		return;
	}
	l->pairs |= c == '=';
	if (l->expect == NAMED && l->command && weir_take_bare(l, t, at))
		return;
	switch (c) {
		case ';':
			weir_next_statement(l);
			return;
		case '(':
			on_open(l);
			break;
		case ')':
			on_close(l);
			break;
		case ',':
			on_comma(l);
			break;
		case '.':
			if (l->expect == NAMED)
				l->expect = NOTHING;
			break;
		default:
			if (l->before)
				l->before_sign = true;
			if (strchr("=<>!~:|+*/%#&^?-", (int) c) == NULL) {
				if (l->expect == NAMED || l->expect == ASKED)
					weir_take_bare(l, t, at);
			} else if (l->expect == NAMED || l->expect == TYPED)
				weir_ask(l);
			weir_insert_sign(l, c);
			return;
	}
	weir_insert_sign(l, c);
	l->before = false;
}
