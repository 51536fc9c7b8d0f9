/*
 * redact.h: passwords do not leave the server.
 *
 * The rule is pgaudit's: in a statement that may carry a password everything
 * behind the word "password" is replaced by " <REDACTED>".
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef WEIR_REDACT_H
#define WEIR_REDACT_H

#include "postgres.h"

#include "nodes/nodes.h"

#include "text.h"

/* How much is known of a statement whose text is to be recorded. */
typedef enum weir_secrecy {
	WEIR_PLAIN,		/* its parse tree cannot hold a password */
	WEIR_PASSWORD,	/* its parse tree may: cut behind the first "password" */
	WEIR_OPTIONS,	/* the same, with free option names: cut behind OPTIONS at the latest */
	WEIR_BODY,		/* SQL is quoted in it: cut where a role gets a password */
	WEIR_UNPARSED	/* no parse tree: the same, and misspelt ones too */
} weir_secrecy;

#define WEIR_REDACTED " <REDACTED>"

/* weir_secrecy_of judges a parse tree. */
extern weir_secrecy weir_secrecy_of(Node *parsetree);

/*
 * weir_redact shortens text to what may be shown. Returns true where it did:
 * WEIR_REDACTED then stands for the rest.
 */
extern bool weir_redact(weir_slice *text, weir_secrecy secrecy);

#endif
