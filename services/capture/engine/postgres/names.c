/*
 * names.c: names of relations and functions; see names.h.
 *
 * A direct-mapped cache of fixed size: no allocation on the way of an event,
 * no growth, and a collision costs one catalog lookup. Invalidation is what
 * keeps it true: of the one relation, or of everything where a schema or a
 * function changed.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "postgres.h"

#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/syscache.h"

#include "names.h"

/* A power of two: the hash is the top bits of a product. */
#define SLOT_BITS 10
#define SLOTS (1 << SLOT_BITS)
/* Names longer than this are looked up every time; hardly any is. */
#define SLOT_NAME_MAX 136

typedef struct slot {
	Oid oid; /* InvalidOid: empty */
	uint16 what;
	uint16 length;
	char name[SLOT_NAME_MAX];
} slot;

static slot slots[SLOTS];

/* Counts invalidations: a lookup during which it moved is not remembered. */
static uint64 invalidations;

static MemoryContext lookup_context;

static inline slot *
slot_of(enum weir_name_of what, Oid oid)
{
	return &slots[(uint32) (oid * 2 + what) * UINT32_C(2654435761) >> (32 - SLOT_BITS)];
}

static void
forget_all(void)
{
	invalidations++;
	for (int i = 0; i < SLOTS; i++)
		slots[i].oid = InvalidOid;
}

static void
forget_relation(Datum arg, Oid relation)
{
	slot *s;

	if (!OidIsValid(relation)) {
		forget_all();
		return;
	}
	invalidations++;
	s = slot_of(WEIR_NAME_OF_RELATION, relation);
	if (s->oid == relation && s->what == WEIR_NAME_OF_RELATION)
		s->oid = InvalidOid;
}

static void
forget_by_syscache(Datum arg, int cache, uint32 hash)
{
	forget_all();
}

void
weir_names_init(void)
{
	CacheRegisterRelcacheCallback(forget_relation, (Datum) 0);
	CacheRegisterSyscacheCallback(NAMESPACEOID, forget_by_syscache, (Datum) 0);
	CacheRegisterSyscacheCallback(PROCOID, forget_by_syscache, (Datum) 0);
}

size_t
weir_known_name(enum weir_name_of what, Oid oid, char name[WEIR_NAME_MAX])
{
	slot *s = slot_of(what, oid);

	if (s->oid != oid || s->what != what)
		return 0;
	memcpy(name, s->name, s->length);
	return s->length;
}

size_t
weir_name(enum weir_name_of what, Oid oid, char name[WEIR_NAME_MAX])
{
	size_t length = weir_known_name(what, oid, name);
	uint64 before = invalidations;
	MemoryContext old;
	char *schema;
	char *own;

	if (length)
		return length;
	if (!lookup_context)
		lookup_context = AllocSetContextCreate(TopMemoryContext, "weir names", ALLOCSET_SMALL_SIZES);
	old = MemoryContextSwitchTo(lookup_context);
	if (what == WEIR_NAME_OF_RELATION) {
		own = get_rel_name(oid);
		schema = own ? get_namespace_name(get_rel_namespace(oid)) : NULL;
	} else {
		own = get_func_name(oid);
		schema = own ? get_namespace_name(get_func_namespace(oid)) : NULL;
	}
	if (own) {
		const char *quoted = quote_qualified_identifier(schema, own);

		length = Min(strlen(quoted), WEIR_NAME_MAX - 1);
		memcpy(name, quoted, length);
	}
	MemoryContextSwitchTo(old);
	MemoryContextReset(lookup_context);

	if (length && length <= SLOT_NAME_MAX && before == invalidations) {
		slot *s = slot_of(what, oid);

		s->oid = oid;
		s->what = what;
		s->length = length;
		memcpy(s->name, name, length);
	}
	return length;
}
