/*
 * words.c: what the words of SQL say about secrets; see words.h.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "words.h"

#include "secrets.h"

#define IN(word, list) in(word, list, sizeof list / sizeof list[0])

static bool
in(const char *word, const char *const *list, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (strcmp(word, list[i]) == 0)
			return true;
	return false;
}

static bool
contains_any(const char *word, const char *const *list, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (strstr(word, list[i]))
			return true;
	return false;
}

/* Parts of names, anywhere in a statement. */
static const char *const secret_parts[] = {"passw", "passphrase", "passfile", "passcode", "secret"};
static const char *const secret_words[] = {"pass", "pgpass", "scram_client_key", "scram_server_key"};

/* Parts of names of options and settings. */
static const char *const wide_parts[] = {"token", "credential", "api_key", "apikey", "access_key", "private_key", "pwd", "auth_key"};

/* Names that only look so. Whether a password is required is what an auditor wants to see. */
static const char *const public_words[] = {"password_encryption", "password_required", "passwordcheck",
										   "ssl_passphrase_command_supports_reload"};

/*
 * resembles says whether a word is "password" with at most two letters wrong,
 * missing, added or swapped.
 */
static bool
resembles(const char *word, size_t length)
{
	static const char wanted[] = "password";
	enum { N = sizeof wanted - 1, MAX = N + 2 };
	unsigned char row[3][N + 1];

	if (length < N - 2 || length > MAX)
		return false;
	for (int j = 0; j <= N; j++)
		row[1][j] = j;
	for (size_t i = 1; i <= length; i++) {
		memcpy(row[2], row[0], sizeof row[0]);
		memcpy(row[0], row[1], sizeof row[0]);
		/* row[2] is two letters back, row[0] one; row[1] becomes this one. */
		row[1][0] = i;
		for (int j = 1; j <= N; j++) {
			unsigned char best = row[0][j - 1] + (word[i - 1] != wanted[j - 1]);

			if (row[0][j] + 1 < best)
				best = row[0][j] + 1;
			if (row[1][j - 1] + 1 < best)
				best = row[1][j - 1] + 1;
			if (i > 1 && j > 1 && word[i - 1] == wanted[j - 2] && word[i - 2] == wanted[j - 1] && row[2][j - 2] + 1 < best)
				best = row[2][j - 2] + 1;
			row[1][j] = best;
		}
	}
	return row[1][N] <= 2;
}

bool
weir_word_is_secret(const char *word, size_t length, bool wide, bool loose)
{
	if (IN(word, public_words))
		return false;
	return contains_any(word, secret_parts, sizeof secret_parts / sizeof secret_parts[0]) || IN(word, secret_words) ||
		(wide && (contains_any(word, wide_parts, sizeof wide_parts / sizeof wide_parts[0]) || strcmp(word, "pw") == 0)) ||
		(loose && resembles(word, length));
}

bool
weir_is_secret_name(const char *name, size_t length)
{
	char word[64];
	size_t n = 0;

	for (; n < length && n + 1 < sizeof word; n++)
		word[n] = name[n] >= 'A' && name[n] <= 'Z' ? name[n] + ('a' - 'A') : name[n];
	word[n] = '\0';
	return weir_word_is_secret(word, n, true, false);
}

weir_verb_word
weir_verb_word_of(const char *word)
{
	static const char *const queries[] = {"select", "insert", "update", "delete", "merge", "with", "values", "table",
										  "copy", "explain", "call", "declare", "fetch", "truncate"};

	if (IN(word, queries))
		return WEIR_VERB_QUERY;
	if (weir_word_is(word, "create", "alter", NULL))
		return WEIR_VERB_DEFINE;
	return strcmp(word, "set") == 0 ? WEIR_VERB_SET : WEIR_VERB_OTHER;
}

bool
weir_begins_code(const char *word)
{
	static const char *const words[] = {
		"select", "insert", "update", "delete", "merge", "with", "values", "create", "alter", "drop", "do", "begin", "declare",
		"execute", "call", "copy", "set", "grant", "revoke", "explain", "prepare", "truncate", "comment", "perform", "if",
		"return", "raise", "lock", "import", "security"};

	return IN(word, words);
}

bool
weir_begins_statement(const char *word)
{
	static const char *const words[] = {"begin", "then", "loop", "else"};

	return IN(word, words);
}

bool
weir_names_data(const char *word)
{
	static const char *const words[] = {
		"table", "view", "index", "function", "procedure", "routine", "aggregate", "trigger", "type", "schema", "sequence",
		"materialized", "temp", "temporary", "unlogged", "global", "local", "or", "unique", "extension", "policy", "domain",
		"rule", "operator", "cast", "collation", "conversion", "statistics", "publication", "default", "large", "language",
		"tablespace", "text", "transform", "event", "access", "constraint", "recursive"};

	return IN(word, words);
}

bool
weir_names_type(const char *word)
{
	static const char *const words[] = {"text", "varchar", "char", "character", "bpchar", "citext", "bytea", "constant"};

	return IN(word, words);
}

bool
weir_asks(const char *word)
{
	static const char *const words[] = {"to", "in", "like", "ilike", "similar", "between", "any", "values"};

	return IN(word, words);
}

bool
weir_ends_expression(const char *word)
{
	static const char *const words[] = {"and", "or", "where", "from", "returning", "order", "group", "limit", "offset",
										"then", "else", "when", "end", "as", "union", "having", "loop", "window", "language"};

	return IN(word, words);
}
