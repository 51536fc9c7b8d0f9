/*
 * words.h: what the words of SQL say about secrets. All words are in lower case.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef WEIR_WORDS_H
#define WEIR_WORDS_H

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

typedef enum weir_verb_word {
	WEIR_VERB_OTHER,
	WEIR_VERB_QUERY,  /* SELECT, INSERT, UPDATE … */
	WEIR_VERB_DEFINE, /* CREATE, ALTER */
	WEIR_VERB_SET
} weir_verb_word;

extern weir_verb_word weir_verb_word_of(const char *word);

/*
 * weir_word_is_secret says whether a name is that of a secret. wide is for
 * options and settings, where more names are; loose for words that may be
 * misspelt.
 */
extern bool weir_word_is_secret(const char *word, size_t length, bool wide, bool loose);

/* weir_begins_code says whether SQL or PL/pgSQL begins so. */
extern bool weir_begins_code(const char *word);

/* weir_begins_statement says whether a statement follows the word: BEGIN, THEN. */
extern bool weir_begins_statement(const char *word);

/* weir_names_data says what behind CREATE or ALTER has no password of its own. */
extern bool weir_names_data(const char *word);

/* weir_names_type says whether a word is a type that a secret can have. */
extern bool weir_names_type(const char *word);

/* weir_asks says whether a word between a name and its value is but a sign: SET x TO 'y'. */
extern bool weir_asks(const char *word);

extern bool weir_ends_expression(const char *word);

static inline bool
weir_word_is(const char *word, const char *a, const char *b, const char *c)
{
	return strcmp(word, a) == 0 || (b && strcmp(word, b) == 0) || (c && strcmp(word, c) == 0);
}

#endif
