/*
 * insert.c: which values of INSERT INTO t (a, password) VALUES (…, …) go into a
 * column that is secret; see scan.h.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include <string.h>

#include "scan.h"

/* column_at expects a secret where a value goes into a column that is one. */
static void
column_at(level *l)
{
	if (l->column < 64 ? (l->secret_columns >> l->column) & 1 : l->secret_columns_beyond)
		weir_ask(l);
}

bool
weir_insert_word(level *l, const weir_token *t, bool secret)
{
	if (l->insert == COLUMNS) {
		if (secret && l->column < 64)
			l->secret_columns |= UINT64_C(1) << l->column;
		else if (secret)
			l->secret_columns_beyond = true;
		return true;
	}
	if (t->kind == WEIR_TOKEN_NAME)
		return false;
	if (strcmp(t->word, "insert") == 0)
		l->insert = INSERT;
	else if (strcmp(t->word, "into") == 0)
		l->insert = l->insert == INSERT ? INTO : NO_INSERT;
	else if (l->insert == LISTED && strcmp(t->word, "values") == 0)
		l->insert = VALUES;
	else if (l->insert == LISTED && strcmp(t->word, "select") == 0) {
		l->insert = SELECTED;
		l->insert_parens = l->parens;
		l->column = 0;
		column_at(l);
	} else if (l->insert >= VALUES && l->parens <= l->insert_parens &&
			   (strcmp(t->word, "returning") == 0 || strcmp(t->word, "from") == 0 || strcmp(t->word, "on") == 0))
		l->insert = NO_INSERT;
	return false;
}

void
weir_insert_sign(level *l, uint32_t c)
{
	switch (c) {
		case '(': /* already counted */
			if (l->insert == INTO) {
				l->insert = COLUMNS;
				l->insert_parens = l->parens;
				l->column = 0;
				l->secret_columns = 0;
				l->secret_columns_beyond = false;
			} else if (l->insert == VALUES) {
				l->insert = TUPLE;
				l->insert_parens = l->parens;
				l->column = 0;
				column_at(l);
			}
			break;
		case ')':
			if (l->parens >= l->insert_parens)
				break;
			if (l->insert == COLUMNS)
				l->insert = l->secret_columns || l->secret_columns_beyond ? LISTED : NO_INSERT;
			else if (l->insert == TUPLE)
				l->insert = VALUES;
			break;
		case ',':
			if (l->insert < COLUMNS || l->parens != l->insert_parens)
				break;
			l->column++;
			if (l->insert == TUPLE || l->insert == SELECTED)
				column_at(l);
			break;
		default:
			break;
	}
}
