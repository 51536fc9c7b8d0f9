/*
 * secrets.h: where in a text the secrets are.
 *
 * The rules are about words: what stands behind a name such as "password" is a
 * secret, be it a literal in SQL, a value in a connection string, or a part of
 * a URI; in quotes, in quotes in quotes, and in comments as well. They need no
 * parse tree, so that a statement that failed is no different; and where they
 * are in doubt they take more.
 *
 * Nothing of PostgreSQL is in here.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef WEIR_SECRETS_H
#define WEIR_SECRETS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Beyond this many secrets the rest of the text is one. */
#define WEIR_SECRETS_MAX 48

/* Beyond this many bind values that are secret all are. */
#define WEIR_SECRET_PARAMS_MAX 32

/* What is known of a text beside its words. */
typedef enum weir_secrecy {
	WEIR_CLEAN,	   /* no secret in it: weir_suspect said so */
	WEIR_SUSPECT,  /* a statement with a parse tree: there may be */
	WEIR_FAILED,   /* it failed: SQL that it had in quotes may be the reason */
	WEIR_UNPARSED, /* a statement without: words may be misspelt, and quotes missing */
	WEIR_LITERALS, /* every literal is one: values of a prepared statement that has secrets */
	WEIR_CONTENT   /* no statement: a bind value, an error message */
} weir_secrecy;

typedef struct weir_secrets {
	size_t count;
	struct {
		size_t start, end;
	} at[WEIR_SECRETS_MAX];

	/* A statement is put together from pieces, and not every secret piece need be known. */
	bool doubt;

	/* $n that are secret; sorted in no order. */
	size_t params;
	uint32_t param[WEIR_SECRET_PARAMS_MAX];
	bool all_params;

	/* set_config($a, $b): b is secret where the value of a is a name of such. */
	size_t named;
	struct {
		uint32_t name, value;
	} pair[4];
} weir_secrets;

/*
 * weir_suspect says whether a statement needs to be looked at: false is certain,
 * true means little. It is what every statement pays.
 */
extern bool weir_suspect(const char *text, size_t length);

/* weir_suspect_content is the same for what is no SQL. */
extern bool weir_suspect_content(const char *text, size_t length);

/* weir_find_secrets finds them, in order, not overlapping. In time proportional to length; memory is that of *found. */
extern void weir_find_secrets(const char *text, size_t length, weir_secrecy secrecy, bool backslashes,
							  weir_secrets *found);

/* weir_is_secret_name says whether something of that name is secret: a setting, an option. */
extern bool weir_is_secret_name(const char *name, size_t length);

extern bool weir_secret_param(const weir_secrets *found, uint32_t number);

#endif
