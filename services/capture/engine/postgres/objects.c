/*
 * objects.c: the relations and functions a statement touched; see objects.h.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "postgres.h"

#include "access/transam.h"
#if PG_VERSION_NUM >= 160000
#include "parser/parse_relation.h"
#endif

#include "names.h"
#include "objects.h"

#define FIELD_OBJECTS 9
#define FIELD_OBJECTS_OMITTED 16

/*
 * Functions that ran ahead of their statement, and one of the server's own that
 * may have been called by its number. Their names are kept: the event may be
 * one of an error.
 */
typedef struct early_function {
	Oid function;
	size_t length;
	char name[WEIR_NAME_MAX];
} early_function;

static early_function early[8];
static int early_count;
static early_function builtin;

static const weir_verb verb_execute = {WEIR_CLASS_FUNCTION, "EXECUTE"};

static void
put_object(weir_statement *s, enum weir_object_type type, const char *name, size_t length, weir_verb verb)
{
	weir_buffer b;
	uint8 space[WEIR_NAME_MAX + 64];

	if (s->objects >= WEIR_OBJECTS_MAX || s->details.length + sizeof space > weir_details_limit()) {
		s->objects_omitted++;
		return;
	}
	s->objects++;
	weir_buffer_init(&b, space, sizeof space);
	weir_put_uint(&b, 1, type);
	weir_put_bytes(&b, 2, name, length);
	/* Commands are constants: mostly the same one. */
	if (verb.class != s->verb.class ||
		(verb.command != s->verb.command && strcmp(verb.command, s->verb.command) != 0)) {
		weir_put_string(&b, 3, verb.command);
		weir_put_uint(&b, 4, verb.class);
	}
	weir_put_bytes(&s->details, FIELD_OBJECTS, b.data, b.length);
	weir_buffer_reset(&b);
}

/* is_listed says whether a function is listed already, and notes that it will be. */
static bool
is_listed(weir_statement *s, Oid function)
{
	for (int i = 0; i < s->functions; i++)
		if (s->function[i] == function)
			return true;
	if (s->functions < (int) lengthof(s->function))
		s->function[s->functions++] = function;
	return false;
}

/* take_early_functions lists them in the client statement they ran ahead of. */
static void
take_early_functions(weir_statement *s)
{
	for (int i = 0; i < early_count; i++)
		if (!is_listed(s, early[i].function))
			put_object(s, WEIR_OBJECT_FUNCTION, early[i].name, early[i].length, verb_execute);
	weir_forget_early_functions();
}

/* checked_permissions is what is asked of a relation; 0 for what is no relation or is not checked, such as a partition. */
static AclMode
checked_permissions(RangeTblEntry *rte, List *permissions)
{
#if PG_VERSION_NUM >= 160000
	/* A view stays in the range table as the subquery it became. */
	if (rte->perminfoindex == 0 || !OidIsValid(rte->relid))
		return 0;
	return getRTEPermissionInfo(permissions, rte)->requiredPerms;
#else
	return rte->rtekind == RTE_RELATION ? rte->requiredPerms : 0;
#endif
}

static void
put_listed(weir_statement *s, List *range_table, List *permissions, bool catalogs)
{
	ListCell *cell;

	foreach (cell, range_table) {
		RangeTblEntry *rte = lfirst_node(RangeTblEntry, cell);
		AclMode asked = checked_permissions(rte, permissions);
		char name[WEIR_NAME_MAX];
		size_t length;

		if (asked == 0)
			continue;
		length = catalogs ? weir_name(WEIR_NAME_OF_RELATION, rte->relid, name)
			: weir_known_name(WEIR_NAME_OF_RELATION, rte->relid, name);
		if (length)
			put_object(s, weir_object_type_of(rte->relkind), name, length,
					   weir_verb_of_permissions(asked, rte->rellockmode, s->verb));
	}
	if (s->top)
		take_early_functions(s);
}

void
weir_put_relations(weir_statement *s, List *range_table, List *permissions)
{
	put_listed(s, range_table, permissions, true);
}

void
weir_put_known_relations(weir_statement *s, const Query *query)
{
#if PG_VERSION_NUM >= 160000
	put_listed(s, query->rtable, query->rteperminfos, false);
#else
	put_listed(s, query->rtable, NIL, false);
#endif
}

void
weir_learn_relations(List *range_table)
{
	ListCell *cell;

	foreach (cell, range_table) {
		RangeTblEntry *rte = lfirst_node(RangeTblEntry, cell);
		char name[WEIR_NAME_MAX];

		if (rte->rtekind == RTE_RELATION)
			weir_name(WEIR_NAME_OF_RELATION, rte->relid, name);
	}
}

void
weir_put_function(weir_statement *s, Oid function)
{
	char name[WEIR_NAME_MAX];
	size_t length;

	if (is_listed(s, function))
		return;
	length = weir_name(WEIR_NAME_OF_FUNCTION, function, name);
	if (length)
		put_object(s, WEIR_OBJECT_FUNCTION, name, length, verb_execute);
}

void
weir_add_early_function(Oid function)
{
	early_function *e = &early[early_count];

	if (function < FirstNormalObjectId) {
		/* A user's function was called by its number, and calls this one. */
		if (builtin.length || early_count > 0)
			return;
		e = &builtin;
	}
	for (int i = 0; i < early_count; i++)
		if (early[i].function == function)
			return;
	if (e == &early[lengthof(early)])
		return;
	e->function = function;
	e->length = weir_name(WEIR_NAME_OF_FUNCTION, function, e->name);
	if (e != &builtin && e->length)
		early_count++;
}

bool
weir_early_functions(bool with_builtin)
{
	return early_count > 0 || (with_builtin && builtin.length);
}

void
weir_forget_early_functions(void)
{
	early_count = 0;
	builtin.length = 0;
}

static void
put_early(weir_buffer *b, const early_function *e)
{
	weir_buffer object;
	uint8 space[WEIR_NAME_MAX + 64];

	weir_buffer_init(&object, space, sizeof space);
	weir_put_uint(&object, 1, WEIR_OBJECT_FUNCTION);
	weir_put_bytes(&object, 2, e->name, e->length);
	weir_put_bytes(b, FIELD_OBJECTS, object.data, object.length);
	weir_buffer_reset(&object);
}

bool
weir_put_early_functions(weir_buffer *b, bool with_builtin)
{
	bool any = weir_early_functions(with_builtin);

	if (with_builtin && builtin.length)
		put_early(b, &builtin);
	for (int i = 0; i < early_count; i++)
		put_early(b, &early[i]);
	weir_forget_early_functions();
	return any;
}

void
weir_put_objects_omitted(weir_statement *s)
{
	weir_put_uint(&s->details, FIELD_OBJECTS_OMITTED, s->objects_omitted);
}
