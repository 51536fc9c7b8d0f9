/*
 * redact.c: secrets do not leave the session; see redact.h.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "postgres.h"

#include "commands/prepare.h"
#include "nodes/parsenodes.h"
#include "parser/parser.h"

#include "redact.h"

weir_secrecy
weir_secrecy_of_text(weir_slice text)
{
	return weir_suspect(text.start, text.length) ? WEIR_SUSPECT : WEIR_CLEAN;
}

/* of_execute says whether the values of EXECUTE go where a secret is wanted. */
static weir_secrecy
of_execute(const ExecuteStmt *execute, weir_secrecy by_text)
{
	PreparedStatement *prepared = FetchPreparedStatement(execute->name, false);
	weir_secrets found;
	weir_slice text;

	if (!prepared || !prepared->plansource->query_string || execute->params == NIL)
		return by_text;
	text = weir_statement_text(prepared->plansource->query_string, 0, 0);
	if (!weir_secrets_in(text, weir_secrecy_of_text(text), &found))
		return by_text;
	return found.params || found.all_params || found.named ? WEIR_LITERALS : by_text;
}

/* of_query is for a utility in another: EXPLAIN EXECUTE, CREATE TABLE AS EXECUTE. */
static weir_secrecy
of_query(Node *query, weir_secrecy by_text)
{
	if (query && IsA(query, Query) && castNode(Query, query)->commandType == CMD_UTILITY)
		return weir_secrecy_of_utility(castNode(Query, query)->utilityStmt, by_text);
	return by_text;
}

weir_secrecy
weir_secrecy_of_utility(Node *parsetree, weir_secrecy by_text)
{
	switch (nodeTag(parsetree)) {
		/* Those with options and settings, of which more names are secret than the quick look knows. */
		case T_VariableSetStmt:
		case T_AlterSystemStmt:
		case T_AlterRoleSetStmt:
		case T_AlterDatabaseSetStmt:
		case T_CreateFdwStmt:
		case T_AlterFdwStmt:
		case T_CreateForeignServerStmt:
		case T_AlterForeignServerStmt:
		case T_CreateUserMappingStmt:
		case T_AlterUserMappingStmt:
		case T_CreateForeignTableStmt:
		case T_ImportForeignSchemaStmt:
		case T_CreateSubscriptionStmt:
		case T_AlterSubscriptionStmt:
			return WEIR_SUSPECT;
		case T_ExecuteStmt:
			return of_execute(castNode(ExecuteStmt, parsetree), by_text);
		case T_ExplainStmt:
			return of_query(castNode(ExplainStmt, parsetree)->query, by_text);
		case T_CreateTableAsStmt:
			return of_query(castNode(CreateTableAsStmt, parsetree)->query, by_text);
		default:
			return by_text;
	}
}

const weir_secrets *
weir_secrets_in(weir_slice text, weir_secrecy secrecy, weir_secrets *found)
{
	if (secrecy == WEIR_CLEAN || (secrecy == WEIR_CONTENT && !weir_suspect_content(text.start, text.length)))
		return NULL;
	weir_find_secrets(text.start, text.length, secrecy, !standard_conforming_strings, found);
	if (found->count == 0 && found->params == 0 && !found->all_params && found->named == 0 && !found->doubt)
		return NULL;
	return found;
}

/* A piece of a text as it is shown: a part of it, or what stands for a secret. */
typedef struct piece {
	weir_slice part;
	bool secret;
} piece;

/* next_piece returns the pieces one by one; *i counts them. */
static bool
next_piece(weir_slice text, const weir_secrets *hidden, size_t *i, piece *p)
{
	size_t count = hidden ? hidden->count : 0;
	size_t n = (*i)++;
	size_t start, end;

	p->secret = n % 2 == 1;
	n /= 2;
	if (n > count || (n == count && p->secret))
		return false;
	if (p->secret) {
		p->part = (weir_slice) {WEIR_REDACTED, strlen(WEIR_REDACTED)};
		return true;
	}
	start = n > 0 ? hidden->at[n - 1].end : 0;
	end = n < count ? hidden->at[n].start : text.length;
	p->part = (weir_slice) {text.start + start, end - start};
	return true;
}

size_t
weir_shown_length(weir_slice text, const weir_secrets *hidden)
{
	size_t length = 0;
	size_t i = 0;
	piece p;

	while (next_piece(text, hidden, &i, &p))
		length += p.part.length;
	return length;
}

size_t
weir_show(char *to, size_t limit, weir_slice text, const weir_secrets *hidden)
{
	size_t n = 0;
	size_t i = 0;
	piece p;

	while (next_piece(text, hidden, &i, &p)) {
		size_t fits = p.part.length;

		if (fits > limit - n)
			fits = p.secret ? 0 : weir_clip(p.part.start, p.part.length, limit - n);
		if (to && fits)
			memcpy(to + n, p.part.start, fits);
		n += fits;
		if (fits < p.part.length)
			break;
	}
	return n;
}

void
weir_shown_hash(weir_slice text, const weir_secrets *hidden, uint8_t digest[WEIR_SHA256_SIZE])
{
	weir_sha256 hash;
	size_t i = 0;
	piece p;

	weir_sha256_init(&hash);
	while (next_piece(text, hidden, &i, &p))
		weir_sha256_update(&hash, p.part.start, p.part.length);
	weir_sha256_final(&hash, digest);
}

static bool
contains(weir_slice in, const char *what, size_t length)
{
	if (length == 0 || length > in.length)
		return false;
	for (const char *p = in.start, *last = in.start + (in.length - length); p <= last; p++) {
		p = memchr(p, what[0], last - p + 1);
		if (!p)
			return false;
		if (memcmp(p, what, length) == 0)
			return true;
	}
	return false;
}

/* Longer than what a message quotes: the server cuts it, so a part is looked for. */
#define QUOTE_MAX 64

/* inner_of is a literal without its quotes and prefix, roughly. */
static weir_slice
inner_of(weir_slice secret)
{
	const char *quote = memchr(secret.start, '\'', Min(secret.length, 4));

	if (quote) {
		secret.length -= quote + 1 - secret.start;
		secret.start = quote + 1;
	}
	while (secret.length > 1 && strchr("'\"$", secret.start[secret.length - 1]))
		secret.length--;
	while (secret.length > 1 && strchr("'\"$", secret.start[0])) {
		secret.start++;
		secret.length--;
	}
	return secret;
}

/* quotes is weir_quotes_of for one secret as it stands in the text. */
static weir_quotes
quotes(weir_slice message, weir_slice secret)
{
	const char *end = message.start + message.length;
	const char *quote = memchr(message.start, '"', message.length);
	weir_slice inner = inner_of(secret);

	/* A character or two are everywhere. */
	if (inner.length >= 4 && contains(message, inner.start, Min(inner.length, QUOTE_MAX)))
		return WEIR_QUOTES_SOMEWHERE;
	/* What an escape means may be quoted too: not worth knowing better. */
	if (memchr(secret.start, '\\', secret.length) || contains(inner, "''", 2))
		return WEIR_QUOTES_SOMEWHERE;
	while (quote) {
		const char *next = memchr(quote + 1, '"', end - quote - 1);
		size_t length = (next ? next : end) - quote - 1;

		if (contains(secret, quote + 1, Min(length, QUOTE_MAX)) ||
			contains((weir_slice) {quote + 1, length}, inner.start, inner.length))
			return WEIR_QUOTES_SOMEWHERE;
		quote = next;
	}
	return WEIR_QUOTES_NOTHING;
}

/* outside says whether something stands in a message outside of its first and last quotes. */
static bool
outside(weir_slice message, weir_slice inner)
{
	const char *first = memchr(message.start, '"', message.length);
	const char *last = message.start + message.length;

	if (!first)
		return contains(message, inner.start, inner.length);
	while (last[-1] != '"')
		last--;
	return contains((weir_slice) {message.start, first - message.start}, inner.start, inner.length) ||
		contains((weir_slice) {last, message.start + message.length - last}, inner.start, inner.length);
}

weir_quotes
weir_quotes_of(weir_slice message, weir_slice text, const weir_secrets *hidden)
{
	weir_quotes worst = WEIR_QUOTES_NOTHING;

	if (hidden->doubt || hidden->params || hidden->all_params || hidden->named)
		worst = WEIR_QUOTES_SOMEWHERE;
	for (size_t i = 0; i < hidden->count; i++) {
		weir_slice secret = {text.start + hidden->at[i].start, hidden->at[i].end - hidden->at[i].start};
		weir_slice inner = inner_of(secret);

		inner.length = Min(inner.length, QUOTE_MAX);
		if (inner.length >= 4 && outside(message, inner))
			return WEIR_QUOTES_OPENLY;
		worst = Max(worst, quotes(message, secret));
	}
	return worst;
}
