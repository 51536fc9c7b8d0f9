/*
 * objects.h: the relations and functions a statement touched.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef WEIR_OBJECTS_H
#define WEIR_OBJECTS_H

#include "postgres.h"

#include "nodes/parsenodes.h"

#include "statement.h"

/* Since PostgreSQL 16 permissions have a list of their own. */
#if PG_VERSION_NUM >= 160000
#define WEIR_PERMISSIONS(plan) ((plan)->permInfos)
#else
#define WEIR_PERMISSIONS(plan) NIL
#endif

/* weir_put_relations lists the relations whose permissions are checked, as field 9. Needs a live transaction. */
extern void weir_put_relations(weir_statement *s, List *range_table, List *permissions);

/* weir_put_known_relations does so for a query without reading the catalogs: what has no known name is left out. */
extern void weir_put_known_relations(weir_statement *s, const Query *query);

/* weir_learn_relations makes names known. */
extern void weir_learn_relations(List *range_table);

/* weir_put_function lists a function. */
extern void weir_put_function(weir_statement *s, Oid function);

/*
 * weir_add_early_function remembers a function that runs while no statement
 * does: in planning, ahead of the client statement that then lists it, or
 * called by its number in a message of its own. Of the server's own functions
 * only the first is remembered: the one that such a message may be about.
 */
extern void weir_add_early_function(Oid function);

/* weir_early_functions says whether any waits for its statement; one of the server's own only where asked for. */
extern bool weir_early_functions(bool builtin);

/* weir_forget_early_functions drops them. */
extern void weir_forget_early_functions(void);

/* weir_put_early_functions lists them as field 9 and forgets them; false where there is none. */
extern bool weir_put_early_functions(weir_buffer *b, bool builtin);

/* weir_put_objects_omitted writes field 16, once all objects are listed. */
extern void weir_put_objects_omitted(weir_statement *s);

#endif
