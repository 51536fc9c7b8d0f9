/*
 * secrets.c: where in a text the secrets are; see secrets.h.
 *
 * One pass over the tokens of a level, and over what its literals and comments
 * hold, which are levels of their own. A level is code, or content: the value
 * of a connection string has no quotes round it, and ends with a space.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include <string.h>

#include "lexer.h"
#include "secrets.h"
#include "words.h"

typedef struct scan {
	weir_lexer lexer;
	weir_secrets *found;
	weir_secrecy secrecy;
	size_t length;
	size_t sure;  /* everything before is dealt with */
	bool thorough; /* the second pass: pieces of code that is in doubt are secret */
	bool full;	  /* there is no room for more: the rest of the text is hidden */
} scan;

/* What the words before say of the next token. */
typedef enum expectation {
	NOTHING,
	NAMED, /* the name of a secret */
	ASKED  /* and a sign that its value follows */
} expectation;

/* Where in INSERT INTO t (a, password) VALUES (…, …) a level is. */
typedef enum insertion { NO_INSERT, INSERT, INTO, COLUMNS, LISTED, VALUES, TUPLE, SELECTED } insertion;

typedef struct level {
	scan *s;
	int depth;
	bool undecided; /* no word yet */
	bool code;
	bool command; /* of a shell: COPY … PROGRAM */
	bool ends_open; /* where it ends a secret would follow, or one is given from outside */

	/* The statement. */
	weir_verb_word verb;
	int words;
	bool role;	   /* it makes or changes a role */
	bool harmless; /* it makes or changes what has no password */
	bool setting;  /* SET: a value may stand without quotes */
	bool until;	   /* VALID UNTIL: no password */
	int parens;
	int options; /* parentheses that OPTIONS (…) is in; 0: not */

	expectation expect;
	int asked_parens;
	bool asked_call;	  /* of all arguments */
	bool asked_to_end;	  /* to the end of the statement */
	bool answered;		  /* a value was found since */
	int listed;			  /* a list in so many parentheses has a name of a secret in it */
	bool pairs;			  /* there was name=value */
	size_t uri_end;		  /* a URI goes as far */
	bool percent;		  /* a key of its query has escapes */

	/* A literal that a name may follow: 'x' = password. */
	bool before, before_sign;
	size_t before_start, before_end;

	/* set_config(name, value): 1 behind the word, 2 in the name, 3 in the value. */
	int config;
	bool config_secret;
	uint32_t config_param;

	insertion insert;
	int insert_parens;
	int column;
	uint64_t secret_columns;
	bool secret_columns_beyond;
} level;

static void scan_level(level *l, size_t at);

static void
hide(scan *s, size_t start, size_t end)
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

bool
weir_secret_param(const weir_secrets *f, uint32_t number)
{
	for (size_t i = 0; i < f->params; i++)
		if (f->param[i] == number)
			return true;
	return f->all_params;
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

static void
ask(level *l)
{
	l->expect = ASKED;
	l->asked_parens = l->parens;
	l->asked_call = false;
	l->answered = false;
}

static void
next_statement(level *l)
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

	if (length == 0 || (!is_loose(&child) && !weir_suspect(body, length)))
		return false;
	if (child.depth == WEIR_LEVELS) {
		hide(s, t->start, t->end);
		return false;
	}
	s->lexer.level[child.depth] = t->inside;
	scan_level(&child, t->body);
	return child.ends_open;
}

/*
 * take_run hides a value without quotes, as connection strings and JSON have
 * it: as far as the next space, or the end of its double quotes.
 */
static void
take_run(level *l, size_t *at)
{
	weir_lexer *x = &l->s->lexer;
	bool quoted = false;
	size_t start;
	int32_t c;

	while (weir_is_blank(weir_lexer_peek(x, l->depth, *at)))
		weir_lexer_read(x, l->depth, at);
	start = *at;
	c = weir_lexer_peek(x, l->depth, start);
	/* The place of a value that is put in later: '… password=%s', '… password=' || $1. */
	if (c == WEIR_END || c == '%')
		l->ends_open = true;
	if (c == '"') {
		quoted = true;
		weir_lexer_read(x, l->depth, at);
	}
	for (;;) {
		size_t here = *at;

		c = weir_lexer_read(x, l->depth, at);
		if (c == '\\') {
			weir_lexer_read(x, l->depth, at);
			continue;
		}
		if (c == '"' && quoted) {
			int32_t d = weir_lexer_peek(x, l->depth, *at);

			quoted = false;
			if (d == WEIR_END || weir_is_blank(d) || strchr(",}])&;", d))
				break;
			continue;
		}
		if (c == WEIR_END || (!quoted && (weir_is_blank(c) || (c == '&' && here < l->uri_end)))) {
			*at = here;
			break;
		}
	}
	hide(l->s, start, *at);
	l->expect = NOTHING;
}

/*
 * take_uri hides the password of a URI; *at is behind its colon. A password may
 * hold what should have been escaped: the last @ counts, in a URI of PostgreSQL
 * also behind a slash.
 */
static bool
take_uri(level *l, size_t *at, bool postgres)
{
	weir_lexer *x = &l->s->lexer;
	size_t next = *at;
	size_t colon = 0, end = 0;
	bool host_ended = false;

	if (weir_lexer_read(x, l->depth, &next) != '/' || weir_lexer_read(x, l->depth, &next) != '/')
		return false;
	*at = next;
	for (;;) {
		size_t here = next;
		int32_t c = weir_lexer_read(x, l->depth, &next);

		if (c == WEIR_END || weir_is_blank(c) || c == '"' || c == '<' || c == '>') {
			l->uri_end = here;
			break;
		}
		if (c == ':' && colon == 0 && !host_ended)
			colon = next;
		else if (c == '@' && colon && (postgres || !host_ended))
			end = here;
		else if (c == '/' || c == '?' || c == '#')
			host_ended = true;
	}
	if (end > 0) {
		hide(l->s, colon, end);
		*at = end;
	}
	l->percent = false;
	return true;
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

/* column_at expects a secret where a value goes into a column that is one. */
static void
column_at(level *l)
{
	if (l->column < 64 ? (l->secret_columns >> l->column) & 1 : l->secret_columns_beyond)
		ask(l);
}

/* insert_word follows INSERT INTO … through its words; true where the word is a name in its list of columns. */
static bool
insert_word(level *l, const weir_token *t, bool secret)
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

static void
insert_sign(level *l, uint32_t c)
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

/* on_bare is a word, a sign or a number where a value is expected. It says whether it was taken as one. */
static bool
on_bare(level *l, const weir_token *t, size_t *at)
{
	if (t->kind == WEIR_TOKEN_WORD && weir_word_is(t->word, "null", "default", NULL))
		return false;
	if (l->expect == NAMED && ((l->code && is_doubtful(l)) || l->command)) {
		/* A password without quotes, or with the wrong ones, may be anything: the rest is hidden. */
		size_t end = l->s->lexer.level[l->depth].end;

		hide(l->s, t->start, end);
		*at = end;
		return true;
	}
	if (l->expect != ASKED || !(l->setting || is_doubtful(l)) || t->kind == WEIR_TOKEN_OTHER)
		return false;
	hide(l->s, t->start, t->end);
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
		next_statement(l);
	else if (plain)
		first_words(l, t);
	if (insert_word(l, t, secret))
		return;
	if (plain && l->expect == NAMED && weir_asks(t->word)) {
		ask(l);
		return;
	}
	if (plain && l->expect == ASKED && !l->asked_to_end && weir_ends_expression(t->word) &&
		l->parens <= l->asked_parens)
		l->expect = NOTHING;
	else if (l->expect != NOTHING && !secret && on_bare(l, t, at))
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
			hide(l->s, l->before_start, l->before_end);
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
	if (s->secrecy == WEIR_LITERALS || l->expect != NOTHING || (l->role && l->code && is_loose(l) && !until)) {
		hide(s, t->start, t->end);
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
		ask(l);
		l->asked_to_end = true;
	} else if (s->thorough && l->depth > 0 && l->code && s->found->count == count)
		hide(s, t->start, t->end);
	l->before = true;
	l->before_sign = false;
	l->before_start = t->start;
	l->before_end = t->end;
}

static void
on_param(level *l, const weir_token *t)
{
	if (l->expect != NOTHING) {
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

static void
on_comma(level *l)
{
	if (l->expect == ASKED && l->parens <= l->asked_parens && !l->asked_call && !l->asked_to_end && !l->setting)
		l->expect = NOTHING;
	else if (l->expect == NAMED) {
		l->listed = l->parens;
		l->expect = NOTHING;
	}
	if (l->config == 2) {
		l->config = 3;
		if (l->config_secret) {
			ask(l);
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
		ask(l);
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

/* on_sign is any other character; *at is behind it. */
static void
on_sign(level *l, const weir_token *t, size_t *at, bool postgres)
{
	uint32_t c = t->value;

	if (c == ':' && take_uri(l, at, postgres)) {
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
			ask(l);
		else
			take_run(l, at);
		return;
	}
	l->pairs |= c == '=';
	if (l->expect == NAMED && l->command && on_bare(l, t, at))
		return;
	switch (c) {
		case ';':
			next_statement(l);
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
				if (l->expect != NOTHING)
					on_bare(l, t, at);
			} else if (l->expect == NAMED)
				ask(l);
			insert_sign(l, c);
			return;
	}
	insert_sign(l, c);
	l->before = false;
}

static void
scan_level(level *l, size_t at)
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
						on_bare(l, &t, &at);
					else
						hide(s, t.start, t.end);
					l->answered = true;
				} else if (s->secrecy == WEIR_LITERALS)
					hide(s, t.start, t.end);
				break;
			default:
				on_sign(l, &t, &at, postgres);
				break;
		}
	}
	on_end(l);
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
	scan_level(&top, 0);
	if (s->lexer.budget == 0)
		hide(s, s->sure, length);
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
			hide(&s, a->at[i].start, a->at[i].end);
			i++;
		} else {
			hide(&s, b->at[j].start, b->at[j].end);
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
