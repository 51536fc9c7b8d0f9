/*
 * outcome.h: the error a statement or a session ended with.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef WEIR_OUTCOME_H
#define WEIR_OUTCOME_H

#include "postgres.h"

#include "encode.h"
#include "sha256.h"
#include "text.h"

/* An error, or none where sqlstate is empty. The message is cut to its limit. */
typedef struct weir_outcome {
	char sqlstate[6];
	size_t kept;
	uint64 length; /* of the whole message; 0 where all is kept */
	uint8 sha256[WEIR_SHA256_SIZE];
	const char *message; /* in memory of outcome.c, until the next error is read */
} weir_outcome;

/*
 * weir_outcome_being_thrown reads the error that is being handled: within
 * PG_CATCH, or while the server reports it. While one error unwinds many
 * statements it is read once: weir_outcome_settled ends that.
 */
extern const weir_outcome *weir_outcome_being_thrown(void);

/*
 * weir_outcome_of_inner reads the error being raised, in a callback of the
 * server's error context, and the query that it quotes: one that failed before
 * it was planned, inside another statement. NULL where it is no such error.
 * query is good until the next error is read.
 */
extern const weir_outcome *weir_outcome_of_inner(weir_slice *query);

/*
 * weir_outcome_unsaid is why a session ends inside a statement when no message
 * said so: the error, if there was one, is off the server's error stack by then.
 */
extern const weir_outcome *weir_outcome_unsaid(void);

/* weir_outcome_settled says that the error was handled, or never was one. */
extern void weir_outcome_settled(void);

/*
 * weir_outcome_of_message reads an ErrorResponse on its way to the client.
 * *fatal says whether the session ends with it.
 */
extern const weir_outcome *weir_outcome_of_message(const char *body, size_t length, bool *fatal);

/* weir_outcome_text is what is kept of the message. */
static inline weir_slice
weir_outcome_text(const weir_outcome *outcome)
{
	return (weir_slice) {outcome->message, outcome->kept};
}

/*
 * weir_outcome_redact takes what the message quotes out of it, for this
 * statement and for those around it, which the same error ends; all of the
 * message where that is not in quotes.
 */
extern void weir_outcome_redact(weir_outcome *outcome, weir_quotes quotes);

/* weir_put_outcome writes fields 13 and 14 of an Activity. */
extern void weir_put_outcome(weir_buffer *b, const weir_outcome *outcome);

/* weir_outcome_init makes what reading an error needs, while there is none. */
extern void weir_outcome_init(void);

#endif
