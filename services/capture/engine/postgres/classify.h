/*
 * classify.h: pgaudit's class and the command tag of a statement.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef WEIR_CLASSIFY_H
#define WEIR_CLASSIFY_H

#include "postgres.h"

#include "nodes/nodes.h"
#include "nodes/parsenodes.h"

#include "weir.h"
#include "text.h"

/* What a statement, or what one relation saw of it, is called. command is never freed. */
typedef struct weir_verb {
	enum weir_class class;
	const char *command;
} weir_verb;

/* weir_verb_of_operation is for what the executor runs. */
extern weir_verb weir_verb_of_operation(CmdType operation);

/* weir_verb_of_utility is for what ProcessUtility runs. */
extern weir_verb weir_verb_of_utility(Node *parsetree);

/*
 * weir_verb_of_permissions is what a relation saw: the strongest permission
 * that was asked for, updates told from SELECT … FOR UPDATE by the lock.
 */
extern weir_verb weir_verb_of_permissions(AclMode permissions, int lock, weir_verb statement);

/*
 * weir_verb_of_text guesses from the first words of a statement that failed
 * before it had a parse tree. Only such statements are guessed.
 */
extern weir_verb weir_verb_of_text(weir_slice text);

extern enum weir_object_type weir_object_type_of(char relkind);

#endif
