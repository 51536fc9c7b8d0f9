/*
 * numbering.c: statement and substatement ids; see numbering.h.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "postgres.h"

#include "event.h"
#include "numbering.h"
#include "slots.h"

/*
 * `running` counts inside the client statement that runs; between statements it
 * is NULL and `last` is that of the one before. `reserved` says that last was
 * begun by something that ran ahead of its client statement, and is to be taken
 * by it.
 */
static weir_ids *running;
static weir_ids last;
static bool reserved;

static void
begin(void)
{
	last.statement++;
	last.substatements = 1;
	weir_slot_numbered(last.statement);
}

weir_ids
weir_number_client(void)
{
	if (!reserved)
		begin();
	reserved = false;
	return last;
}

weir_ids
weir_number_nested(uint64 *substatement)
{
	weir_ids *in = running ? running : &last;

	if (!running && !reserved && !weir_event_held()) {
		begin();
		reserved = true;
	}
	*substatement = ++in->substatements;
	return *in;
}

uint64
weir_number_ahead(void)
{
	return reserved ? last.statement : last.statement + 1;
}

void
weir_number_event(uint64 *statement, uint64 *substatement)
{
	*statement = weir_number_client().statement;
	*substatement = 1;
}

weir_ids *
weir_numbering_enter(weir_ids *ids)
{
	weir_ids *before = running;

	if (!running)
		running = ids;
	return before;
}

void
weir_numbering_leave(weir_ids *before, const weir_ids *left, bool client)
{
	/* What comes after the statement and because of it, a trigger at commit, counts on from here. */
	if (client && running == left && left->statement == last.statement)
		last.substatements = left->substatements;
	running = before;
}

void
weir_numbering_idle(void)
{
	reserved = false;
}

void
weir_numbering_forget(void)
{
	running = NULL;
}
