/*
 * redact.h: secrets do not leave the session.
 *
 * Where they are in a text, secrets.h finds; here a text is written without
 * them. What is hashed and measured is the text as it is shown: the hash of a
 * short text would be as good as its password.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef WEIR_REDACT_H
#define WEIR_REDACT_H

#include "postgres.h"

#include "nodes/nodes.h"

#include "secrets.h"
#include "sha256.h"
#include "text.h"

#define WEIR_REDACTED "<REDACTED>"

/* weir_secrecy_of_text is what a statement's text says of itself. */
extern weir_secrecy weir_secrecy_of_text(weir_slice text);

/* weir_secrecy_of_utility is what its parse tree adds. */
extern weir_secrecy weir_secrecy_of_utility(Node *parsetree, weir_secrecy by_text);

/*
 * weir_secrets_in finds what must not be shown of a text. Returns found, or
 * NULL where there is nothing.
 */
extern const weir_secrets *weir_secrets_in(weir_slice text, weir_secrecy secrecy, weir_secrets *found);

/* weir_shown_length is how long a text is with its secrets (may be NULL) replaced. */
extern size_t weir_shown_length(weir_slice text, const weir_secrets *hidden);

/*
 * weir_show writes a text so, in at most limit bytes and whole characters of
 * the server encoding, and returns how many. With to NULL it only counts.
 */
extern size_t weir_show(char *to, size_t limit, weir_slice text, const weir_secrets *hidden);

/* weir_shown_hash is the SHA-256 of all of it. */
extern void weir_shown_hash(weir_slice text, const weir_secrets *hidden, uint8_t digest[WEIR_SHA256_SIZE]);

/* What an error message may have of a text's secrets. */
typedef enum weir_quotes {
	WEIR_QUOTES_NOTHING,
	WEIR_QUOTES_SOMEWHERE, /* in double quotes */
	WEIR_QUOTES_OPENLY
} weir_quotes;

/* weir_quotes_of judges a message about a text with something hidden. */
extern weir_quotes weir_quotes_of(weir_slice message, weir_slice text, const weir_secrets *hidden);

#endif
