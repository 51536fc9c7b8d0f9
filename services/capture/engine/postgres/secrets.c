/*
 * secrets.c: where in a text the secrets are; see secrets.h.
 *
 * One pass over the tokens of a level, and over what its literals and comments
 * hold, which are levels of their own; two where there is doubt.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include <string.h>

#include "scan.h"

void
weir_hide(scan *s, size_t start, size_t end)
{
	weir_secrets *f = s->found;

	if (end <= start || s->full)
		return;
	/* A literal may turn out to be one when it was looked into already. */
	while (f->count > 0 && f->at[f->count - 1].start >= start) {
		if (f->at[f->count - 1].end > end)
			end = f->at[f->count - 1].end;
		f->count--;
	}
	if (f->count > 0 && f->at[f->count - 1].end >= start) {
		if (f->at[f->count - 1].end < end)
			f->at[f->count - 1].end = end;
		return;
	}
	if (f->count == WEIR_SECRETS_MAX) {
		f->at[f->count - 1].end = s->length;
		s->full = true;
		return;
	}
	f->at[f->count].start = start;
	f->at[f->count].end = end;
	f->count++;
}

bool
weir_secret_param(const weir_secrets *f, uint32_t number)
{
	for (size_t i = 0; i < f->params; i++)
		if (f->param[i] == number)
			return true;
	return f->all_params;
}

static void
pass(scan *s, const char *text, size_t length, bool backslashes, weir_secrets *found)
{
	level top = {.s = s, .undecided = s->secrecy == WEIR_CONTENT, .code = s->secrecy != WEIR_CONTENT};

	memset(found, 0, sizeof *found);
	s->found = found;
	s->length = length;
	s->full = false;
	weir_lexer_init(&s->lexer, text, length, backslashes);
	weir_expect(&top, 0);
	if (s->lexer.budget == 0)
		weir_hide(s, s->sure, length);
}

/* unite adds what b found to a. */
static void
unite(weir_secrets *a, const weir_secrets *b, size_t length)
{
	weir_secrets all = *a;
	scan s = {.found = &all, .length = length};
	size_t i = 0, j = 0;

	all.count = 0;
	while (i < a->count || j < b->count) {
		if (j == b->count || (i < a->count && a->at[i].start <= b->at[j].start)) {
			weir_hide(&s, a->at[i].start, a->at[i].end);
			i++;
		} else {
			weir_hide(&s, b->at[j].start, b->at[j].end);
			j++;
		}
	}
	all.doubt |= b->doubt;
	all.all_params |= b->all_params;
	for (i = 0; i < b->params; i++) {
		if (weir_secret_param(&all, b->param[i]))
			continue;
		if (all.params == WEIR_SECRET_PARAMS_MAX)
			all.all_params = true;
		else
			all.param[all.params++] = b->param[i];
	}
	*a = all;
}

void
weir_find_secrets(const char *text, size_t length, weir_secrecy secrecy, bool backslashes, weir_secrets *found)
{
	scan s = {.secrecy = secrecy};
	bool ambiguous;

	pass(&s, text, length, backslashes, found);
	ambiguous = s.lexer.ambiguous;
	if (found->doubt && !s.full) {
		s.thorough = true;
		pass(&s, text, length, backslashes, found);
		found->doubt = true;
	}
	/* What a backslash means depends on a setting that the text itself may change: both are taken. */
	if (ambiguous && !s.full) {
		weir_secrets other;

		pass(&s, text, length, !backslashes, &other);
		unite(found, &other, length);
	}
}
