/*
 * scan.h: what the files that find secrets share; see secrets.h.
 *
 * secrets.c is the way in; expect.c goes over the tokens of a level and knows
 * what the next may be, with signs.c for those that are no words; insert.c
 * follows INSERT INTO … VALUES; values.c takes what is no SQL: connection
 * strings, URIs, JSON.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef WEIR_SCAN_H
#define WEIR_SCAN_H

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
	TYPED, /* and its type: password text := 'x' */
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

/* weir_hide notes a secret. Those of a level come in order, but one may turn out to be when it was looked into already. */
extern void weir_hide(scan *s, size_t start, size_t end);

/* weir_expect scans a level from at. */
extern void weir_expect(level *l, size_t at);

/* weir_ask says that a value which is secret follows. */
extern void weir_ask(level *l);

/* weir_expect_sign takes a token that is no word, literal or number; *at is behind it. */
extern void weir_expect_sign(level *l, const weir_token *t, size_t *at, bool postgres);

/* weir_take_bare takes a word, a sign or a number where a value is expected. It says whether it was taken as one. */
extern bool weir_take_bare(level *l, const weir_token *t, size_t *at);

/* weir_next_statement forgets the statement that ended. */
extern void weir_next_statement(level *l);

/*
 * weir_take_run hides a value without quotes, as connection strings and JSON
 * have it: as far as the next space, or the end of its double quotes.
 */
extern void weir_take_run(level *l, size_t *at);

/* weir_take_uri hides the password of a URI; *at is behind its colon. False where it is none. */
extern bool weir_take_uri(level *l, size_t *at, bool postgres);

/* weir_insert_word follows the words of a statement; true where the word is a name in a list of columns. */
extern bool weir_insert_word(level *l, const weir_token *t, bool secret);

/* weir_insert_sign follows its parentheses and commas, those counted already. */
extern void weir_insert_sign(level *l, uint32_t c);

#endif
